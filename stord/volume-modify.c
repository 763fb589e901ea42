/*
 * ModifyVolume: larger, faster, of another type, while a guest uses it.
 *
 * The wish is durable first (a "volume-modification" document, id of the volume, `modifying`); then
 * the volume grows, where the guest has it open by the guest's QEMU, else by qemu-img; then its
 * document changes (`optimizing`); then a guest's limits do (`completed`). Each step can be
 * repeated: cut off anywhere, it goes on from its beginning when stord starts.
 *
 * At AWS a volume may be changed again after six hours, for its data moves meanwhile. Here nothing
 * moves; ModificationCooldownSec keeps AWS's rule all the same, so that what works here works
 * there, and 0 takes it away.
 */
#include "stord.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include "config.h"
#include "describe.h"
#include "fiber.h"
#include "hold.h"
#include "layer.h"
#include "log.h"
#include "volume-grow.h"
#include "volume_type.h"

#define MODIFICATION_KIND "volume-modification"
#define AGAIN_FIRST_USEC  200000ull
#define AGAIN_LAST_USEC	  30000000ull
#define TRIES_MAX	  8

/* ---- what a request asks for ---- */

static int is_under_way(const json_t *modification)
{
	const char *state = jstr_or(modification, "ModificationState", "");

	return strcmp(state, "modifying") == 0 || strcmp(state, "optimizing") == 0;
}

static int rate_check(const struct call *c, const struct doc *volume, struct fault *f)
{
	const struct doc *before = store_find(c->store, MODIFICATION_KIND, volume->id);
	int64_t wait = config_integer(c->daemon->config, "Storage", "ModificationCooldownSec");

	if (!before)
		return 0;
	if (is_under_way(before->json))
		return fault_set(f, FAULT_INCORRECT_MODIFICATION_STATE,
				 "The volume '%s' is in the '%s' modification state.", volume->id,
				 jstr_or(before->json, "ModificationState", ""));
	int64_t began = jtime_parse(jstr_or(before->json, "StartTime", "")) / 1000000;

	if (strcmp(jstr_or(before->json, "ModificationState", ""), "completed") == 0 &&
	    (int64_t)time(NULL) < began + wait)
		return fault_set(f, FAULT_VOLUME_MODIFICATION_RATE_EXCEEDED,
				 "You've reached the maximum modification rate per volume limit. "
				 "Wait at least %lld hours between modifications per EBS volume.",
				 (long long)((wait + 3599) / 3600));
	return 0;
}

/* Figures that the request leaves open: kept within a type, the type's own where it is another;
 * from gp2 to gp3 at least what the volume had. */
static json_t *shape_wanted(const struct doc *volume, const json_t *parameters)
{
	const char *before = jstr_or(volume->json, "VolumeType", ""),
		   *type = jstr_or(parameters, "VolumeType", before);
	int64_t iops = jint(parameters, "Iops", 0), throughput = jint(parameters, "Throughput", 0);
	int is_same = strcmp(type, before) == 0;
	int from_gp2 = strcmp(before, "gp2") == 0 && strcmp(type, "gp3") == 0;
	OWN(json_decref) json_t *wanted = json_pack("{s:s}", "VolumeType", type);

	if (!json_object_get(parameters, "Iops") && is_same && strcmp(type, "gp2") != 0)
		iops = jint(volume->json, "Iops", 0);
	if (!json_object_get(parameters, "Iops") && from_gp2 &&
	    jint(volume->json, "Iops", 0) > 3000)
		iops = jint(volume->json, "Iops", 0);
	if (!json_object_get(parameters, "Throughput") && is_same)
		throughput = jint(volume->json, "Throughput", 0);
	if (!json_object_get(parameters, "Throughput") && from_gp2 &&
	    jint(volume->json, "Size", 0) > 170)
		throughput = 250;
	int r = wanted ? 0 : -ENOMEM;

	if (r == 0 && (iops || json_object_get(parameters, "Iops")))
		r = jset_new(wanted, "Iops", json_integer(iops));
	if (r == 0 && (throughput || json_object_get(parameters, "Throughput")))
		r = jset_new(wanted, "Throughput", json_integer(throughput));
	return r == 0 ? give(wanted) : NULL;
}

static int modify_check(const struct call *c, const struct doc *volume, const json_t *parameters,
			struct volume_shape *ret_shape, struct fault *f)
{
	static const char *const changes[] = {"Size", "VolumeType", "Iops", "Throughput",
					      "MultiAttachEnabled"};
	const char *state = jstr_or(volume->json, "State", "");
	int64_t before = jint(volume->json, "Size", 0), size = jint(parameters, "Size", before);
	int is_shared = jbool(volume->json, "MultiAttachEnabled", 0), n = 0;

	for (size_t i = 0; i < sizeof changes / sizeof *changes; i++)
		n += json_object_get(parameters, changes[i]) != NULL;
	if (n == 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "The request must change the size, type, IOPS or throughput.");
	if (strcmp(state, "available") != 0 && strcmp(state, "in-use") != 0)
		return fault_set(f, FAULT_INCORRECT_STATE, "Volume '%s' is in the '%s' state.",
				 volume->id, state);
	int r = rate_check(c, volume, f);

	if (r < 0)
		return r;
	if (size < before)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "New size cannot be smaller than existing size");
	if (jbool(parameters, "MultiAttachEnabled", is_shared) != is_shared)
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
				 "Multi-Attach cannot be switched on or off later here.");
	OWN(json_decref) json_t *wanted = shape_wanted(volume, parameters);

	if (!wanted)
		return -ENOMEM;
	r = volume_shape_parse(wanted, size, ret_shape, f);
	if (r == 0 && is_shared && strncmp(ret_shape->type, "io", 2) != 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "Multi-Attach is supported for io1 and io2 volumes only.");
	return r == 0 ? volume_check_iops(c, ret_shape, volume->id, f) : r;
}

static json_t *modification_new(const struct doc *volume, const struct volume_shape *s)
{
	static const char *const figures[][3] = {
		{"Iops", "OriginalIops", "TargetIops"},
		{"Throughput", "OriginalThroughput", "TargetThroughput"}};
	const int64_t targets[] = {s->iops, s->throughput_mib};
	OWN(json_decref)
	json_t *m = json_pack(
		"{s:s, s:s, s:s, s:I, s:I, s:s, s:s, s:b, s:b, s:i, s:o}", "VolumeId", volume->id,
		"ModificationState", "modifying", "StatusMessage", "", "OriginalSize",
		(json_int_t)jint(volume->json, "Size", 0), "TargetSize", (json_int_t)s->size_gib,
		"OriginalVolumeType", jstr(volume->json, "VolumeType"), "TargetVolumeType", s->type,
		"OriginalMultiAttachEnabled", jbool(volume->json, "MultiAttachEnabled", 0),
		"TargetMultiAttachEnabled", jbool(volume->json, "MultiAttachEnabled", 0),
		"Progress", 0, "StartTime", jtime_now());
	int r = m ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < sizeof figures / sizeof *figures; i++) {
		json_t *original = json_object_get(volume->json, figures[i][0]);

		if (original && json_object_set(m, figures[i][1], original) < 0)
			r = -ENOMEM;
		if (r == 0 && targets[i])
			r = jset_new(m, figures[i][2], json_integer(targets[i]));
	}
	return r == 0 ? give(m) : NULL;
}

/* ---- the steps ---- */

static int set_state(struct txn *t, const char *id, const char *state, int progress,
		     const char *message)
{
	const struct doc *m = store_find(txn_store(t), MODIFICATION_KIND, id);
	json_t *json = m ? doc_edit(m) : NULL;
	int r = json ? jset(json, "ModificationState", state) : -ENOENT;

	if (r == 0)
		r = jset_new(json, "Progress", json_integer(progress));
	if (r == 0)
		r = jset(json, "StatusMessage", message);
	if (r == 0 && progress == 100)
		r = jset_new(json, "EndTime", jtime_now());
	if (r == 0)
		return txn_replace(t, m, json);
	json_decref(json);
	return r;
}

/* The volume is what was asked for, on paper; and its layer is as large. */
static int put_volume(struct txn *t, const char *id)
{
	static const char *const members[][2] = {{"TargetSize", "Size"},
						 {"TargetVolumeType", "VolumeType"},
						 {"TargetIops", "Iops"},
						 {"TargetThroughput", "Throughput"}};
	const struct doc *volume = store_find(txn_store(t), "volume", id),
			 *m = store_find(txn_store(t), MODIFICATION_KIND, id);
	OWN(json_decref) json_t *json = doc_edit(volume);
	const struct doc *layer = layer_find(txn_store(t), jstr(json, "_Layer"));
	OWN(json_decref) json_t *layer_json = layer ? doc_edit(layer) : NULL;

	if (!json || !layer_json)
		return -ENOMEM;
	for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
		json_t *value = json_object_get(m->json, members[i][0]);

		if (value && json_object_set(json, members[i][1], value) < 0)
			return -ENOMEM;
		if (!value)
			(void)json_object_del(json, members[i][1]); /* not every type had it */
	}
	int r = jset_new(layer_json, "Bytes", json_integer(jint(json, "Size", 0) * GIB));

	if (r == 0)
		r = txn_replace(t, layer, give(layer_json));
	return r == 0 ? txn_replace(t, volume, give(json)) : r;
}

/* The volume (held) grows, and then says so. */
static int grow_and_put(struct daemon *d, const char *id)
{
	const struct doc *m = store_find(d->store, MODIFICATION_KIND, id);
	OWN(txn_free) struct txn *t = txn_new(d->store);
	int r = !t ? -ENOMEM : m ? volume_grow(d, id, jint(m->json, "TargetSize", 0)) : -ENOENT;

	if (r < 0)
		return r;
	r = put_volume(t, id);
	if (r == 0)
		r = set_state(t, id, "optimizing", 0, "");
	if (r == 0)
		r = txn_commit(t);
	if (r < 0)
		log_warning(r, "a volume has grown and cannot say so yet", "VOLUME_ID", id);
	return r < 0 ? -EAGAIN : 0;
}

static int is_modifying(const struct daemon *d, const char *id)
{
	const struct doc *m = store_find(d->store, MODIFICATION_KIND, id);

	return m && strcmp(jstr_or(m->json, "ModificationState", ""), "modifying") == 0;
}

int volume_modify_settle(struct daemon *d, const char *volume_id)
{
	return is_modifying(d, volume_id) ? grow_and_put(d, volume_id) : 0;
}

/* One try of all that is left to do. 0: done, or nothing to do any more. is_last: what fails has
 * failed for good; before that it may be a qemu-img that outlived the stord which began this. */
static int modify(struct daemon *d, const char *id, int is_last)
{
	OWN(hold_leave) struct hold *h = hold_enter(id);
	OWN(txn_free) struct txn *t = txn_new(d->store);
	const struct doc *m = store_find(d->store, MODIFICATION_KIND, id);

	if (!h || !t)
		return -ENOMEM;
	if (!m || !store_find(d->store, "volume", id))
		return 0; /* deleted meanwhile */
	int r = 0;

	if (is_modifying(d, id))
		r = grow_and_put(d, id);
	if (is_last && r < 0 && r != -EAGAIN) {
		r = set_state(t, id, "failed", 0, "The volume could not be grown.");
		return r == 0 ? txn_commit(t) : r;
	}
	const struct doc *volume = store_find(d->store, "volume", id);

	if (r == 0 && volume_is_limited(d))
		r = volume_ask_guests(volume,
				      json_pack("{s:o}", "_Limits", volume_limits(volume->json)));
	if (r < 0)
		return r;
	r = set_state(t, id, "completed", 100, "");
	if (r == 0)
		r = txn_commit(t);
	if (r == 0)
		log_info("volume modified", "VOLUME_ID", id);
	return r;
}

struct modifying {
	struct daemon *daemon;
	char id[ID_MAX];
};

static void modify_run(void *arg)
{
	OWN(free) struct modifying *m = arg;
	uint64_t wait_usec = AGAIN_FIRST_USEC;

	(void)fiber_sleep(0); /* the document is committed after its handler has returned */
	for (int n_tries = 1;; n_tries++) {
		int r = modify(m->daemon, m->id, n_tries >= TRIES_MAX);

		if (r == 0)
			return;
		log_warning(r, "a volume's modification is not done yet", "VOLUME_ID", m->id);
		(void)fiber_sleep(wait_usec); /* a shorter wait is no harm */
		wait_usec = wait_usec * 2 < AGAIN_LAST_USEC ? wait_usec * 2 : AGAIN_LAST_USEC;
	}
}

static int modify_later(struct daemon *d, const char *id)
{
	OWN(free) struct modifying *m = calloc(1, sizeof *m);

	if (!m)
		return -ENOMEM;
	m->daemon = d;
	snprintf(m->id, sizeof m->id, "%s", id);
	int r = fiber_spawn(modify_run, m);

	if (r == 0)
		(void)give(m);
	return r;
}

void volume_modify_resume(struct daemon *d)
{
	OWN(json_decref) json_t *ids = json_array();
	json_t *id;
	size_t i;

	store_each (d->store, MODIFICATION_KIND, m)
		if (is_under_way(m->json))
			(void)json_array_append_new(ids,
						    json_string(m->id)); /* at the next start */
	json_array_foreach (ids, i, id)
		(void)modify_later(d, json_string_value(id)); /* likewise */
}

/* ---- actions ---- */

int volume_modify(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	OWN(hold_leave) struct hold *h = NULL;
	OWN(json_decref) json_t *m = NULL;
	struct volume_shape shape = {0};
	const struct doc *d = NULL;
	int r = volume_enter(c, parameters, &h, &d, f);

	if (r == 0)
		r = modify_check(c, d, parameters, &shape, f);
	if (r < 0)
		return r;
	m = modification_new(d, &shape);
	r = txn_put(c->txn, MODIFICATION_KIND, d->id, d->account, d->region, json_incref(m));
	if (r == 0)
		r = modify_later(c->daemon, jstr(parameters, "VolumeId"));
	if (r < 0)
		return r;
	log_info("volume to be modified", "VOLUME_ID", jstr(parameters, "VolumeId"), "REQUEST_ID",
		 c->ctx->request);
	*ret_reply = json_pack("{s:O}", "VolumeModification", m);
	return *ret_reply ? 0 : -ENOMEM;
}

static const struct filter modification_filters[] = {
	{"modification-state", "ModificationState"},
	{"original-iops", "OriginalIops"},
	{"original-size", "OriginalSize"},
	{"original-volume-type", "OriginalVolumeType"},
	{"originalMultiAttachEnabled", "OriginalMultiAttachEnabled"},
	{"start-time", "StartTime"},
	{"target-iops", "TargetIops"},
	{"target-size", "TargetSize"},
	{"target-volume-type", "TargetVolumeType"},
	{"targetMultiAttachEnabled", "TargetMultiAttachEnabled"},
	{"volume-id", "VolumeId"},
	{NULL},
};

static const struct describe modifications = {.kind = MODIFICATION_KIND,
					      .result = "VolumesModifications",
					      .ids = "VolumeIds",
					      .prefix = "vol",
					      .malformed = FAULT_INVALID_VOLUME_ID_MALFORMED,
					      .not_found =
						      FAULT_INVALID_VOLUME_MODIFICATION_NOT_FOUND,
					      .filters = modification_filters,
					      .n_max_low = 1,
					      .n_max_high = 500};

int volume_describe_modifications(struct call *c, json_t *parameters, json_t **ret_reply,
				  struct fault *f)
{
	return describe_run(c, &modifications, parameters, ret_reply, f);
}
