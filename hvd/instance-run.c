/*
 * RunInstances: answers as soon as the instances are durable; their guests come up behind the
 * answer.
 *
 * Ids come first; then each instance's interfaces and volumes are born attached to its id (several
 * instances at a time); then all instances become durable in one commit. Whatever fails before
 * that is undone, and if it is we who die, the next start finds the parts by the ids that never
 * became instances.
 */
#include <errno.h>
#include <string.h>

#include "instance-rooms.h"

#define MAKERS_MAX 8 /* instances made at a time: more would only queue at netd and stord */

struct making {
	char id[ID_MAX];
	json_t *instance;
	int result;
	struct fault fault;
};

/* All of a launch, shared by the fibers that make it. */
struct batch {
	const struct launch *launch;
	const struct context *ctx;
	struct making *makings;
	size_t n, n_begun, n_fibers;
	int64_t n_promised;
	struct fiber *waiting;
};

static void batch_clear(struct batch *b)
{
	for (size_t i = 0; i < b->n; i++)
		json_decref(b->makings[i].instance);
	free(b->makings);
	if (b->n_promised)
		launch_promise(b->launch, -b->n_promised);
}

/* What is an instance's own from its first moment. */
static json_t *instance_new(const struct launch *l, const struct context *ctx, const char *id,
			    const char *reservation)
{
	OWN(json_decref) json_t *i = json_deep_copy(l->instance);
	int r = i ? jset(i, "InstanceId", id) : -ENOMEM;

	if (r == 0)
		r = jset(i, "_ReservationId", reservation);
	if (r == 0)
		r = jset(i, "_OwnerId", ctx->account);
	if (r == 0)
		r = jset_new(i, "State", instance_state_json(INSTANCE_PENDING));
	if (r == 0)
		r = jset_new(i, "LaunchTime", jtime_now());
	if (r == 0)
		r = jset_new(i, "UsageOperationUpdateTime", jtime_now());
	return r == 0 ? give(i) : NULL;
}

static void make_run(void *arg)
{
	struct batch *b = arg;

	while (b->n_begun < b->n) {
		struct making *m = &b->makings[b->n_begun++];
		m->result = parts_make(b->ctx, b->launch, m->instance, &m->fault);
	}
	if (--b->n_fibers == 0)
		fiber_wake(b->waiting);
}

/* (fiber) Makes the parts of all. */
static void batch_make(struct batch *b)
{
	size_t n_fibers = b->n < MAKERS_MAX ? b->n : MAKERS_MAX;

	b->waiting = fiber_self();
	b->n_fibers = 1; /* ours: the wake must not come before the last is spawned */
	for (size_t i = 1; i < n_fibers; i++) {
		b->n_fibers++;
		if (fiber_spawn(make_run, b) < 0)
			b->n_fibers--; /* fewer will do */
	}
	make_run(b);
	while (b->n_fibers > 0) /* they have our stack in hands */
		fiber_wait();
}

static int batch_new(struct batch *b, const char *reservation)
{
	b->n_promised = b->launch->n_max;
	launch_promise(b->launch, b->n_promised);
	b->makings = calloc((size_t)b->launch->n_max, sizeof(*b->makings));
	if (!b->makings)
		return -ENOMEM;
	for (; b->n < (size_t)b->launch->n_max; b->n++) {
		struct making *m = &b->makings[b->n];
		id_new("i", m->id);
		m->instance = instance_new(b->launch, b->ctx, m->id, reservation);
		if (!m->instance)
			return -ENOMEM;
	}
	for (size_t i = 0; i < b->n; i++)
		parts_claim(b->ctx, b->makings[i].id);
	return 0;
}

/* Undoes what failed, and all of it when too few came out. How many are left; -errno with the
 * reason of the first that failed. */
static int batch_settle(struct batch *b, struct fault *f)
{
	const struct making *failed = NULL;
	int64_t n = 0;

	for (size_t i = 0; i < b->n; i++) {
		n += b->makings[i].result == 0;
		if (b->makings[i].result < 0 && !failed)
			failed = &b->makings[i];
	}
	int is_kept = n >= b->launch->n_min;
	for (size_t i = 0; i < b->n; i++)
		if (!is_kept || b->makings[i].result < 0) {
			if (b->makings[i].result == 0)
				b->makings[i].result = -ECANCELED;
			else if (b->makings[i].fault.status >= 500)
				parts_doubt(); /* what was asked last may be made yet */
			parts_sweep_later(b->ctx, b->makings[i].id);
		}
	if (is_kept)
		return (int)n;
	if (failed)
		*f = failed->fault;
	return failed ? failed->result : -EIO;
}

/* Puts the instances into the transaction and the reservation into the answer. */
static int batch_put(struct call *c, struct batch *b, const char *reservation, json_t **ret_reply)
{
	OWN(json_decref) json_t *list = json_array();
	int index = 0;

	for (size_t i = 0; i < b->n; i++) {
		struct making *m = &b->makings[i];
		if (m->result < 0)
			continue;
		if (jset_new(m->instance, "AmiLaunchIndex", json_integer(index++)) < 0)
			return -ENOMEM;
		int r = txn_put(c->txn, INSTANCE_KIND, m->id, c->ctx->account, c->ctx->region,
				json_incref(m->instance));
		if (r < 0)
			return r;
		struct doc shown = {.json = m->instance};
		if (json_array_append_new(list, instance_present(c, &shown)) < 0)
			return -ENOMEM;
	}
	*ret_reply = json_pack("{s:s, s:s, s:[], s:O}", "ReservationId", reservation, "OwnerId",
			       c->ctx->account, "Groups", "Instances", list);
	return *ret_reply ? 0 : -ENOMEM;
}

int instances_run(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	__attribute__((cleanup(launch_clear))) struct launch launch = {0};
	__attribute__((cleanup(batch_clear))) struct batch batch = {.launch = &launch,
								    .ctx = c->ctx};
	char reservation[ID_MAX];
	int r = launch_read(c, parameters, &launch, f);

	if (r < 0)
		return r;
	id_new("r", reservation);
	if ((r = batch_new(&batch, reservation)) < 0)
		return r;
	batch_make(&batch);
	if ((r = batch_settle(&batch, f)) < 0)
		return r;
	r = batch_put(c, &batch, reservation, ret_reply);
	if (r == 0)
		r = image_note_launch(c->txn, jstr_or(parameters, "ImageId", ""));
	if (r < 0)
		for (size_t i = 0; i < batch.n; i++)
			parts_sweep_later(c->ctx, batch.makings[i].id);
	for (size_t i = 0; r == 0 && i < batch.n; i++)
		if (batch.makings[i].result == 0) {
			log_info("instance launched", "INSTANCE", batch.makings[i].id, "REQUEST_ID",
				 c->ctx->request, "TYPE", launch.type->name);
			instance_kick(batch.makings[i].id);
		}
	return r;
}
