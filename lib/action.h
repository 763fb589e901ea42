/*
 * Actions: the API as rows. A daemon's actions are one table; each is AWS's name and one function.
 * What is the same for all is done here, once, before and after the function: which peers may call,
 * the transaction, ClientToken, the announcement to the front door ("gureum.Describe" answers every
 * public row, so routing has no second list).
 *
 * ClientToken: if the row has ACTION_CLIENT_TOKEN and the parameters a ClientToken, the answer is
 * stored in the same transaction as what the action made; the same token with the same parameters
 * gets that answer again for 24 hours, with other parameters IdempotentParameterMismatch; a second
 * request under way at the same time waits for the first. Of each account ACTION_TOKENS_MAX answers
 * are remembered; who makes more than that in a day loses his oldest.
 */
#pragma once

#include <jansson.h>
#include "fault.h"
#include "rpc.h"
#include "store.h"

struct daemon;

enum { ACTION_TOKENS_MAX = 5000 };

/* One call under way. */
struct call {
	const char *method; /* "ec2.RunInstances" */
	const struct context *ctx;
	struct daemon *daemon;
	struct store *store;
	struct txn *txn; /* committed when the handler returns 0, dropped otherwise; NULL if the
			    daemon has no store */
	struct fds *in, *out;
	const struct rpc_request *request;
	uid_t uid;			   /* of the calling process */
	const char *token_id, *token_hash; /* action.c's own; NULL: the request has no token */
};

/* (fiber) 0 with *ret_reply (NULL: the empty object) or -errno with `f` filled. A handler that
 * needs its writes durable before it goes on (before it asks another daemon, say) may call
 * txn_commit(c->txn) itself, any number of times. */
typedef int (*action_handler)(struct call *c, json_t *parameters, json_t **ret_reply,
			      struct fault *f);

enum action_flags {
	ACTION_INTERNAL =
		1, /* for the other daemons only: not announced, apid never routes to it */
	ACTION_CLIENT_TOKEN = 2, /* idempotent by ClientToken */
};

struct action {
	const char *name; /* "ec2.CreateVpc": endpoint prefix of the service, a dot, AWS's action */
	action_handler run;
	unsigned flags;
};

/* For a handler with ACTION_CLIENT_TOKEN that commits what it makes before its end: puts its answer
 * into c->txn now, so that whoever asks again after the daemon died in between gets it. NULL: takes
 * it out again, in `t`. */
int action_keep_answer(struct call *c, struct txn *t, json_t *reply);

/* For a handler that waited and now does what must not happen late: ServiceUnavailable (which nobody
 * hears) if its caller does not wait for the answer any more (rpc_request_is_abandoned). */
int call_check_waited(const struct call *c, struct fault *f);

/* The text `name` of the parameters (or of a structure in them) is absent or has at most n_max
 * bytes; else InvalidParameterValue. For what documents keep: without a bound a customer fills our
 * memory, and no Describe fits into a message any more. */
int text_limit(const json_t *parameters, const char *name, size_t n_max, struct fault *f);

/* The number `name` of the parameters (or of a structure in them) is absent or `least` or more;
 * else InvalidParameterValue. For what is counted. */
int count_check(const json_t *parameters, const char *name, int64_t least, struct fault *f);

/* What the parameters ask of this that is not there: absent, null, false, 0, "", [] and {} ask
 * nothing. `paths`: dotted, up to NULL. UnsupportedOperation: what AWS has and is not built is
 * refused, never passed over. (scripts/check-members looks that no member is forgotten.) */
int unsupported_check(const json_t *parameters, const char *const *paths, struct fault *f);

/* The rpc_handler that serves the table of `daemon`'s spec (userdata is the struct daemon). */
int action_dispatch(void *daemon, struct rpc_request *r, json_t **ret_reply, struct fault *f);
