/* The recycle bin of snapshots. */
#include "bin.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include "describe.h"
#include "fiber.h"
#include "layer.h"
#include "log.h"
#include "merge.h"
#include "stord.h"

#define KIND	  "snapshot-in-bin"
#define DAY_USEC  INT64_C(86400000000)
#define LOOK_USEC (INT64_C(60) * 1000000) /* at least so seldom: nobody counts on the second */

static sd_event_source *timer;

static int64_t now_usec(void)
{
	struct timespec now = {0};

	(void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail for this clock */
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int bin_put(struct call *c, const struct doc *snapshot)
{
	int64_t days = config_integer(c->daemon->config, "Storage", "SnapshotRetentionDays"),
		by_rules = rule_days(c->store, snapshot), now = now_usec();

	if (by_rules > days)
		days = by_rules;

	/* What was never completed is nothing to restore. */
	if (days <= 0 || strcmp(jstr_or(snapshot->json, "State", ""), "completed") != 0)
		return 0;
	OWN(json_decref) json_t *json = doc_edit(snapshot);
	int r = json ? jset_new(json, "_BinEnter", json_integer(now)) : -ENOMEM;

	if (r == 0)
		r = jset_new(json, "_BinExit", json_integer(now + days * DAY_USEC));
	if (r == 0)
		r = txn_put(c->txn, KIND, snapshot->id, snapshot->account, snapshot->region,
			    give(json));
	if (r == 0)
		bin_start(c->daemon);
	return r < 0 ? r : 1;
}

/* ---- what customers see of it ---- */

static json_t *present(const struct call *c, const struct doc *d)
{
	(void)c;
	return json_pack("{s:s, s:o, s:o, s:O?, s:O?}", "SnapshotId", d->id, "RecycleBinEnterTime",
			 jtime(jint(d->json, "_BinEnter", 0)), "RecycleBinExitTime",
			 jtime(jint(d->json, "_BinExit", 0)), "Description",
			 json_object_get(d->json, "Description"), "VolumeId",
			 json_object_get(d->json, "VolumeId"));
}

static const struct filter no_filters[] = {{NULL}};

static const struct describe in_bin = {.kind = KIND,
				       .result = "Snapshots",
				       .ids = "SnapshotIds",
				       .prefix = "snap",
				       .malformed = FAULT_INVALID_SNAPSHOT_ID_MALFORMED,
				       .not_found = FAULT_INVALID_SNAPSHOT_NOT_FOUND,
				       .filters = no_filters,
				       .present = present};

int snapshot_list_bin(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return describe_run(c, &in_bin, parameters, ret_reply, f);
}

int snapshot_restore_bin(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *id = jstr(parameters, "SnapshotId");
	const struct doc *d = store_get(c->store, c->ctx, KIND, id);

	if (id && !id_is(id, "snap"))
		return fault_set(f, FAULT_INVALID_SNAPSHOT_ID_MALFORMED,
				 "Value (%.64s) for parameter snapshotId is invalid.", id);
	if (!id || !d)
		return fault_set(f, FAULT_INVALID_SNAPSHOT_NOT_FOUND,
				 "The snapshot '%s' does not exist in the Recycle Bin.",
				 id ? id : "");
	OWN(json_decref) json_t *json = doc_edit(d);
	int r = json ? jset(json, "_BinEnter", NULL) : -ENOMEM;

	if (r == 0)
		r = jset(json, "_BinExit", NULL);
	if (r == 0)
		r = txn_put(c->txn, "snapshot", d->id, d->account, d->region, json_incref(json));
	if (r == 0)
		r = txn_delete(c->txn, KIND, d->id);
	if (r < 0)
		return r;
	log_info("snapshot restored", "SNAPSHOT_ID", id, "REQUEST_ID", c->ctx->request);
	*ret_reply = give(json);
	return 0;
}

/* ---- its end ---- */

static int let_go(struct daemon *d, int64_t now, int *ret_n)
{
	OWN(txn_free) struct txn *t = txn_new(d->store);
	int r = t ? 0 : -ENOMEM;

	store_each (d->store, KIND, s) {
		if (r < 0 || jint(s->json, "_BinExit", 0) > now)
			continue;
		r = txn_delete(t, KIND, s->id);
		if (r == 0)
			r = layer_release(t, jstr_or(s->json, "_Layer", ""));
		++*ret_n;
	}
	return r == 0 && *ret_n ? txn_commit(t) : r;
}

static void look(void *arg)
{
	struct daemon *d = arg;
	int n = 0, r = let_go(d, now_usec(), &n);

	if (r < 0)
		log_warning(r, "the recycle bin is not emptied");
	if (n) {
		unlink_marked(d);
		merge_kick(d);
	}
	if (store_count(d->store, KIND))
		bin_start(d);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source, (void)usec;
	timer = sd_event_source_disable_unref(timer);
	return fiber_spawn(look, userdata);
}

/* The next look is when the first is over its time, and at least now and then: the clock of the
 * wall may be set. */
void bin_start(struct daemon *d)
{
	int64_t now = now_usec(), next = now + LOOK_USEC;

	store_each (d->store, KIND, s)
		if (jint(s->json, "_BinExit", 0) < next)
			next = jint(s->json, "_BinExit", 0);
	if (!timer)
		/* out of memory: at the next deletion or start */
		(void)sd_event_add_time_relative(d->loop, &timer, CLOCK_MONOTONIC,
						 next > now ? (uint64_t)(next - now) : 0, 1000000,
						 on_timer, d);
}
