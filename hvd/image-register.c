/* RegisterImage: checks what a new image is made of, and makes it. */
#include "image-work.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "describe.h"
#include "id.h"
#include "jsonx.h"
#include "tags.h"

/* AWS's quota of AMIs per region is 50,000 with public ones; we hold every document in memory. */
#define IMAGES_MAX	10000
#define MAPPINGS_MAX	27
#define CMDLINE_MAX	2048
#define VOLUME_GIB_MAX	16384
#define DESCRIPTION_MAX 255

/* What a volume type may be asked for. Source: EBS user guide, "Amazon EBS volume types". */
static const struct volume_type {
	const char *name;
	int64_t gib_min, gib_max, iops_min, iops_max, throughput_max; /* 0: may not be given */
} volume_types[] = {
	{"gp2", 1, 16384, 0, 0, 0},	  {"gp3", 1, 16384, 3000, 16000, 1000},
	{"io1", 4, 16384, 100, 64000, 0}, {"io2", 4, 65536, 100, 256000, 0},
	{"st1", 125, 16384, 0, 0, 0},	  {"sc1", 125, 16384, 0, 0, 0},
	{"standard", 1, 1024, 0, 0, 0},
};

/* 3 to 128 characters of AWS's alphabet. Source: RegisterImage, "Name". */
static int name_check(const char *name, struct fault *f)
{
	size_t n = name ? strlen(name) : 0;

	if (n == 0)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter Name");
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)name[i]) && !strchr("()[] ./-'@_", name[i]))
			n = 0;
	if (n < 3 || n > 128)
		return fault_set(f, FAULT_INVALID_AMI_NAME_MALFORMED,
				 "AMI names must be between 3 and 128 characters long, and may "
				 "contain letters, numbers, '(', ')', '.', "
				 "'-', '/' and '_'");
	return 0;
}

static int duplicate_check(const struct call *c, const char *name, struct fault *f)
{
	size_t n = 0;

	store_each (c->store, IMAGE_KIND, d) {
		if (strcmp(d->account, c->ctx->account) != 0 ||
		    strcmp(d->region, c->ctx->region) != 0)
			continue;
		if (strcmp(jstr_or(d->json, "Name", ""), name) == 0)
			return fault_set(f, FAULT_INVALID_AMI_NAME_DUPLICATE,
					 "AMI name %s is already in use by AMI %s", name, d->id);
		n++;
	}
	if (n >= IMAGES_MAX)
		return fault_set(f, FAULT_RESOURCE_LIMIT_EXCEEDED,
				 "You have reached the limit of %d images", IMAGES_MAX);
	return 0;
}

int image_name_check(const struct call *c, const char *name, struct fault *f)
{
	int r = name_check(name, f);

	return r == 0 ? duplicate_check(c, name, f) : r;
}

/* What has one possible value here. */
static int fixed_check(json_t *p, struct fault *f)
{
	const char *arch = jstr_or(p, "Architecture", "x86_64"), *tpm = jstr(p, "TpmSupport");

	if (strcmp(arch, "x86_64") != 0 && strcmp(arch, "i386") != 0)
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
				 "Images of architecture %s cannot run here", arch);
	if (strcmp(jstr_or(p, "VirtualizationType", "hvm"), "hvm") != 0)
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
				 "Only virtualization type hvm can run here");
	if (strcmp(jstr_or(p, "BootMode", "legacy-bios"), "uefi") == 0)
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
				 "Images that boot by UEFI alone cannot run here");
	if (tpm || jstr(p, "UefiData"))
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION, "Images with %s cannot run here",
				 tpm ? "TpmSupport" : "UefiData");
	if (json_array_size(json_object_get(p, "BillingProducts")) > 0)
		return fault_set(f, FAULT_AUTH_FAILURE, "BillingProducts are not for this account");
	if (strlen(jstr_or(p, "Description", "")) > DESCRIPTION_MAX)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Description may have at most %d characters", DESCRIPTION_MAX);
	return 0;
}

/* Members by which root's own programs say more than AWS's words can; nobody else may. */
static int ours_check(const struct call *c, json_t *p, const char *type, struct fault *f)
{
	int is_asked = json_object_get(p, "_ImageType") || json_object_get(p, "_Cmdline") ||
		       json_object_get(p, "_Public");

	if (is_asked && c->uid != 0)
		return fault_set(f, FAULT_OPERATION_NOT_PERMITTED,
				 "Only root may register kernels, ramdisks and public images");
	if (strcmp(type, "machine") != 0 && strcmp(type, "kernel") != 0 &&
	    strcmp(type, "ramdisk") != 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%s) for _ImageType is invalid", type);
	if (strlen(jstr_or(p, "_Cmdline", "")) > CMDLINE_MAX)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "_Cmdline may have at most %d characters", CMDLINE_MAX);
	return 0;
}

/* A kernel or ramdisk that is named is one that the caller may use. */
static int part_check(const struct call *c, const char *id, const char *prefix, const char *type,
		      struct fault *f)
{
	const struct doc *d;

	if (!id)
		return 0;
	if (!id_is(id, prefix))
		return fault_set(f, FAULT_INVALID_AMI_ID_MALFORMED,
				 "Invalid id: \"%.128s\" (expecting \"%s-...\")", id, prefix);
	d = image_get(c->store, c->ctx, id);
	if (!d || strcmp(jstr_or(d->json, "ImageType", ""), type) != 0)
		return fault_set(f, FAULT_INVALID_AMI_ID_NOT_FOUND,
				 "The image id '[%s]' does not exist", id);
	return 0;
}

/* "/dev/sda1", "xvdb", "/dev/nvme0n1" */
static int device_name_is(const char *name)
{
	const char *at = name && strncmp(name, "/dev/", 5) == 0 ? name + 5 : name;

	if (!at || (strncmp(at, "sd", 2) != 0 && strncmp(at, "xvd", 3) != 0 &&
		    strncmp(at, "nvme", 4) != 0 && strncmp(at, "vd", 2) != 0))
		return 0;
	for (; *at; at++)
		if (!islower((unsigned char)*at) && !isdigit((unsigned char)*at))
			return 0;
	return strlen(name) <= 32;
}

/* (fiber) The snapshot as the caller sees it, completed. */
static int snapshot_ask(const struct call *c, const char *id, int64_t *ret_gib,
			int *ret_is_encrypted, struct fault *f)
{
	OWN(json_decref) json_t *ask = json_pack("{s:[s]}", "SnapshotIds", id);
	OWN(json_decref) json_t *reply = NULL;
	json_t *snapshot;
	int r;

	if (!id_is(id, "snap"))
		return fault_set(f, FAULT_INVALID_SNAPSHOT_ID_MALFORMED,
				 "Invalid id: \"%.128s\" (expecting \"snap-...\")", id);
	r = rpc_call(daemon_peer("stord"), c->ctx, "ec2.DescribeSnapshots", ask, NULL, &reply, NULL,
		     f);
	if (r < 0)
		return r;
	snapshot = json_array_get(json_object_get(reply, "Snapshots"), 0);
	if (!snapshot)
		return fault_set(f, FAULT_INVALID_SNAPSHOT_NOT_FOUND,
				 "The snapshot '%s' does not exist.", id);
	if (strcmp(jstr_or(snapshot, "State", ""), "completed") != 0)
		return fault_set(f, FAULT_INCORRECT_STATE, "The snapshot '%s' is not completed",
				 id);
	*ret_gib = jint(snapshot, "VolumeSize", 1);
	*ret_is_encrypted = jbool(snapshot, "Encrypted", 0);
	return 0;
}

/* Type, size, IOPS and throughput fit one another; fills in the type and the size. */
static int volume_check(json_t *ebs, int64_t snapshot_gib, struct fault *f)
{
	const char *name = jstr_or(ebs, "VolumeType", "gp2"), *snapshot = jstr(ebs, "SnapshotId");
	int64_t gib = jint(ebs, "VolumeSize", snapshot_gib), iops = jint(ebs, "Iops", 0);
	const struct volume_type *t = volume_types;

	while (t < volume_types + sizeof volume_types / sizeof *t && strcmp(t->name, name) != 0)
		t++;
	if (t == volume_types + sizeof volume_types / sizeof *t)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%s) for parameter volumeType is invalid", name);
	if (gib == 0)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter size or snapshotId");
	if (snapshot && gib < snapshot_gib)
		return fault_set(f, FAULT_INVALID_BLOCK_DEVICE_MAPPING,
				 "Volume of size %lldGB is smaller than snapshot '%s', expect size "
				 ">= %lldGB",
				 (long long)gib, snapshot, (long long)snapshot_gib);
	if (gib < t->gib_min || gib > t->gib_max || gib > VOLUME_GIB_MAX)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Volume size %lld is invalid for volume type %s", (long long)gib,
				 name);
	if (json_object_get(ebs, "Iops") &&
	    (t->iops_max == 0 || iops < t->iops_min || iops > t->iops_max))
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "Iops of %lld is invalid for volume type %s", (long long)iops,
				 name);
	if (!json_object_get(ebs, "Iops") && strncmp(name, "io", 2) == 0)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The parameter iops must be specified for %s volumes", name);
	if (json_object_get(ebs, "Throughput") &&
	    (jint(ebs, "Throughput", 0) < 125 || jint(ebs, "Throughput", 0) > t->throughput_max))
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "Throughput is invalid for volume type %s", name);
	if (jset(ebs, "VolumeType", name) < 0)
		return -ENOMEM;
	return jset_new(ebs, "VolumeSize", json_integer(gib));
}

/* (fiber) One row, checked and filled in. */
int image_mapping_check(const struct call *c, json_t *mapping, struct fault *f)
{
	const char *device = jstr(mapping, "DeviceName"), *snapshot;
	json_t *ebs = json_object_get(mapping, "Ebs");
	int64_t gib = 0;
	int is_encrypted = jbool(ebs, "Encrypted", 0);
	int r;

	if (!device)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter deviceName");
	if (!device_name_is(device))
		return fault_set(f, FAULT_INVALID_BLOCK_DEVICE_MAPPING, "Invalid device name %.64s",
				 device);
	if (!ebs) {
		if (json_object_get(mapping, "NoDevice") ||
		    strncmp(jstr_or(mapping, "VirtualName", ""), "ephemeral", 9) == 0)
			return 0;
		return fault_set(f, FAULT_INVALID_BLOCK_DEVICE_MAPPING,
				 "No EBS volume is given for device %s", device);
	}
	if (jstr(ebs, "SnapshotId") && (json_object_get(ebs, "Encrypted") || jstr(ebs, "KmsKeyId")))
		return fault_set(f, FAULT_INVALID_BLOCK_DEVICE_MAPPING,
				 "the encrypted flag cannot be specified since device %s has a "
				 "snapshot specified.",
				 device);
	if (jstr(ebs, "KmsKeyId"))
		return fault_set(f, FAULT_INVALID_BLOCK_DEVICE_MAPPING,
				 "An image's mapping names no key: device %s", device);
	if (jstr(ebs, "OutpostArn"))
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION, "There are no Outposts here");
	snapshot = jstr(ebs, "SnapshotId");
	r = snapshot ? snapshot_ask(c, snapshot, &gib, &is_encrypted, f) : 0;
	if (r == 0)
		r = volume_check(ebs, gib, f);
	if (r < 0)
		return r;
	r |= jset_new(ebs, "DeleteOnTermination",
		      json_boolean(jbool(ebs, "DeleteOnTermination", 1)));
	r |= jset_new(ebs, "Encrypted", json_boolean(is_encrypted));
	return r < 0 ? -ENOMEM : 0;
}

/* (fiber) All rows of `mappings` (changed in place), and one of them is the root's, with a
 * snapshot. */
static int mappings_check(const struct call *c, json_t *mappings, const char *root, struct fault *f)
{
	int has_root = 0;
	size_t i;
	json_t *m;

	if (json_array_size(mappings) > MAPPINGS_MAX)
		return fault_set(f, FAULT_INVALID_BLOCK_DEVICE_MAPPING,
				 "At most %d devices can be mapped", MAPPINGS_MAX);
	json_array_foreach (mappings, i, m) {
		int r = image_mapping_check(c, m, f);

		if (r < 0)
			return r;
		for (size_t k = 0; k < i; k++)
			if (strcmp(jstr_or(json_array_get(mappings, k), "DeviceName", ""),
				   jstr_or(m, "DeviceName", "")) == 0)
				return fault_set(f, FAULT_INVALID_BLOCK_DEVICE_MAPPING,
						 "The device '%s' is used in more than one "
						 "block-device mapping",
						 jstr_or(m, "DeviceName", ""));
		has_root |= strcmp(jstr_or(m, "DeviceName", ""), root) == 0 &&
			    jpath_str(m, "Ebs.SnapshotId");
	}
	if (!has_root)
		return fault_set(f, FAULT_INVALID_BLOCK_DEVICE_MAPPING,
				 "No root snapshot specified in device mapping.");
	return 0;
}

/* The root device when none is named: AWS's default, or the only one there is. */
static const char *root_name(json_t *p)
{
	json_t *mappings = json_object_get(p, "BlockDeviceMappings");
	const char *only = json_array_size(mappings) == 1
				   ? jstr(json_array_get(mappings, 0), "DeviceName")
				   : NULL;

	return jstr_or(p, "RootDeviceName", only ? only : "/dev/sda1");
}

static json_t *image_json(const struct call *c, json_t *p, const char *id, const char *type,
			  json_t *mappings, json_t *tags)
{
	static const char *const copied[] = {"Description", "KernelId",	   "RamdiskId",
					     "BootMode",    "ImdsSupport", "SriovNetSupport",
					     "_Cmdline",    NULL};
	int is_public = jbool(p, "_Public", 0);
	json_t *j = json_pack("{s:s, s:s, s:s++, s:s, s:b, s:s, s:s, s:s, s:s}", "ImageId", id,
			      "Name", jstr(p, "Name"), "ImageLocation", c->ctx->account, "/",
			      jstr(p, "Name"), "ImageType", type, "Public", is_public, "OwnerId",
			      c->ctx->account, "State", "available", "Architecture",
			      jstr_or(p, "Architecture", "x86_64"), "Hypervisor", "xen");
	int r = j ? 0 : -1;

	for (size_t i = 0; copied[i]; i++)
		if (jstr(p, copied[i]))
			r |= jset(j, copied[i], jstr(p, copied[i]));
	if (is_public)
		r |= jset(j, "ImageOwnerAlias", "amazon");
	if (strcmp(type, "machine") == 0)
		r |= jset(j, "RootDeviceName", root_name(p));
	r |= jset(j, "RootDeviceType", "ebs") | jset(j, "VirtualizationType", "hvm");
	r |= jset(j, "PlatformDetails", "Linux/UNIX") | jset(j, "UsageOperation", "RunInstances");
	r |= jset_new(j, "EnaSupport", json_boolean(jbool(p, "EnaSupport", 1)));
	r |= jset_new(j, "ImageAllowed", json_true()) |
	     jset_new(j, "FreeTierEligible", json_true());
	r |= jset_new(j, "CreationDate", jtime_now());
	r |= jset_new(j, "BlockDeviceMappings", json_incref(mappings)) |
	     jset_new(j, "Tags", json_incref(tags));
	if (r == 0)
		return j;
	json_decref(j);
	return NULL;
}

/* (fiber) Everything that can be wrong. */
static int parameters_check(const struct call *c, json_t *p, const char *type, json_t *mappings,
			    struct fault *f)
{
	int is_machine = strcmp(type, "machine") == 0;
	json_t *first = json_array_get(mappings, 0);
	int r = name_check(jstr(p, "Name"), f);

	if (r == 0)
		r = fixed_check(p, f);
	if (r == 0)
		r = ours_check(c, p, type, f);
	if (r == 0)
		r = part_check(c, jstr(p, "KernelId"), "aki", "kernel", f);
	if (r == 0)
		r = part_check(c, jstr(p, "RamdiskId"), "ari", "ramdisk", f);
	if (r == 0)
		r = duplicate_check(c, jstr(p, "Name"), f);
	if (r < 0)
		return r;
	if (jstr(p, "ImageLocation"))
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
				 "Images are registered from snapshots, not from manifests");
	if (!is_machine && json_array_size(mappings) != 1)
		return fault_set(f, FAULT_INVALID_BLOCK_DEVICE_MAPPING, "A %s has one snapshot",
				 type);
	return mappings_check(c, mappings,
			      is_machine ? root_name(p) : jstr_or(first, "DeviceName", ""), f);
}

int image_register(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	static const char *const taggable[] = {"image", "snapshot", NULL};
	const char *type = jstr_or(parameters, "_ImageType", "machine");
	const char *prefix = strcmp(type, "kernel") == 0    ? "aki"
			     : strcmp(type, "ramdisk") == 0 ? "ari"
							    : "ami";
	json_t *given = json_object_get(parameters, "BlockDeviceMappings");
	OWN(json_decref) json_t *mappings = given ? json_deep_copy(given) : json_array();
	OWN(json_decref) json_t *tags = NULL;
	OWN(json_decref) json_t *image = NULL;
	char id[ID_MAX];
	int r = parameters_check(c, parameters, type, mappings, f);

	if (r == 0)
		r = tags_from_specifications(parameters, "image", taggable, &tags, f);
	if (r < 0)
		return r;
	id_new(prefix, id);
	image = image_json(c, parameters, id, type, mappings, tags);
	r = image ? image_arrive(c, id, image, f) : -ENOMEM;
	if (r < 0)
		return r;
	/* Another request may have taken the name meanwhile. */
	r = duplicate_check(c, jstr(parameters, "Name"), f);
	if (r < 0) {
		image_arrive_undo(c, id);
		return r;
	}
	r = txn_put(c->txn, IMAGE_KIND, id, c->ctx->account, c->ctx->region, json_incref(image));
	if (r == 0)
		r = image_arrive_done(c, id);
	if (r == 0)
		*ret_reply = json_pack("{s:s}", "ImageId", id);
	return r;
}
