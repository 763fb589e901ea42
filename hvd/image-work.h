/*
 * Images in the making: `pending` until every snapshot of theirs is completed, then `available`, or
 * `failed` with a reason. CreateImage and CopyImage answer when the document is durable; the rest
 * is done by a fiber for each image, and begun again by the next start after any end: `_Work` says
 * what (Kind "create": Instance, Reboot; Kind "copy": Region and Account of the source). Until the
 * SnapshotId of a mapping is known its Ebs has _Volume, or _Source (a snapshot there).
 */
#pragma once

#include "catalog-rooms.h"
#include "virt.h"

/* (fiber) Makes what is missing of the image's snapshots, by image_set_snapshot(). 0, or -errno
 * with `f` filled: ServiceUnavailable is tried again, -ECANCELED: the image is gone, anything else
 * fails it.
 */
int image_create_work(struct daemon *d, const char *image_id, struct fault *f);
int image_copy_work(struct daemon *d, const char *image_id, struct fault *f);

/* The fiber for a pending image, once its document is committed. */
int image_work_start(struct daemon *d, const char *image_id);
/* At start, for all of them. 0 or -errno. */
int image_work_resume(struct daemon *d);

/* The image's document while it is pending; NULL: it is gone, or has ended. */
const struct doc *image_pending(const struct daemon *d, const char *image_id);
/* Account and region of an image, to ask others in its name. */
struct context image_context(const struct doc *image);
/* The mapping's snapshot is known: durable, and stord knows that the image uses it. (fiber) */
int image_set_snapshot(struct daemon *d, const char *image_id, size_t mapping,
		       const char *snapshot_id, struct fault *f);
/* (fiber) The id of a snapshot that has this description: what an earlier try made. "" if none. */
int image_find_snapshot(const struct context *ctx, const char *description, const char *volume_id,
			char ret_id[static 40], struct fault *f);

/* image-register.c: the rules of names, and that no other image of the caller has it. */
int image_name_check(const struct call *c, const char *name, struct fault *f);
/* image-move.c: (fiber) tells stord that the image uses, or no longer uses, its snapshots. */
int image_protect(const struct context *ctx, const char *image_id, const json_t *image, int is_used,
		  struct fault *f);
/* image-register.c: (fiber) one row of a block device mapping, checked and filled in. */
int image_mapping_check(const struct call *c, json_t *mapping, struct fault *f);
/* (fiber) The snapshots of an image that has left, as far as nobody else needs them. */
void image_delete_snapshots(const struct context *ctx, const json_t *image);
/* image-create.c: what happened to a domain. Not a fiber. */
void image_on_event(const char *instance_id, enum virt_event event);
/* image-state.c: the match of DescribeImages' filter of what is left out unless asked for; and
 * whether the image may be deregistered (OperationNotPermitted). */
int image_current_match(const struct doc *d, const json_t *values);
int image_protection_check(const struct doc *d, struct fault *f);
/* image-state.c: for an hour after an image was deregistered DescribeImages finds nothing by its id,
 * instead of refusing it (AWS: "for a short interval … return empty results"); clients wait for
 * that. With the deregistration's transaction, which also forgets those whose hour is over. */
#define IMAGE_GONE_KIND "image-gone"
int image_gone_put(struct call *c, const struct doc *image);
/* image-bin.c: (fiber) adds to the transaction that deregisters the image: 1: it is in the recycle
 * bin; 0: no rule keeps it. And lets go what is over its time, now and from now on. */
#define IMAGE_BIN_KIND "image-in-bin"
int image_bin_put(struct call *c, const char *image_id, struct fault *f);
void image_bin_start(struct daemon *d);
/* image.c: (fiber) what was copied for the image that left goes, unless another one, or an instance,
 * uses it. */
int image_leave_parts(struct call *c, const char *image_id, struct fault *f);
/* At start, and when an instance is gone: the same, in the background, for images that left before.
 * 0 or -errno. */
int image_parts_start(struct daemon *d);
/* image-public.c: the caller may make an image public. */
int image_public_check(const struct call *c, struct fault *f);
#define IMPORT_IMAGE_KIND "import-image-task"
/* import-image.c: the task is under way. import-image-work.c: the fiber for it, once its document
 * is committed. 0 or -errno. */
int import_image_is_active(const struct doc *task);
int import_image_start(struct daemon *d, const char *task_id);
/* At start, tasks that were under way go on. 0 or -errno. */
int import_image_resume(struct daemon *d);
