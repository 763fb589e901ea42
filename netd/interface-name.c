/* What the names of an instance are made of: its address or its id. Source: EC2 user guide, "EC2
 * instance hostnames and domains". */
#include "interface.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "address.h"

/* The subnet's options, but for those that the launch says otherwise. */
static json_t *options_of(json_t *parameters, const json_t *subnet)
{
	OWN(json_decref)
	json_t *options = json_copy(json_object_get(subnet, "PrivateDnsNameOptionsOnLaunch"));
	json_t *given = json_object_get(parameters, "_PrivateDnsNameOptions");

	if (!options || (given && json_object_update(options, given) < 0))
		return NULL;
	return give(options);
}

int interface_name_at_launch(const struct call *c, json_t *parameters, const json_t *subnet,
			     json_t *json)
{
	char zone[ADDRESS_NAME_MAX], name[ID_MAX + ADDRESS_NAME_MAX];
	json_t *options = options_of(parameters, subnet);
	int r = jset_new(json, "_PrivateDnsNameOptions", options);

	if (r < 0 || !jis(options, "HostnameType", "resource-name"))
		return r;
	address_zone(c->ctx->region, zone);
	snprintf(name, sizeof name, "%s.%s", jpath_str(json, "Attachment.InstanceId"), zone);
	return jset(json, "PrivateDnsName", name);
}
