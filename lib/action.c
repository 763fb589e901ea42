/* Actions: what is the same for every row, before and after its function. */
#include "action.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "daemon.h"
#include "fiber.h"
#include "jsonx.h"
#include "log.h"

#define TOKEN_KIND	"_token"
#define TOKEN_LIFE_USEC (24 * 3600 * INT64_C(1000000))
#define TOKEN_CHARS_MAX 64
/* Per new token: more than one, so their number sinks, and bounded. */
#define TOKENS_PURGED_MAX 32
#define TOKEN_ID_MAX	  256

/* Requests with the same token queue here, first come first served. */
struct flight {
	struct flight *next;
	struct fiber_lock lock;
	unsigned n_users;
	char id[TOKEN_ID_MAX];
};
static struct flight *flights;

static struct flight *flight_enter(const char *id)
{
	struct flight *w = flights;

	while (w && strcmp(w->id, id) != 0)
		w = w->next;
	if (!w) {
		w = calloc(1, sizeof *w);
		if (!w)
			return NULL;
		snprintf(w->id, sizeof w->id, "%s", id);
		w->next = flights;
		flights = w;
	}
	w->n_users++;
	fiber_lock(&w->lock);
	return w;
}

static void flight_leave(struct flight *w)
{
	fiber_unlock(&w->lock);
	if (--w->n_users > 0)
		return;
	for (struct flight **slot = &flights; *slot; slot = &(*slot)->next)
		if (*slot == w) {
			*slot = w->next;
			break;
		}
	free(w);
}
OWN_DEFINE(struct flight *, flight_leave);

static int64_t now_usec(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* SHA-256 in hex of all parameters but the token itself. */
static int parameters_hash(const json_t *parameters, char ret_hex[static 65])
{
	OWN(json_decref) json_t *rest = json_copy((json_t *)parameters);
	uint8_t digest[32];

	if (!rest)
		return -ENOMEM;
	(void)json_object_del(rest, "ClientToken");
	OWN(free) char *text = json_dumps(rest, JSON_COMPACT | JSON_SORT_KEYS);

	if (!text || !EVP_Digest(text, strlen(text), digest, NULL, EVP_sha256(), NULL))
		return -ENOMEM;
	for (size_t i = 0; i < sizeof digest; i++)
		snprintf(ret_hex + 2 * i, 3, "%02x", digest[i]);
	return 0;
}

/* The caller has as many as are remembered for one account. */
static int has_too_many(const struct call *c)
{
	size_t n = 0;

	if (store_count(c->store, TOKEN_KIND) < ACTION_TOKENS_MAX)
		return 0;
	store_each (c->store, TOKEN_KIND, d)
		n += strcmp(d->account, c->ctx->account) == 0;
	return n >= ACTION_TOKENS_MAX;
}

/* What is over its time goes, and where there are too many, the caller's oldest before its time:
 * whoever makes so many forgets only his own. */
static void tokens_purge(struct call *c, int64_t now)
{
	int n = 0, is_full = has_too_many(c);

	store_each (c->store, TOKEN_KIND, d) {
		int is_own = is_full && strcmp(d->account, c->ctx->account) == 0;

		if (is_own || jint(d->json, "Expires", 0) <= now)
			(void)txn_delete(c->txn, TOKEN_KIND,
					 d->id); /* left over: the next one tries again */
		is_full &= !is_own;
		if (++n >= TOKENS_PURGED_MAX && !is_full)
			break;
	}
}

int action_keep_answer(struct call *c, struct txn *t, json_t *reply)
{
	if (!c->token_id)
		return 0;
	if (!reply)
		return txn_delete(t, TOKEN_KIND, c->token_id);
	/* As text, a few times smaller than as a tree: few are ever asked for again. */
	OWN(free) char *text = json_dumps(reply, JSON_COMPACT);

	return txn_put(t, TOKEN_KIND, c->token_id, c->ctx->account, c->ctx->region,
		       json_pack("{s:s, s:I, s:s}", "Parameters", c->token_hash, "Expires",
				 (json_int_t)(now_usec() + TOKEN_LIFE_USEC), "Reply", text));
}

static int run_and_commit(struct call *c, const struct action *a, json_t *parameters,
			  json_t **ret_reply, struct fault *f)
{
	OWN(json_decref) json_t *reply = NULL;
	int r = a->run(c, parameters, &reply, f);

	if (r == 0 && !reply && !(reply = json_object()))
		r = -ENOMEM;
	if (r < 0)
		return r;
	if (c->token_id) {
		tokens_purge(c, now_usec());
		r = action_keep_answer(c, c->txn, reply);
	}
	if (r == 0 && c->txn)
		r = txn_commit(c->txn);
	if (r < 0)
		return fault_set(f, FAULT_INTERNAL_ERROR, "The change could not be stored: %s",
				 strerror(-r));
	*ret_reply = give(reply);
	return 0;
}

/* EBS direct has a word of its own for it. */
static int refuse_other_parameters(const struct call *c, struct fault *f)
{
	int is_ebs = strncmp(c->method, "ebs.", 4) == 0;

	return fault_set(f, is_ebs ? FAULT_EBS_CONFLICT : FAULT_IDEMPOTENT_PARAMETER_MISMATCH,
			 "The request uses the same client token as a previous, but non-identical "
			 "request. Do not reuse a client token with different requests, unless the "
			 "requests are identical");
}

/* The answer that this token got before: 1 with *ret_reply, 0 none, or -errno. */
static int token_answer(const struct call *c, const char *token_id, const char *hash,
			json_t **ret_reply, struct fault *f)
{
	const struct doc *d = store_find(c->store, TOKEN_KIND, token_id);

	if (!d || jint(d->json, "Expires", 0) <= now_usec())
		return 0;
	if (strcmp(jstr_or(d->json, "Parameters", ""), hash) != 0)
		return refuse_other_parameters(c, f);
	json_t *reply = json_object_get(d->json, "Reply");

	/* A tree: stored by an older version. */
	*ret_reply = json_is_string(reply) ? json_loads(json_string_value(reply), 0, NULL)
					   : json_incref(reply);
	return *ret_reply ? 1 : -ENOMEM;
}

static int run_once(struct call *c, const struct action *a, json_t *parameters, const char *token,
		    json_t **ret_reply, struct fault *f)
{
	OWN(flight_leave) struct flight *w = NULL;
	char id[TOKEN_ID_MAX], hash[65];
	int r = parameters_hash(parameters, hash);

	if (r < 0)
		return r;
	if (strlen(token) > TOKEN_CHARS_MAX)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "ClientToken may have at most %d characters", TOKEN_CHARS_MAX);
	/* The token comes last: it may contain anything, what is before it cannot contain a blank.
	 */
	snprintf(id, sizeof id, "%s %s %s %s", c->ctx->account, c->ctx->region, a->name, token);
	w = flight_enter(id);
	if (!w)
		return -ENOMEM;
	r = token_answer(c, id, hash, ret_reply, f);
	if (r != 0)
		return r < 0 ? r : 0;
	c->token_id = id;
	c->token_hash = hash;
	return run_and_commit(c, a, parameters, ret_reply, f);
}

int text_limit(const json_t *parameters, const char *name, size_t n_max, struct fault *f)
{
	return strlen(jstr_or(parameters, name, "")) <= n_max
		       ? 0
		       : fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				   "Value for parameter %s is invalid. It may have at most %zu "
				   "characters.",
				   name, n_max);
}

int count_check(const json_t *parameters, const char *name, int64_t least, struct fault *f)
{
	int64_t n = jint(parameters, name, least);

	return n >= least ? 0
			  : fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				      "Value (%lld) for parameter %s is invalid. It must be %lld "
				      "or more.",
				      (long long)n, name, (long long)least);
}

/* What says nothing, also as a structure of such members: AWS's SDK for Go writes empty strings. */
static int is_nothing(const json_t *value)
{
	const char *name;
	json_t *member;

	json_object_foreach ((json_t *)value, name, member)
		if (!is_nothing(member))
			return 0;
	return !value || json_is_null(value) || json_is_false(value) || json_is_object(value) ||
	       (json_is_integer(value) && json_integer_value(value) == 0) ||
	       (json_is_string(value) && json_string_length(value) == 0) ||
	       (json_is_array(value) && json_array_size(value) == 0);
}

int unsupported_check(const json_t *parameters, const char *const *paths, struct fault *f)
{
	for (; *paths; paths++)
		if (!is_nothing(jpath(parameters, *paths)))
			return fault_set(f, FAULT_UNSUPPORTED_OPERATION, "%s is not supported",
					 *paths);
	return 0;
}

int call_check_waited(const struct call *c, struct fault *f)
{
	return c->request && rpc_request_is_abandoned(c->request)
		       ? fault_set(f, FAULT_SERVICE_UNAVAILABLE, "nobody waits for this any more")
		       : 0;
}

static json_t *describe_daemon(const struct daemon_spec *spec)
{
	OWN(json_decref) json_t *actions = json_array();
	OWN(json_decref) json_t *prefixes = json_array();

	for (const struct action *a = spec->actions; a->name; a++)
		if (!(a->flags & ACTION_INTERNAL))
			(void)json_array_append_new(
				actions, json_string(a->name)); /* short: json_pack() then fails */
	for (const char *const *p = spec->prefixes; p && *p; p++)
		(void)json_array_append_new(prefixes, json_string(*p));
	return json_pack("{s:O, s:O}", "Actions", actions, "Prefixes", prefixes);
}

static int run_action(struct daemon *d, struct rpc_request *r, json_t **ret_reply, struct fault *f)
{
	const struct action *a = d->spec->actions;
	OWN(txn_free) struct txn *txn = NULL;

	if (strcmp(r->method, "gureum.Describe") == 0)
		return (*ret_reply = describe_daemon(d->spec)) ? 0 : -ENOMEM;
	while (a->name && strcmp(a->name, r->method) != 0)
		a++;
	if (!a->name)
		return fault_set(f, FAULT_INVALID_ACTION, "%s has no action %s", d->spec->name,
				 r->method);
	if (d->store && !(txn = txn_new(d->store)))
		return -ENOMEM;
	struct call c = {.method = a->name,
			 .ctx = &r->ctx,
			 .daemon = d,
			 .store = d->store,
			 .txn = txn,
			 .in = &r->in,
			 .out = &r->out,
			 .request = r,
			 .uid = r->uid};
	const char *token =
		a->flags & ACTION_CLIENT_TOKEN && txn ? jstr(r->parameters, "ClientToken") : NULL;

	if (token && *token)
		return run_once(&c, a, r->parameters, token, ret_reply, f);
	return run_and_commit(&c, a, r->parameters, ret_reply, f);
}

int action_dispatch(void *daemon, struct rpc_request *r, json_t **ret_reply, struct fault *f)
{
	int error = run_action(daemon, r, ret_reply, f);

	if (error == 0)
		return 0;
	if (!fault_is_set(f))
		(void)fault_set(f, FAULT_INTERNAL_ERROR,
				"An internal error has occurred"); /* returned below */
	if (f->status >= 500)
		log_warning(error, "a request failed", "ACTION", r->method, "REQUEST_ID",
			    r->ctx.request, "CODE", f->code, "MESSAGE_TEXT", f->message);
	fds_close(&r->out); /* descriptors go with good news only */
	return error;
}
