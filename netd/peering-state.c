/* VPC peering connections: accepted, rejected, deleted, and their options. */
#include "peering.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "route-target.h"

/* What the two sides may do in which state. */
struct move {
	const char *to;
	const char *from[2]; /* states */
	int is_accepters;    /* from the accepter's account and region only */
	const char *verb;
};
static const struct move accepting = {"active", {"pending-acceptance"}, 1, "accepted"};
static const struct move rejecting = {
	"rejected", {"pending-acceptance"}, 1, "accepted or rejected"};
static const struct move deleting = {"deleted", {"active", "pending-acceptance"}, 0, "deleted"};

static int move_check(const struct call *c, const struct doc *d, const struct move *m,
		      struct fault *f)
{
	const json_t *accepter = peering_info(d->json, PEERING_ACCEPTER);
	const char *state = jpath_str(d->json, "Status.Code");

	if (m->is_accepters && !jis(accepter, "Region", c->ctx->region))
		return fault_set(f, FAULT_OPERATION_NOT_PERMITTED,
				 "Incorrect region ( %s ) specified for this request. VPC peering "
				 "connection %s must be %s in region %s",
				 c->ctx->region, d->id, m->verb, jstr_or(accepter, "Region", ""));
	if (m->is_accepters && !jis(accepter, "OwnerId", c->ctx->account))
		return fault_set(f, FAULT_OPERATION_NOT_PERMITTED,
				 "User %s cannot answer peering %s", c->ctx->account, d->id);
	for (size_t i = 0; i < 2 && m->from[i]; i++)
		if (strcmp(m->from[i], state) == 0)
			return 0;
	return fault_set(f, FAULT_INVALID_STATE_TRANSITION,
			 "Invalid state transition for %s, attempted to transition from %s to %s",
			 d->id, state, m->to);
}

static int move_start(const struct call *c, json_t *parameters, const struct move *m,
		      const struct doc **ret_peering, struct fault *f)
{
	int r = peerings_age(c);

	if (r == 0)
		r = peering_get(c, jstr(parameters, "VpcPeeringConnectionId"), ret_peering, f);
	return r < 0 ? r : move_check(c, *ret_peering, m, f);
}

/* The routes of both VPCs follow; packets do when this returns. */
static int apply(const struct call *c, const struct doc *d, json_t *json, const char *route_state)
{
	char id[ID_MAX], vpcs[2][ID_MAX];
	int r = txn_replace(c->txn, d, json_incref(json));

	snprintf(id, sizeof id, "%s", jstr_or(json, "VpcPeeringConnectionId", ""));
	for (int side = 0; side < 2; side++) {
		snprintf(vpcs[side], ID_MAX, "%s",
			 jstr_or(peering_info(json, (enum peering_side)side), "VpcId", ""));
		if (r == 0)
			r = routes_mark_target(c, vpcs[side], "VpcPeeringConnectionId", id,
					       route_state);
	}
	if (r == 0)
		r = txn_commit(c->txn);
	if (r < 0)
		return r;
	kernel_touch(vpcs[0]);
	kernel_touch(vpcs[1]);
	/* The change is durable: the kernel room logs a failure and tries again. */
	(void)kernel_sync(vpcs[0], NULL);
	(void)kernel_sync(vpcs[1], NULL);
	return 0;
}

static int activate(const struct call *c, json_t *json)
{
	int r = jset_new(json, "Status",
			 json_pack("{s:s s:s}", "Code", "active", "Message", "Active"));

	json_object_del(json, "ExpirationTime");
	for (int side = 0; r == 0 && side < 2; side++)
		r = peering_fill(c, json, (enum peering_side)side);
	return r;
}

int accept_vpc_peering_connection(struct call *c, json_t *parameters, json_t **ret_reply,
				  struct fault *f)
{
	const struct doc *d;
	int r = move_start(c, parameters, &accepting, &d, f);

	for (int side = 0; r == 0 && side < 2; side++)
		r = peering_room_check(
			c, jstr_or(peering_info(d->json, (enum peering_side)side), "VpcId", ""), f);
	if (r < 0)
		return r;
	/* Blocks may have been added since it was asked for. */
	const char *obstacle = peering_obstacle(c, d->json);
	OWN(json_decref) json_t *json = doc_edit(d);

	r = obstacle ? peering_end(json, "failed", obstacle) : activate(c, json);
	if (r == 0)
		r = apply(c, d, json, obstacle ? "blackhole" : "active");
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:O}", "VpcPeeringConnection", json);
	return *ret_reply ? 0 : -ENOMEM;
}

static int end(struct call *c, json_t *parameters, const struct move *m, json_t **ret_reply,
	       struct fault *f)
{
	char message[64];
	const struct doc *d;
	int r = move_start(c, parameters, m, &d, f);

	if (r < 0)
		return r;
	OWN(json_decref) json_t *json = doc_edit(d);

	snprintf(message, sizeof message, "%s by %s", m == &rejecting ? "Rejected" : "Deleted",
		 c->ctx->account);
	r = peering_end(json, m->to, message);
	*ret_reply = reply_true();
	return r < 0 ? r : apply(c, d, json, "blackhole");
}

int reject_vpc_peering_connection(struct call *c, json_t *parameters, json_t **ret_reply,
				  struct fault *f)
{
	return end(c, parameters, &rejecting, ret_reply, f);
}

int delete_vpc_peering_connection(struct call *c, json_t *parameters, json_t **ret_reply,
				  struct fault *f)
{
	return end(c, parameters, &deleting, ret_reply, f);
}

/* ---- options ---- */

static const struct {
	const char *parameter;
	enum peering_side side;
} option_sets[] = {
	{"RequesterPeeringConnectionOptions", PEERING_REQUESTER},
	{"AccepterPeeringConnectionOptions", PEERING_ACCEPTER},
};
#define N_SETS (sizeof option_sets / sizeof *option_sets)

/* Both VPCs have names to be resolved. */
static int has_names(const struct call *c, const json_t *peering)
{
	for (int side = 0; side < 2; side++) {
		const json_t *info = peering_info(peering, (enum peering_side)side);
		const struct doc *vpc = store_find(c->store, "vpc", jstr_or(info, "VpcId", ""));

		if (!vpc || !jbool(vpc->json, "_EnableDnsHostnames", 0) ||
		    !jbool(vpc->json, "_EnableDnsSupport", 0))
			return 0;
	}
	return 1;
}

static int options_set(const struct call *c, json_t *peering, size_t set, const json_t *wanted,
		       struct fault *f)
{
	static const char *const classic[] = {"AllowEgressFromLocalClassicLinkToRemoteVpc",
					      "AllowEgressFromLocalVpcToRemoteClassicLink"};
	json_t *info = peering_info(peering, option_sets[set].side),
	       *dns = json_object_get(wanted, "AllowDnsResolutionFromRemoteVpc");

	if (!jis(info, "OwnerId", c->ctx->account) || !jis(info, "Region", c->ctx->region))
		return fault_set(f, FAULT_OPERATION_NOT_PERMITTED,
				 "%s can only be changed by the owner of %s in its region",
				 option_sets[set].parameter, jstr(info, "VpcId"));
	for (size_t i = 0; i < 2; i++)
		if (jbool(wanted, classic[i], 0))
			return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
					 "There is no ClassicLink here");
	if (!dns)
		return 0;
	if (json_is_true(dns) && !has_names(c, peering))
		return fault_set(f, FAULT_INVALID_VPC_PEERING_STATE_DNS_HOSTNAMES_DISABLED,
				 "DNS hostname support must be enabled for both VPCs");
	return json_object_set(json_object_get(info, "PeeringOptions"),
			       "AllowDnsResolutionFromRemoteVpc", dns) < 0
		       ? -ENOMEM
		       : 0;
}

int modify_vpc_peering_connection_options(struct call *c, json_t *parameters, json_t **ret_reply,
					  struct fault *f)
{
	const struct doc *d;
	size_t n = 0;
	int r = peerings_age(c);

	if (r == 0)
		r = peering_get(c, jstr(parameters, "VpcPeeringConnectionId"), &d, f);
	if (r < 0)
		return r;
	if (!peering_is(d->json, "active"))
		return fault_set(f, FAULT_OPERATION_NOT_PERMITTED,
				 "Peering %s is not active: its options cannot be modified", d->id);
	OWN(json_decref) json_t *json = doc_edit(d), *reply = json_object();

	for (size_t i = 0; i < N_SETS; i++) {
		const json_t *wanted = json_object_get(parameters, option_sets[i].parameter);

		if (!wanted)
			continue;
		n++;
		r = options_set(c, json, i, wanted, f);
		if (r < 0)
			return r;
		if (json_object_set(reply, option_sets[i].parameter,
				    json_object_get(peering_info(json, option_sets[i].side),
						    "PeeringOptions")) < 0)
			return -ENOMEM;
	}
	if (n == 0)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain options of the requester or the "
				 "accepter");
	*ret_reply = give(reply);
	return apply(c, d, json, "active");
}
