/* Plan, translation: public addresses to private ones and back. */
#include "plan-internal.h"

int plan_nat(const struct plan_input *in, struct plan *p)
{
	const json_t *eni, *address;
	size_t i, a;

	ruleset_chain(&p->rules, "nat", "PREROUTING", "ACCEPT");
	ruleset_chain(&p->rules, "nat", "POSTROUTING", "ACCEPT");
	if (!items_has(&p->router, ITEM_LEG, "igw"))
		return 0;
	json_array_foreach (in->network_interfaces, i, eni)
		if (plan_is_active(eni))
			json_array_foreach (json_object_get(eni, "PrivateIpAddresses"), a,
					    address) {
				const char *private = jstr_or(address, "PrivateIpAddress", ""),
					   *public = jpath_str(address, "Association.PublicIp");

				if (!public)
					continue;
				ruleset_rule(&p->rules, "nat", "PREROUTING",
					     "-d %s/32 -i igw -j DNAT --to-destination %s", public,
					     private);
				ruleset_rule(&p->rules, "nat", "POSTROUTING",
					     "-s %s/32 -o igw -j SNAT --to-source %s", private,
					     public);
			}
	return 0;
}
