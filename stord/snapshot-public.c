/*
 * Block public access: an account's snapshots in a region are not shared with everybody. Source: EBS
 * user guide, "Block public access for snapshots". `block-new-sharing` refuses to make more of them
 * public; `block-all-sharing` hides those that are, too, which stay marked and are public again when
 * it is taken back. The document is of the kind "_ebs-sharing", absent where nothing is blocked.
 */
#include "stord.h"

#include <errno.h>
#include <string.h>
#include "log.h"

#define KIND "_ebs-sharing"

static const char *state_of(const struct store *s, const char *account, const char *region)
{
	char id[64];

	snprintf(id, sizeof id, "%.20s/%.40s", account, region);
	const struct doc *d = store_find(s, KIND, id);

	return d ? jstr_or(d->json, "State", "unblocked") : "unblocked";
}

int snapshot_hides_public(const struct store *s, const struct doc *snapshot)
{
	return strcmp(state_of(s, snapshot->account, snapshot->region), "block-all-sharing") == 0;
}

int snapshot_check_public(const struct call *c, struct fault *f)
{
	return strcmp(state_of(c->store, c->ctx->account, c->ctx->region), "unblocked") == 0
		       ? 0
		       : fault_set(f, FAULT_OPERATION_NOT_PERMITTED,
				   "Snapshots cannot be shared publicly: block public access for "
				   "snapshots is enabled for this account.");
}

static int set_state(struct call *c, const char *state, json_t **ret_reply)
{
	char id[64];

	snprintf(id, sizeof id, "%.20s/%.40s", c->ctx->account, c->ctx->region);
	OWN(json_decref) json_t *json = json_pack("{s:s}", "State", state);
	int r = txn_put(c->txn, KIND, id, c->ctx->account, c->ctx->region, json_incref(json));

	if (r < 0)
		return r;
	log_info("block public access for snapshots", "STATE", state, "REQUEST_ID",
		 c->ctx->request);
	*ret_reply = give(json);
	return 0;
}

int snapshot_block_public(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *state = jstr(parameters, "State");

	if (!state)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter State");
	if (strcmp(state, "block-all-sharing") != 0 && strcmp(state, "block-new-sharing") != 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.32s) for parameter State is invalid.", state);
	return set_state(c, state, ret_reply);
}

int snapshot_unblock_public(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	(void)parameters, (void)f;
	return set_state(c, "unblocked", ret_reply);
}

int snapshot_get_public(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	(void)parameters, (void)f;
	*ret_reply = json_pack("{s:s, s:s}", "State",
			       state_of(c->store, c->ctx->account, c->ctx->region), "ManagedBy",
			       "account");
	return *ret_reply ? 0 : -ENOMEM;
}
