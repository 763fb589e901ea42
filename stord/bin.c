/* The recycle bin of snapshots and volumes. */
#include "bin.h"

#include <errno.h>
#include <string.h>
#include "describe.h"
#include "fiber.h"
#include "hold.h"
#include "layer.h"
#include "log.h"
#include "merge.h"
#include "rule.h"
#include "stord.h"

#define DAY_USEC  INT64_C(86400000000)
#define LOOK_USEC (INT64_C(60) * 1000000) /* at least so seldom: nobody counts on the second */
/* So many go in one transaction: each asks all documents who needs its layers, and between two
 * transactions the loop has a look. */
#define AT_ONCE 16

static const struct bin {
	const char *live, *kind;
	const char *resource_type;
	const char *setting; /* days by the configuration, NULL: none */
} bins[] = {
	{"snapshot", "snapshot-in-bin", "EBS_SNAPSHOT", "SnapshotRetentionDays"},
	{"volume", "volume-in-bin", "EBS_VOLUME", NULL},
};
#define N_BINS (sizeof bins / sizeof *bins)

static sd_event_source *timer;

/* What was never whole is nothing to restore. */
static int is_whole(const struct doc *d)
{
	const char *state = jstr_or(d->json, "State", "");

	return strcmp(d->kind, "volume") == 0
		       ? jbool(d->json, "_Ready", 0) && strcmp(state, "error") != 0
		       : strcmp(state, "completed") == 0;
}

static int64_t days_of(const struct call *c, const struct bin *b, const struct doc *d)
{
	int64_t days = b->setting ? config_integer(c->daemon->config, "Storage", b->setting) : 0,
		by_rules = rule_days(c->store, d->account, d->region, b->resource_type,
				     json_object_get(d->json, "Tags"));

	return by_rules > days ? by_rules : days;
}

int bin_put(struct call *c, const struct doc *doc, json_t *changed)
{
	OWN(json_decref) json_t *json = changed ? changed : doc_edit(doc);
	const struct bin *b = strcmp(doc->kind, bins[0].live) == 0 ? &bins[0] : &bins[1];
	int64_t days = days_of(c, b, doc), now = jtime_now_usec();

	if (days <= 0 || !is_whole(doc))
		return 0;
	int r = json ? jset_new(json, "_BinEnter", json_integer(now)) : -ENOMEM;

	if (r == 0)
		r = jset_new(json, "_BinExit", json_integer(now + days * DAY_USEC));
	if (r == 0)
		r = txn_put(c->txn, b->kind, doc->id, doc->account, doc->region, give(json));
	if (r == 0)
		bin_start(c->daemon);
	return r < 0 ? r : 1;
}

/* ---- what customers see of it ---- */

/* A new object: these members of the document, and the times. */
static json_t *present_members(const struct doc *d, const char *const *members)
{
	OWN(json_decref)
	json_t *o =
		json_pack("{s:o, s:o}", "RecycleBinEnterTime", jtime(jint(d->json, "_BinEnter", 0)),
			  "RecycleBinExitTime", jtime(jint(d->json, "_BinExit", 0)));

	for (; o && *members; members++) {
		json_t *value = json_object_get(d->json, *members);

		if (value && json_object_set(o, *members, value) < 0)
			return NULL;
	}
	return give(o);
}

static json_t *present_snapshot(const struct call *c, const struct doc *d)
{
	static const char *const members[] = {"SnapshotId", "Description", "VolumeId", NULL};

	(void)c;
	return present_members(d, members);
}

static json_t *present_volume(const struct call *c, const struct doc *d)
{
	static const char *const members[] = {
		"VolumeId",   "VolumeType",	  "State",	"Size", "Iops", "Throughput",
		"SnapshotId", "AvailabilityZone", "CreateTime", NULL};

	(void)c;
	return present_members(d, members);
}

static const struct filter no_filters[] = {{NULL}};

static const struct describe snapshots = {.kind = "snapshot-in-bin",
					  .result = "Snapshots",
					  .ids = "SnapshotIds",
					  .prefix = "snap",
					  .malformed = FAULT_INVALID_SNAPSHOT_ID_MALFORMED,
					  .not_found = FAULT_INVALID_SNAPSHOT_NOT_FOUND,
					  .filters = no_filters,
					  .present = present_snapshot};

static const struct describe volumes = {.kind = "volume-in-bin",
					.result = "Volumes",
					.ids = "VolumeIds",
					.prefix = "vol",
					.malformed = FAULT_INVALID_VOLUME_ID_MALFORMED,
					.not_found = FAULT_INVALID_VOLUME_NOT_FOUND,
					.filters = no_filters,
					.n_max_low = 5,
					.n_max_high = 500,
					.present = present_volume};

int snapshot_list_bin(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return describe_run(c, &snapshots, parameters, ret_reply, f);
}

int volume_list_bin(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return describe_run(c, &volumes, parameters, ret_reply, f);
}

/* Out of the bin, as it was: in the call's transaction. */
static int take_out(struct call *c, const struct bin *b, const struct doc *d, json_t **ret_json)
{
	OWN(json_decref) json_t *json = doc_edit(d);
	int r = json ? jset(json, "_BinEnter", NULL) : -ENOMEM;

	if (r == 0)
		r = jset(json, "_BinExit", NULL);
	if (r == 0)
		r = txn_put(c->txn, b->live, d->id, d->account, d->region, json_incref(json));
	if (r == 0)
		r = txn_delete(c->txn, b->kind, d->id);
	if (r == 0)
		*ret_json = give(json);
	return r;
}

int snapshot_restore_bin(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *id = jstr(parameters, "SnapshotId");
	const struct doc *d = store_get(c->store, c->ctx, bins[0].kind, id);

	if (id && !id_is(id, "snap"))
		return fault_set(
			f, FAULT_INVALID_SNAPSHOT_ID_MALFORMED,
			"Value (%.64s) for parameter snapshotId is invalid. Expected: 'snap-...'.",
			id);
	if (!id || !d)
		return fault_set(f, FAULT_INVALID_SNAPSHOT_NOT_FOUND,
				 "The snapshot '%s' does not exist in the Recycle Bin.",
				 id ? id : "");
	int r = take_out(c, &bins[0], d, ret_reply);

	if (r == 0)
		log_info("snapshot restored", "SNAPSHOT_ID", id, "REQUEST_ID", c->ctx->request);
	return r;
}

int volume_restore_bin(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	OWN(json_decref) json_t *json = NULL;
	const char *id = NULL;
	int r = volume_id_get(parameters, &id, f);

	if (r < 0)
		return r;
	const struct doc *d = store_get(c->store, c->ctx, bins[1].kind, id);
	OWN(hold_leave) struct hold *h = NULL;

	if (d) { /* nobody else's merge is stopped, nor held up */
		merge_give_way(c->daemon, id);
		if (!(h = hold_enter(id)))
			return -ENOMEM;
		d = store_get(c->store, c->ctx, bins[1].kind, id);
	}
	if (!d)
		return fault_set(f, FAULT_INVALID_VOLUME_NOT_FOUND,
				 "The volume '%s' does not exist in the Recycle Bin.", id);
	r = take_out(c, &bins[1], d, &json);

	if (r == 0)
		r = txn_commit(c->txn); /* while it is held */
	if (r < 0)
		return r;
	log_info("volume restored", "VOLUME_ID", id, "REQUEST_ID", c->ctx->request);
	*ret_reply = json_pack("{s:b}", "Return", 1);
	return *ret_reply ? 0 : -ENOMEM;
}

/* ---- its end ---- */

static int let_go_of(struct daemon *d, struct txn *t, const struct bin *b, int64_t now, int *ret_n)
{
	int r = 0;

	store_each (d->store, b->kind, s) {
		if (r < 0 || *ret_n == AT_ONCE || jint(s->json, "_BinExit", 0) > now)
			continue;
		r = txn_delete(t, b->kind, s->id);
		if (r == 0)
			r = layer_release(t, jstr_or(s->json, "_Layer", ""));
		++*ret_n;
	}
	return r;
}

static int let_go(struct daemon *d, int64_t now, int *ret_n)
{
	OWN(txn_free) struct txn *t = txn_new(d->store);
	int r = t ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < N_BINS; i++)
		r = let_go_of(d, t, &bins[i], now, ret_n);
	return r == 0 && *ret_n ? txn_commit(t) : r;
}

static void look(void *arg)
{
	struct daemon *d = arg;
	size_t n_left = 0;
	int n, r;

	do {
		n = 0;
		r = let_go(d, jtime_now_usec(), &n);
		if (r < 0)
			log_warning(r, "the recycle bin is not emptied");
		if (n)
			unlink_marked(d);
	} while (r == 0 && n == AT_ONCE);
	merge_kick(d);
	for (size_t i = 0; i < N_BINS; i++)
		n_left += store_count(d->store, bins[i].kind);
	if (n_left)
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
	int64_t now = jtime_now_usec(), next = now + LOOK_USEC;

	for (size_t i = 0; i < N_BINS; i++)
		store_each (d->store, bins[i].kind, s)
			if (jint(s->json, "_BinExit", 0) < next)
				next = jint(s->json, "_BinExit", 0);
	if (!timer)
		/* out of memory: at the next deletion or start */
		(void)sd_event_add_time_relative(d->loop, &timer, CLOCK_MONOTONIC,
						 next > now ? (uint64_t)(next - now) : 0, 1000000,
						 on_timer, d);
}
