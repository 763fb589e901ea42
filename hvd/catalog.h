/*
 * The catalog: what instances are made of. Images, key pairs, instance types, regions; rooms
 * image*.c, key_pair*.c, instance_type*.c, region.c. The actions are the rows of catalog-table.h,
 * joined once in catalog.c.
 *
 * Documents: kind "image" (id ami-/aki-/ari-…), kind "key-pair" (id key-…), in AWS's shape, plus
 * members of ours:
 *
 *	image:    _LaunchAccounts ["123…"] (who may launch it besides its owner), _Cmdline (kernel
 *		  command line of a direct boot), _Work (in the making, image-work.h), _PartOf
 *		  (copied for that image), _TagsOf (of accounts that it is shared with: lib/tags.h)
 *	key-pair: _PublicKey ("ssh-ed25519 AAAA… name", no newline)
 *
 * "import-image-task" (import-image.c), and kinds "image-arriving", "image-leaving": images on
 * their way, see image-move.c.
 *
 * Zones are in lib/zones.h, which all daemons share.
 */
#pragma once

#include "action.h"
#include "daemon.h"

/* All actions of these rooms, ended by a row without a name. */
extern const struct action catalog_actions[];

/* (fiber) After the store is open: repeats what a crash may have cut off (images' protection of
 * their snapshots), in the background. 0 or -errno. */
int catalog_open(struct daemon *d);
void catalog_close(struct daemon *d);

/* The machine image as the context's account may launch it in the context's region: own, public, or
 * shared with it, and `available`. *ret_image (borrowed until the next commit): ImageId,
 * Architecture, RootDeviceName, RootDeviceType "ebs", BlockDeviceMappings [{DeviceName,
 * Ebs{SnapshotId, VolumeSize, VolumeType, DeleteOnTermination …}}] (the root's row is always there,
 * with SnapshotId, VolumeSize and VolumeType filled), KernelId, RamdiskId, _Cmdline,
 * PlatformDetails, UsageOperation, BootMode, EnaSupport, ImdsSupport. Faults:
 * InvalidAMIID.Malformed, .NotFound, .Unavailable. */
int image_find(const struct store *s, const struct context *ctx, const char *image_id,
	       const struct doc **ret_image, struct fault *f);
/* Another account's image that the caller sees: public, or shared with him, in his region. */
int image_is_visible(const struct call *c, const struct doc *image);
/* An instance is launched from it: LastLaunchedTime, in `t`. AWS shows it a day later. */
int image_note_launch(struct txn *t, const char *id);
/* The one snapshot of an aki-/ari- image: id borrowed until the next commit; NULL when there is no
 * such image. The snapshot belongs to the image's account: ask stord with that account (see
 * image_account). */
const char *image_raw_snapshot(const struct store *s, const char *kernel_or_ramdisk_id);
/* The account that owns an image of any kind, borrowed; NULL when there is none. Its snapshots are
 * its own, so stord is asked in its name. */
const char *image_account(const struct store *s, const char *image_id);

/* The context's key pair of this name. Its JSON: KeyPairId, KeyName, KeyType "rsa"|"ed25519",
 * KeyFingerprint, _PublicKey. Fault: InvalidKeyPair.NotFound. */
int key_pair_find(const struct store *s, const struct context *ctx, const char *key_name,
		  const struct doc **ret_key, struct fault *f);

struct instance_family;
struct instance_type {
	const char *name; /* "t3.micro" */
	unsigned n_vcpus, n_threads_per_core;
	unsigned memory_mib;
	unsigned n_interfaces;
	unsigned n_ipv4_per_interface;
	int is_burstable;
	unsigned baseline_permille; /* of each vCPU, burstable only */
	unsigned ebs_baseline_mbps, ebs_baseline_iops, ebs_max_mbps,
		ebs_max_iops; /* 0: not EBS-optimized */
	int is_nitro;	      /* else a Xen type: no NVMe, no ENA */
	const char *network;  /* "Up to 5 Gigabit" */
	unsigned network_baseline_mbps, network_peak_mbps;
	unsigned clock_mhz;
	const char *valid_cores; /* "2 4" */
	const struct instance_family *family;
};

/* NULL: no such type. Const rows, for ever. */
const struct instance_type *instance_type_find(const char *name);
/* How many volumes an instance with so many interfaces may have. */
unsigned instance_type_max_volumes(const struct instance_type *type, unsigned n_interfaces);
/* In the order of the table; NULL at its end. */
const struct instance_type *instance_type_next(const struct instance_type *after);
