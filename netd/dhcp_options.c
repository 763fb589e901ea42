/* DHCP options sets, which VPCs point to. What guests are told of them is in plan.c and dhcp.c. */
#include "netd.h"

#include <errno.h>
#include <string.h>

#include "describe.h"

/* Associated: the VPC has none, and guests are told of no resolver and no domain. */
#define NONE "default"

static const struct filter options_filters[] = {
	{"dhcp-options-id", "DhcpOptionsId"},
	{"key", "DhcpConfigurations.Key"},
	{"owner-id", "OwnerId"},
	{"value", "DhcpConfigurations.Values.Value"},
	FILTER_TAGS,
	{NULL},
};

static const struct describe options = {
	.kind = "dhcp-options",
	.result = "DhcpOptions",
	.ids = "DhcpOptionsIds",
	.prefix = "dopt",
	.malformed = FAULT_INVALID_DHCP_OPTIONS_ID_MALFORMED,
	.not_found = FAULT_INVALID_DHCP_OPTIONS_ID_NOT_FOUND,
	.filters = options_filters,
};

int describe_dhcp_options(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return describe_run(c, &options, parameters, ret_reply, f);
}

/* ---- what may stand in a set; source: CreateDhcpOptions in the EC2 API reference ---- */

static int is_server(const char *text)
{
	uint32_t address;

	return ip_parse(text, &address) == 0;
}

static int is_resolver(const char *text)
{
	return strcmp(text, "AmazonProvidedDNS") == 0 || is_server(text);
}

/* RFC 2132, 8.7: one bit of four. */
static int is_node_type(const char *text)
{
	return text[0] && strchr("1248", text[0]) && !text[1];
}

/* Some systems take several domains, apart by spaces. */
static int is_domain(const char *text)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				      "0123456789-_. ";

	return text[0] && text[strspn(text, allowed)] == '\0' && strlen(text) <= 253;
}

static const struct option {
	const char *key;
	size_t n_max;
	int (*is_valid)(const char *text);
} known[] = {
	{"domain-name", 1, is_domain},		{"domain-name-servers", 4, is_resolver},
	{"ntp-servers", 4, is_server},		{"netbios-name-servers", 4, is_server},
	{"netbios-node-type", 1, is_node_type},
};

static const struct option *option_find(const char *key)
{
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (strcmp(known[i].key, key) == 0)
			return &known[i];
	return NULL;
}

static int has_key(const json_t *configurations, const char *key)
{
	const json_t *o;
	size_t i;

	json_array_foreach (configurations, i, o)
		if (jis(o, "Key", key))
			return 1;
	return 0;
}

/* Clients give several servers as several values, or as one with commas. */
static int values_add(const struct option *o, const char *text, json_t *values, struct fault *f)
{
	OWN(free) char *copy = strdup(text);
	char *rest = copy, *one;

	if (!copy)
		return -ENOMEM;
	while ((one = o->n_max > 1 ? strsep(&rest, ",") : rest)) {
		one += strspn(one, " ");
		if (!o->is_valid(one))
			return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
					 "Value (%.64s) for parameter value is invalid. Invalid "
					 "DHCP option value.",
					 text);
		if (json_array_append_new(values, json_pack("{s:s}", "Value", one)) < 0)
			return -ENOMEM;
		if (o->n_max == 1)
			break;
	}
	return 0;
}

static int configuration_add(const json_t *given, json_t *configurations, struct fault *f)
{
	const char *key = jstr_or(given, "Key", "");
	const struct option *o = option_find(key);
	OWN(json_decref) json_t *values = json_array();
	json_t *list = json_object_get(given, "Values"), *v;
	size_t i;
	int r = 0;

	if (!o)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter name is invalid. Unknown DHCP option",
				 key);
	if (has_key(configurations, key))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "The DHCP option %s is given more than once", key);
	if (json_array_size(list) == 0)
		return fault_set(f, FAULT_MISSING_PARAMETER, "The DHCP option %s has no value",
				 key);
	json_array_foreach (list, i, v)
		if (r == 0)
			r = values_add(o, json_string_value(v), values, f);
	if (r < 0)
		return r;
	if (json_array_size(values) > o->n_max)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "The DHCP option %s has at most %zu values", key, o->n_max);
	return json_array_append_new(configurations,
				     json_pack("{s:s s:O}", "Key", key, "Values", values)) < 0
		       ? -ENOMEM
		       : 0;
}

int create_dhcp_options(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	json_t *list = json_object_get(parameters, "DhcpConfigurations"), *given;
	OWN(json_decref) json_t *configurations = json_array(), *tags = NULL;
	char id[ID_MAX];
	size_t i;
	int r = 0;

	if (json_array_size(list) == 0)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter dhcpConfiguration");
	json_array_foreach (list, i, given)
		if (r == 0)
			r = configuration_add(given, configurations, f);
	if (r == 0)
		r = kind_tags(&kind_dhcp_options, parameters, &tags, f);
	if (r < 0)
		return r;
	if (kind_count(c, &kind_dhcp_options) >= LIMIT_DHCP_OPTIONS_PER_REGION)
		return fault_set(f, FAULT_RESOURCE_LIMIT_EXCEEDED,
				 "The maximum number of DHCP options sets has been reached.");
	id_new("dopt", id);
	r = put_new(c, &kind_dhcp_options, id,
		    json_pack("{s:s s:s s:O s:O}", "DhcpOptionsId", id, "OwnerId", c->ctx->account,
			      "DhcpConfigurations", configurations, "Tags", tags));
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:O}", "DhcpOptions", txn_look(c->txn, "dhcp-options", id));
	return *ret_reply ? 0 : -ENOMEM;
}

/* Guests hear of it when they renew their lease, as in AWS. */
int associate_dhcp_options(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *id = jstr_or(parameters, "DhcpOptionsId", "");
	const struct doc *vpc, *set;
	int r = kind_get_parameter(c, &kind_vpc, parameters, "VpcId", &vpc, f);

	if (r == 0 && strcmp(id, NONE) != 0)
		r = kind_get_parameter(c, &kind_dhcp_options, parameters, "DhcpOptionsId", &set, f);
	if (r < 0)
		return r;
	OWN(json_decref) json_t *json = doc_edit(vpc);

	r = jset(json, "DhcpOptionsId", id);
	if (r == 0)
		r = txn_replace(c->txn, vpc, give(json));
	if (r < 0)
		return r;
	*ret_reply = reply_true();
	return call_apply(c, vpc->id);
}

int delete_dhcp_options(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *set;
	int r = kind_get_parameter(c, &kind_dhcp_options, parameters, "DhcpOptionsId", &set, f);

	if (r < 0)
		return r;
	store_each (c->store, "vpc", vpc)
		if (jis(vpc->json, "DhcpOptionsId", set->id))
			return fault_set(
				f, FAULT_DEPENDENCY_VIOLATION,
				"The dhcpOptions '%s' has dependencies and cannot be deleted.",
				set->id);
	*ret_reply = reply_true();
	return txn_delete(c->txn, "dhcp-options", set->id);
}
