/*
 * Locked snapshots: not deleted before their time. Source: EBS user guide, "Snapshot lock".
 *
 * A snapshot's document has in `_Lock` what was asked for: Mode ("governance", "compliance"),
 * CreatedOn, Days (which begin when the snapshot is completed) or Expires, CoolOff (hours) and CoolOffExpires; times are in microseconds. What state that makes
 * is reckoned whenever somebody asks, so no timer has to survive.
 */
#include "stord.h"

#include <errno.h>
#include <string.h>
#include "describe.h"
#include "log.h"

#define HOUR_USEC    INT64_C(3600000000)
#define DAY_USEC     (24 * HOUR_USEC)
#define DAYS_MAX     36500
#define COOL_OFF_MAX 72

/* ---- what a lock is now ---- */

/* When its days began: when it was locked, or completed after that (what does not say when, as
 * an import of before that was kept, counts from its lock). 0: not yet. */
static int64_t start_of(const json_t *snapshot)
{
	const json_t *lock = json_object_get(snapshot, "_Lock");
	const char *completed = jstr(snapshot, "CompletionTime");
	int64_t created = jint(lock, "CreatedOn", 0), at = completed ? jtime_parse(completed) : 0;

	if (strcmp(jstr_or(snapshot, "State", ""), "pending") == 0)
		return 0;
	return at > created ? at : created;
}

/* 0: not known, it is pending. */
static int64_t end_of(const json_t *snapshot)
{
	const json_t *lock = json_object_get(snapshot, "_Lock");
	int64_t fixed = jint(lock, "Expires", 0), start = start_of(snapshot);

	return fixed ? fixed : start ? start + jint(lock, "Days", 0) * DAY_USEC : 0;
}

/* AWS's word for the state; NULL: it was never locked. */
static const char *state_of(const json_t *snapshot)
{
	const json_t *lock = json_object_get(snapshot, "_Lock");
	int64_t end = end_of(snapshot), now = jtime_now_usec();

	if (!lock)
		return NULL;
	if (end && end <= now)
		return "expired";
	if (strcmp(jstr_or(lock, "Mode", ""), "governance") == 0)
		return "governance";
	return jint(lock, "CoolOffExpires", 0) > now ? "compliance-cooloff" : "compliance";
}

static int state_is(const json_t *snapshot, const char *state)
{
	const char *its = state_of(snapshot);

	return its && strcmp(its, state) == 0;
}

int snapshot_check_lock(const struct doc *snapshot, struct fault *f)
{
	const char *state = state_of(snapshot->json);

	return !state || strcmp(state, "expired") == 0
		       ? 0
		       : fault_set(f, FAULT_SNAPSHOT_LOCKED,
				   "The snapshot %s is locked (%s) and cannot be deleted.",
				   snapshot->id, state);
}

static int set_time(json_t *o, const char *name, int64_t usec)
{
	return usec ? jset_new(o, name, jtime(usec)) : 0;
}

/* As LockSnapshot answers and DescribeLockedSnapshots shows (a new reference). */
static json_t *present(const struct doc *d)
{
	const json_t *lock = json_object_get(d->json, "_Lock");
	OWN(json_decref)
	json_t *o = json_pack("{s:s, s:s, s:s*, s:O?, s:O*}", "OwnerId", d->account, "SnapshotId",
			      d->id, "LockState", state_of(d->json), "LockDuration",
			      json_object_get(lock, "Days"), "CoolOffPeriod",
			      json_object_get(lock, "CoolOff"));
	int r = o ? set_time(o, "LockCreatedOn", jint(lock, "CreatedOn", 0)) : -ENOMEM;

	if (r == 0)
		r = set_time(o, "LockDurationStartTime", start_of(d->json));
	if (r == 0)
		r = set_time(o, "LockExpiresOn", end_of(d->json));
	if (r == 0)
		r = set_time(o, "CoolOffPeriodExpiresOn", jint(lock, "CoolOffExpires", 0));
	return r == 0 ? give(o) : NULL;
}

/* ---- lock ---- */

struct wish {
	int is_compliance;
	int64_t n_days, expires_usec; /* one of them is 0 */
	int64_t n_hours;	      /* of the cooling-off period, 0: none */
};

/* For how long: days, or until a date. */
static int wish_end(const json_t *p, struct wish *w, struct fault *f)
{
	const json_t *date = json_object_get(p, "ExpirationDate");
	int64_t now = jtime_now_usec();

	if (date && json_object_get(p, "LockDuration"))
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "Specify LockDuration or ExpirationDate, not both.");
	if (!date && !json_object_get(p, "LockDuration"))
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain LockDuration or ExpirationDate");
	w->n_days = jint(p, "LockDuration", 0);
	if (!date)
		return w->n_days >= 1 && w->n_days <= DAYS_MAX
			       ? 0
			       : fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
					   "LockDuration is 1 to %d days.", DAYS_MAX);
	w->expires_usec = json_is_string(date) ? jtime_parse(json_string_value(date))
					       : json_integer_value(date) * 1000000;
	if (w->expires_usec < now + DAY_USEC || w->expires_usec > now + DAYS_MAX * DAY_USEC)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "ExpirationDate must be at least one day and at most %d days "
				 "from now.",
				 DAYS_MAX);
	return 0;
}

static int wish_parse(const json_t *p, struct wish *w, struct fault *f)
{
	const char *mode = jstr(p, "LockMode");

	if (!mode)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter LockMode");
	w->is_compliance = strcmp(mode, "compliance") == 0;
	if (!w->is_compliance && strcmp(mode, "governance") != 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.32s) for parameter LockMode is invalid.", mode);
	w->n_hours = jint(p, "CoolOffPeriod", 0);
	if (json_object_get(p, "CoolOffPeriod") && !w->is_compliance)
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "CoolOffPeriod is for the compliance mode only.");
	if (json_object_get(p, "CoolOffPeriod") && (w->n_hours < 1 || w->n_hours > COOL_OFF_MAX))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "CoolOffPeriod is 1 to %d hours.", COOL_OFF_MAX);
	return wish_end(p, w, f);
}

/* After its cooling-off period a lock can only be made longer. */
static int check_compliance(const struct doc *d, const struct wish *w, struct fault *f)
{
	int64_t start = start_of(d->json) ? start_of(d->json) : jtime_now_usec(),
		end = w->expires_usec ? w->expires_usec : start + w->n_days * DAY_USEC;

	if (!state_is(d->json, "compliance"))
		return 0;
	if (w->n_hours || !w->is_compliance)
		return fault_set(f, FAULT_OPERATION_NOT_PERMITTED,
				 "The snapshot %s is locked in compliance mode: only the lock's "
				 "duration can be changed.",
				 d->id);
	return end >= end_of(d->json)
		       ? 0
		       : fault_set(f, FAULT_OPERATION_NOT_PERMITTED,
				   "The snapshot %s is locked in compliance mode: the lock cannot "
				   "be made shorter.",
				   d->id);
}

/* The document's new `_Lock`. One that is only changed goes on since it began. NULL out of memory. */
static json_t *lock_new(const struct doc *d, const struct wish *w)
{
	const json_t *old = state_is(d->json, "expired") ? NULL : json_object_get(d->json, "_Lock");
	int64_t now = jtime_now_usec(), since = jint(old, "CreatedOn", now), n_days = w->n_days;
	OWN(json_decref)
	json_t *lock =
		json_pack("{s:s, s:I}", "Mode", w->is_compliance ? "compliance" : "governance",
			  "CreatedOn", (json_int_t)since);
	int r = lock ? 0 : -ENOMEM;

	if (w->expires_usec)
		n_days = (w->expires_usec - since + DAY_USEC - 1) / DAY_USEC;
	if (r == 0)
		r = jset_new(lock, "Days", json_integer(n_days));
	if (r == 0 && w->expires_usec)
		r = jset_new(lock, "Expires", json_integer(w->expires_usec));
	if (r == 0 && w->n_hours)
		r = jset_new(lock, "CoolOff", json_integer(w->n_hours));
	if (r == 0 && w->n_hours)
		r = jset_new(lock, "CoolOffExpires", json_integer(now + w->n_hours * HOUR_USEC));
	return r == 0 ? give(lock) : NULL;
}

int snapshot_lock(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *id = jstr(parameters, "SnapshotId");
	const struct doc *d = NULL;
	struct wish w = {0};
	int r = snapshot_get(c, id, &d, f);

	if (r == 0)
		r = wish_parse(parameters, &w, f);
	if (r == 0 && strcmp(jstr_or(d->json, "State", ""), "error") == 0)
		r = fault_set(f, FAULT_INCORRECT_STATE, "Snapshot '%s' is in the 'error' state.",
			      id);
	if (r == 0)
		r = check_compliance(d, &w, f);
	if (r < 0)
		return r;
	OWN(json_decref) json_t *json = doc_edit(d);

	r = json ? jset_new(json, "_Lock", lock_new(d, &w)) : -ENOMEM;
	if (r == 0)
		r = txn_replace(c->txn, d, give(json));
	if (r == 0)
		r = txn_commit(c->txn);
	if (r < 0)
		return r;
	log_info("snapshot locked", "SNAPSHOT_ID", id, "REQUEST_ID", c->ctx->request);
	*ret_reply = present(store_find(c->store, "snapshot", id));
	return *ret_reply ? 0 : -ENOMEM;
}

/* ---- unlock ---- */

int snapshot_unlock(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *d = NULL;
	int r = snapshot_get(c, jstr(parameters, "SnapshotId"), &d, f);
	const char *state = r == 0 ? state_of(d->json) : NULL;

	if (r < 0)
		return r;
	if (!state || strcmp(state, "expired") == 0)
		return fault_set(f, FAULT_INCORRECT_STATE, "The snapshot %s is not locked.", d->id);
	if (strcmp(state, "compliance") == 0)
		return fault_set(f, FAULT_OPERATION_NOT_PERMITTED,
				 "The snapshot %s is locked in compliance mode and cannot be "
				 "unlocked.",
				 d->id);
	OWN(json_decref) json_t *json = doc_edit(d);

	r = json ? jset(json, "_Lock", NULL) : -ENOMEM;
	if (r == 0)
		*ret_reply = json_pack("{s:s}", "SnapshotId", d->id);
	if (r == 0 && !*ret_reply)
		return -ENOMEM;
	log_info("snapshot unlocked", "SNAPSHOT_ID", d->id, "REQUEST_ID", c->ctx->request);
	return r < 0 ? r : txn_replace(c->txn, d, give(json));
}

/* ---- show ---- */

static int add_asked(const struct call *c, const json_t *ids, json_t *items, struct fault *f)
{
	size_t i;
	json_t *id;

	json_array_foreach (ids, i, id) {
		const struct doc *d = NULL;
		int r = snapshot_get(c, json_string_value(id), &d, f);

		if (r < 0)
			return r;
		if (state_of(d->json) && json_array_append_new(items, present(d)) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int add_all(const struct call *c, json_t *items)
{
	store_each (c->store, "snapshot", d)
		if (is_callers(c, d) && state_of(d->json) &&
		    json_array_append_new(items, present(d)) < 0)
			return -ENOMEM;
	return 0;
}

int snapshot_describe_locked(struct call *c, json_t *parameters, json_t **ret_reply,
			     struct fault *f)
{
	static const struct filter filters[] = {{"lock-state", "LockState"}, {NULL}};
	static const struct describe locked = {.result = "Snapshots",
					       .ids = "SnapshotIds",
					       .filters = filters,
					       .n_max_low = 5,
					       .n_max_high = 1000};
	const json_t *ids = json_object_get(parameters, "SnapshotIds");
	OWN(json_decref) json_t *items = json_array();
	int r = items ? 0 : -ENOMEM;

	if (r == 0)
		r = json_array_size(ids) ? add_asked(c, ids, items, f) : add_all(c, items);
	return r < 0 ? r : describe_list(c, &locked, items, parameters, ret_reply, f);
}
