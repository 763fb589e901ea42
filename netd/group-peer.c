/* Security groups over VPC peering: who refers to a group from the other side, and rules that refer
 * to what is there no more; and which groups a VPC can use. */
#include "group-peer.h"

#include <errno.h>
#include <string.h>

#include "describe.h"
#include "group.h"
#include "peering.h"
#include "permission.h"

static const struct filter no_filters[] = {{NULL}};

static const struct describe stale_pages = {
	.kind = "security-group",
	.result = "StaleSecurityGroupSet",
	.filters = no_filters,
	.n_max_low = 5,
	.n_max_high = 255,
};

static const struct filter usable_filters[] = {
	{"description", "Description"},	    {"group-id", "GroupId"},
	{"group-name", "GroupName"},	    {"owner-id", "OwnerId"},
	{"primary-vpc-id", "PrimaryVpcId"}, {NULL},
};

static const struct describe usable_pages = {
	.kind = "security-group",
	.result = "SecurityGroupForVpcs",
	.filters = usable_filters,
	.n_max_low = 5,
	.n_max_high = 1000,
};

const struct doc *group_peering(const struct store *s, const char *vpc_id, const char *other_id)
{
	enum peering_side side;

	store_each (s, "vpc-peering-connection", d)
		if (peering_is(d->json, "active") && peering_has_vpc(d->json, vpc_id, &side) &&
		    jis(peering_info(d->json, (enum peering_side) !side), "VpcId", other_id))
			return d;
	return NULL;
}

const char *group_peering_status(const struct store *s, const json_t *reference)
{
	const char *id = jstr(reference, "VpcPeeringConnectionId");
	const struct doc *d = id ? store_find(s, "vpc-peering-connection", id) : NULL;

	if (!id)
		return NULL;
	return d ? jpath_str(d->json, "Status.Code") : "deleted";
}

static int is_stale(const struct store *s, const json_t *rule)
{
	const json_t *reference = json_object_get(rule, "ReferencedGroupInfo");
	const char *status = group_peering_status(s, reference);

	return status && (strcmp(status, "active") != 0 ||
			  !store_find(s, "security-group", jstr_or(reference, "GroupId", "")));
}

/* ---- DescribeSecurityGroupReferences ---- */

static int references_append(const struct call *c, const struct doc *group, json_t *references)
{
	store_each (c->store, "security-group-rule", rule) {
		const json_t *info = json_object_get(rule->json, "ReferencedGroupInfo");
		const struct doc *other =
			store_find(c->store, "security-group", jstr_or(rule->json, "GroupId", ""));
		OWN(json_decref) json_t *reference = NULL;
		json_t *known;
		size_t i;
		int is_known = 0;

		if (!jis(info, "GroupId", group->id) || !jstr(info, "VpcPeeringConnectionId") ||
		    !other)
			continue;
		reference = json_pack("{s:s s:s s:s}", "GroupId", group->id, "ReferencingVpcId",
				      jstr_or(other->json, "VpcId", ""), "VpcPeeringConnectionId",
				      jstr(info, "VpcPeeringConnectionId"));
		json_array_foreach (references, i, known)
			is_known |= json_equal(known, reference);
		if (!is_known && json_array_append(references, reference) < 0)
			return -ENOMEM;
	}
	return 0;
}

int describe_security_group_references(struct call *c, json_t *parameters, json_t **ret_reply,
				       struct fault *f)
{
	OWN(json_decref) json_t *references = json_array();
	json_t *ids = json_object_get(parameters, "GroupId"), *id;
	const struct doc *group = NULL;
	size_t i;
	int r = references ? 0 : -ENOMEM;

	json_array_foreach (ids, i, id) {
		if (r == 0)
			r = kind_get(c, &kind_security_group, "groupId", json_string_value(id),
				     &group, f);
		if (r == 0)
			r = references_append(c, group, references);
	}
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:O}", "SecurityGroupReferenceSet", references);
	return *ret_reply ? 0 : -ENOMEM;
}

/* ---- DescribeStaleSecurityGroups ---- */

/* The group with its stale rules, if it has any; NULL otherwise or out of memory (*ret_error). */
static json_t *stale_group(const struct call *c, const struct doc *group, int *ret_error)
{
	OWN(json_decref) json_t *rules = group_rules(c->store, group->json, -1);
	OWN(json_decref) json_t *stale = json_array();
	json_t *rule, *shown;
	size_t i;

	json_array_foreach (rules, i, rule)
		if (is_stale(c->store, rule) && json_array_append(stale, rule) < 0)
			*ret_error = -ENOMEM;
	if (json_array_size(stale) == 0)
		return NULL;
	shown = json_pack("{s:s s:s s:s s:s s:o s:o}", "GroupId", group->id, "GroupName",
			  jstr_or(group->json, "GroupName", ""), "Description",
			  jstr_or(group->json, "Description", ""), "VpcId",
			  jstr_or(group->json, "VpcId", ""), "StaleIpPermissions",
			  permissions_show(c->store, stale, 0), "StaleIpPermissionsEgress",
			  permissions_show(c->store, stale, 1));
	if (!shown)
		*ret_error = -ENOMEM;
	return shown;
}

int describe_stale_security_groups(struct call *c, json_t *parameters, json_t **ret_reply,
				   struct fault *f)
{
	OWN(json_decref) json_t *items = json_array();
	const struct doc *vpc = NULL;
	int r = kind_get_parameter(c, &kind_vpc, parameters, "VpcId", &vpc, f);

	if (r < 0)
		return r;
	r = peerings_age(c); /* it may have ended by time passing */
	store_each (c->store, "security-group", group) {
		json_t *item = NULL;

		if (r == 0 && jis(group->json, "VpcId", jstr(parameters, "VpcId")))
			item = stale_group(c, group, &r);
		if (item && json_array_append_new(items, item) < 0)
			r = -ENOMEM;
	}
	return r < 0 ? r : describe_list(c, &stale_pages, items, parameters, ret_reply, f);
}

/* ---- GetSecurityGroupsForVpc ---- */

/* Those that interfaces of the VPC may have: its own, since none is associated with another's. */
int get_security_groups_for_vpc(struct call *c, json_t *parameters, json_t **ret_reply,
				struct fault *f)
{
	OWN(json_decref) json_t *items = json_array();
	const struct doc *vpc = NULL;
	int r = kind_get_parameter(c, &kind_vpc, parameters, "VpcId", &vpc, f);

	if (r < 0)
		return r;
	store_each (c->store, "security-group", group) {
		const json_t *g = group->json;

		if (r == 0 && jis(g, "VpcId", vpc->id) &&
		    json_array_append_new(
			    items, json_pack("{s:s s:s s:s s:s s:s s:O}", "GroupId", group->id,
					     "GroupName", jstr_or(g, "GroupName", ""),
					     "Description", jstr_or(g, "Description", ""),
					     "OwnerId", group->account, "PrimaryVpcId", vpc->id,
					     "Tags", json_object_get(g, "Tags"))) < 0)
			r = -ENOMEM;
	}
	return r < 0 ? r : describe_list(c, &usable_pages, items, parameters, ret_reply, f);
}
