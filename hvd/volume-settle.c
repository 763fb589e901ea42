/* A guest's disks, stord's attachments and the document's rows are made to agree. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "config.h"
#include "domain.h"
#include "hold.h"
#include "layers.h"
#include "virt-cut.h"
#include "virt-secret.h"
#include "volume.h"

#define UNPLUG_WAIT_USEC  2000000ull /* the instance's fiber does nothing else meanwhile */
#define UNPLUG_AGAIN_MSEC 10000	     /* the event comes first, as a rule */
#define BOOT_AGAIN_MSEC	  500
#define BOOT_USEC	  60000000ll

/* One round. */
struct settle {
	struct live *live;
	struct context ctx;
	struct virt_devices devices; /* of the running domain, when the round began */
	uint64_t targets;	     /* that are taken by them or by what was plugged since */
	int has_domain, is_starting; /* about to have one: it will have the disks from the start */
	struct fault fault;
};

static const struct doc *find(const struct live *l)
{
	return store_find(daemon_get()->store, INSTANCE_KIND, l->id);
}

json_t *volume_mapping(const json_t *instance, const char *volume_id)
{
	json_t *mapping;
	size_t i;

	json_array_foreach (json_object_get(instance, "BlockDeviceMappings"), i, mapping) {
		const char *its = jpath_str(mapping, "Ebs.VolumeId");
		if (its && strcmp(its, volume_id) == 0)
			return mapping;
	}
	return NULL;
}

json_t *volume_attachment(const json_t *volume, const char *instance_id)
{
	json_t *attachment;
	size_t i;

	json_array_foreach (json_object_get(volume, "Attachments"), i, attachment)
		if (strcmp(jstr_or(attachment, "InstanceId", ""), instance_id) == 0)
			return attachment;
	return NULL;
}

int volumes_are_settled(const json_t *instance)
{
	json_t *mapping;
	size_t i;

	json_array_foreach (json_object_get(instance, "BlockDeviceMappings"), i, mapping) {
		const char *status = jpath_str(mapping, "Ebs.Status");
		if (status && strcmp(status, "attached") != 0)
			return 0;
	}
	return 1;
}

/* ---- the document's row ---- */

/* The row's new status; NULL: it goes. The row may have gone meanwhile. */
static int set_row(const struct settle *s, const char *volume_id, const char *status)
{
	const struct doc *d = find(s->live);
	OWN(json_decref) json_t *instance = d ? doc_edit(d) : NULL;
	json_t *rows = json_object_get(instance, "BlockDeviceMappings"),
	       *row = volume_mapping(instance, volume_id), *other;
	size_t i;

	if (!d || !row)
		return d && !instance ? -ENOMEM : 0;
	if (status) {
		const char *before = jpath_str(row, "Ebs.Status");
		/* Asked to go while it was being plugged: that is what counts. */
		if (before && strcmp(before, "attaching") != 0)
			return 0;
		if (jset(json_object_get(row, "Ebs"), "Status", status) < 0)
			return -ENOMEM;
		return instance_commit(d, give(instance));
	}
	json_array_foreach (rows, i, other)
		if (other == row && json_array_remove(rows, i) < 0)
			return -ENOMEM;
	return instance_commit(d, give(instance));
}

/* stord does not have (or give) it: whatever is left of it here goes. */
static int is_refused(const struct settle *s)
{
	return s->fault.status >= 400 && s->fault.status < 500;
}

static int tell_stord(struct settle *s, const char *method, const char *volume_id, json_t *more,
		      json_t **ret_reply)
{
	OWN(json_decref)
	json_t *ask = json_pack("{s:s, s:s}", "VolumeId", volume_id, "InstanceId", s->live->id);
	OWN(json_decref) json_t *extra = more;
	OWN(json_decref) json_t *reply = NULL;

	s->fault = (struct fault){0};
	if (!ask || (extra && json_object_update(ask, extra) < 0))
		return -ENOMEM;
	int r = rpc_call(daemon_peer("stord"), &s->ctx, method, ask, NULL, &reply, NULL, &s->fault);
	if (r == 0 && ret_reply)
		*ret_reply = give(reply);
	return r;
}

/* The row ends, and stord's attachment with it: in this order, so that a volume that is shown to be
 * available can be attached to the same instance again. */
static int forget(struct settle *s, const char *volume_id)
{
	OWN(hold_leave) struct hold *h = hold_enter(volume_id);
	int r = h ? set_row(s, volume_id, NULL) : -ENOMEM;

	if (r == 0 && volume_return(&s->ctx, volume_id, s->live->id) < 0)
		volume_return_later(&s->ctx, volume_id, s->live->id);
	return r;
}

/* ---- plugging ---- */

static int plug(struct settle *s, const char *volume_id, const char *device, const json_t *reply)
{
	const struct hvd *h = hvd_get();
	OWN(free) char *xml = NULL;
	char target[8], error[VIRT_ERROR_BYTES] = "";
	struct domain_disk disk = {.volume_id = volume_id, .target = target};

	domain_disk_read(&disk, reply);
	int r = disk.path ? domain_target(device, &s->targets, target) : -EPROTO;
	if (r == 0 && disk.passphrase)
		r = virt_secret_set(h->virt, volume_id, disk.passphrase, error);
	if (r == 0)
		r = domain_disk_xml(&disk, config_string(h->daemon->config, "Compute", "DiskCache"),
				    &xml);
	if (r == 0)
		r = virt_device_attach(h->virt, s->live->id, xml, error);
	if (r < 0 && r != -ENOTCONN && r != -ENOENT)
		log_error(r, "a volume cannot be plugged into its guest", "INSTANCE", s->live->id,
			  "VOLUME_ID", volume_id, "REASON", error);
	return r;
}

/* stord's word for the path, and the disk plugged while that holds (layers.h). */
static int reserve_and_plug(struct settle *s, const char *volume_id, const char *device,
			    int is_live)
{
	OWN(paths_end) struct paths *paths = paths_begin(s->live->id);

	if (!paths)
		return -ENOMEM;
	for (;;) {
		OWN(json_decref) json_t *reply = NULL;
		int r = tell_stord(s, "ec2.AttachVolume", volume_id,
				   json_pack("{s:s, s:b}", "Device", device, "_Begin", 1), &reply);
		if (r < 0 || !s->has_domain || is_live)
			return r;
		if (paths_enter(paths))
			return plug(s, volume_id, device, reply);
		paths_again(paths);
	}
}

static int attach_one(struct settle *s, const char *volume_id, const char *device, int is_attached)
{
	int is_live = volume_live_disk(&s->devices, volume_id) != NULL;

	if ((is_attached && (is_live || !s->has_domain)) || s->is_starting)
		return 0;
	int r = reserve_and_plug(s, volume_id, device, is_live);
	if (r < 0 && is_refused(s))
		log_warning(r, "a volume is not to be had", "INSTANCE", s->live->id, "VOLUME_ID",
			    volume_id, "CODE", s->fault.code);
	if (r == -EIO && !s->fault.status) { /* libvirt's words, which need not be QEMU's */
		int was = virt_has_refused(hvd_get()->virt, s->live->id);
		r = was == 1 ? r : was == 0 ? -ENOENT : was;
	}
	if (r == -ENOENT &&
	    !is_refused(s)) /* the guest has just ended: its next start has the disk */
		return 0;
	/* What may pass is tried again, with targets read anew; what may not is taken back. */
	if (r < 0 && (virt_may_pass(r) || r == -EEXIST || s->fault.status >= 500))
		return r;
	if (r < 0)
		return is_attached ? 0 : forget(s, volume_id);
	if ((r = tell_stord(s, "ec2.AttachVolume", volume_id, json_pack("{s:s}", "Device", device),
			    NULL)) < 0)
		return r;
	log_info("volume attached", "INSTANCE", s->live->id, "VOLUME_ID", volume_id);
	return set_row(s, volume_id, "attached");
}

/* A guest that is still booting does not hear the request, and QEMU makes it only once. */
static int is_booting(const struct settle *s)
{
	const struct doc *d = find(s->live);
	int64_t since = d ? jtime_parse(jstr_or(d->json, "LaunchTime", "")) : -1;

	return d && !json_object_get(d->json, "_SeenAlive") && since >= 0 &&
	       (int64_t)time(NULL) * 1000000 < since + BOOT_USEC;
}

/* By force, after it was asked: AWS promises that the volume is free, not that the guest's last
 * writes are in it. */
static int cut_off(struct settle *s, const char *volume_id, const struct virt_device *disk,
		   char error[static VIRT_ERROR_BYTES])
{
	OWN(paths_end) struct paths *paths = paths_begin(s->live->id);

	if (!paths)
		return -ENOMEM;
	paths_hold(paths); /* no layer is put on it meanwhile */
	int r = virt_disk_cut(hvd_get()->virt, s->live->id, disk->target, error);

	if (r == 0)
		log_warning(0, "a volume is cut off: its guest did not let go of it", "INSTANCE",
			    s->live->id, "VOLUME_ID", volume_id);
	return r == -ENOENT ? 0 : r; /* it has gone meanwhile */
}

static int detach_one(struct settle *s, const char *volume_id, int is_forced)
{
	const struct virt_device *disk = volume_live_disk(&s->devices, volume_id);
	char error[VIRT_ERROR_BYTES];
	int r = 0;

	if (disk && !is_forced && is_booting(s))
		return BOOT_AGAIN_MSEC;
	if (disk)
		r = virt_device_detach(hvd_get()->virt, s->live->id, VIRT_DISK, disk->target,
				       UNPLUG_WAIT_USEC, error);
	if (is_forced && (r == -ETIMEDOUT || r == -EBUSY))
		r = cut_off(s, volume_id, disk, error);
	if (r == -ETIMEDOUT || r == -EBUSY)
		return UNPLUG_AGAIN_MSEC;
	if (r < 0) {
		if (r != -ENOTCONN)
			log_warning(r, "a volume cannot be pulled out of its guest", "INSTANCE",
				    s->live->id, "VOLUME_ID", volume_id, "REASON", error);
		return r;
	}
	if (hvd_get()->virt) /* it stays in memory at worst */
		(void)virt_secret_forget(hvd_get()->virt, volume_id);
	if ((r = forget(s, volume_id)) == 0)
		log_info("volume detached", "INSTANCE", s->live->id, "VOLUME_ID", volume_id);
	return r;
}

/* ---- the round ---- */

static int settle_rows(struct settle *s, const json_t *rows)
{
	int msec = 0, worst = 0;
	json_t *row;
	size_t i;

	json_array_foreach (rows, i, row) {
		const char *id = jpath_str(row, "Ebs.VolumeId"),
			   *status = jpath_str(row, "Ebs.Status");
		int r = !id || !status ? 0
			: strcmp(status, "detaching") == 0
				? detach_one(s, id, jbool(json_object_get(row, "Ebs"), "_Force", 0))
				: attach_one(s, id, jstr_or(row, "DeviceName", ""),
					     strcmp(status, "attached") == 0);
		if (r < 0)
			worst = r;
		else if (r > 0 && (!msec || r < msec))
			msec = r;
	}
	return worst < 0 ? worst : msec;
}

static int read_devices(struct settle *s)
{
	int r = virt_devices_read(hvd_get()->virt, s->live->id, &s->devices);

	for (size_t i = 0; i < s->devices.n; i++)
		if (s->devices.list[i].kind == VIRT_DISK)
			domain_target_take(s->devices.list[i].target, &s->targets);
	return r;
}

int volumes_settle(struct live *l, int has_domain)
{
	struct settle s = {.live = l, .has_domain = has_domain};
	const struct doc *d = find(l);

	if (!d || (volumes_are_settled(d->json) && (!has_domain || l->are_disks_known)))
		return 0;
	l->are_disks_known = 1;
	s.is_starting = !has_domain && instance_state_of(d->json) != INSTANCE_STOPPED;
	instance_context(d, &s.ctx);
	/* A copy: the document changes under it. */
	OWN(json_decref)
	json_t *rows = json_deep_copy(json_object_get(d->json, "BlockDeviceMappings"));
	int r = rows ? 0 : -ENOMEM;
	if (r == 0 && has_domain)
		r = read_devices(&s);
	int msec = r == 0 && has_domain ? volumes_unstick(l, &s.ctx, &s.devices) : 0;
	if (r == 0)
		r = msec < 0 ? msec : settle_rows(&s, rows);
	if (r >= 0 && msec && (!r || msec < r))
		r = msec;
	if (l->stuck == STUCK_IS)
		l->are_disks_known = 0;
	virt_devices_clear(&s.devices);
	if (r < 0)
		l->are_disks_known = 0;
	/* Gone, or libvirt away: the event and the reconnection kick. */
	return r == -ENOENT || r == -ENOTCONN ? 0 : r;
}
