/* VPCs and their attributes; their blocks are in vpc-cidr.c. */
#include "vpc.h"

#include <errno.h>
#include <string.h>

#include "describe.h"
#include "ipv6.h"
#include "peering.h"
#include "refresh.h"

static const struct filter vpc_filters[] = {
	{"cidr", "CidrBlock"},
	{"cidr-block", "CidrBlock"},
	{"cidr-block-association.association-id", "CidrBlockAssociationSet.AssociationId"},
	{"cidr-block-association.cidr-block", "CidrBlockAssociationSet.CidrBlock"},
	{"cidr-block-association.state", "CidrBlockAssociationSet.CidrBlockState.State"},
	{"dhcp-options-id", "DhcpOptionsId"},
	{"ipv6-cidr-block-association.association-id", "Ipv6CidrBlockAssociationSet.AssociationId"},
	{"ipv6-cidr-block-association.ipv6-cidr-block",
	 "Ipv6CidrBlockAssociationSet.Ipv6CidrBlock"},
	{"ipv6-cidr-block-association.ipv6-pool", "Ipv6CidrBlockAssociationSet.Ipv6Pool"},
	{"ipv6-cidr-block-association.state",
	 "Ipv6CidrBlockAssociationSet.Ipv6CidrBlockState.State"},
	{"is-default", "IsDefault"},
	{"isDefault", "IsDefault"},
	{"owner-id", "OwnerId"},
	{"state", "State"},
	{"vpc-id", "VpcId"},
	FILTER_TAGS,
	{NULL},
};

static const struct describe vpcs = {
	.kind = "vpc",
	.result = "Vpcs",
	.ids = "VpcIds",
	.prefix = "vpc",
	.malformed = FAULT_INVALID_VPC_ID_MALFORMED,
	.not_found = FAULT_INVALID_VPC_ID_NOT_FOUND,
	.filters = vpc_filters,
};

/* The attributes that have calls of their own. */
static const struct {
	const char *attribute, *member, *ours;
} attributes[] = {
	{"enableDnsSupport", "EnableDnsSupport", "_EnableDnsSupport"},
	{"enableDnsHostnames", "EnableDnsHostnames", "_EnableDnsHostnames"},
	{"enableNetworkAddressUsageMetrics", "EnableNetworkAddressUsageMetrics",
	 "_EnableNetworkAddressUsageMetrics"},
};
#define N_ATTRIBUTES (sizeof attributes / sizeof *attributes)

const struct doc *vpc_default(const struct call *c)
{
	store_each (c->store, "vpc", d)
		if (is_callers(c, d) && jbool(d->json, "IsDefault", 0))
			return d;
	return NULL;
}

int vpc_get_or_default(const struct call *c, json_t *parameters, const struct doc **ret_vpc,
		       struct fault *f)
{
	if (jstr(parameters, "VpcId"))
		return kind_get_parameter(c, &kind_vpc, parameters, "VpcId", ret_vpc, f);
	const struct doc *d = vpc_default(c);

	if (!d)
		return fault_set(f, FAULT_VPC_ID_NOT_SPECIFIED, "No default VPC for this user");
	*ret_vpc = d;
	return 0;
}

/* The smallest index that no VPC of the box has: indexes become link addresses, so they must
 * not grow for ever. */
static int index_free(const struct store *s)
{
	for (int i = 0;; i++) {
		int is_taken = 0;

		store_each (s, "vpc", d)
			is_taken |= jint(d->json, "_Index", -1) == i;
		if (!is_taken)
			return i;
	}
}

static json_t *vpc_json(const struct call *c, const struct vpc_birth *b,
			const char *dhcp_options_id, const char *group_id, const char *acl_id)
{
	char cidr[CIDR_TEXT_MAX], association_id[ID_MAX];

	cidr_format(b->cidr, cidr);
	id_new("vpc-cidr-assoc", association_id);
	return json_pack("{s:s s:s s:s s:s s:s s:s s:b s:o s:[o] s:o s:i s:b s:b s:b s:s s:s}",
			 "VpcId", b->vpc_id, "CidrBlock", cidr, "DhcpOptionsId", dhcp_options_id,
			 "State", "available", "OwnerId", c->ctx->account, "InstanceTenancy",
			 b->tenancy, "IsDefault", b->is_default, "Ipv6CidrBlockAssociationSet",
			 ipv6_vpc_associations(c, b->ipv6_block), "CidrBlockAssociationSet",
			 vpc_cidr_association(association_id, cidr), "Tags", tags_or_none(b->tags),
			 "_Index", index_free(c->store), "_EnableDnsSupport", 1,
			 "_EnableDnsHostnames", b->is_default, "_EnableNetworkAddressUsageMetrics",
			 0, "_DefaultGroup", group_id, "_DefaultAcl", acl_id);
}

int vpc_make(const struct call *c, struct vpc_birth *b, struct fault *f)
{
	char dopt_id[ID_MAX], group_id[ID_MAX], acl_id[ID_MAX], cidr[CIDR_TEXT_MAX];
	int r;

	id_new("vpc", b->vpc_id);
	cidr_format(b->cidr, cidr);
	OWN(json_decref) json_t *blocks = json_pack("[{s:s}]", "CidrBlock", cidr);

	r = blocks ? 0 : -ENOMEM;
	if (r == 0 && b->ipv6_block[0])
		r = json_array_append_new(blocks,
					  json_pack("{s:s}", "Ipv6CidrBlock", b->ipv6_block)) < 0
			    ? -ENOMEM
			    : 0;
	if (r == 0)
		r = default_dhcp_options(c, dopt_id);
	if (r == 0)
		r = route_table_make(c, b->vpc_id, blocks, 1, NULL, b->main_table_id);
	if (r == 0)
		r = acl_make_default(c, b->vpc_id, !!b->ipv6_block[0], acl_id);
	if (r == 0)
		r = group_make_default(c, b->vpc_id, !!b->ipv6_block[0], group_id, f);
	if (r == 0)
		r = put_new(c, &kind_vpc, b->vpc_id, vpc_json(c, b, dopt_id, group_id, acl_id));
	if (r == 0)
		kernel_touch(b->vpc_id);
	return r;
}

static int limit_check(const struct call *c, struct fault *f)
{
	if (kind_count(c, &kind_vpc) < LIMIT_VPCS_PER_REGION)
		return 0;
	return fault_set(f, FAULT_VPC_LIMIT_EXCEEDED,
			 "The maximum number of VPCs has been reached.");
}

int create_vpc(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	static const char *const unsupported[] = {"Ipv6Pool",
						  "Ipv6CidrBlock",
						  "Ipv4IpamPoolId",
						  "Ipv6IpamPoolId",
						  "Ipv4NetmaskLength",
						  "Ipv6NetmaskLength",
						  NULL};
	struct vpc_birth b = {.tenancy = jstr_or(parameters, "InstanceTenancy", "default")};
	OWN(json_decref) json_t *tags = NULL;

	int r = vpc_cidr_parameter(parameters, &b.cidr, f);
	if (r < 0)
		return r;
	if (strcmp(b.tenancy, "host") == 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "The tenancy value of host is not supported for VPCs");
	r = ipv6_border_group_check(c, parameters, f);
	if (r == 0 && jbool(parameters, "AmazonProvidedIpv6CidrBlock", 0))
		r = ipv6_block_new(c, b.ipv6_block, f);
	if (r < 0)
		return r;
	r = unsupported_check(parameters, unsupported, f);
	if (r < 0)
		return r;
	r = kind_tags(&kind_vpc, parameters, &tags, f);
	if (r < 0)
		return r;
	r = limit_check(c, f);
	if (r < 0)
		return r;
	b.tags = tags;
	r = vpc_make(c, &b, f);
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:O}", "Vpc", txn_look(c->txn, "vpc", b.vpc_id));
	return *ret_reply ? 0 : -ENOMEM;
}

int create_default_vpc(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	char vpc_id[ID_MAX];
	const struct doc *d = vpc_default(c);

	(void)parameters; /* DryRun only */
	if (d)
		return fault_set(f, FAULT_DEFAULT_VPC_ALREADY_EXISTS,
				 "A Default VPC already exists for this account in this region.");
	int r = limit_check(c, f);

	if (r == 0)
		r = default_vpc_make(c, vpc_id, f);
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:O}", "Vpc", txn_look(c->txn, "vpc", vpc_id));
	return *ret_reply ? 0 : -ENOMEM;
}

/* Where a kind of document says its VPC. */
static int is_attached(const struct doc *d, const char *vpc_id)
{
	json_t *list = json_object_get(d->json, "Attachments"), *a;
	size_t i;

	json_array_foreach (list, i, a)
		if (jis(a, "VpcId", vpc_id))
			return 1;
	return 0;
}

static int is_in(const struct doc *d, const char *vpc_id)
{
	return jis(d->json, "VpcId", vpc_id) &&
	       !(strcmp(d->kind, "route-table") == 0 && route_table_is_main(d->json));
}

static int is_peered(const struct doc *d, const char *vpc_id)
{
	enum peering_side side;

	return peering_is_live(d->json) && peering_has_vpc(d->json, vpc_id, &side);
}

/* What keeps a VPC. */
static const struct {
	const char *kind;
	int (*is_its)(const struct doc *d, const char *vpc_id);
} keepers[] = {
	{"subnet", is_in},
	{"network-interface", is_in},
	{"security-group", is_in},
	{"network-acl", is_in},
	{"route-table", is_in},
	{"internet-gateway", is_attached},
	{"egress-only-internet-gateway", is_attached},
	{"vpc-endpoint", is_in},
	{"vpc-peering-connection", is_peered},
};

/* Something of the customer's is still in the VPC: what it was born with does not count. */
static int is_in_use(const struct call *c, const struct doc *vpc)
{
	for (size_t i = 0; i < sizeof keepers / sizeof *keepers; i++)
		store_each (c->store, keepers[i].kind, d)
			if (keepers[i].is_its(d, vpc->id) &&
			    !jis(vpc->json, "_DefaultGroup", d->id) &&
			    !jis(vpc->json, "_DefaultAcl", d->id))
				return 1;
	return 0;
}

int delete_vpc(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *vpc;
	int r = kind_get_parameter(c, &kind_vpc, parameters, "VpcId", &vpc, f);

	if (r < 0)
		return r;
	if (is_in_use(c, vpc))
		return fault_set(f, FAULT_DEPENDENCY_VIOLATION,
				 "The vpc '%s' has dependencies and cannot be deleted.", vpc->id);
	r = group_drop(c, jstr(vpc->json, "_DefaultGroup"));
	if (r == 0)
		r = txn_delete(c->txn, "network-acl", jstr(vpc->json, "_DefaultAcl"));
	store_each (c->store, "route-table", d)
		if (r == 0 && jis(d->json, "VpcId", vpc->id))
			r = txn_delete(c->txn, "route-table", d->id);
	if (r == 0)
		r = flow_logs_drop(c, vpc->id);
	if (r == 0)
		r = txn_delete(c->txn, "vpc", vpc->id);
	if (r < 0)
		return r;
	kernel_touch(vpc->id);
	*ret_reply = reply_true();
	return 0;
}

int describe_vpcs(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return describe_run(c, &vpcs, parameters, ret_reply, f);
}

int describe_vpc_attribute(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *attribute = jstr_or(parameters, "Attribute", "");
	const struct doc *vpc;
	int r = kind_get_parameter(c, &kind_vpc, parameters, "VpcId", &vpc, f);

	if (r < 0)
		return r;
	for (size_t i = 0; i < N_ATTRIBUTES; i++)
		if (strcmp(attributes[i].attribute, attribute) == 0) {
			*ret_reply =
				json_pack("{s:s s:{s:b}}", "VpcId", vpc->id, attributes[i].member,
					  "Value", jbool(vpc->json, attributes[i].ours, 0));
			return *ret_reply ? 0 : -ENOMEM;
		}
	return fault_set(f, *attribute ? FAULT_INVALID_PARAMETER_VALUE : FAULT_MISSING_PARAMETER,
			 "Value (%.64s) for parameter attribute is invalid. Unknown attribute.",
			 attribute);
}

int modify_vpc_attribute(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *vpc;
	size_t chosen = N_ATTRIBUTES, n = 0;
	int r = kind_get_parameter(c, &kind_vpc, parameters, "VpcId", &vpc, f);

	if (r < 0)
		return r;
	for (size_t i = 0; i < N_ATTRIBUTES; i++)
		if (json_object_get(parameters, attributes[i].member)) {
			chosen = i;
			n++;
		}
	if (n != 1)
		return fault_set(f,
				 n ? FAULT_INVALID_PARAMETER_COMBINATION : FAULT_MISSING_PARAMETER,
				 "Exactly one attribute must be specified");
	const json_t *value =
		json_object_get(json_object_get(parameters, attributes[chosen].member), "Value");

	if (!json_is_boolean(value))
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter %s.Value",
				 attributes[chosen].member);
	OWN(json_decref) json_t *json = doc_edit(vpc);

	r = jset_new(json, attributes[chosen].ours, json_boolean(json_is_true(value)));
	if (r == 0)
		r = txn_replace(c->txn, vpc, json_incref(json));
	if (r == 0)
		r = interfaces_rename(c, json);
	if (r == 0)
		r = txn_commit(c->txn);
	if (r < 0)
		return r;
	kernel_touch(jstr(json, "VpcId"));
	refresh_start_all(c->store, jstr(json, "VpcId"));
	*ret_reply = reply_true();
	return 0;
}

int modify_vpc_tenancy(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *vpc;
	int r = kind_get_parameter(c, &kind_vpc, parameters, "VpcId", &vpc, f);

	if (r < 0)
		return r;
	if (!jis(parameters, "InstanceTenancy", "default"))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "The tenancy of a VPC can only be changed to 'default'");
	if (!jis(vpc->json, "InstanceTenancy", "dedicated"))
		return fault_set(f, FAULT_INVALID_TENANCY,
				 "The tenancy of %s is 'default' and cannot be modified", vpc->id);
	OWN(json_decref) json_t *json = doc_edit(vpc);

	r = jset(json, "InstanceTenancy", "default");
	*ret_reply = json_pack("{s:b}", "ReturnValue", 1);
	return r < 0 ? r : txn_replace(c->txn, vpc, give(json));
}
