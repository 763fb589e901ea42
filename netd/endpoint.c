/* Gateway endpoints. */
#include "endpoint.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "describe.h"
#include "prefix-list.h"
#include "zones.h"

#define POLICY_MAX_BYTES 20480
#define POLICY_DEPTH	 32
#define POLICY_ALL                                                                                 \
	"{\"Version\":\"2008-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Principal\":\"*\","    \
	"\"Action\":\"*\",\"Resource\":\"*\"}]}"

static const struct filter endpoint_filters[] = {
	{"ip-address-type", "IpAddressType"},
	{"service-name", "ServiceName"},
	{"vpc-endpoint-id", "VpcEndpointId"},
	{"vpc-endpoint-state", "State"},
	{"vpc-endpoint-type", "VpcEndpointType"},
	{"vpc-id", "VpcId"},
	FILTER_TAGS,
	{NULL},
};

static const struct describe endpoints = {
	.kind = "vpc-endpoint",
	.result = "VpcEndpoints",
	.ids = "VpcEndpointIds",
	.prefix = "vpce",
	.malformed = FAULT_INVALID_VPC_ENDPOINT_ID_MALFORMED,
	.not_found = FAULT_INVALID_VPC_ENDPOINT_ID_NOT_FOUND,
	.filters = endpoint_filters,
};

static const struct filter service_filters[] = {
	{"owner", "Owner"},
	{"service-name", "ServiceName"},
	{"service-region", "ServiceRegion"},
	{"service-type", "ServiceType.ServiceType"},
	{"supported-ip-address-types", "SupportedIpAddressTypes"},
	FILTER_TAGS,
	{NULL},
};

static const struct describe services = {
	.result = "ServiceDetails",
	.filters = service_filters,
};

/* ---- services ---- */

/* The services that can be reached by a gateway endpoint, by the last part of their names. */
static const char *const service_names[] = {"s3"};
#define N_SERVICES (sizeof service_names / sizeof *service_names)

static void service_name(const struct call *c, size_t i, char ret_name[static 96])
{
	snprintf(ret_name, 96, "com.amazonaws.%s.%s", c->ctx->region, service_names[i]);
}

static int service_get(const struct call *c, const char *name, size_t *ret_i, struct fault *f)
{
	for (size_t i = 0; i < N_SERVICES; i++) {
		char own[96];

		service_name(c, i, own);
		if (strcmp(own, name) == 0) {
			*ret_i = i;
			return 0;
		}
	}
	return fault_set(f, FAULT_INVALID_SERVICE_NAME,
			 "The Vpc Endpoint Service '%.128s' does not exist", name);
}

static json_t *zone_names(const struct call *c)
{
	OWN(json_decref) json_t *zones = json_array();

	for (int i = 0; i < zone_count(c->daemon->config); i++) {
		char zone[ZONE_NAME_MAX];

		zone_name(c->ctx->region, i, zone);
		if (json_array_append_new(zones, json_string(zone)) < 0)
			return NULL;
	}
	return give(zones);
}

static json_t *service_json(const struct call *c, size_t i)
{
	char name[96], dns[96];

	service_name(c, i, name);
	snprintf(dns, sizeof dns, "%s.%s.amazonaws.com", service_names[i], c->ctx->region);
	return json_pack("{s:s s:s s:[{s:s}] s:o s:s s:[s] s:b s:b s:b s:[s] s:[]}", "ServiceName",
			 name, "ServiceId", "vpce-svc-00000000000000000", "ServiceType",
			 "ServiceType", "Gateway", "AvailabilityZones", zone_names(c), "Owner",
			 "amazon", "BaseEndpointDnsNames", dns, "VpcEndpointPolicySupported", 1,
			 "AcceptanceRequired", 0, "ManagesVpcEndpoints", 0,
			 "SupportedIpAddressTypes", "ipv4", "Tags");
}

int describe_vpc_endpoint_services(struct call *c, json_t *parameters, json_t **ret_reply,
				   struct fault *f)
{
	OWN(json_decref) json_t *items = json_array(), *names = json_array();
	json_t *wanted = json_object_get(parameters, "ServiceNames"), *v, *details;
	size_t i, k;
	int r;

	json_array_foreach (wanted, i, v) {
		r = service_get(c, json_string_value(v), &k, f);
		if (r < 0)
			return r;
	}
	for (i = 0; i < N_SERVICES; i++) {
		char name[96];

		service_name(c, i, name);
		if ((!wanted || jarray_has(wanted, name)) &&
		    json_array_append_new(items, service_json(c, i)) < 0)
			return -ENOMEM;
	}
	r = describe_list(c, &services, items, parameters, ret_reply, f);
	if (r < 0)
		return r;
	details = json_object_get(*ret_reply, "ServiceDetails");
	json_array_foreach (details, i, v)
		if (json_array_append(names, json_object_get(v, "ServiceName")) < 0)
			return -ENOMEM;
	return json_object_set(*ret_reply, "ServiceNames", names) < 0 ? -ENOMEM : 0;
}

/* The prefix list of the service, which is the cloud's own. */
static const struct doc *service_list(const struct call *c, const char *service)
{
	store_each (c->store, "prefix-list", d)
		if (strcmp(d->region, c->ctx->region) == 0 &&
		    prefix_list_is_owned_by_aws(d->json) && jis(d->json, "PrefixListName", service))
			return d;
	return NULL;
}

/* ---- routes ---- */

static int table_get(const struct call *c, const char *id, const char *vpc_id,
		     const struct doc **ret_table, struct fault *f)
{
	int r = kind_get(c, &kind_route_table, "RouteTableId", id, ret_table, f);

	if (r < 0 || jis((*ret_table)->json, "VpcId", vpc_id))
		return r;
	return fault_set(f, FAULT_INVALID_PARAMETER,
			 "Route table %s does not belong to the network %s", id, vpc_id);
}

static int has_route(const json_t *table, const char *member, const char *id, size_t *ret_at)
{
	json_t *routes = json_object_get(table, "Routes"), *route;
	size_t i;

	json_array_foreach (routes, i, route)
		if (jis(route, member, id)) {
			*ret_at = i;
			return 1;
		}
	return 0;
}

static int table_add(const struct call *c, json_t *endpoint, const char *table_id, struct fault *f)
{
	const char *id = jstr(endpoint, "VpcEndpointId");
	const struct doc *table, *list = service_list(c, jstr_or(endpoint, "ServiceName", ""));
	json_t *tables = json_object_get(endpoint, "RouteTableIds");
	size_t at;
	int r = table_get(c, table_id, jstr(endpoint, "VpcId"), &table, f);

	if (r < 0 || jarray_has(tables, table_id))
		return r;
	if (!list)
		return -EUCLEAN;
	OWN(json_decref) json_t *json = json_deep_copy(txn_look(c->txn, table->kind, table_id));

	if (has_route(json, "DestinationPrefixListId", list->id, &at))
		return fault_set(f, FAULT_ROUTE_ALREADY_EXISTS,
				 "route table %s already has a route with "
				 "destination-prefix-list-id %s",
				 table_id, list->id);
	if (json_array_append_new(json_object_get(json, "Routes"),
				  json_pack("{s:s s:s s:s s:s}", "DestinationPrefixListId",
					    list->id, "GatewayId", id, "Origin", "CreateRoute",
					    "State", "active")) < 0 ||
	    json_array_append_new(tables, json_string(table_id)) < 0)
		return -ENOMEM;
	return txn_replace(c->txn, table, give(json));
}

static void array_remove(json_t *array, const char *text)
{
	for (size_t i = json_array_size(array); i-- > 0;)
		if (strcmp(json_string_value(json_array_get(array, i)), text) == 0)
			json_array_remove(array, i);
}

static int table_remove(const struct call *c, json_t *endpoint, const char *table_id)
{
	const struct doc *table = store_find(c->store, "route-table", table_id);
	size_t at;

	array_remove(json_object_get(endpoint, "RouteTableIds"), table_id);
	if (!table)
		return 0;
	OWN(json_decref) json_t *json = json_deep_copy(txn_look(c->txn, table->kind, table_id));

	if (!has_route(json, "GatewayId", jstr(endpoint, "VpcEndpointId"), &at))
		return 0;
	json_array_remove(json_object_get(json, "Routes"), at);
	return txn_replace(c->txn, table, give(json));
}

int endpoints_forget_table(const struct call *c, const char *table_id)
{
	store_each (c->store, "vpc-endpoint", d) {
		if (!jarray_has(json_object_get(d->json, "RouteTableIds"), table_id))
			continue;
		OWN(json_decref) json_t *json = doc_edit(d);

		if (!json)
			return -ENOMEM;
		array_remove(json_object_get(json, "RouteTableIds"), table_id);
		int r = txn_replace(c->txn, d, give(json));

		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- create and modify ---- */

static int policy_check(const char *policy, struct fault *f)
{
	OWN(json_decref) json_t *json = NULL;
	size_t n = strlen(policy);

	if (n <= POLICY_MAX_BYTES && jtext_is_shallow(policy, n, POLICY_DEPTH))
		json = json_loads(policy, 0, NULL);
	if (json_is_object(json) && json_object_get(json, "Statement"))
		return 0;
	return fault_set(f, FAULT_INVALID_POLICY_DOCUMENT, "The policy document is not valid");
}

/* What only other types of endpoints have. */
static int others_check(json_t *parameters, struct fault *f)
{
	static const char *const members[] = {
		"SubnetIds",	   "SecurityGroupIds",	   "AddSubnetIds",
		"RemoveSubnetIds", "AddSecurityGroupIds",  "RemoveSecurityGroupIds",
		"DnsOptions",	   "SubnetConfigurations",
	};
	const char *family = jstr(parameters, "IpAddressType");

	for (size_t i = 0; i < sizeof members / sizeof *members; i++)
		if (json_object_size(json_object_get(parameters, members[i])) ||
		    json_array_size(json_object_get(parameters, members[i])))
			return fault_set(f, FAULT_INVALID_PARAMETER,
					 "%s is not supported for endpoints of the type Gateway",
					 members[i]);
	if (jbool(parameters, "PrivateDnsEnabled", 0))
		return fault_set(f, FAULT_INVALID_PARAMETER,
				 "Private DNS is not supported for endpoints of the type Gateway");
	if (family && strcmp(family, "ipv4") != 0)
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
				 "Gateway endpoints have IPv4 only so far");
	return 0;
}

static int create_check(const struct call *c, json_t *parameters, const struct doc **ret_vpc,
			struct fault *f)
{
	const char *type = jstr_or(parameters, "VpcEndpointType", "Gateway"),
		   *service = jstr(parameters, "ServiceName"),
		   *policy = jstr(parameters, "PolicyDocument");
	size_t i;
	int r = kind_get_parameter(c, &kind_vpc, parameters, "VpcId", ret_vpc, f);

	if (r < 0)
		return r;
	if (!service)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter serviceName");
	if (strcmp(type, "Gateway") != 0)
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
				 "Endpoints of the type %.32s are not supported", type);
	r = service_get(c, service, &i, f);
	if (r == 0)
		r = others_check(parameters, f);
	if (r == 0 && policy)
		r = policy_check(policy, f);
	if (r < 0)
		return r;
	if (kind_count(c, &kind_vpc_endpoint) >= LIMIT_ENDPOINTS_PER_REGION)
		return fault_set(f, FAULT_VPC_ENDPOINT_LIMIT_EXCEEDED,
				 "The maximum number of gateway endpoints has been reached.");
	return 0;
}

static json_t *endpoint_json(const struct call *c, json_t *parameters, const char *id,
			     const char *vpc_id, json_t *tags)
{
	return json_pack("{s:s s:s s:s s:s s:s s:s s:[] s:[] s:[] s:b s:b s:[] s:[] s:o s:s s:O}",
			 "VpcEndpointId", id, "VpcEndpointType", "Gateway", "VpcId", vpc_id,
			 "ServiceName", jstr(parameters, "ServiceName"), "State", "available",
			 "PolicyDocument", jstr_or(parameters, "PolicyDocument", POLICY_ALL),
			 "RouteTableIds", "SubnetIds", "Groups", "PrivateDnsEnabled", 0,
			 "RequesterManaged", 0, "NetworkInterfaceIds", "DnsEntries",
			 "CreationTimestamp", jtime_now(), "OwnerId", c->ctx->account, "Tags",
			 tags);
}

static int tables_change(const struct call *c, json_t *endpoint, const json_t *added,
			 const json_t *removed, struct fault *f)
{
	const json_t *v;
	size_t i;
	int r = 0;

	json_array_foreach (removed, i, v) {
		const struct doc *table;

		if (r == 0)
			r = table_get(c, json_string_value(v), jstr(endpoint, "VpcId"), &table, f);
		if (r == 0)
			r = table_remove(c, endpoint, json_string_value(v));
	}
	json_array_foreach (added, i, v)
		if (r == 0)
			r = table_add(c, endpoint, json_string_value(v), f);
	return r;
}

int create_vpc_endpoint(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	OWN(json_decref) json_t *tags = NULL;
	const struct doc *vpc;
	char id[ID_MAX];
	int r = create_check(c, parameters, &vpc, f);

	if (r == 0)
		r = kind_tags(&kind_vpc_endpoint, parameters, &tags, f);
	if (r < 0)
		return r;
	id_new("vpce", id);
	OWN(json_decref) json_t *json = endpoint_json(c, parameters, id, vpc->id, tags);

	if (!json)
		return -ENOMEM;
	r = tables_change(c, json, json_object_get(parameters, "RouteTableIds"), NULL, f);
	if (r == 0)
		r = put_new(c, &kind_vpc_endpoint, id, json_incref(json));
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:O s:s*}", "VpcEndpoint", json, "ClientToken",
			       jstr(parameters, "ClientToken"));
	kernel_touch(vpc->id);
	return *ret_reply ? 0 : -ENOMEM;
}

int modify_vpc_endpoint(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *policy = jstr(parameters, "PolicyDocument");
	const struct doc *d;
	int r = kind_get_parameter(c, &kind_vpc_endpoint, parameters, "VpcEndpointId", &d, f);

	if (r == 0)
		r = others_check(parameters, f);
	if (r == 0 && policy)
		r = policy_check(policy, f);
	if (r < 0)
		return r;
	if (policy && jbool(parameters, "ResetPolicy", 0))
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "PolicyDocument and ResetPolicy may not be used together");
	OWN(json_decref) json_t *json = doc_edit(d);

	if (jbool(parameters, "ResetPolicy", 0))
		policy = POLICY_ALL;
	if (policy)
		r = jset(json, "PolicyDocument", policy);
	if (r == 0)
		r = tables_change(c, json, json_object_get(parameters, "AddRouteTableIds"),
				  json_object_get(parameters, "RemoveRouteTableIds"), f);
	if (r == 0)
		r = txn_replace(c->txn, d, json_incref(json));
	if (r < 0)
		return r;
	*ret_reply = reply_true();
	return call_apply(c, jstr_or(json, "VpcId", ""));
}

/* ---- delete and describe ---- */

static int endpoint_delete(const struct call *c, const struct doc *d)
{
	OWN(json_decref) json_t *json = doc_edit(d);
	json_t *tables = json_object_get(json, "RouteTableIds");
	int r = json ? 0 : -ENOMEM;

	while (r == 0 && json_array_size(tables) > 0) {
		char id[ID_MAX]; /* its text goes with its place in the list */

		snprintf(id, sizeof id, "%s", json_string_value(json_array_get(tables, 0)));
		r = table_remove(c, json, id);
	}
	kernel_touch(jstr_or(d->json, "VpcId", ""));
	return r < 0 ? r : txn_delete(c->txn, d->kind, d->id);
}

/* Those that are not there are told apart, the others go. */
int delete_vpc_endpoints(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	json_t *ids = json_object_get(parameters, "VpcEndpointIds"), *v;
	OWN(json_decref) json_t *unsuccessful = json_array();
	size_t i;

	if (json_array_size(ids) == 0)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter VpcEndpointId");
	json_array_foreach (ids, i, v) {
		const struct doc *d;
		struct fault one = {0};
		int r = kind_get(c, &kind_vpc_endpoint, "VpcEndpointId", json_string_value(v), &d,
				 &one);

		if (r == 0 && txn_look(c->txn, d->kind, d->id))
			r = endpoint_delete(c, d);
		else if (r < 0 && fault_is_set(&one) &&
			 json_array_append_new(unsuccessful,
					       json_pack("{s:O s:{s:s s:s}}", "ResourceId", v,
							 "Error", "Code", one.code, "Message",
							 one.message)) == 0)
			r = 0;
		if (r < 0)
			return r;
	}
	*ret_reply = json_pack("{s:O}", "Unsuccessful", unsuccessful);
	return *ret_reply ? 0 : -ENOMEM;
}

int describe_vpc_endpoints(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return describe_run(c, &endpoints, parameters, ret_reply, f);
}
