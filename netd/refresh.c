/* Refresh: one fiber per instance whose interfaces changed tells hvd, until hvd has heard. */
#include "refresh.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "fiber.h"
#include "log.h"

#define MARK	       "_Untold"
#define N_LANES	       8  /* calls under way: a VPC of a thousand instances must not flood hvd */
#define TRIES_TOLD     12 /* about two minutes */
#define PAUSE_MIN_USEC 100000
#define PAUSE_MAX_USEC 30000000

/* Many changes of one instance are one message. */
struct news {
	struct news *next;
	struct context ctx;
	char instance_id[ID_MAX];
	struct fiber_lock *lane;
	int is_newer; /* changed again since hvd was asked to look */
};

static struct news *all_news;
static struct fiber_lock lanes[N_LANES];

static void news_free(struct news *n)
{
	for (struct news **slot = &all_news; *slot; slot = &(*slot)->next)
		if (*slot == n) {
			*slot = n->next;
			break;
		}
	free(n);
}
OWN_DEFINE(struct news *, news_free);

static struct news *news_find(const char *instance_id)
{
	struct news *n = all_news;

	while (n && strcmp(n->instance_id, instance_id) != 0)
		n = n->next;
	return n;
}

static int tell(struct news *n, struct fault *f)
{
	OWN(json_decref) json_t *ask = json_pack("{s:s}", "InstanceId", n->instance_id);
	OWN(json_decref) json_t *reply = NULL;
	int r = -ENOMEM;

	fiber_lock(n->lane);
	n->is_newer = 0;
	if (ask)
		r = rpc_call(daemon_peer("hvd"), &n->ctx, "gureum.RefreshInstance", ask, NULL,
			     &reply, NULL, f);
	fiber_unlock(n->lane);
	return r;
}

static int is_of(const struct news *n, const struct doc *d)
{
	const char *instance_id = jpath_str(d->json, "Attachment.InstanceId");

	return json_object_get(d->json, MARK) && instance_id &&
	       strcmp(instance_id, n->instance_id) == 0;
}

/* Its interfaces may have left it meanwhile, or have ended with it. */
static int is_untold(const struct news *n)
{
	store_each (daemon_get()->store, "network-interface", d)
		if (is_of(n, d))
			return 1;
	return 0;
}

static int unmark(const struct news *n)
{
	struct store *s = daemon_get()->store;
	OWN(txn_free) struct txn *t = txn_new(s);

	if (!t)
		return -ENOMEM;
	store_each (s, "network-interface", d) {
		if (!is_of(n, d))
			continue;
		OWN(json_decref) json_t *json = doc_edit(d);

		json_object_del(json, MARK);
		int r = txn_replace(t, d, give(json));

		if (r < 0)
			return r;
	}
	return txn_commit(t);
}

static void run(void *arg)
{
	OWN(news_free) struct news *n = arg;
	uint64_t pause = PAUSE_MIN_USEC;
	int r, tries = 0;

	for (;;) {
		struct fault f = {0};

		r = tell(n, &f);
		if (r == 0 && n->is_newer) {
			tries = 0;
			continue;
		}
		if (r == 0)
			r = unmark(n);
		if (r == 0 || !is_untold(n))
			return;
		if (++tries == TRIES_TOLD)
			log_warning(r, "the instance shows its interfaces as they were, trying on",
				    "INSTANCE", n->instance_id);
		if (fiber_sleep(pause) < 0)
			return; /* the next start tells it */
		pause = pause * 2 < PAUSE_MAX_USEC ? pause * 2 : PAUSE_MAX_USEC;
	}
}

/* A new fiber runs up to its first wait, the call: nothing is committed meanwhile. */
static void start(const struct doc *d)
{
	static unsigned n_started;
	const char *instance_id = jpath_str(d->json, "Attachment.InstanceId");
	struct news *n = instance_id ? news_find(instance_id) : NULL;

	if (!instance_id || !json_object_get(d->json, MARK))
		return;
	if (n) {
		n->is_newer = 1;
		return;
	}
	n = calloc(1, sizeof *n);
	if (n) {
		snprintf(n->instance_id, sizeof n->instance_id, "%s", instance_id);
		snprintf(n->ctx.account, sizeof n->ctx.account, "%s", d->account);
		snprintf(n->ctx.region, sizeof n->ctx.region, "%s", d->region);
		id_uuid(n->ctx.request);
		n->lane = &lanes[n_started++ % N_LANES];
		n->next = all_news;
		all_news = n;
		if (fiber_spawn(run, n) == 0)
			return;
		news_free(n);
	}
	log_warning(-ENOMEM, "the instance shows its interfaces as they were, until the next start",
		    "INSTANCE", instance_id);
}

int refresh_mark(json_t *json)
{
	return jpath_str(json, "Attachment.InstanceId") ? jset_new(json, MARK, json_true()) : 0;
}

void refresh_start(const struct store *s, const char *interface_id)
{
	const struct doc *d = store_find(s, "network-interface", interface_id);

	if (d)
		start(d);
}

void refresh_start_all(const struct store *s, const char *vpc_id)
{
	store_each (s, "network-interface", d)
		if (!vpc_id || jis(d->json, "VpcId", vpc_id))
			start(d);
}
