/* Layers of guests' disks: what stord asks of hvd. */
#include "layers.h"

#include <errno.h>
#include <string.h>

#include "domain.h"
#include "instance-rooms.h"
#include "virt-device.h"
#include "virt-layer.h"
#include "virt-secret.h"

#define JOB_LOOK_FIRST_USEC 10000
#define JOB_LOOK_LAST_USEC  500000

/* ---- paths that are on their way ---- */

struct instance_paths {
	struct instance_paths *next;
	struct fiber_lock lock;
	unsigned n_users;
	uint64_t epoch;
	char id[ID_MAX];
};
static struct instance_paths *all;

struct paths {
	struct instance_paths *of;
	uint64_t epoch;
	int is_entered;
};

struct paths *paths_begin(const char *instance_id)
{
	OWN(free) struct paths *p = calloc(1, sizeof *p);
	struct instance_paths *of = all;

	while (of && strcmp(of->id, instance_id) != 0)
		of = of->next;
	if (!of && p && (of = calloc(1, sizeof *of))) {
		snprintf(of->id, sizeof of->id, "%s", instance_id);
		of->next = all;
		all = of;
	}
	if (!p || !of)
		return NULL;
	of->n_users++;
	*p = (struct paths){.of = of, .epoch = of->epoch};
	return give(p);
}

int paths_enter(struct paths *p)
{
	fiber_lock(&p->of->lock);
	p->is_entered = p->epoch == p->of->epoch;
	if (!p->is_entered)
		fiber_unlock(&p->of->lock);
	return p->is_entered;
}

void paths_again(struct paths *p)
{
	if (p->is_entered)
		fiber_unlock(&p->of->lock);
	p->is_entered = 0;
	p->epoch = p->of->epoch;
}

void paths_hold(struct paths *p)
{
	fiber_lock(&p->of->lock);
	p->is_entered = 1;
}

void paths_expire(struct paths *p)
{
	p->of->epoch++;
}

void paths_end(struct paths *p)
{
	struct instance_paths **slot = &all, *of = p->of;

	paths_again(p);
	free(p);
	if (--of->n_users > 0)
		return;
	while (*slot != of)
		slot = &(*slot)->next;
	*slot = of->next;
	free(of);
}

/* ---- a question of stord's ---- */

/* "vol-0ab…" and a disk's serial "vol0ab…". */
static int is_serial_of(const char *serial, const char *volume_id)
{
	const char *dash = strchr(volume_id, '-');

	return dash && strncmp(serial, volume_id, (size_t)(dash - volume_id)) == 0 &&
	       strcmp(serial + (dash - volume_id), dash + 1) == 0;
}

static const struct virt_device *find_disk(const struct virt_devices *d, const char *volume_id)
{
	for (size_t i = 0; i < d->n; i++)
		if (d->list[i].kind == VIRT_DISK && is_serial_of(d->list[i].serial, volume_id))
			return &d->list[i];
	return NULL;
}

static int is_away(int error, struct fault *f)
{
	return fault_set(f, error == -ENOTCONN ? FAULT_SERVICE_UNAVAILABLE : FAULT_INTERNAL_ERROR,
			 "libvirt cannot say what the instance has");
}

static int need(const json_t *parameters, const char *name, const char **ret_value, struct fault *f)
{
	*ret_value = jstr(parameters, name);
	return *ret_value ? 0
			  : fault_set(f, FAULT_MISSING_PARAMETER,
				      "The request must contain the parameter %s", name);
}

/* ---- SwitchLayers ---- */

/* The disks that are to be switched and are not yet. */
struct switching {
	struct virt_devices devices;
	struct virt_switch disks[DOMAIN_DISKS_MAX];
	char secrets[DOMAIN_DISKS_MAX][DOMAIN_UUID_BYTES]; /* of those that are encrypted */
	size_t n_disks, n_to_switch, n_live, n_absent;
};

static void switching_clear(struct switching *s)
{
	virt_devices_clear(&s->devices);
}

static const json_t *wanted(const json_t *disks, const char *serial)
{
	size_t i;
	json_t *disk;

	json_array_foreach (disks, i, disk)
		if (is_serial_of(serial, jstr_or(disk, "VolumeId", "")))
			return disk;
	return NULL;
}

/* (fiber) libvirt knows what opens the encrypted ones; it may have been started anew since. */
static int switching_secrets(const json_t *disks, char ret_error[static VIRT_ERROR_BYTES])
{
	size_t i;
	json_t *disk;
	int r = 0;

	json_array_foreach (disks, i, disk)
		if (r == 0 && jstr(disk, "Path") && jstr(disk, "_Passphrase"))
			r = virt_secret_set(hvd_get()->virt, jstr_or(disk, "VolumeId", ""),
					    jstr(disk, "_Passphrase"), ret_error);
	return r;
}

/* (fiber) What the guest has now. */
static int switching_read(struct switching *s, const char *id, const json_t *disks)
{
	struct virt_devices devices = {0};
	int r = virt_devices_read(hvd_get()->virt, id, &devices);

	switching_clear(s);
	*s = (struct switching){.devices = devices};
	for (size_t i = 0; i < devices.n; i++) {
		const struct virt_device *d = &devices.list[i];

		if (d->kind != VIRT_DISK || s->n_disks == DOMAIN_DISKS_MAX)
			continue;
		const json_t *asked = wanted(disks, d->serial);
		const char *path = jstr(asked, "Path");
		char *secret = s->secrets[s->n_disks];

		if (path && strcmp(path, d->source) == 0)
			path = NULL; /* it is there already */
		if (path && jstr(asked, "_Passphrase"))
			domain_uuid(jstr_or(asked, "VolumeId", ""), secret);
		s->disks[s->n_disks++] = (struct virt_switch){
			.target = d->target, .path = path, .secret = *secret ? secret : NULL};
		s->n_to_switch += path != NULL;
		s->n_live += asked != NULL;
	}
	s->n_absent = json_array_size(disks) - s->n_live;
	return r == -ENOENT ? 0 : r;
}

/* (fiber) libvirt does not switch a disk with a job on it; a merge can be begun again. */
static void stop_jobs(const char *id, const struct switching *s)
{
	for (size_t i = 0; i < s->n_disks; i++)
		if (s->disks[i].path &&
		    virt_layer_job(hvd_get()->virt, id, s->disks[i].target) == 1)
			/* the switch says why not */
			(void)virt_layer_job_stop(hvd_get()->virt, id, s->disks[i].target);
}

/* (fiber) What the guest has, and has not: a disk that is not there is not about to come either, in
 * the file it was plugged in with. */
static int switching_look(struct switching *s, const char *id, const json_t *disks, struct fault *f)
{
	int r = switching_read(s, id, disks);

	if (r == 0 && s->devices.n > 0 && s->n_absent > 0) {
		r = instance_is_quiet(id);
		if (r == -EINPROGRESS)
			return fault_set(f, FAULT_SERVICE_UNAVAILABLE,
					 "libvirt is busy with the instance");
		if (r >= 0)
			r = switching_read(s, id, disks);
	}
	return r < 0 ? is_away(r, f) : 0;
}

static int do_switch(const char *id, const json_t *disks, struct switching *s, struct fault *f)
{
	char error[VIRT_ERROR_BYTES];
	int r = switching_look(s, id, disks, f);

	if (r < 0)
		return r;
	if (s->n_to_switch == 0)
		return 0;
	stop_jobs(id, s);
	r = switching_secrets(disks, error);
	if (r == 0)
		r = virt_layers_switch(hvd_get()->virt, id, s->disks, s->n_disks, error);
	if (r == 0)
		return 0;
	log_warning(r, "a guest's disks are not switched", "INSTANCE", id, "REASON", error);
	/* libvirt is at something else of this guest, which may be what an earlier hvd had asked it
	 * for, this switch; or its QEMU has died, and nobody knows what it did last: no definite
	 * no. */
	int is_unknown =
		r == -EINPROGRESS || (r == -EIO && virt_has_refused(hvd_get()->virt, id) < 0);

	/* Did it happen all the same? */
	r = switching_read(s, id, disks);
	if (r < 0)
		return is_away(r, f);
	if (s->n_to_switch > 0 && is_unknown)
		return fault_set(f, FAULT_SERVICE_UNAVAILABLE, "%s", error);
	return s->n_to_switch == 0 ? 0 : fault_set(f, FAULT_INCORRECT_STATE, "%s", error);
}

int layers_switch(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	__attribute__((cleanup(switching_clear))) struct switching s = {0};
	const json_t *disks = json_object_get(parameters, "Disks");
	const char *id;
	int r = need(parameters, "InstanceId", &id, f);

	if (r < 0)
		return r;
	OWN(paths_end) struct paths *p = paths_begin(id);

	if (!p)
		return -ENOMEM;
	fiber_lock(&p->of->lock);
	r = call_check_waited(c, f);
	if (r == 0)
		r = do_switch(id, disks, &s, f);
	/* Whoever was told a path for a disk that the guest has not got must not use it any more.
	 */
	if (r == 0 && s.n_absent > 0)
		p->of->epoch++;
	fiber_unlock(&p->of->lock);
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:b}", "Live", s.n_live > 0);
	return *ret_reply ? 0 : -ENOMEM;
}

/* ---- merging ---- */

/* (fiber) Until the disk has no job. What became of it the files tell. */
static int wait_job(const char *id, const char *target, struct fault *f)
{
	useconds_t wait = JOB_LOOK_FIRST_USEC;
	int r;

	while ((r = virt_layer_job(hvd_get()->virt, id, target)) == 1) {
		(void)fiber_sleep(wait); /* a shorter wait is no harm */
		wait = wait * 2 < JOB_LOOK_LAST_USEC ? wait * 2 : JOB_LOOK_LAST_USEC;
	}
	return r == 0 || r == -ENOENT ? 0 : is_away(r, f);
}

/* (fiber) The guest's disk that is the volume, in `ret_devices`. */
static int find_disk_of(const json_t *parameters, struct virt_devices *ret_devices,
			const struct virt_device **ret_disk, struct fault *f)
{
	const char *id = NULL, *volume_id = NULL;
	int r = need(parameters, "InstanceId", &id, f);

	if (r == 0)
		r = need(parameters, "VolumeId", &volume_id, f);
	if (r < 0)
		return r;
	r = virt_devices_read(hvd_get()->virt, id, ret_devices);
	if (r < 0 && r != -ENOENT)
		return is_away(r, f);
	*ret_disk = find_disk(ret_devices, volume_id);
	return *ret_disk
		       ? 0
		       : fault_set(f, FAULT_INCORRECT_STATE, "%s has no running guest", volume_id);
}

/* (fiber) The target of the volume's disk, and whose it is. */
static int find_target(const json_t *parameters, const char **ret_id, char ret_target[static 16],
		       struct fault *f)
{
	OWN(virt_devices_clear) struct virt_devices devices = {0};
	const struct virt_device *disk;
	int r = find_disk_of(parameters, &devices, &disk, f);

	if (r < 0)
		return r;
	*ret_id = jstr(parameters, "InstanceId");
	snprintf(ret_target, 16, "%s", disk->target);
	return 0;
}

/* What is merged in a guest. */
struct merging {
	const char *id, *top, *base; /* base NULL: what is pulled leaves nothing under it */
	int is_commit;
};

/* (fiber) What is pulled goes into the layer that is written, and a snapshot may have changed which
 * one that is since this was asked for. */
static int start_job_locked(const json_t *parameters, const struct merging *m, struct fault *f)
{
	OWN(virt_devices_clear) struct virt_devices devices = {0};
	char error[VIRT_ERROR_BYTES] = "";
	const struct virt_device *disk;
	int r = find_disk_of(parameters, &devices, &disk, f);

	if (r < 0)
		return r;
	if (!m->is_commit && strcmp(disk->source, m->top) != 0)
		return fault_set(f, FAULT_INCORRECT_STATE, "the guest does not write %s", m->top);
	r = m->is_commit ? virt_layer_commit(hvd_get()->virt, m->id, disk->target, m->top, m->base,
					     error)
			 : virt_layer_pull(hvd_get()->virt, m->id, disk->target, m->base, error);
	return r < 0 ? fault_set(f, FAULT_INCORRECT_STATE, "%s", error) : 0;
}

/* (fiber) The job begins; not while the disks are being switched, which a job would hinder. */
static int start_job(const struct call *c, const json_t *parameters, const struct merging *m,
		     struct fault *f)
{
	OWN(paths_end) struct paths *p = paths_begin(m->id);

	if (!p)
		return -ENOMEM;
	fiber_lock(&p->of->lock);
	int r = call_check_waited(c, f);

	if (r == 0)
		r = start_job_locked(parameters, m, f);
	fiber_unlock(&p->of->lock);
	return r;
}

static int merge(const struct call *c, const json_t *parameters, int is_commit, struct fault *f)
{
	struct merging m = {.top = jstr(parameters, "Top"),
			    .base = jstr(parameters, "Base"),
			    .is_commit = is_commit};
	char target[16];
	int r = find_target(parameters, &m.id, target, f);

	if (r < 0)
		return r;
	if (!m.top || (is_commit && !m.base))
		return fault_set(f, FAULT_MISSING_PARAMETER, "Top and Base are needed");
	/* One that an earlier hvd or stord began goes first. */
	if ((r = wait_job(m.id, target, f)) < 0)
		return r;
	r = start_job(c, parameters, &m, f);
	return r == 0 ? wait_job(m.id, target, f) : r;
}

int layer_commit(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	(void)ret_reply;
	return merge(c, parameters, 1, f);
}

int layers_pull(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	(void)ret_reply;
	return merge(c, parameters, 0, f);
}

/* Once more with the device's own name: the monitor knows no targets. */
static int find_alias(const char *id, const char *target, char ret_alias[static 48],
		      struct fault *f)
{
	OWN(virt_devices_clear) struct virt_devices devices = {0};
	int r = virt_devices_read(hvd_get()->virt, id, &devices);
	const struct virt_device *d = r == 0 ? virt_device_find(&devices, VIRT_DISK, target) : NULL;

	if (!d)
		return fault_set(f, FAULT_INCORRECT_STATE, "%s has no disk %s", id, target);
	snprintf(ret_alias, 48, "%s", d->alias);
	return 0;
}

int volume_flush(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *id = NULL;
	char target[16], alias[48], error[VIRT_ERROR_BYTES];
	int r = find_target(parameters, &id, target, f);

	(void)c, (void)ret_reply;
	if (r == 0)
		r = wait_job(id, target, f);
	if (r == 0)
		r = find_alias(id, target, alias, f);
	if (r < 0)
		return r;
	r = virt_layer_flush(hvd_get()->virt, id, alias, error);
	return r < 0 ? fault_set(f, FAULT_INTERNAL_ERROR, "%s", error) : 0;
}

int layer_merge_stop(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *id = NULL;
	char target[16];
	int r = find_target(parameters, &id, target, f);

	(void)c, (void)ret_reply;
	if (r < 0)
		return r;
	r = virt_layer_job_stop(hvd_get()->virt, id, target);
	return r < 0 && r != -ENOENT ? is_away(r, f) : 0;
}
