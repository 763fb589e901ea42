/* EBS direct: patience with those who began to write a snapshot. */
#include "direct.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "fiber.h"
#include "files.h"
#include "hold.h"
#include "layer.h"
#include "log.h"

#define LOOK_USEC  (10 * UINT64_C(1000000))
#define AGAIN_USEC (60 * UINT64_C(1000000))

/* A pending snapshot whose client is waited for. Its layer is pinned: nothing may be merged into a
 * file that is no image yet. */
struct wait {
	struct wait *next;
	char id[ID_MAX], layer[FILE_NAME_MAX];
	uint64_t until_usec; /* CLOCK_MONOTONIC */
	unsigned minutes;
};
static struct wait *waits;

static uint64_t now_usec(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

void direct_wait_end(const char *id)
{
	for (struct wait **slot = &waits; *slot; slot = &(*slot)->next)
		if (strcmp((*slot)->id, id) == 0) {
			struct wait *w = *slot;

			*slot = w->next;
			layer_unpin(w->layer);
			free(w);
			return;
		}
}

void direct_wait_more(const char *id)
{
	for (struct wait *w = waits; w; w = w->next)
		if (strcmp(w->id, id) == 0)
			w->until_usec = now_usec() + w->minutes * UINT64_C(60000000);
}

static struct wait *wait_find(const char *id)
{
	struct wait *w = waits;

	while (w && strcmp(w->id, id) != 0)
		w = w->next;
	return w;
}

/* The snapshot fails, and its layer goes. */
static int fail(struct daemon *d, const struct doc *s, const char *why)
{
	OWN(txn_free) struct txn *t = txn_new(d->store);
	OWN(json_decref) json_t *json = doc_edit(s);
	int r = t && json ? jset(json, "State", "error") : -ENOMEM;

	if (r == 0)
		r = jset(json, "StateMessage", why);
	if (r == 0)
		r = jset(json, "_Layer", NULL);
	if (r == 0)
		r = jset(json, "_Direct", NULL);
	if (r == 0)
		r = txn_replace(t, s, give(json));
	if (r == 0)
		r = layer_release(t, jstr_or(s->json, "_Layer", ""));
	return r == 0 ? txn_commit(t) : r;
}

/* Its time was over when we looked. Whoever put a block or completed it meanwhile had it held. */
static int give_up(struct daemon *d, const char *id, uint64_t now)
{
	static const char why[] = "The snapshot was not completed in time";
	OWN(hold_leave) struct hold *h = hold_enter(id);
	const struct doc *s = store_find(d->store, "snapshot", id);
	const struct wait *w = wait_find(id);

	if (!h)
		return -ENOMEM;
	if (!w || w->until_usec > now)
		return 0;
	if (s && strcmp(jstr_or(s->json, "State", ""), "pending") == 0) {
		int r = fail(d, s, why);

		if (r < 0)
			return r;
		log_warning(0, "a snapshot written by blocks was given up", "SNAPSHOT_ID", id,
			    "REASON", why);
		unlink_marked(d);
	}
	direct_wait_end(id);
	return 0;
}

void direct_expire(struct daemon *d, uint64_t now)
{
	for (struct wait *w = waits; w;) {
		char id[ID_MAX];

		if (w->until_usec > now) {
			w = w->next;
			continue;
		}
		snprintf(id, sizeof id, "%s", w->id);
		int r = give_up(d, id, now);

		if (r < 0)
			log_warning(r, "cannot give up a snapshot yet", "SNAPSHOT_ID", id);
		w = wait_find(id);
		if (r < 0 && w)
			w->until_usec = now + AGAIN_USEC;
		w = waits; /* the list may have changed meanwhile */
	}
}

/* One fiber for all, as long as there is anything to wait for. */
static int is_watching;

static void watch(void *arg)
{
	is_watching = 1;
	while (waits && fiber_sleep(LOOK_USEC) == 0)
		direct_expire(arg, now_usec());
	is_watching = 0;
}

int direct_wait_begin(struct daemon *d, const char *id, unsigned minutes)
{
	OWN(free) struct wait *w = calloc(1, sizeof *w);
	const struct doc *s = store_find(d->store, "snapshot", id);
	int r = w ? 0 : -ENOMEM;

	if (r == 0 && s) {
		snprintf(w->layer, sizeof w->layer, "%s", jstr_or(s->json, "_Layer", ""));
		r = layer_pin(w->layer);
	}
	if (r < 0 || !s)
		return r < 0 ? r : -ENODATA;
	snprintf(w->id, sizeof w->id, "%s", id);
	w->minutes = minutes;
	w->next = waits;
	waits = give(w);
	direct_wait_more(id);
	return is_watching ? 0 : fiber_spawn(watch, d);
}
