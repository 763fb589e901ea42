/* Elastic addresses: to get them, show them, give them back. */
#include "elastic.h"

#include <errno.h>
#include <string.h>

#include "address.h"
#include "describe.h"
#include "taken.h"

/* The interface knows its instance, whoever attached it since. */
static const char *instance_of(const struct doc *elastic)
{
	const struct doc *interface = store_find(daemon_get()->store, "network-interface",
						 jstr_or(elastic->json, "NetworkInterfaceId", ""));

	return interface ? jpath_str(interface->json, "Attachment.InstanceId") : NULL;
}

static int instance_matches(const struct doc *d, const json_t *values)
{
	const char *instance_id = instance_of(d);
	const json_t *value;
	size_t i;

	json_array_foreach (values, i, value)
		if (instance_id && pattern_match(json_string_value(value), instance_id))
			return 1;
	return 0;
}

static const struct filter address_filters[] = {
	{"allocation-id", "AllocationId"},
	{"association-id", "AssociationId"},
	{"domain", "Domain"},
	{"instance-id", NULL, instance_matches},
	{"network-border-group", "NetworkBorderGroup"},
	{"network-interface-id", "NetworkInterfaceId"},
	{"network-interface-owner-id", "NetworkInterfaceOwnerId"},
	{"private-ip-address", "PrivateIpAddress"},
	{"public-ip", "PublicIp"},
	FILTER_TAGS,
	{NULL},
};

static json_t *address_present(const struct call *c, const struct doc *d)
{
	OWN(json_decref) json_t *shown = json_copy(d->json);

	(void)c;
	return jset(shown, "InstanceId", instance_of(d)) < 0 ? NULL : give(shown);
}

static const struct describe addresses = {
	.kind = "elastic-ip",
	.result = "Addresses",
	.ids = "AllocationIds",
	.prefix = "eipalloc",
	.malformed = FAULT_INVALID_ALLOCATION_ID_NOT_FOUND,
	.not_found = FAULT_INVALID_ALLOCATION_ID_NOT_FOUND,
	.filters = address_filters,
	.present = address_present,
};

/* PublicIps are ids of another kind: one unknown fails them all. */
static int ids_of_addresses(const struct call *c, json_t *parameters, json_t **ret_ids,
			    struct fault *f)
{
	OWN(json_decref) json_t *ids = json_array();
	const json_t *address;
	size_t i;
	const json_t *given = json_object_get(parameters, "AllocationIds");
	int r = given ? jarray_extend_all(ids, given) : 0;

	json_array_foreach (json_object_get(parameters, "PublicIps"), i, address) {
		const struct doc *d = elastic_by_address(c, json_string_value(address));

		if (!d)
			return fault_set(f, FAULT_INVALID_ADDRESS_NOT_FOUND,
					 "Address '%.64s' not found.", json_string_value(address));
		if (r == 0)
			r = json_array_append_new(ids, json_string(d->id));
	}
	if (r < 0)
		return -ENOMEM;
	*ret_ids = give(ids);
	return 0;
}

int describe_addresses(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	OWN(json_decref) json_t *asked = json_copy(parameters);
	json_t *ids = NULL;
	int r = ids_of_addresses(c, parameters, &ids, f);

	if (r == 0)
		r = jset_new(asked, "AllocationIds", ids);
	return r < 0 ? r : describe_run(c, &addresses, asked, ret_reply, f);
}

/* ---- AllocateAddress ---- */

static int allocation_check(const struct call *c, json_t *parameters, struct fault *f)
{
	static const char *const unsupported[] = {"CustomerOwnedIpv4Pool", "IpamPoolId", NULL};
	const char *pool = jstr_or(parameters, "PublicIpv4Pool", "amazon");
	int r = unsupported_check(parameters, unsupported, f);

	if (r < 0)
		return r;
	if (strcmp(jstr_or(parameters, "Domain", "vpc"), "vpc") != 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Addresses of EC2-Classic are not available: Domain must be vpc");
	if (strcmp(pool, "amazon") != 0)
		return fault_set(f, FAULT_INVALID_PUBLIC_IPV4_POOL_ID_NOT_FOUND,
				 "The pool ID '%.64s' does not exist", pool);
	if (strcmp(jstr_or(parameters, "NetworkBorderGroup", c->ctx->region), c->ctx->region) != 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter NetworkBorderGroup is invalid.",
				 jstr(parameters, "NetworkBorderGroup"));
	return 0;
}

/* The address that the caller asks for, as one that he had before. */
static int address_wanted(const struct call *c, const char *wanted,
			  char ret_text[static IP_TEXT_MAX], struct fault *f)
{
	struct cidr pool;
	uint32_t address;
	int r = cidr_parse(config_string(c->daemon->config, "Network", "PublicPool"), &pool);

	if (r < 0)
		return r;
	if (ip_parse(wanted, &address) < 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter address is invalid. Invalid IP "
				 "address.",
				 wanted);
	if (!cidr_has(pool, address) ||
	    (cidr_size(pool) > 2 && (address == cidr_first(pool) || address == cidr_last(pool))))
		return fault_set(f, FAULT_INVALID_ADDRESS_NOT_FOUND, "Address '%.64s' not found.",
				 wanted);
	if (elastic_by_address(c, wanted))
		return fault_set(f, FAULT_INVALID_IP_ADDRESS_IN_USE, "Address %.64s is in use.",
				 wanted);
	if (taken_public(wanted))
		return fault_set(f, FAULT_AUTH_FAILURE,
				 "The address '%.64s' does not belong to you.", wanted);
	ip_format(address, ret_text);
	return 0;
}

int allocate_address(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *wanted = jstr(parameters, "Address"), *region = c->ctx->region;
	OWN(json_decref) json_t *tags = NULL;
	char id[ID_MAX], address[IP_TEXT_MAX];
	int r = allocation_check(c, parameters, f);

	if (r == 0)
		r = kind_tags(&kind_elastic_ip, parameters, &tags, f);
	if (r < 0)
		return r;
	if ((int64_t)kind_count(c, &kind_elastic_ip) >=
	    config_integer(c->daemon->config, "Network", "ElasticIps"))
		return fault_set(f, FAULT_ADDRESS_LIMIT_EXCEEDED,
				 "The maximum number of addresses has been reached.");
	r = wanted ? address_wanted(c, wanted, address, f) : address_take_public(c, address, f);
	if (r < 0)
		return r;
	id_new("eipalloc", id);
	r = put_new(c, &kind_elastic_ip, id,
		    json_pack("{s:s s:s s:s s:s s:s s:O}", "AllocationId", id, "PublicIp", address,
			      "Domain", "vpc", "PublicIpv4Pool", "amazon", "NetworkBorderGroup",
			      region, "Tags", tags));
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:s s:s s:s s:s s:s}", "AllocationId", id, "PublicIp", address,
			       "Domain", "vpc", "PublicIpv4Pool", "amazon", "NetworkBorderGroup",
			       region);
	return *ret_reply ? 0 : -ENOMEM;
}

/* ---- ReleaseAddress ---- */

/* Source: EC2 API reference, ReleaseAddress: in a default VPC the address leaves its instance by
 * itself, elsewhere it has to be disassociated before. */
static int is_releasable(const struct call *c, const struct doc *elastic, struct fault *f)
{
	const struct doc *interface = store_get(c->store, c->ctx, "network-interface",
						jstr_or(elastic->json, "NetworkInterfaceId", ""));
	const struct doc *vpc = interface ? store_get(c->store, c->ctx, "vpc",
						      jstr_or(interface->json, "VpcId", ""))
					  : NULL;

	if (json_object_get(elastic->json, "PtrRecord"))
		return fault_set(f, FAULT_INVALID_ADDRESS_LOCKED,
				 "The address %s has a reverse DNS record, which has to be removed "
				 "first.",
				 elastic->id);
	if (interface && (jbool(interface->json, "RequesterManaged", 0) || !vpc ||
			  !jbool(vpc->json, "IsDefault", 0)))
		return fault_set(f, FAULT_INVALID_IP_ADDRESS_IN_USE, "Address %s is in use.",
				 jstr_or(elastic->json, "PublicIp", ""));
	return 0;
}

int release_address(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *group = jstr(parameters, "NetworkBorderGroup");
	const struct doc *elastic;
	struct moved m = {0};
	int r;

	if (jstr(parameters, "PublicIp") && !jstr(parameters, "AllocationId"))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "You must specify an allocation id when releasing a VPC elastic "
				 "IP address");
	r = kind_get_parameter(c, &kind_elastic_ip, parameters, "AllocationId", &elastic, f);
	if (r < 0)
		return r;
	if (group && strcmp(group, c->ctx->region) != 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter NetworkBorderGroup is invalid.",
				 group);
	r = is_releasable(c, elastic, f);
	if (r == 0 && jstr(elastic->json, "AssociationId"))
		r = elastic_part(c, elastic, &m);
	if (r == 0)
		r = txn_delete(c->txn, elastic->kind, elastic->id);
	if (r < 0)
		return r;
	*ret_reply = reply_true();
	return moved_commit(c, &m);
}
