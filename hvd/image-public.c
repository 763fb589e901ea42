/* Block public access for images: no more of them are shared with everybody; those that are stay
 * so. A document per account and region, absent where nothing is blocked. Source: EC2 user guide,
 * "Block public access to your AMIs". */
#include "image-work.h"

#include <errno.h>
#include <string.h>
#include "jsonx.h"
#include "log.h"

#define KIND	"_image-sharing"
#define BLOCKED "block-new-sharing"

static const struct doc *state_find(const struct call *c, char ret_id[static 64])
{
	snprintf(ret_id, 64, "%.20s/%.40s", c->ctx->account, c->ctx->region);
	return store_find(c->store, KIND, ret_id);
}

int image_public_check(const struct call *c, struct fault *f)
{
	char id[64];

	return !state_find(c, id)
		       ? 0
		       : fault_set(f, FAULT_OPERATION_NOT_PERMITTED,
				   "You can't publicly share this image because block public "
				   "access for AMIs is enabled for this account.");
}

static int answer(const char *state, json_t **ret_reply)
{
	*ret_reply = json_pack("{s:s}", "ImageBlockPublicAccessState", state);
	return *ret_reply ? 0 : -ENOMEM;
}

int image_block_public(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *state = jstr_or(parameters, "ImageBlockPublicAccessState", "");
	char id[64];

	if (strcmp(state, BLOCKED) != 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.32s) for parameter ImageBlockPublicAccessState is "
				 "invalid.",
				 state);
	int r = state_find(c, id) ? 0
				  : txn_put(c->txn, KIND, id, c->ctx->account, c->ctx->region,
					    json_pack("{s:s}", "State", BLOCKED));

	return r == 0 ? answer(BLOCKED, ret_reply) : r;
}

int image_unblock_public(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	char id[64];
	int r = state_find(c, id) ? txn_delete(c->txn, KIND, id) : 0;

	(void)parameters, (void)f;
	return r == 0 ? answer("unblocked", ret_reply) : r;
}

int image_get_public(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	char id[64];
	const char *state = state_find(c, id) ? BLOCKED : "unblocked";

	(void)parameters, (void)f;
	*ret_reply = json_pack("{s:s, s:s}", "ImageBlockPublicAccessState", state, "ManagedBy",
			       "account");
	return *ret_reply ? 0 : -ENOMEM;
}
