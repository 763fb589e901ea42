/* AttachVolume and DetachVolume as customers ask for them. */
#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "domain.h"
#include "hold.h"
#include "volume.h"

/* "sda".."sdz" with 1..15 or nothing after it; "xvda".."xvdz", "xvdaa".."xvddz", likewise. Source:
 * EC2 user guide, "Device names for volumes". */
int volume_device_is_valid(const char *name)
{
	const char *p = strncmp(name, "/dev/", 5) == 0 ? name + 5 : name;
	int is_xvd = strncmp(p, "xvd", 3) == 0;

	if (!is_xvd && strncmp(p, "sd", 2) != 0)
		return 0;
	p += is_xvd ? 3 : 2;
	if (!islower((unsigned char)*p))
		return 0;
	if (is_xvd && p[0] <= 'd' && islower((unsigned char)p[1]) && !p[2])
		return 1;
	p++;
	if (!*p)
		return 1;
	if (*p == '0' || strspn(p, "0123456789") != strlen(p) || strlen(p) > 2)
		return 0;
	return atoi(p) <= 15;
}

static int has_plugs(const struct doc *d)
{
	enum instance_state s = instance_state_of(d->json);

	return s == INSTANCE_RUNNING || s == INSTANCE_STOPPED;
}

/* ---- attach ---- */

static int room_check(const struct doc *d, struct fault *f)
{
	const struct instance_type *type = instance_type_find(jstr_or(d->json, "InstanceType", ""));
	size_t n_volumes = json_array_size(json_object_get(d->json, "BlockDeviceMappings")),
	       n_interfaces = json_array_size(json_object_get(d->json, "NetworkInterfaces")),
	       n_max = type ? instance_type_max_volumes(type, (unsigned)n_interfaces) : 0;

	if (n_max > DOMAIN_DISKS_MAX)
		n_max = DOMAIN_DISKS_MAX;
	return n_volumes < n_max ? 0
				 : fault_set(f, FAULT_ATTACHMENT_LIMIT_EXCEEDED,
					     "Instance %s has %zu volumes attached, which is the "
					     "limit of its type.",
					     d->id, n_volumes);
}

static int device_check(const struct doc *d, const char *device, struct fault *f)
{
	json_t *mapping;
	size_t i;

	if (!volume_device_is_valid(device))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter device is invalid. %.64s is not a "
				 "valid EBS device name.",
				 device, device);
	json_array_foreach (json_object_get(d->json, "BlockDeviceMappings"), i, mapping)
		if (strcmp(jstr_or(mapping, "DeviceName", ""), device) == 0)
			return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
					 "Invalid value '%.64s' for unixDevice. Attachment point "
					 "%.64s is already in use",
					 device, device);
	if (instance_state_of(d->json) != INSTANCE_STOPPED &&
	    strcmp(device, jstr_or(d->json, "RootDeviceName", "")) == 0)
		return fault_set(f, FAULT_INCORRECT_STATE, "Instance '%s' is not 'stopped'.",
				 d->id);
	return 0;
}

/* (fiber) A running guest may still have the device of a volume that was taken from it by force. */
static int cut_check(const char *instance_id, const char *volume_id, struct fault *f)
{
	OWN(virt_devices_clear) struct virt_devices devices = {0};
	struct virt *v = hvd_get()->virt;

	/* libvirt away: then the settling waits for it, too. */
	if (!v || virt_devices_read(v, instance_id, &devices) < 0 ||
	    !volume_live_disk(&devices, volume_id))
		return 0;
	return fault_set(
		f, FAULT_INCORRECT_STATE,
		"Instance '%s' has not let go of '%s', which was detached by force. Reboot "
		"or stop it before you attach the volume to it again.",
		instance_id, volume_id);
}

static int attach_check(struct call *c, json_t *parameters, const struct doc **ret_instance,
			struct fault *f)
{
	const struct doc *d = NULL;
	int r = instance_get(c, jstr(parameters, "InstanceId"), &d, f);

	if (r == 0)
		r = has_plugs(d) ? 0
				 : fault_set(f, FAULT_INCORRECT_STATE,
					     "Instance '%s' is not 'running'.", d->id);
	if (r == 0 && volume_mapping(d->json, jstr_or(parameters, "VolumeId", "")))
		return fault_set(f, FAULT_VOLUME_IN_USE, "%s is already attached to an instance",
				 jstr(parameters, "VolumeId"));
	if (r == 0)
		r = device_check(d, jstr_or(parameters, "Device", ""), f);
	if (r == 0)
		r = room_check(d, f);
	if (r == 0)
		*ret_instance = d;
	return r;
}

/* The document with one row more; the root's is the first. */
static int add_mapping(const struct call *c, const struct doc *d, const json_t *attachment)
{
	const char *device = jstr_or(attachment, "Device", "");
	int is_root = strcmp(device, jstr_or(d->json, "RootDeviceName", "")) == 0;
	OWN(json_decref) json_t *instance = doc_edit(d);
	json_t *list = json_object_get(instance, "BlockDeviceMappings");
	json_t *row =
		json_pack("{s:s, s:{s:s, s:s, s:s, s:b}}", "DeviceName", device, "Ebs", "VolumeId",
			  jstr(attachment, "VolumeId"), "Status", "attaching", "AttachTime",
			  jstr_or(attachment, "AttachTime", ""), "DeleteOnTermination", 0);

	if (json_array_insert_new(list, is_root ? 0 : json_array_size(list), row) < 0)
		return -ENOMEM;
	return txn_replace(c->txn, d, give(instance));
}

/* Reserved with stord, and then in the document, if the instance is still as it was. The volume is
 * held: two requests for it do not take one another's reservation away. */
static int attach(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *volume_id = jstr(parameters, "VolumeId"),
		   *instance_id = jstr(parameters, "InstanceId");
	const struct doc *d = NULL;
	OWN(json_decref) json_t *reply = NULL;
	int r = attach_check(c, parameters, &d, f);

	if (r == 0)
		r = cut_check(instance_id, volume_id, f);
	if (r == 0)
		r = attach_check(c, parameters, &d, f);
	if (r < 0)
		return r;
	OWN(json_decref)
	json_t *ask = json_pack(
		"{s:O, s:O, s:O, s:b, s:s}", "VolumeId", json_object_get(parameters, "VolumeId"),
		"InstanceId", json_object_get(parameters, "InstanceId"), "Device",
		json_object_get(parameters, "Device"), "_Begin", 1, "_AvailabilityZone",
		jpath_str(d->json, "Placement.AvailabilityZone"));
	r = ask ? rpc_call(daemon_peer("stord"), c->ctx, "ec2.AttachVolume", ask, NULL, &reply,
			   NULL, f)
		: -ENOMEM;
	/* Not answered: it may be reserved all the same, now or in a moment. */
	int is_unknown = r < 0 && f->status >= 500;
	if (r < 0 && !is_unknown)
		return r;
	if (r == 0)
		r = attach_check(c, parameters, &d, f);
	if (r == 0)
		r = add_mapping(c, d, reply);
	if (r == 0)
		r = txn_commit(c->txn);
	if (r < 0) {
		if (is_unknown || volume_return(c->ctx, volume_id, instance_id) < 0)
			volume_return_later(c->ctx, volume_id, instance_id);
		return r;
	}
	log_info("volume to be attached", "INSTANCE", instance_id, "VOLUME_ID", volume_id,
		 "REQUEST_ID", c->ctx->request);
	instance_kick(instance_id);
	*ret_reply = give(reply);
	return 0;
}

int volume_attach(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	static const char *const needed[][2] = {
		{"VolumeId", "volumeId"}, {"InstanceId", "instanceId"}, {"Device", "device"}};

	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		if (!jstr(parameters, needed[i][0]))
			return fault_set(f, FAULT_MISSING_PARAMETER,
					 "The request must contain the parameter %s", needed[i][1]);
	OWN(hold_leave) struct hold *h = hold_enter(jstr(parameters, "VolumeId"));
	int r = h ? call_check_waited(c, f) : -ENOMEM;

	return r == 0 ? attach(c, parameters, ret_reply, f) : r;
}

/* ---- detach ---- */

/* The volume as stord shows it (a new reference). */
static int volume_read(struct call *c, const char *id, json_t **ret_volume, struct fault *f)
{
	OWN(json_decref) json_t *reply = NULL;
	OWN(json_decref) json_t *ask = json_pack("{s:[s]}", "VolumeIds", id);
	int r = ask ? rpc_call(daemon_peer("stord"), c->ctx, "ec2.DescribeVolumes", ask, NULL,
			       &reply, NULL, f)
		    : -ENOMEM;

	if (r < 0)
		return r;
	*ret_volume = json_incref(json_array_get(json_object_get(reply, "Volumes"), 0));
	return *ret_volume ? 0 : -EPROTO;
}

/* The one attachment that the request means. Borrowed from `volume`. */
static int attachment_meant(const json_t *volume, json_t *parameters, json_t **ret_attachment,
			    struct fault *f)
{
	const char *instance = jstr(parameters, "InstanceId"), *device = jstr(parameters, "Device"),
		   *id = jstr_or(volume, "VolumeId", "");
	const json_t *list = json_object_get(volume, "Attachments");

	if (json_array_size(list) == 0)
		return fault_set(f, FAULT_INCORRECT_STATE, "Volume '%s' is in the '%s' state.", id,
				 jstr_or(volume, "State", ""));
	if (!instance && json_array_size(list) > 1)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter instanceId: the volume "
				 "'%s' is attached to several instances",
				 id);
	*ret_attachment = instance ? volume_attachment(volume, instance) : json_array_get(list, 0);
	if (!*ret_attachment && !device)
		return fault_set(f, FAULT_INVALID_ATTACHMENT_NOT_FOUND,
				 "The volume '%s' is not attached to instance '%.64s'.", id,
				 instance);
	if (!*ret_attachment ||
	    (device && strcmp(jstr_or(*ret_attachment, "Device", ""), device) != 0))
		return fault_set(f, FAULT_INVALID_ATTACHMENT_NOT_FOUND,
				 "The volume '%s' is not attached to instance '%.64s' as device "
				 "'%.64s'.",
				 id,
				 instance ? instance : jstr_or(*ret_attachment, "InstanceId", ""),
				 device);
	return 0;
}

/* The row says `detaching` when it returns 0. */
static int mark_detaching(struct call *c, const char *instance_id, const char *volume_id,
			  int is_forced, struct fault *f)
{
	const struct doc *d = NULL;
	int r = instance_get(c, instance_id, &d, f);

	if (r == 0)
		r = has_plugs(d) ? 0
				 : fault_set(f, FAULT_INCORRECT_INSTANCE_STATE,
					     "Unable to detach volume '%s' from instance '%s'. The "
					     "instance is not in a state in which volumes can be "
					     "detached.",
					     volume_id, d->id);
	if (r < 0)
		return r;
	OWN(json_decref) json_t *instance = doc_edit(d);
	json_t *row = volume_mapping(instance, volume_id);

	if (!row)
		return fault_set(f, FAULT_INCORRECT_STATE,
				 "Volume '%s' is in the 'attaching' state.", volume_id);
	if (instance_state_of(d->json) != INSTANCE_STOPPED &&
	    strcmp(jstr_or(row, "DeviceName", ""), jstr_or(d->json, "RootDeviceName", "")) == 0)
		return fault_set(f, FAULT_OPERATION_NOT_PERMITTED,
				 "Unable to detach root volume '%s' from instance '%s'", volume_id,
				 d->id);
	r = jset(json_object_get(row, "Ebs"), "Status", "detaching");
	if (r == 0 && is_forced)
		r = jset_new(json_object_get(row, "Ebs"), "_Force", json_true());
	if (r == 0)
		r = txn_replace(c->txn, d, give(instance));
	return r == 0 ? txn_commit(c->txn) : r;
}

/* Force: a guest whose kernel is stuck cannot acknowledge, and QEMU takes no device away without;
 * then the disk is taken from behind the device (virt-cut.h). */
int volume_detach(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *id = jstr(parameters, "VolumeId");
	OWN(json_decref) json_t *volume = NULL, *reply = NULL;
	json_t *attachment = NULL;

	if (!id)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter volumeId");
	int r = volume_read(c, id, &volume, f);

	if (r == 0)
		r = attachment_meant(volume, parameters, &attachment, f);
	if (r == 0)
		r = mark_detaching(c, jstr_or(attachment, "InstanceId", ""), id,
				   jbool(parameters, "Force", 0), f);
	if (r < 0)
		return r;
	const char *instance_id = jstr(attachment, "InstanceId");
	struct fault unsaid = {0};

	/* From here on it goes forward; what stord shows meanwhile is a courtesy. */
	(void)parts_call("stord", c->ctx, "ec2.DetachVolume",
			 json_pack("{s:s, s:s, s:b}", "VolumeId", id, "InstanceId", instance_id,
				   "_Begin", 1),
			 &unsaid);
	log_info("volume to be detached", "INSTANCE", instance_id, "VOLUME_ID", id, "REQUEST_ID",
		 c->ctx->request);
	instance_kick(instance_id);
	reply = json_copy(attachment);
	r = reply ? jset(reply, "State", "detaching") : -ENOMEM;
	if (r == 0)
		*ret_reply = give(reply);
	return r;
}
