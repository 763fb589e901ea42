/* VPC peering connections: to ask for them and to see them. */
#include "peering.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "config.h"
#include "describe.h"

#define USEC	    1000000LL
#define DAY	    (24 * 3600 * USEC)
#define ACCEPTABLE  (7 * DAY) /* a request waits so long */
#define SHOWN_AFTER (2 * DAY) /* a final state is seen so long */
#define FAILED	    "Failed due to incorrect VPC-ID, Account ID, or overlapping CIDR range"

static const struct filter filters[] = {
	{"accepter-vpc-info.cidr-block", "AccepterVpcInfo.CidrBlockSet.CidrBlock"},
	{"accepter-vpc-info.owner-id", "AccepterVpcInfo.OwnerId"},
	{"accepter-vpc-info.vpc-id", "AccepterVpcInfo.VpcId"},
	{"expiration-time", "ExpirationTime"},
	{"requester-vpc-info.cidr-block", "RequesterVpcInfo.CidrBlockSet.CidrBlock"},
	{"requester-vpc-info.owner-id", "RequesterVpcInfo.OwnerId"},
	{"requester-vpc-info.vpc-id", "RequesterVpcInfo.VpcId"},
	{"status-code", "Status.Code"},
	{"status-message", "Status.Message"},
	{"vpc-peering-connection-id", "VpcPeeringConnectionId"},
	FILTER_TAGS,
	{NULL},
};

static int is_side(const struct call *c, const struct doc *d, enum peering_side side)
{
	const json_t *info = peering_info(d->json, side);

	return jis(info, "OwnerId", c->ctx->account) && jis(info, "Region", c->ctx->region);
}

static int is_accepters(const struct call *c, const struct doc *d)
{
	return is_side(c, d, PEERING_ACCEPTER);
}

/* Whoever is not the requester sees the accepter's tags. */
static json_t *present(const struct call *c, const struct doc *d)
{
	const struct doc *own = store_find(c->store, "vpc-peering-accepter", d->id);

	if (is_side(c, d, PEERING_REQUESTER) || !own)
		return json_incref(d->json);
	OWN(json_decref) json_t *shown = json_copy(d->json);

	if (json_object_set(shown, "Tags", json_object_get(own->json, "Tags")) < 0)
		return NULL;
	return give(shown);
}

static const struct describe peerings = {
	.kind = "vpc-peering-connection",
	.result = "VpcPeeringConnections",
	.ids = "VpcPeeringConnectionIds",
	.prefix = "pcx",
	.malformed = FAULT_INVALID_VPC_PEERING_CONNECTION_ID_MALFORMED,
	.not_found = FAULT_INVALID_VPC_PEERING_CONNECTION_ID_NOT_FOUND,
	.filters = filters,
	.is_visible = is_accepters,
	.present = present,
	.is_filtered_as_shown = 1,
};

json_t *peering_info(const json_t *peering, enum peering_side side)
{
	return json_object_get(peering,
			       side == PEERING_REQUESTER ? "RequesterVpcInfo" : "AccepterVpcInfo");
}

int peering_is(const json_t *peering, const char *code)
{
	return jis(json_object_get(peering, "Status"), "Code", code);
}

int peering_is_live(const json_t *peering)
{
	return peering_is(peering, "active") || peering_is(peering, "pending-acceptance");
}

int peering_has_vpc(const json_t *peering, const char *vpc_id, enum peering_side *ret_side)
{
	for (int side = PEERING_REQUESTER; side <= PEERING_ACCEPTER; side++)
		if (jis(peering_info(peering, (enum peering_side)side), "VpcId", vpc_id)) {
			*ret_side = (enum peering_side)side;
			return 1;
		}
	return 0;
}

int peering_get(const struct call *c, const char *id, const struct doc **ret_peering,
		struct fault *f)
{
	const struct kind *k = &kind_vpc_peering_connection;
	const struct doc *d = id ? store_find(c->store, k->name, id) : NULL;

	if (!d || (!is_side(c, d, PEERING_REQUESTER) && !is_side(c, d, PEERING_ACCEPTER)))
		return kind_get(c, k, "VpcPeeringConnectionId", id, ret_peering, f);
	*ret_peering = d;
	return 0;
}

/* ---- time ---- */

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * USEC + t.tv_nsec / 1000;
}

int peering_end(json_t *peering, const char *code, const char *message)
{
	json_t *status = json_pack("{s:s s:s}", "Code", code, "Message", message);
	int r = jset_new(peering, "Status", status);

	json_object_del(peering, "ExpirationTime");
	return r < 0 ? r : jset_new(peering, "_Until", json_integer(now() + SHOWN_AFTER));
}

static int forget(const struct call *c, const struct doc *d)
{
	int r = txn_delete(c->txn, d->kind, d->id);

	if (r == 0 && store_find(c->store, "vpc-peering-accepter", d->id))
		r = txn_delete(c->txn, "vpc-peering-accepter", d->id);
	return r;
}

static int age(const struct call *c, const struct doc *d, int *is_changed)
{
	int64_t end = jtime_parse(jstr_or(d->json, "ExpirationTime", "")),
		until = jint(d->json, "_Until", 0);

	if (until && until < now()) {
		*is_changed = 1;
		return forget(c, d);
	}
	if (!peering_is(d->json, "pending-acceptance") || end < 0 || end > now())
		return 0;
	OWN(json_decref) json_t *json = doc_edit(d);
	int r = peering_end(json, "expired", "Expired");

	*is_changed = 1;
	return r < 0 ? r : txn_replace(c->txn, d, give(json));
}

static int is_ended_callers(const struct call *c, const struct doc *d)
{
	int64_t until = jint(d->json, "_Until", 0);

	return until && until >= now() && is_callers(c, d);
}

/* Who asks for connections and ends them again sees the newest of those that ended. */
static int thin(const struct call *c, int *is_changed)
{
	size_t n = 0;
	int r = 0;

	store_each (c->store, "vpc-peering-connection", d)
		n += (size_t)is_ended_callers(c, d);
	store_each (c->store, "vpc-peering-connection", d) {
		if (r < 0 || n <= LIMIT_ENDED_PEERINGS)
			break;
		if (!is_ended_callers(c, d))
			continue;
		*is_changed = 1;
		r = forget(c, d);
		n--;
	}
	return r;
}

int peerings_age(const struct call *c)
{
	int is_changed = 0, r = 0;

	store_each (c->store, "vpc-peering-connection", d)
		if (r == 0)
			r = age(c, d, &is_changed);
	if (r == 0)
		r = thin(c, &is_changed);
	return r < 0 || !is_changed ? r : txn_commit(c->txn);
}

/* ---- blocks ---- */

static const struct doc *side_vpc(const struct call *c, const json_t *peering,
				  enum peering_side side)
{
	const json_t *info = peering_info(peering, side);
	const struct doc *d = store_find(c->store, "vpc", jstr_or(info, "VpcId", ""));

	return d && jis(info, "OwnerId", d->account) && jis(info, "Region", d->region) ? d : NULL;
}

static int has_overlap(const json_t *vpc, struct cidr block)
{
	json_t *list = json_object_get(vpc, "CidrBlockAssociationSet"), *a;
	struct cidr other;
	size_t i;

	json_array_foreach (list, i, a)
		if (cidr_parse(jstr(a, "CidrBlock"), &other) == 0 && cidr_overlap(other, block))
			return 1;
	return 0;
}

const char *peering_obstacle(const struct call *c, const json_t *peering)
{
	const struct doc *one = side_vpc(c, peering, PEERING_REQUESTER),
			 *two = side_vpc(c, peering, PEERING_ACCEPTER);
	json_t *list, *a;
	struct cidr block;
	size_t i;

	if (!one || !two)
		return FAILED;
	list = json_object_get(one->json, "CidrBlockAssociationSet");
	json_array_foreach (list, i, a)
		if (cidr_parse(jstr(a, "CidrBlock"), &block) == 0 && has_overlap(two->json, block))
			return FAILED;
	return NULL;
}

int peerings_check_block(const struct call *c, const char *vpc_id, struct cidr block,
			 struct fault *f)
{
	store_each (c->store, "vpc-peering-connection", d) {
		enum peering_side side;
		const struct doc *peer;
		char text[CIDR_TEXT_MAX];

		if (!peering_is(d->json, "active") || !peering_has_vpc(d->json, vpc_id, &side))
			continue;
		peer = side_vpc(c, d->json, (enum peering_side) !side);
		cidr_format(block, text);
		if (peer && has_overlap(peer->json, block))
			return fault_set(f, FAULT_INVALID_VPC_RANGE,
					 "The CIDR '%s' conflicts with the peer of %s", text,
					 d->id);
	}
	return 0;
}

static int show_blocks6(json_t *info, const json_t *vpc)
{
	OWN(json_decref) json_t *set = json_array();
	json_t *list = json_object_get(vpc, "Ipv6CidrBlockAssociationSet"), *a;
	size_t i;

	json_array_foreach (list, i, a)
		if (json_array_append_new(
			    set, json_pack("{s:s}", "Ipv6CidrBlock", jstr(a, "Ipv6CidrBlock"))) < 0)
			return -ENOMEM;
	return jset_new(info, "Ipv6CidrBlockSet", give(set));
}

static int show_blocks(json_t *info, const json_t *vpc)
{
	OWN(json_decref) json_t *set = json_array();
	json_t *list = json_object_get(vpc, "CidrBlockAssociationSet"), *a;
	size_t i;
	int r = jset(info, "CidrBlock", jstr(vpc, "CidrBlock"));

	json_array_foreach (list, i, a)
		if (json_array_append_new(
			    set, json_pack("{s:s}", "CidrBlock", jstr(a, "CidrBlock"))) < 0)
			return -ENOMEM;
	if (r == 0)
		r = jset_new(info, "CidrBlockSet", give(set));
	return r < 0 ? r : show_blocks6(info, vpc);
}

int peerings_follow_blocks(const struct call *c, const json_t *vpc)
{
	store_each (c->store, "vpc-peering-connection", d) {
		enum peering_side side;

		if (!peering_is_live(d->json) ||
		    !peering_has_vpc(d->json, jstr(vpc, "VpcId"), &side) ||
		    !json_object_get(peering_info(d->json, side), "CidrBlock"))
			continue;
		OWN(json_decref) json_t *json = doc_edit(d);
		int r = show_blocks(peering_info(json, side), vpc);

		if (r == 0)
			r = txn_replace(c->txn, d, give(json));
		if (r < 0)
			return r;
	}
	return 0;
}

int peering_fill(const struct call *c, json_t *peering, enum peering_side side)
{
	json_t *info = peering_info(peering, side);
	int r = show_blocks(info, side_vpc(c, peering, side)->json);

	return r < 0 ? r
		     : jset_new(info, "PeeringOptions",
				json_pack("{s:b s:b s:b}", "AllowDnsResolutionFromRemoteVpc", 0,
					  "AllowEgressFromLocalClassicLinkToRemoteVpc", 0,
					  "AllowEgressFromLocalVpcToRemoteClassicLink", 0));
}

/* ---- describe and create ---- */

int describe_vpc_peering_connections(struct call *c, json_t *parameters, json_t **ret_reply,
				     struct fault *f)
{
	int r = peerings_age(c);

	return r < 0 ? r : describe_run(c, &peerings, parameters, ret_reply, f);
}

static json_t *request_json(const struct call *c, json_t *parameters, const char *id,
			    const char *vpc_id)
{
	return json_pack("{s:s s:{s:s s:s s:s} s:{s:s s:s s:s} s:{s:s s:s} s:o s:[]}",
			 "VpcPeeringConnectionId", id, "RequesterVpcInfo", "VpcId", vpc_id,
			 "OwnerId", c->ctx->account, "Region", c->ctx->region, "AccepterVpcInfo",
			 "VpcId", jstr_or(parameters, "PeerVpcId", ""), "OwnerId",
			 jstr_or(parameters, "PeerOwnerId", c->ctx->account), "Region",
			 jstr_or(parameters, "PeerRegion", c->ctx->region), "Status", "Code",
			 "pending-acceptance", "Message", "Pending Acceptance by peer",
			 "ExpirationTime", jtime(now() + ACCEPTABLE), "Tags");
}

static int is_region(const struct call *c, const char *region)
{
	const char *const *regions = config_list(c->daemon->config, "Cloud", "Regions");

	while (*regions && strcmp(*regions, region) != 0)
		regions++;
	return *regions != NULL;
}

int peering_room_check(const struct call *c, const char *vpc_id, struct fault *f)
{
	enum peering_side side;
	size_t n = 0;

	store_each (c->store, "vpc-peering-connection", d)
		n += peering_is(d->json, "active") && peering_has_vpc(d->json, vpc_id, &side);
	return n < LIMIT_PEERINGS_PER_VPC
		       ? 0
		       : fault_set(f, FAULT_ACTIVE_VPC_PEERING_CONNECTION_LIMIT_EXCEEDED,
				   "The maximum number of active VPC peering connections of %s has "
				   "been reached.",
				   vpc_id);
}

/* There is one connection between two VPCs, whoever asked; and not too many. */
static int crowd_check(const struct call *c, const char *vpc_id, const char *peer_id,
		       struct fault *f)
{
	size_t n_pending = 0;

	store_each (c->store, "vpc-peering-connection", d) {
		enum peering_side side, other;

		if (!peering_is_live(d->json) || !peering_has_vpc(d->json, vpc_id, &side))
			continue;
		if (peering_has_vpc(d->json, peer_id, &other) && side != other)
			return fault_set(f, FAULT_VPC_PEERING_CONNECTION_ALREADY_EXISTS,
					 "A VPC peering connection already exists between %s and "
					 "%s: %s",
					 vpc_id, peer_id, d->id);
		n_pending += (size_t)(side == PEERING_REQUESTER && !peering_is(d->json, "active"));
	}
	if (n_pending >= LIMIT_PEERING_REQUESTS)
		return fault_set(f, FAULT_OUTSTANDING_VPC_PEERING_CONNECTION_LIMIT_EXCEEDED,
				 "The maximum number of outstanding VPC peering connection "
				 "requests has been reached.");
	return peering_room_check(c, vpc_id, f);
}

static int request_check(const struct call *c, json_t *parameters, const struct doc **ret_vpc,
			 struct fault *f)
{
	const char *region = jstr(parameters, "PeerRegion"), *peer = jstr(parameters, "PeerVpcId");
	int r = peerings_age(c);

	if (r == 0)
		r = kind_get_parameter(c, &kind_vpc, parameters, "VpcId", ret_vpc, f);
	if (r < 0)
		return r;
	if (!peer)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter peerVpcId");
	if (!id_is(peer, "vpc"))
		return fault_set(f, FAULT_INVALID_VPC_ID_MALFORMED,
				 "Invalid id: \"%.64s\" (expecting \"vpc-...\")", peer);
	if (region && !is_region(c, region))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter peerRegion is invalid.", region);
	return crowd_check(c, (*ret_vpc)->id, peer, f);
}

/* The accepter's side has a place for its own tags. */
static int accepter_put(const struct call *c, const json_t *peering)
{
	const json_t *info = peering_info(peering, PEERING_ACCEPTER);
	const char *id = jstr(peering, "VpcPeeringConnectionId"), *owner = jstr(info, "OwnerId"),
		   *region = jstr(info, "Region");

	if (strcmp(owner, c->ctx->account) == 0 && strcmp(region, c->ctx->region) == 0)
		return 0;
	return txn_put(c->txn, "vpc-peering-accepter", id, owner, region,
		       json_pack("{s:s s:[]}", "VpcPeeringConnectionId", id, "Tags"));
}

/* A request that cannot come to anything is made all the same, and has failed: so AWS does. */
int create_vpc_peering_connection(struct call *c, json_t *parameters, json_t **ret_reply,
				  struct fault *f)
{
	OWN(json_decref) json_t *tags = NULL;
	const struct doc *vpc;
	const char *obstacle;
	char id[ID_MAX];
	int r = request_check(c, parameters, &vpc, f);

	if (r == 0)
		r = kind_tags(&kind_vpc_peering_connection, parameters, &tags, f);
	if (r < 0)
		return r;
	id_new("pcx", id);
	OWN(json_decref) json_t *json = request_json(c, parameters, id, vpc->id);

	r = json_object_set(json, "Tags", tags) < 0 ? -ENOMEM
						    : peering_fill(c, json, PEERING_REQUESTER);
	obstacle = peering_obstacle(c, json);
	if (r == 0 && obstacle)
		r = peering_end(json, "failed", obstacle);
	if (r == 0)
		r = put_new(c, &kind_vpc_peering_connection, id, json_incref(json));
	if (r == 0)
		r = accepter_put(c, json);
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:O}", "VpcPeeringConnection", json);
	return *ret_reply ? 0 : -ENOMEM;
}
