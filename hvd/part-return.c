/*
 * What stord or netd has reserved for an instance and the instance does not know of is given back.
 *
 * stord reserves a volume before its row is written, and has it back after the row is gone: whatever
 * is cut off in between leaves a reservation without a row, and never a row without its volume. It
 * is found at hvd's next start (volumes_take_back). Where stord took the call and did not answer, or
 * is away, it is given back in the background: whoever asked was told that it is not done. Who asks
 * again waits for his turn (hold.h) and is not robbed: what the document has by then is left alone.
 *
 * netd tells of what it has begun, and then it is finished (instance_refresh); only what it has begun
 * for an instance that is gone is given back here.
 *
 * A daemon that was silent for too long may do later what it was asked: after it has said that there
 * is nothing to give back. So whenever there was no answer, and at hvd's start, what it has is
 * compared with what we know several times, less and less often.
 */
#include <errno.h>
#include <string.h>

#include "fiber.h"
#include "hold.h"
#include "interface.h"
#include "volume.h"

#define AGAIN_FIRST_USEC 500000ull
#define AGAIN_LAST_USEC	 30000000ull

typedef int (*give_back)(const struct context *ctx, const char *part_id, const char *instance_id);

static const struct doc *instance_find(const char *id)
{
	return store_find(daemon_get()->store, INSTANCE_KIND, id);
}

/* 0, also where the part's owner says that there is nothing to give back. */
static int ended(int r, const struct fault *f, const char *part_id, const char *instance_id)
{
	if (r == 0 || (f->status >= 400 && f->status < 500))
		return 0;
	log_warning(r, "a part stays reserved for an instance for now", "INSTANCE", instance_id,
		    "PART", part_id, "CODE", f->code);
	return r;
}

/* ---- in the background ---- */

struct returning {
	struct context ctx;
	char part_id[ID_MAX], instance_id[ID_MAX];
	give_back run;
};

static void return_run(void *arg)
{
	OWN(free) struct returning *p = arg;

	for (uint64_t wait = AGAIN_FIRST_USEC;;
	     wait = wait * 2 < AGAIN_LAST_USEC ? wait * 2 : AGAIN_LAST_USEC) {
		OWN(hold_leave) struct hold *h = hold_enter(p->part_id);

		if (h && p->run(&p->ctx, p->part_id, p->instance_id) == 0)
			return;
		hold_leave(give(h));
		(void)fiber_sleep(wait); /* a shorter wait is no harm */
	}
}

static void return_later(const struct context *ctx, const char *part_id, const char *instance_id,
			 give_back run)
{
	OWN(free) struct returning *p = calloc(1, sizeof(*p));

	if (!p)
		return; /* at the next start */
	*p = (struct returning){.ctx = *ctx, .run = run};
	snprintf(p->part_id, sizeof(p->part_id), "%s", part_id);
	snprintf(p->instance_id, sizeof(p->instance_id), "%s", instance_id);
	if (fiber_spawn(return_run, p) == 0)
		(void)give(p);
}

/* ---- volumes ---- */

int volume_return(const struct context *ctx, const char *volume_id, const char *instance_id)
{
	const struct doc *d = instance_find(instance_id);
	struct fault fault = {0};

	if (d && volume_mapping(d->json, volume_id))
		return 0;
	log_info("a volume is given back that an instance was to have", "INSTANCE", instance_id,
		 "VOLUME_ID", volume_id);
	int r = parts_call(
		"stord", ctx, "ec2.DetachVolume",
		json_pack("{s:s, s:s}", "VolumeId", volume_id, "InstanceId", instance_id), &fault);
	return ended(r, &fault, volume_id, instance_id);
}

void volume_return_later(const struct context *ctx, const char *volume_id, const char *instance_id)
{
	return_later(ctx, volume_id, instance_id, volume_return);
	parts_doubt();
}

void volumes_take_back(const struct context *ctx, const json_t *volumes)
{
	json_t *volume, *attachment;
	size_t i, k;

	json_array_foreach (volumes, i, volume)
		json_array_foreach (json_object_get(volume, "Attachments"), k, attachment) {
			const char *id = jstr_or(volume, "VolumeId", ""),
				   *instance = jstr_or(attachment, "InstanceId", "");
			const struct doc *d = instance_find(instance);

			if (d && !volume_mapping(d->json, id))
				return_later(ctx, id, instance, volume_return);
		}
}

/* ---- interfaces ---- */

static int has_interface(const json_t *interfaces, const char *id)
{
	json_t *interface;
	size_t i;

	json_array_foreach (interfaces, i, interface)
		if (strcmp(jstr_or(interface, "NetworkInterfaceId", ""), id) == 0)
			return 1;
	return 0;
}

/* What has come into the document meanwhile (interfaces_settle() finishes what it finds) stays. */
static int interface_return(const struct context *ctx, const char *id, const char *instance_id)
{
	const struct doc *d = instance_find(instance_id);
	OWN(json_decref) json_t *list = NULL;
	struct fault fault = {0};

	if (d && has_interface(json_object_get(d->json, "NetworkInterfaces"), id))
		return 0;
	/* netd is not asked whose it is when it ends an attachment. */
	int r = parts_interfaces(ctx, instance_id, &list, &fault);
	if (r == 0 && has_interface(list, id))
		r = parts_call("netd", ctx, "ec2.DetachNetworkInterface",
			       json_pack("{s:s}", "NetworkInterfaceId", id), &fault);
	return ended(r, &fault, id, instance_id);
}

void interface_return_later(const struct context *ctx, const char *id, const char *instance_id)
{
	return_later(ctx, id, instance_id, interface_return);
	parts_doubt();
}

/* ---- what a daemon did late ---- */

#define SECOND UINT64_C(1000000)

static const uint64_t looks_usec[] = {5 * SECOND, 25 * SECOND, 120 * SECOND, 600 * SECOND,
				      3600 * SECOND};
#define N_LOOKS (sizeof(looks_usec) / sizeof(looks_usec[0]))

static struct {
	sd_event_source *timer;
	size_t n_done;
	int is_looking;
} doubt;

static int on_time(sd_event_source *source, uint64_t usec, void *userdata);

static void arm(void)
{
	if (doubt.is_looking || doubt.n_done == N_LOOKS)
		return;
	doubt.timer = sd_event_source_disable_unref(doubt.timer);
	/* out of memory: after the next doubt */
	(void)sd_event_add_time(fiber_loop(), &doubt.timer, CLOCK_MONOTONIC,
				now_usec() + looks_usec[doubt.n_done], SECOND / 10, on_time, NULL);
}

static void look_run(void *arg)
{
	(void)arg;
	parts_sweep_unknown(daemon_get());
	doubt.is_looking = 0;
	arm();
}

static int look(void)
{
	doubt.is_looking = 1;
	int r = fiber_spawn(look_run, NULL);
	if (r < 0)
		doubt.is_looking = 0;
	return r;
}

static int on_time(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source, (void)usec, (void)userdata;
	doubt.n_done++;
	if (look() < 0)
		arm(); /* out of memory: the next time */
	return 0;
}

int parts_doubts_begin(void)
{
	doubt.n_done = 0;
	return look();
}

void parts_doubt(void)
{
	doubt.n_done = 0;
	arm();
}

void parts_doubts_end(void)
{
	doubt.n_done = N_LOOKS;
	doubt.timer = sd_event_source_disable_unref(doubt.timer);
}
