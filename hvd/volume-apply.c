/* What stord asks of a volume that a guest may have open: to grow it and to limit it. */
#include <errno.h>
#include <string.h>

#include "layers.h"
#include "virt-disk.h"
#include "volume.h"

const struct virt_device *volume_live_disk(const struct virt_devices *devices,
					   const char *volume_id)
{
	for (size_t i = 0; i < devices->n; i++) {
		const struct virt_device *d = &devices->list[i];
		if (d->kind == VIRT_DISK && strncmp(volume_id, "vol-", 4) == 0 &&
		    strncmp(d->serial, "vol", 3) == 0 && strcmp(d->serial + 3, volume_id + 4) == 0)
			return d;
	}
	return NULL;
}

static int refuse(int error, const char *why, struct fault *f)
{
	int is_unknown = error == -ENOTCONN || error == -EINPROGRESS;

	return fault_set(f, is_unknown ? FAULT_SERVICE_UNAVAILABLE : FAULT_INCORRECT_STATE, "%s",
			 *why ? why : "libvirt cannot say what the instance has");
}

/* (fiber) What the guest has, and has not: a disk that is not there is not about to come either, with
 * the limits that it was plugged in with. */
static int look(const char *instance_id, const char *volume_id, struct virt_devices *ret_devices)
{
	struct virt *v = hvd_get()->virt;
	int r = virt_devices_read(v, instance_id, ret_devices);

	if (r < 0 || volume_live_disk(ret_devices, volume_id))
		return r;
	if ((r = instance_is_quiet(instance_id)) < 0)
		return r;
	virt_devices_clear(ret_devices);
	return virt_devices_read(v, instance_id, ret_devices);
}

/* (fiber) 1: a guest has it, and it is so now; 0: no guest has it. */
static int apply(const char *instance_id, const char *volume_id, const json_t *parameters,
		 struct fault *f)
{
	OWN(virt_devices_clear) struct virt_devices devices = {0};
	struct virt *v = hvd_get()->virt;
	char error[VIRT_ERROR_BYTES] = "";
	int64_t bytes = jint(parameters, "Bytes", 0);
	const json_t *given = json_object_get(parameters, "_Limits");
	int r = look(instance_id, volume_id, &devices);

	if (r == -ENOENT)
		return 0;
	const struct virt_device *disk = r < 0 ? NULL : volume_live_disk(&devices, volume_id);
	if (r == 0 && !disk)
		return 0;
	if (r == 0 && bytes)
		r = virt_disk_resize(v, instance_id, disk->target, bytes, error);
	if (r == 0 && jbool(parameters, "GoOn", 0))
		r = virt_disk_go_on(v, instance_id, error);
	if (r == 0 && given) {
		struct domain_limits limits = {0};
		domain_limits_read(&limits, given);
		r = virt_disk_limit(v, instance_id, disk->target, &limits, error);
	}
	if (r == -ENOENT) /* it ended under us */
		return 0;
	return r < 0 ? refuse(r, error, f) : 1;
}

int volume_apply(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *instance_id = jstr(parameters, "InstanceId"),
		   *volume_id = jstr(parameters, "VolumeId");

	if (!instance_id || !volume_id)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameters instanceId and volumeId");
	OWN(paths_end) struct paths *p = paths_begin(instance_id);
	if (!p)
		return -ENOMEM;
	paths_hold(p);
	/* A size that comes late would make the disk smaller again. */
	int r = call_check_waited(c, f);
	if (r < 0)
		return r;
	r = apply(instance_id, volume_id, parameters, f);
	/* Whoever was told of the volume before must ask again: stord is about to change it. */
	if (r == 0)
		paths_expire(p);
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:b}", "Live", r);
	return *ret_reply ? 0 : -ENOMEM;
}
