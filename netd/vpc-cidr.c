/* The blocks of a VPC: which may be its first, which may be added, and taking added ones away.
 * Source: VPC user guide, "VPC CIDR blocks" and its table "IPv4 CIDR block association
 * restrictions". */
#include "vpc.h"

#include "ipv6.h"

#include <errno.h>
#include <string.h>

#include "peering.h"

/* Never a VPC's: RFC 1122, RFC 3927, RFC 5771. */
static const char *const reserved[] = {"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"};

/* A VPC with a block in `has` gets none in `not`; a NULL `has` is any VPC. */
static const struct {
	const char *has, *not ;
} restrictions[] = {
	{"10.0.0.0/8", "172.16.0.0/12"},
	{"10.0.0.0/8", "192.168.0.0/16"},
	{"10.0.0.0/15", "10.0.0.0/16"},
	{"172.16.0.0/12", "10.0.0.0/8"},
	{"172.16.0.0/12", "192.168.0.0/16"},
	{"172.16.0.0/12", "172.31.0.0/16"},
	{"192.168.0.0/16", "10.0.0.0/8"},
	{"192.168.0.0/16", "172.16.0.0/12"},
	{NULL, "198.19.0.0/16"},
};
static const char *const private[] = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"};

static struct cidr block(const char *text)
{
	struct cidr c = {0};

	(void)cidr_parse(text, &c); /* the texts are those of our tables and documents */
	return c;
}

int vpc_cidr_parameter(json_t *parameters, struct cidr *ret_cidr, struct fault *f)
{
	const char *text = jstr(parameters, "CidrBlock");
	struct cidr c;

	if (!text)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter CidrBlock");
	if (cidr_parse(text, &c) < 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter cidrBlock is invalid. This is not a "
				 "valid CIDR block.",
				 text);
	c = cidr_canonical(c);
	if (c.bits < 16 || c.bits > 28)
		return fault_set(f, FAULT_INVALID_VPC_RANGE, "The CIDR '%s' is invalid.", text);
	for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
		if (cidr_overlap(block(reserved[i]), c))
			return fault_set(f, FAULT_INVALID_VPC_RANGE, "The CIDR '%s' is reserved.",
					 text);
	*ret_cidr = c;
	return 0;
}

/* ---- which may be added ---- */

static int is_private(struct cidr c)
{
	for (size_t i = 0; i < sizeof private / sizeof *private; i++)
		if (cidr_overlap(block(private[i]), c))
			return 1;
	return 0;
}

int vpc_cidr_is_restricted(struct cidr has, struct cidr added)
{
	for (size_t i = 0; i < sizeof restrictions / sizeof *restrictions; i++)
		if ((!restrictions[i].has || cidr_overlap(block(restrictions[i].has), has)) &&
		    cidr_overlap(block(restrictions[i].not ), added))
			return 1;
	/* From outside of the private ranges there is no way into them. */
	return !is_private(has) && is_private(added);
}

static int blocks_check(const json_t *vpc, struct cidr added, const char *text, struct fault *f)
{
	json_t *list = json_object_get(vpc, "CidrBlockAssociationSet"), *a;
	size_t i;

	if (json_array_size(list) >= LIMIT_CIDRS_PER_VPC)
		return fault_set(f, FAULT_CIDR_LIMIT_EXCEEDED,
				 "This network '%s' has met its maximum number of allowed CIDRs: "
				 "%d",
				 jstr(vpc, "VpcId"), LIMIT_CIDRS_PER_VPC);
	json_array_foreach (list, i, a) {
		struct cidr has = block(jstr(a, "CidrBlock"));

		if (cidr_overlap(has, added))
			return fault_set(f, FAULT_INVALID_VPC_RANGE,
					 "The CIDR '%s' conflicts with another CIDR of the VPC",
					 text);
		if (vpc_cidr_is_restricted(has, added))
			return fault_set(
				f, FAULT_INVALID_VPC_RANGE,
				"The CIDR '%s' is restricted. Use a CIDR from the same private "
				"address range as the current VPC CIDR, or use a "
				"publicly-routable CIDR.",
				text);
	}
	return 0;
}

/* A new local route must not take the place of a route that is as long or longer. */
static int routes_check(const struct call *c, const char *vpc_id, struct cidr added,
			const char *text, struct fault *f)
{
	store_each (c->store, "route-table", d) {
		json_t *routes = json_object_get(d->json, "Routes"), *route;
		struct cidr to;
		size_t i;

		json_array_foreach (routes, i, route)
			if (jis(d->json, "VpcId", vpc_id) &&
			    cidr_parse(jstr(route, "DestinationCidrBlock"), &to) == 0 &&
			    cidr_has_cidr(added, to))
				return fault_set(f, FAULT_INVALID_VPC_RANGE,
						 "The CIDR '%s' conflicts with a route in route "
						 "table %s",
						 text, d->id);
	}
	return 0;
}

/* ---- the two actions ---- */

static int only_known(json_t *parameters, struct fault *f)
{
	static const char *const unsupported[] = {"Ipv6CidrBlock",
						  "Ipv6Pool",
						  "Ipv4IpamPoolId",
						  "Ipv6IpamPoolId",
						  "Ipv4NetmaskLength",
						  "Ipv6NetmaskLength",
						  NULL};

	return unsupported_check(parameters, unsupported, f);
}

int vpc_local_routes(const struct call *c, const char *vpc_id, const char *cidr, int is_added)
{
	store_each (c->store, "route-table", d) {
		if (!jis(d->json, "VpcId", vpc_id))
			continue;
		OWN(json_decref) json_t *json = doc_edit(d);
		json_t *routes = json_object_get(json, "Routes"), *route;
		int r = json ? 0 : -ENOMEM;
		size_t i;

		if (r == 0 && is_added)
			r = route_append(json, cidr, "local", "CreateRouteTable");
		for (i = json_array_size(routes); r == 0 && !is_added && i-- > 0;) {
			route = json_array_get(routes, i);
			if (jis(route, route_member(cidr), cidr))
				json_array_remove(routes, i);
		}
		if (r == 0)
			r = txn_replace(c->txn, d, give(json));
		if (r < 0)
			return r;
	}
	return 0;
}

json_t *block_reply(const char *owner, const char *owner_id, const char *family, const json_t *row,
		    const char *state)
{
	OWN(json_decref) json_t *shown = json_deep_copy(row);
	char member[32], state_member[32];

	snprintf(member, sizeof member, "%sCidrBlockAssociation", family);
	snprintf(state_member, sizeof state_member, "%sCidrBlockState", family);
	if (jset(json_object_get(shown, state_member), "State", state) < 0)
		return NULL;
	return json_pack("{s:s s:O}", owner, owner_id, member, shown);
}

static int blocks_put(const struct call *c, const struct doc *vpc, json_t *json)
{
	int r = peerings_follow_blocks(c, json);

	kernel_touch(vpc->id);
	return r < 0 ? r : txn_replace(c->txn, vpc, json_incref(json));
}

static int associate_ipv6(struct call *c, const struct doc *vpc, json_t *parameters,
			  json_t **ret_reply, struct fault *f)
{
	if (jstr(parameters, "CidrBlock"))
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "CidrBlock and AmazonProvidedIpv6CidrBlock may not be used "
				 "together");
	return ipv6_vpc_associate(c, vpc, ret_reply, f);
}

int associate_vpc_cidr_block(struct call *c, json_t *parameters, json_t **ret_reply,
			     struct fault *f)
{
	char text[CIDR_TEXT_MAX], id[ID_MAX];
	const struct doc *vpc;
	struct cidr cidr;
	int r = kind_get_parameter(c, &kind_vpc, parameters, "VpcId", &vpc, f);

	if (r == 0)
		r = only_known(parameters, f);
	if (r == 0)
		r = ipv6_border_group_check(c, parameters, f);
	if (r == 0 && jbool(parameters, "AmazonProvidedIpv6CidrBlock", 0))
		return associate_ipv6(c, vpc, parameters, ret_reply, f);
	if (r == 0)
		r = vpc_cidr_parameter(parameters, &cidr, f);
	if (r < 0)
		return r;
	cidr_format(cidr, text);
	r = blocks_check(vpc->json, cidr, text, f);
	if (r == 0)
		r = routes_check(c, vpc->id, cidr, text, f);
	if (r == 0)
		r = peerings_check_block(c, vpc->id, cidr, f);
	if (r < 0)
		return r;
	OWN(json_decref) json_t *json = doc_edit(vpc);
	json_t *list = json_object_get(json, "CidrBlockAssociationSet");

	id_new("vpc-cidr-assoc", id);
	if (json_array_append_new(list, vpc_cidr_association(id, text)) < 0)
		return -ENOMEM;
	r = vpc_local_routes(c, vpc->id, text, 1);
	if (r == 0)
		r = blocks_put(c, vpc, json);
	*ret_reply = block_reply("VpcId", vpc->id, "",
				 json_array_get(list, json_array_size(list) - 1), "associating");
	return r < 0 ? r : *ret_reply ? 0 : -ENOMEM;
}

json_t *vpc_cidr_association(const char *id, const char *cidr)
{
	return json_pack("{s:s s:s s:{s:s}}", "AssociationId", id, "CidrBlock", cidr,
			 "CidrBlockState", "State", "associated");
}

int vpc_has_cidr(const json_t *vpc, struct cidr inner)
{
	json_t *list = json_object_get(vpc, "CidrBlockAssociationSet"), *a;
	size_t i;

	json_array_foreach (list, i, a)
		if (cidr_has_cidr(block(jstr(a, "CidrBlock")), inner))
			return 1;
	return 0;
}

static int removal_check(const struct call *c, const struct doc *vpc, const json_t *association,
			 struct fault *f)
{
	const char *id = jstr(association, "AssociationId"), *cidr = jstr(association, "CidrBlock");
	struct cidr outer = block(cidr), inner;

	if (jis(vpc->json, "CidrBlock", cidr))
		return fault_set(f, FAULT_OPERATION_NOT_PERMITTED,
				 "The vpc CIDR block with association ID %s may not be "
				 "disassociated. It is the primary IPv4 CIDR block of the VPC",
				 id);
	for (const struct doc *d = NULL; (d = subnet_next_in_vpc(c, vpc->id, d));)
		if (cidr_parse(jstr(d->json, "CidrBlock"), &inner) == 0 &&
		    cidr_has_cidr(outer, inner))
			return fault_set(f, FAULT_DEPENDENCY_VIOLATION,
					 "The vpc CIDR block with association ID %s is in use by "
					 "subnet %s and cannot be disassociated.",
					 id, d->id);
	return 0;
}

int disassociate_vpc_cidr_block(struct call *c, json_t *parameters, json_t **ret_reply,
				struct fault *f)
{
	const char *id = jstr_or(parameters, "AssociationId", "");
	size_t at;
	const struct doc *vpc =
		kind_find_row(c, "vpc", "CidrBlockAssociationSet", "AssociationId", id, &at);
	int r = vpc ? 0 : ipv6_vpc_disassociate(c, id, ret_reply, f);

	if (!vpc && r <= 0)
		return r;
	if (!vpc)
		return fault_set(f, FAULT_INVALID_VPC_CIDR_ASSOCIATION_NOT_FOUND,
				 "The vpc CIDR block association ID '%.64s' does not exist", id);
	OWN(json_decref) json_t *json = doc_edit(vpc);
	json_t *list = json_object_get(json, "CidrBlockAssociationSet");
	const json_t *association = json_array_get(list, at);
	r = removal_check(c, vpc, association, f);

	if (r < 0)
		return r;
	*ret_reply = block_reply("VpcId", vpc->id, "", association, "disassociating");
	if (!*ret_reply)
		return -ENOMEM;
	r = vpc_local_routes(c, vpc->id, jstr(association, "CidrBlock"), 0);
	json_array_remove(list, at);
	return r < 0 ? r : blocks_put(c, vpc, json);
}
