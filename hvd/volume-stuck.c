/*
 * Guests whose write found no room on the host's disk. QEMU stops such a guest with the write still
 * to be done, so nothing is lost; it goes on when there is room again. Nobody tells of that: it is
 * looked for.
 */
#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>

#include "virt-disk.h"
#include "volume.h"

#define LOOK_AGAIN_MSEC 2000
#define ROOM_BYTES	(UINT64_C(32) << 20) /* less would be gone at once */

static int has_failed(const struct virt_stuck *stuck, const char *target)
{
	for (size_t i = 0; i < stuck->n; i++)
		if (strcmp(stuck->targets[i], target) == 0)
			return 1;
	return 0;
}

/* (fiber) stord shows it. */
static int report(const struct context *ctx, const char *instance_id,
		  const struct virt_device *disk, int is_stuck)
{
	char volume_id[ID_MAX];

	if (strncmp(disk->serial, "vol", 3) != 0)
		return 0;
	snprintf(volume_id, sizeof(volume_id), "vol-%.20s", disk->serial + 3);
	return parts_call("stord", ctx, "gureum.ReportVolume",
			  json_pack("{s:s, s:s, s:b}", "VolumeId", volume_id, "InstanceId",
				    instance_id, "IsStuck", is_stuck),
			  NULL);
}

static int report_all(const struct context *ctx, const char *instance_id,
		      const struct virt_devices *devices, const struct virt_stuck *stuck)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < devices->n; i++) {
		const struct virt_device *d = &devices->list[i];
		if (d->kind == VIRT_DISK)
			r = report(ctx, instance_id, d, has_failed(stuck, d->target));
	}
	return r;
}

/* All file systems that failed have some room. */
static int has_room(const struct virt_devices *devices, const struct virt_stuck *stuck)
{
	struct statvfs fs;

	for (size_t i = 0; i < devices->n; i++)
		if (has_failed(stuck, devices->list[i].target) &&
		    statvfs(devices->list[i].source, &fs) == 0 &&
		    (uint64_t)fs.f_bavail * fs.f_frsize < ROOM_BYTES)
			return 0;
	return 1;
}

int volumes_unstick(struct live *l, const struct context *ctx, const struct virt_devices *devices)
{
	struct virt *v = hvd_get()->virt;
	char error[VIRT_ERROR_BYTES];
	struct virt_stuck stuck = {0};
	int r = virt_disk_read_stuck(v, l->id, &stuck);

	if (r < 0)
		return r;
	int now = stuck.is_stuck ? STUCK_IS : STUCK_NOT;
	if (now != (int)l->stuck) {
		if (stuck.is_stuck)
			log_error(-ENOSPC, "the disk is full: an instance waits for room",
				  "INSTANCE", l->id);
		else if (l->stuck == STUCK_IS)
			log_info("an instance that had waited for room goes on", "INSTANCE", l->id);
		if ((r = report_all(ctx, l->id, devices, &stuck)) < 0)
			return r;
		l->stuck = stuck.is_stuck ? STUCK_IS : STUCK_NOT;
	}
	if (!stuck.is_stuck)
		return 0;
	if (has_room(devices, &stuck) && (r = virt_disk_go_on(v, l->id, error)) < 0)
		log_warning(r, "an instance cannot go on", "INSTANCE", l->id, "REASON", error);
	return LOOK_AGAIN_MSEC;
}
