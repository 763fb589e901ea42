/* The reverse DNS name of an elastic address, which the resolvers of VPCs tell. (AWS asks the
 * public DNS whether the name leads back to the address; there is none to be asked here.) */
#include "elastic.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "describe.h"

#define NAME_MAX_CHARS 253

static json_t *attribute_present(const struct call *c, const struct doc *d)
{
	(void)c;
	return json_pack("{s:s s:s s:s*}", "AllocationId", d->id, "PublicIp",
			 jstr_or(d->json, "PublicIp", ""), "PtrRecord", jstr(d->json, "PtrRecord"));
}

static const struct filter no_filters[] = {{NULL}};

static const struct describe attributes = {
	.kind = "elastic-ip",
	.result = "Addresses",
	.ids = "AllocationIds",
	.prefix = "eipalloc",
	.malformed = FAULT_INVALID_ALLOCATION_ID_NOT_FOUND,
	.not_found = FAULT_INVALID_ALLOCATION_ID_NOT_FOUND,
	.filters = no_filters,
	.n_max_default = 1000,
	.n_max_low = 1,
	.n_max_high = 1000,
	.present = attribute_present,
};

int describe_addresses_attribute(struct call *c, json_t *parameters, json_t **ret_reply,
				 struct fault *f)
{
	return describe_run(c, &attributes, parameters, ret_reply, f);
}

/* Labels of letters, digits and hyphens (RFC 1123), with or without the last dot. */
static int is_host_name(const char *name)
{
	size_t n = strlen(name), n_label = 0;

	if (n && name[n - 1] == '.')
		n--;
	for (size_t i = 0; i < n; i++) {
		if (name[i] == '.'
			    ? n_label == 0 || name[i - 1] == '-'
			    : !isalnum((unsigned char)name[i]) && (name[i] != '-' || n_label == 0))
			return 0;
		n_label = name[i] == '.' ? 0 : n_label + 1;
		if (n_label > 63)
			return 0;
	}
	return n > 0 && n <= NAME_MAX_CHARS && n_label > 0 && name[n - 1] != '-';
}

/* The name stands with the association, too: that is what the VPC's plan sees. */
static int interface_rename(const struct call *c, const struct doc *elastic, const char *name)
{
	const struct doc *interface = store_get(c->store, c->ctx, "network-interface",
						jstr_or(elastic->json, "NetworkInterfaceId", ""));
	json_t *a;
	size_t i;
	int r = 0;

	if (!interface)
		return 0;
	OWN(json_decref) json_t *json = doc_edit(interface);

	json_array_foreach (json_object_get(json, "PrivateIpAddresses"), i, a) {
		json_t *association = json_object_get(a, "Association");

		if (r == 0 && jis(association, "AllocationId", elastic->id))
			r = jset(association, "_PtrRecord", name);
	}
	kernel_touch(jstr_or(interface->json, "VpcId", ""));
	return r < 0 ? r : txn_replace(c->txn, interface, give(json));
}

static int set_name(const struct call *c, const struct doc *elastic, const char *name,
		    json_t **ret_reply)
{
	OWN(json_decref) json_t *json = doc_edit(elastic);
	int r = jset(json, "PtrRecord", name);

	if (r == 0)
		r = interface_rename(c, elastic, name);
	if (r < 0)
		return r;
	*ret_reply =
		json_pack("{s:{s:s s:s s:s*}}", "Address", "AllocationId", elastic->id, "PublicIp",
			  jstr_or(elastic->json, "PublicIp", ""), "PtrRecord", name);
	return *ret_reply ? txn_replace(c->txn, elastic, give(json)) : -ENOMEM;
}

int modify_address_attribute(struct call *c, json_t *parameters, json_t **ret_reply,
			     struct fault *f)
{
	const char *name = jstr(parameters, "DomainName");
	char dotted[NAME_MAX_CHARS + 3];
	const struct doc *elastic;
	int r = kind_get_parameter(c, &kind_elastic_ip, parameters, "AllocationId", &elastic, f);

	if (r < 0)
		return r;
	if (!name)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter DomainName");
	if (!is_host_name(name))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter DomainName is invalid.", name);
	snprintf(dotted, sizeof dotted, "%s%s", name, name[strlen(name) - 1] == '.' ? "" : ".");
	return set_name(c, elastic, dotted, ret_reply);
}

int reset_address_attribute(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *elastic;
	int r = kind_get_parameter(c, &kind_elastic_ip, parameters, "AllocationId", &elastic, f);

	return r < 0 ? r : set_name(c, elastic, NULL, ret_reply);
}
