/* Documents: what the store says of one VPC. */
#include "documents.h"

#include <errno.h>
#include <string.h>
#include "jsonx.h"
#include "plan-memo.h"
#include "prefix-list.h"

void documents_clear(struct documents *d)
{
	struct plan_input *in = &d->input;
	json_t *all[] = {in->vpc,
			 in->dhcp_options,
			 in->subnets,
			 in->route_tables,
			 in->internet_gateways,
			 in->network_acls,
			 in->security_groups,
			 in->group_rules,
			 in->named,
			 in->network_interfaces,
			 in->egress_only_gateways,
			 in->prefix_lists,
			 in->peers,
			 in->peer_groups,
			 in->peer_names,
			 in->flow_logs};

	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		json_decref(all[i]);
	*d = (struct documents){0};
}

static int is_of_vpc(const struct doc *d, const char *vpc_id)
{
	const char *id = jstr(d->json, "VpcId");

	return id && strcmp(id, vpc_id) == 0;
}

static int is_of_vpc_privately(const struct doc *d, const char *vpc_id)
{
	return strcmp(jstr_or(d->json, "_VpcId", ""), vpc_id) == 0;
}

static int is_attached_to(const struct doc *d, const char *vpc_id)
{
	const json_t *attachment;
	size_t i;

	json_array_foreach (json_object_get(d->json, "Attachments"), i, attachment)
		if (strcmp(jstr_or(attachment, "VpcId", ""), vpc_id) == 0)
			return 1;
	return 0;
}

static int append(json_t *array, json_t *json)
{
	return json_array_append(array, json) < 0 ? -ENOMEM : 0;
}

static int gather(const struct store *s, const char *kind,
		  int (*is_its)(const struct doc *d, const char *vpc_id), const char *vpc_id,
		  json_t **ret_array)
{
	json_t *array = *ret_array = json_array();
	int r = array ? 0 : -ENOMEM;

	store_each (s, kind, d)
		if (r == 0 && is_its(d, vpc_id))
			r = append(array, d->json);
	return r;
}

/* What a rule names. */
static int name_peers(json_t *named, const json_t *rule)
{
	const char *const ids[] = {jstr(rule, "PrefixListId"),
				   jpath_str(rule, "ReferencedGroupInfo.GroupId")};

	for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
		if (ids[i] && json_object_set_new(named, ids[i], json_true()) < 0)
			return -ENOMEM;
	return 0;
}

/* The rules that a group lists, and what they name. */
static int read_rules(const struct store *s, const json_t *group, json_t *rules, json_t *named)
{
	const json_t *id;
	size_t i;

	json_array_foreach (json_object_get(group, "_Rules"), i, id) {
		const struct doc *rule =
			store_find(s, "security-group-rule", json_string_value(id));

		if (rule &&
		    (json_array_append(rules, rule->json) < 0 || name_peers(named, rule->json) < 0))
			return -ENOMEM;
	}
	return 0;
}

/* Who changes a rule replaces its group's document, too: when that is the very same, so are its
 * rules. */
static int gather_group(const struct store *s, struct plan_input *in, json_t *group)
{
	const char *id = jstr_or(group, "GroupId", "");
	const struct memo_group *known = plan_memo_rules(in->memo, id, group);
	OWN(json_decref) json_t *rules = known ? json_incref(known->rules) : json_array();
	OWN(json_decref) json_t *named = known ? json_incref(known->peers) : json_object();
	int r = rules && named ? 0 : -ENOMEM;

	if (r == 0 && !known) {
		r = read_rules(s, group, rules, named);
		if (r == 0)
			plan_memo_put_rules(in->memo, id, group, rules, named);
	}
	if (r < 0 || json_object_set(in->group_rules, id, rules) < 0 ||
	    json_object_update(in->named, named) < 0)
		return -ENOMEM;
	return 0;
}

static int gather_rules(const struct store *s, struct plan_input *in)
{
	json_t *group;
	size_t i;
	int r = 0;

	in->group_rules = json_object();
	in->named = json_object();
	json_array_foreach (in->security_groups, i, group)
		if (r == 0)
			r = gather_group(s, in, group);
	plan_memo_sweep(in->memo, MEMO_DOCUMENTS);
	return in->group_rules && in->named ? r : -ENOMEM;
}

/* A list as the plan wants it: with the entries of its current version. */
static int append_prefix_list(const struct store *s, struct plan_input *in, const char *id)
{
	const struct doc *list = id ? store_find(s, "prefix-list", id) : NULL;
	json_t *known;
	size_t i;

	if (!list)
		return 0;
	json_array_foreach (in->prefix_lists, i, known)
		if (strcmp(jstr_or(known, "PrefixListId", ""), id) == 0)
			return 0;
	return json_array_append_new(in->prefix_lists,
				     json_pack("{s:s s:s s:O*}", "PrefixListId", id,
					       "AddressFamily",
					       jstr_or(list->json, "AddressFamily", ""), "Entries",
					       prefix_list_entries(s, list->json, 0))) < 0
		       ? -ENOMEM
		       : 0;
}

/* Those that rules or routes of the VPC refer to. */
static int gather_prefix_lists(const struct store *s, struct plan_input *in)
{
	const json_t *table, *route;
	const char *id;
	json_t *is_named;
	size_t i, j;
	int r = 0;

	in->prefix_lists = json_array();
	if (!in->prefix_lists)
		return -ENOMEM;
	json_object_foreach (in->named, id, is_named)
		if (r == 0)
			r = append_prefix_list(s, in, id);
	json_array_foreach (in->route_tables, i, table)
		json_array_foreach (json_object_get(table, "Routes"), j, route)
			if (r == 0)
				r = append_prefix_list(s, in,
						       jstr(route, "DestinationPrefixListId"));
	return r;
}

int documents_gather(const struct store *s, const char *vpc_id, struct plan_memo *memo,
		     struct documents *ret_documents)
{
	const struct doc *vpc = store_find(s, "vpc", vpc_id), *options;
	OWN(documents_clear) struct documents d = {0};
	struct plan_input *in = &d.input;
	int r;

	if (!vpc)
		return -ENOENT;
	snprintf(d.region, sizeof d.region, "%s", vpc->region);
	in->memo = memo;
	in->vpc = json_incref(vpc->json);
	options = store_find(s, "dhcp-options", jstr_or(vpc->json, "DhcpOptionsId", ""));
	in->dhcp_options = options ? json_incref(options->json) : NULL;
	if ((r = gather(s, "subnet", is_of_vpc, vpc_id, &in->subnets)) < 0 ||
	    (r = gather(s, "route-table", is_of_vpc, vpc_id, &in->route_tables)) < 0 ||
	    (r = gather(s, "internet-gateway", is_attached_to, vpc_id, &in->internet_gateways)) <
		    0 ||
	    (r = gather(s, "network-acl", is_of_vpc, vpc_id, &in->network_acls)) < 0 ||
	    (r = gather(s, "security-group", is_of_vpc, vpc_id, &in->security_groups)) < 0 ||
	    (r = gather(s, "network-interface", is_of_vpc, vpc_id, &in->network_interfaces)) < 0 ||
	    (r = gather(s, "egress-only-internet-gateway", is_attached_to, vpc_id,
			&in->egress_only_gateways)) < 0 ||
	    (r = gather(s, "flow-log", is_of_vpc_privately, vpc_id, &in->flow_logs)) < 0 ||
	    (r = gather_rules(s, in)) < 0 || (r = gather_prefix_lists(s, in)) < 0 ||
	    (r = documents_gather_peers(s, vpc_id, in)) < 0)
		return r;
	*ret_documents = d;
	ret_documents->input.region = ret_documents->region;
	d = (struct documents){0};
	return 0;
}
