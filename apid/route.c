/*
 * Routes: what the daemons announced, and asking them.
 *
 * Asking runs on a fiber of its own for each daemon, so that one which hangs delays nobody for
 * longer than that somebody chooses to wait; who waits looks again every few milliseconds, which
 * happens only while a daemon is away.
 */
#include "route.h"

#include <errno.h>
#include <string.h>
#include "daemon.h"
#include "deadline.h"
#include "fiber.h"
#include "id.h"
#include "jsonx.h"
#include "log.h"

#define OWNERS_MAX	 8
#define ASK_AGAIN_USEC	 1000000ull
#define ASK_WAIT_USEC	 2000000ull
#define FIRST_WAIT_USEC	 5000000ull /* for a daemon that has never said what it owns */
#define AGAIN_WAIT_USEC	 300000ull  /* for one that may have learnt something new */
#define HEALTH_WAIT_USEC 1000000ull
#define LOOK_USEC	 5000ull

struct owner {
	const char *name;
	struct rpc_peer *ask_peer; /* with a wait of its own: asking must not take as long as a
				      customer's call */
	json_t *actions;	   /* an object as a set; NULL: it has never answered */
	json_t *prefixes;
	uint64_t asked_usec;
	int is_asking, is_away;
};

struct routes {
	struct owner owners[OWNERS_MAX];
	size_t n;
};

static json_t *set_new(const json_t *array)
{
	OWN(json_decref) json_t *set = json_object();
	size_t i;
	json_t *v;
	json_array_foreach (array, i, v)
		if (json_is_string(v) &&
		    json_object_set_new(set, json_string_value(v), json_true()) < 0)
			return NULL;
	return give(set);
}

static int learn(struct owner *o, const json_t *reply)
{
	OWN(json_decref) json_t *actions = set_new(json_object_get(reply, "Actions"));
	OWN(json_decref) json_t *prefixes = set_new(json_object_get(reply, "Prefixes"));
	if (!actions || !prefixes)
		return -ENOMEM;
	json_decref(o->actions);
	json_decref(o->prefixes);
	o->actions = give(actions);
	o->prefixes = give(prefixes);
	return 0;
}

static void ask(void *arg)
{
	struct owner *o = arg;
	struct context context = {0};
	struct fault f = {0};
	OWN(json_decref) json_t *parameters = json_object();
	OWN(json_decref) json_t *reply = NULL;
	int was_away = o->is_away || !o->actions;
	id_uuid(context.request);
	int r = parameters ? rpc_call(o->ask_peer, &context, "gureum.Describe", parameters, NULL,
				      &reply, NULL, &f)
			   : -ENOMEM;
	if (r == 0)
		r = learn(o, reply);
	o->is_away = r < 0;
	o->is_asking = 0;
	o->asked_usec = r < 0 ? 0 : deadline_now(); /* asking in vain takes its time: no further
						       pause is needed */
	if (was_away && !o->is_away)
		log_info("daemon answers", "DAEMON", o->name);
	else if (!was_away && o->is_away)
		log_warning(0, "daemon is away", "DAEMON", o->name, "REASON", f.message);
}

/* Everyone whose word is older than a moment. */
static void ask_all(struct routes *r)
{
	for (size_t i = 0; i < r->n; i++) {
		struct owner *o = &r->owners[i];
		if (o->is_asking ||
		    (o->asked_usec && deadline_now() - o->asked_usec < ASK_AGAIN_USEC))
			continue;
		o->is_asking = 1;
		if (fiber_spawn(ask, o) < 0)
			o->is_asking = 0;
	}
}

struct routes *routes_new(const char *const *names)
{
	OWN(routes_free) struct routes *r = calloc(1, sizeof(*r));
	for (; r && *names && r->n < OWNERS_MAX; names++) {
		char path[320];
		snprintf(path, sizeof(path), "%s/%s.sock", daemon_get()->runtime_dir, *names);
		struct owner *o = &r->owners[r->n++];
		o->name = *names;
		o->ask_peer = rpc_peer_new(path);
		if (!o->ask_peer)
			return NULL;
		rpc_peer_set_wait(o->ask_peer, ASK_WAIT_USEC);
	}
	if (r)
		ask_all(r);
	return give(r);
}

void routes_free(struct routes *r)
{
	for (size_t i = 0; r && i < r->n; i++) {
		rpc_peer_free(r->owners[i].ask_peer);
		json_decref(r->owners[i].actions);
		json_decref(r->owners[i].prefixes);
	}
	free(r);
}

/* Somebody is being asked: anybody, or only those who never answered. */
static int is_pending(const struct routes *r, int only_unknown)
{
	for (size_t i = 0; i < r->n; i++)
		if (r->owners[i].is_asking && !(only_unknown && r->owners[i].actions))
			return 1;
	return 0;
}

static const struct owner *unknown_owner(const struct routes *r)
{
	for (size_t i = 0; i < r->n; i++)
		if (!r->owners[i].actions)
			return &r->owners[i];
	return NULL;
}

static int unavailable(const struct owner *o, struct fault *f)
{
	return fault_set(
		f, FAULT_SERVICE_UNAVAILABLE,
		"The service is temporarily unavailable: %s does not answer. Please retry.",
		o->name);
}

typedef int (*look_for)(const struct routes *r, const char *what);

static int look_action(const struct routes *r, const char *action)
{
	for (size_t i = 0; i < r->n; i++)
		if (route_has(r, i, action))
			return (int)i;
	return -ENOENT;
}

static int look_id(const struct routes *r, const char *id)
{
	char prefix[ID_MAX];
	const char *dash = strrchr(id, '-');
	if (!dash || dash == id || (size_t)(dash - id) >= sizeof(prefix))
		return -ENOENT;
	snprintf(prefix, sizeof(prefix), "%.*s", (int)(dash - id), id);
	for (size_t i = 0; i < r->n; i++)
		if (json_object_get(r->owners[i].prefixes, prefix))
			return (int)i;
	return -ENOENT;
}

/* What is known, else what can be learnt in a short time. The owner, -ENOENT: nobody's, -EAGAIN:
 * not all could be asked. */
static int look_twice(struct routes *r, look_for look, const char *what)
{
	int found = look(r, what);
	if (found >= 0)
		return found;
	uint64_t start = deadline_now();
	ask_all(r);
	for (;;) {
		found = look(r, what);
		uint64_t waited = deadline_now() - start;
		if (found >= 0 || !is_pending(r, waited >= AGAIN_WAIT_USEC) ||
		    waited >= FIRST_WAIT_USEC)
			break;
		if (fiber_sleep(LOOK_USEC) < 0)
			break;
	}
	return found >= 0 ? found : unknown_owner(r) ? -EAGAIN : -ENOENT;
}

int route_lacks(const char *action, struct fault *f)
{
	const char *dot = strchr(action, '.');

	/* The first sentence is AWS's, and clients look for it: Ansible and Terraform take it for
	 * "no ClassicLink here" and go on. */
	return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
			 "The functionality you requested is not available in this region. The "
			 "operation %s is not supported by this cloud",
			 dot ? dot + 1 : action);
}

int route_find(struct routes *r, const char *action, struct fault *f)
{
	int found = look_twice(r, look_action, action);
	if (found == -EAGAIN)
		return unavailable(unknown_owner(r), f);
	return found >= 0 ? found : route_lacks(action, f);
}

int route_find_id(struct routes *r, const char *id, struct fault *f)
{
	int found = look_twice(r, look_id, id);
	if (found == -EAGAIN)
		return unavailable(unknown_owner(r), f);
	return found >= 0 ? found
			  : fault_set(f, FAULT_INVALID_ID, "The ID '%.128s' is not valid", id);
}

static int look_nothing(const struct routes *r, const char *what)
{
	(void)what;
	return unknown_owner(r) ? -ENOENT : 0;
}

int routes_complete(struct routes *r, struct fault *f)
{
	return look_twice(r, look_nothing, "") >= 0 ? 0 : unavailable(unknown_owner(r), f);
}

size_t routes_count(const struct routes *r)
{
	return r->n;
}

int route_has(const struct routes *r, size_t i, const char *action)
{
	return json_object_get(r->owners[i].actions, action) != NULL;
}

struct rpc_peer *route_peer(const struct routes *r, size_t i)
{
	return daemon_peer(r->owners[i].name);
}

json_t *routes_health(struct routes *r)
{
	OWN(json_decref) json_t *result = json_object();
	uint64_t start = deadline_now();
	ask_all(r);
	while (is_pending(r, 0) && deadline_now() - start < HEALTH_WAIT_USEC &&
	       fiber_sleep(LOOK_USEC) == 0)
		;
	for (size_t i = 0; i < r->n; i++) {
		const struct owner *o = &r->owners[i];
		int is_ok = o->actions && !o->is_away && !o->is_asking;
		if (json_object_set_new(result, o->name, json_string(is_ok ? "ok" : "away")) < 0)
			return NULL;
	}
	return give(result);
}
