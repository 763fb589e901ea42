/* Which layers go, and when: the choice, and who must be asked before. */
#include "merge.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include "fiber.h"
#include "hold.h"
#include "host.h"
#include "layer.h"
#include "leaves.h"
#include "log.h"
#include "merge-room.h"
#include "merge-work.h"
#include "stord.h"
#include "switch.h"

#define RETRY_FIRST_USEC 500000ull
#define RETRY_LAST_USEC	 30000000ull
#define LOOK_USEC	 20000ull
/* So much is pulled into a running guest's active layer even if that layer has less. */
#define CHEAP_BYTES (INT64_C(256) << 20)
/* More is not merged without its guest while an instance that is stopped may be started: that would
 * stop it, and it would have to begin from the start. */
#define OFFLINE_MAX_BYTES (INT64_C(4) << 30)

enum outcome { DONE, NOTHING, LATER };

static struct merger {
	int is_running, is_kicked;
	sd_event_source *timer;
	uint64_t wait_usec;   /* until the next try, twice as long each time in vain */
	struct merge current; /* while is_working */
	int is_working;
	int is_looked_at, is_waiting; /* merge_look: by fsck, and a merge that would begin */
} self;

/* ---- what there is ---- */

/* Who needs each layer: {name: {"v": volumes, "s": snapshots, "l": layers, "c": one of these}}. */
static json_t *census_entry(json_t *census, const char *name)
{
	json_t *e = json_object_get(census, name);

	if (e || !name)
		return e;
	e = json_pack("{s:i, s:i, s:i, s:s}", "v", 0, "s", 0, "l", 0, "c", "");
	return json_object_set_new(census, name, e) < 0 ? NULL : e;
}

static void census_add(json_t *census, const char *name, const char *what, const char *child)
{
	json_t *e = name ? census_entry(census, name) : NULL;

	if (!e)
		return; /* out of memory: the layer seems to be needed by fewer, and is looked at
			   again before anything is done */
	(void)json_integer_set(json_object_get(e, what), jint(e, what, 0) + 1);
	if (child)
		(void)jset(e, "c", child);
}

static json_t *census_new(const struct store *s)
{
	json_t *census = json_object();

	for (const char *const *kind = layer_volume_kinds; *kind; kind++)
		store_each (s, *kind, v) {
			census_add(census, jstr(v->json, "_Layer"), "v", NULL);
			census_add(census, jstr(v->json, "_NextLayer"), "v", NULL);
		}
	for (const char *const *kind = layer_snapshot_kinds; *kind; kind++)
		store_each (s, *kind, d)
			census_add(census, jstr(d->json, "_Layer"), "s", NULL);
	store_each (s, LAYER_KIND, l) {
		census_add(census, jstr(l->json, "Backing"), "l", l->id);
		census_add(census, jstr(l->json, "Copy"), "s", NULL);
	}
	return census;
}

static const char *spare_child(const json_t *census, const char *name)
{
	const json_t *e = json_object_get(census, name);

	return e && jint(e, "v", 0) == 0 && jint(e, "s", 0) == 0 && jint(e, "l", 0) == 1
		       ? jstr(e, "c")
		       : NULL;
}

static int64_t bytes_of(const struct daemon *d, const char *name)
{
	char path[FILE_PATH_MAX];
	struct stat st;

	file_path(d, name, path);
	return stat(path, &st) < 0 ? -1 : (int64_t)st.st_blocks * 512;
}

/* ---- one merge ---- */

/* The volumes that would notice, held. */
struct party {
	char ids[LEAVES_MAX][ID_MAX];
	struct hold *holds[LEAVES_MAX];
	int n;
	int n_live, n_attached;
};

static void party_leave(struct party *p)
{
	for (int i = LEAVES_MAX; i-- > 0;)
		if (p->holds[i]) {
			hold_leave(p->holds[i]);
			p->holds[i] = NULL;
		}
}

/* Holds them all and asks hvd which of them have a running guest. */
static enum outcome party_gather(struct daemon *d, const char *top, struct party *p)
{
	struct party again = {0};

	p->n = leaves_find(d->store, top, p->ids);
	if (p->n < 0)
		return NOTHING;
	for (int i = 0; i < p->n; i++)
		if (!(p->holds[i] = hold_enter(p->ids[i])))
			return LATER;
	again.n = leaves_find(d->store, top, again.ids);
	if (again.n != p->n || memcmp(again.ids, p->ids, (size_t)p->n * ID_MAX) != 0)
		return LATER;
	for (int i = 0; i < p->n; i++) {
		const struct doc *v = leaf_find(d->store, p->ids[i]);

		if (!v || jstr(v->json, "_NextLayer"))
			return LATER;
		/* One that was never made is in nobody's way but a merge's, until it is deleted. */
		if (!jbool(v->json, "_Ready", 0))
			return strcmp(jstr_or(v->json, "State", ""), "error") == 0 ? NOTHING
										   : LATER;
		p->n_attached += json_array_size(json_object_get(v->json, "Attachments")) > 0;
		int r = switch_is_live(v);

		if (r < 0)
			return LATER;
		p->n_live += r;
	}
	return DONE;
}

static const struct doc *party_volume(const struct daemon *d, const struct party *p)
{
	return p->n == 1 ? leaf_find(d->store, p->ids[0]) : NULL;
}

/* Files that fsck has open cannot be merged. It goes from one to the next, and we in between. */
static void wait_for_looks(void)
{
	for (self.is_waiting = 1; self.is_looked_at;)
		(void)fiber_sleep(LOOK_USEC);
}

static enum outcome work(struct daemon *d, const struct merge *m,
			 int (*what)(struct daemon *, const struct merge *))
{
	if (!merge_room_begin(d, m))
		return LATER;
	self.current = *m;
	self.is_working = 1;
	self.is_waiting = 0;
	int r = what(d, &self.current);

	self.is_working = 0;
	merge_room_end(d, m, r);
	if (r == 0)
		log_info("layers merged", "UNDER", m->under, "OVER", m->over, "WAY",
			 m->is_commit ? "commit" : "pull");
	else if (r != -ECANCELED)
		log_warning(r, "layers are not merged yet", "UNDER", m->under, "OVER", m->over);
	return r == 0 ? DONE : LATER;
}

/* It would keep who waits for one of them waiting, for minutes perhaps. */
static int party_is_wanted(const struct party *p)
{
	int is = 0;

	for (int i = 0; i < p->n; i++)
		is |= hold_is_wanted(p->holds[i]);
	return is;
}

static enum outcome work_with(struct daemon *d, const struct merge *m, struct party *p)
{
	if (!m->instance_id[0] && party_is_wanted(p))
		return LATER;
	/* A guest's own QEMU does it: its volume may be snapshotted, detached and deleted
	 * meanwhile, and then the merge comes to nothing. */
	if (m->instance_id[0])
		party_leave(p);
	return work(d, m, merge_run);
}

/* Of which instance the volume is a disk, for the merge. */
static void set_guest(struct merge *m, const struct doc *volume)
{
	snprintf(m->volume_id, sizeof m->volume_id, "%s", volume->id);
	snprintf(m->instance_id, sizeof m->instance_id, "%s",
		 jstr_or(json_array_get(json_object_get(volume->json, "Attachments"), 0),
			 "InstanceId", ""));
}

/* A guest may have done it while stord was away, and its chain is not what the documents say. A
 * volume that is being created on it meanwhile waits for us; so we do not for its creation.
 * NOTHING: no guest did. */
static enum outcome finish(struct daemon *d, struct merge m)
{
	char id[ID_MAX], done[FILE_NAME_MAX];

	while (merge_is_in_headers(d, &m, done) != 1)
		if (m.is_commit++)
			return NOTHING;
	int live = leaves_live(d->store, done, id);
	const struct doc *v = live > 0 ? leaf_find(d->store, id) : NULL;

	if (live < 0)
		return LATER;
	if (v) {
		set_guest(&m, v);
		return work(d, &m, merge_finish);
	}
	return NOTHING; /* and the headers are put back */
}

/* In a running guest. */
static int plan_live(const struct daemon *d, const json_t *census, const struct doc *volume,
		     struct merge *m)
{
	int64_t under = bytes_of(d, m->under), over = bytes_of(d, m->over);
	int is_active = strcmp(jstr_or(volume->json, "_Layer", ""), m->over) == 0;
	const char *format = jstr_or(layer_find(d->store, m->under)->json, "Format", "");

	set_guest(m, volume);
	m->is_commit = !is_active;
	if (is_active)
		return under <= over || under <= CHEAP_BYTES;
	return jint(json_object_get(census, m->over), "l", 0) == 1 && strcmp(format, "qcow2") == 0;
}

static enum outcome merge_pair(struct daemon *d, const char *under, const char *over)
{
	struct merge m = {0};
	struct party p = {0};
	enum outcome o = DONE;

	snprintf(m.under, sizeof m.under, "%s", under);
	snprintf(m.over, sizeof m.over, "%s", over);
	if (layer_is_pinned(d->store, m.under))
		return LATER;
	o = finish(d, m);
	if (o != NOTHING)
		return o;
	o = party_gather(d, m.over, &p);
	OWN(json_decref) json_t *census = census_new(d->store);
	const char *child = spare_child(census, m.under);

	if (o == DONE && (!child || strcmp(child, m.over) != 0))
		o = LATER; /* changed while we waited: looked at anew */
	if (o != DONE) {
		party_leave(&p);
		return o;
	}
	int64_t bytes_under = bytes_of(d, m.under), bytes_over = bytes_of(d, m.over);
	const struct doc *volume = party_volume(d, &p);

	if (bytes_under < 0 || bytes_over < 0 || (p.n_live && p.n > 1)) {
		o = NOTHING;
	} else if (p.n_live) {
		o = plan_live(d, census, volume, &m) ? DONE : NOTHING;
	} else {
		const struct doc *l = layer_find(d->store, m.under);
		int may_commit = strcmp(jstr_or(l->json, "Format", ""), "qcow2") == 0;

		/* A pull into an encrypted layer writes all of it anew (merge-offline.h). */
		m.is_commit = may_commit && (bytes_over <= bytes_under || jstr(l->json, "Key"));
		if (p.n_attached && bytes_under + bytes_over > OFFLINE_MAX_BYTES)
			o = NOTHING;
	}
	if (o == DONE)
		o = work_with(d, &m, &p);
	party_leave(&p);
	return o;
}

/* Everything between a volume's active layer and the lowest of its chain goes into the active. */
static enum outcome shorten(struct daemon *d, const char *volume_id)
{
	struct merge m = {.is_long = 1};
	struct party p = {0};
	const struct doc *v = store_find(d->store, "volume", volume_id);
	enum outcome o;

	if (!v)
		return NOTHING;
	snprintf(m.over, sizeof m.over, "%s", jstr_or(v->json, "_Layer", ""));
	o = party_gather(d, m.over, &p);
	v = party_volume(d, &p);
	if (o == DONE && (!v || strcmp(jstr_or(v->json, "_Layer", ""), m.over) != 0 ||
			  layer_depth(d->store, m.over) <= LAYERS_MAX))
		o = NOTHING;
	if (o == DONE) {
		snprintf(m.under, sizeof m.under, "%s", layer_root(d->store, m.over));
		if (p.n_live)
			set_guest(&m, v);
		o = layer_is_pinned(d->store, m.over) ? LATER : work_with(d, &m, &p);
	}
	party_leave(&p);
	return o;
}

/* ---- the fiber ---- */

/* What may be worth a merge: [[under, over]] and [[volume]], new references. */
static json_t *find_work(const struct store *s)
{
	OWN(json_decref) json_t *census = census_new(s), *list = json_array();

	store_each (s, LAYER_KIND, l) {
		const char *over = spare_child(census, l->id);

		if (over)
			(void)json_array_append_new(list, json_pack("[s, s]", l->id, over));
	}
	store_each (s, "volume", v)
		if (layer_depth(s, jstr(v->json, "_Layer")) > LAYERS_MAX)
			(void)json_array_append_new(list, json_pack("[s]", v->id));
	return give(list); /* what is left out for want of memory is found the next time */
}

/* One round. DONE: something was merged, which may have made more possible. */
static enum outcome round_of(struct daemon *d)
{
	OWN(json_decref) json_t *list = find_work(d->store);
	enum outcome best = NOTHING;
	json_t *item;
	size_t i;

	json_array_foreach (list, i, item) {
		const char *first = json_string_value(json_array_get(item, 0)),
			   *second = json_string_value(json_array_get(item, 1));

		wait_for_looks();
		enum outcome o = second ? merge_pair(d, first, second) : shorten(d, first);

		self.is_waiting = 0;
		if (o == DONE)
			best = DONE;
		else if (o == LATER && best == NOTHING)
			best = LATER;
	}
	return best;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source, (void)usec;
	self.timer = sd_event_source_disable_unref(self.timer);
	merge_kick(userdata);
	return 0;
}

static void run(void *arg)
{
	struct daemon *d = arg;
	enum outcome o;

	(void)fiber_sleep(0); /* what it is about is committed by then */
	do {
		self.is_kicked = 0;
		o = round_of(d);
	} while (o == DONE || self.is_kicked);
	self.is_running = 0;
	if (o != LATER)
		self.wait_usec = 0;
	if (o != LATER || self.timer)
		return;
	self.wait_usec = !self.wait_usec			? RETRY_FIRST_USEC
			 : self.wait_usec * 2 < RETRY_LAST_USEC ? self.wait_usec * 2
								: RETRY_LAST_USEC;
	/* out of memory: at the next kick */
	(void)sd_event_add_time_relative(d->loop, &self.timer, CLOCK_MONOTONIC, self.wait_usec,
					 RETRY_FIRST_USEC / 10, on_timer, d);
}

void merge_kick(struct daemon *d)
{
	self.is_kicked = 1;
	if (self.is_running)
		return;
	self.is_running = 1;
	if (fiber_spawn(run, d) < 0)
		self.is_running = 0;
}

int merge_is_idle(void)
{
	return !self.is_running && !self.timer;
}

/* ---- who comes in between ---- */

/* Everything from its `under` to its `over`, and what stands on that: headers too are written. */
static int is_written_by(const struct store *s, const struct merge *m, const char *name)
{
	const struct doc *l = layer_find(s, name);

	return layer_stands_on(s, name, m->under) &&
	       (layer_stands_on(s, m->over, name) ||
		(l && strcmp(jstr_or(l->json, "Backing", ""), m->over) == 0));
}

int merge_look(const struct daemon *d, const char *layer)
{
	while (self.is_waiting)
		(void)fiber_sleep(LOOK_USEC);
	if (self.is_working && is_written_by(d->store, &self.current, layer))
		return 0;
	self.is_looked_at++;
	return 1;
}

void merge_looked(void)
{
	self.is_looked_at--;
}

/* What stands on the lowest of a long chain alone is not: nothing but the top one is written. */
static int is_in_the_way(const struct daemon *d, const char *volume_id)
{
	const struct doc *v = leaf_find(d->store, volume_id);
	const char *lowest = self.current.is_long ? self.current.over : self.current.under;

	return self.is_working && v && strcmp(self.current.volume_id, volume_id) != 0 &&
	       layer_stands_on(d->store, jstr(v->json, "_Layer"), lowest);
}

static uint64_t now_usec(const struct daemon *d)
{
	uint64_t now = 0;

	(void)sd_event_now(d->loop, CLOCK_MONOTONIC, &now); /* cannot fail on the loop's thread */
	return now;
}

void merge_give_way(struct daemon *d, const char *volume_id)
{
	if (is_in_the_way(d, volume_id) && !self.current.instance_id[0])
		merge_stop(d, &self.current);
}

int merge_yield(struct daemon *d, const char *volume_id)
{
	uint64_t began = now_usec(d), wait = LOOK_USEC;

	/* Asked again and again, and ever more seldom: its job may begin only after it was to end. */
	for (; is_in_the_way(d, volume_id); wait *= 2) {
		merge_stop(d, &self.current);
		for (uint64_t until = now_usec(d) + wait;
		     is_in_the_way(d, volume_id) && now_usec(d) < until;)
			(void)fiber_sleep(LOOK_USEC);
		if (is_in_the_way(d, volume_id) && now_usec(d) >= began + host_timeout_usec())
			return -EAGAIN;
	}
	return 0;
}
