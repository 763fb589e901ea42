/*
 * What stord's rooms share: its documents, and the calls from room to room.
 *
 * Documents (members of AWS's, and ours):
 *	volume			_Layer: the layer that is written; _NextLayer: a switch is under way to
 *				this one; _Layers: how many it has had, for their names; _Ready: its
 *				file was whole once, so a missing file is a loss, never made anew
 *	snapshot		_Layer: the layer whose contents it is; _Bytes: the exact size a guest
 *				sees; _Images: ids of images that refer to it
 *	_layer			see layer.h
 *	import-snapshot-task	_SnapshotId: what it will make; _Format: qcow2 or raw
 *	_unlink			id is the name of a file whose owner is gone: written in the
 *				transaction that takes the owner away, so that a crash between the two
 *				leaves neither a file nobody owns nor an owner without file
 *
 * A file without a document and without such a mark is nobody's to delete: it is left, and said
 * once at start.
 */
#pragma once

#include "action.h"
#include "daemon.h"
#include "id.h"
#include "jsonx.h"
#include "own.h"
#include "tags.h"

#define GIB (INT64_C(1) << 30)

/* What a customer can grow, per account and region. */
enum {
	LIMIT_DESCRIPTION = 255, /* of a snapshot, bytes */
	LIMIT_VOLUMES = 5000,
	LIMIT_PROVISIONED_IOPS = 300000, /* of all volumes of io1, and of io2 */
	LIMIT_SNAPSHOTS = 10000,
	LIMIT_IMPORTS_UNDER_WAY = 20,
	LIMIT_TASKS_KEPT = 1000,
};

/* The document belongs to the caller's account and region. */
int is_callers(const struct call *c, const struct doc *d);
/* How many documents of the kind the caller has in the region. */
size_t count_of_caller(const struct call *c, const char *kind);

/* How many snapshots, those in the recycle bin included: they take room, too. */
size_t snapshot_count(const struct call *c);

/* The caller's volume or snapshot by a parameter; MissingParameter, malformed, not found. */
int volume_get(const struct call *c, json_t *parameters, const struct doc **ret_doc,
	       struct fault *f);
/* Its VolumeId is there and one of a volume's; whether there is such a volume is not looked at.
 * MissingParameter, malformed. */
int volume_id_get(const json_t *parameters, const char **ret_id, struct fault *f);
/* (fiber) Everybody who changes a volume across a wait comes this way: holds it, then looks at it.
 */
struct hold;
int volume_enter(struct call *c, json_t *parameters, struct hold **ret_hold,
		 const struct doc **ret_doc, struct fault *f);
/* The instance that a volume is attached to (the first, if it is several), NULL: none. */
const char *volume_attached_to(const json_t *volume);
int snapshot_get(const struct call *c, const char *id, const struct doc **ret_doc, struct fault *f);
/* The same for who only makes volumes from it: also one that its owner shares. */
int snapshot_get_usable(const struct call *c, const char *id, const struct doc **ret_doc,
			struct fault *f);
/* snapshot-attribute.c: its owner gave it to this account, or to all. */
int snapshot_is_shared(const struct store *s, const struct doc *snapshot, const char *account);
/* snapshot-describe.c: the same of the caller, in his region. */
int snapshot_is_visible(const struct call *c, const struct doc *snapshot);
/* snapshot.c: the changed copy of a snapshot says that it is completed, now. 0 or -ENOMEM. */
int snapshot_set_completed(json_t *snapshot);
/* snapshot-size.c: at start: whatever is completed, now and from now on, gets to know its size, in
 * the background. 0 or -ENOMEM. */
int snapshot_size_start(struct daemon *d);
/* snapshot-public.c: its owner hides what is public; the caller may make a snapshot public. */
int snapshot_hides_public(const struct store *s, const struct doc *snapshot);
int snapshot_check_public(const struct call *c, struct fault *f);
/* snapshot-lock.c: it is not locked against deletion. */
int snapshot_check_lock(const struct doc *snapshot, struct fault *f);
/* volume-file.c: (fiber) the volume's file is there, whole, and nobody else has it open or is about
 * to change it, when it returns 0; the caller holds the volume. -ENODATA: it was there once and is
 * lost. */
int volume_prepare(struct daemon *d, const char *volume_id);
/* Makes the file in the background, and the volume available if it was being created. */
int volume_prepare_later(struct daemon *d, const char *volume_id);
/* After the volume's deletion in this transaction: the layers that nobody else needs go too. */
int volume_release(struct txn *t, const struct doc *volume);

/* What a customer may have of provisioned IOPS, if this volume (NULL: a new one) is of this shape.
 * Source: EBS service quotas. */
struct volume_shape;
int volume_check_iops(const struct call *c, const struct volume_shape *s, const char *volume_id,
		      struct fault *f);

/* The configuration has volumes' limits kept (Storage.EnforceLimits). */
int volume_is_limited(const struct daemon *d);
/* volume-modify.c: (fiber) a volume (held) whose file may have grown already says so when it returns
 * 0: to be called before its file is left as it is, by a snapshot or a deletion. -EAGAIN: not known;
 * else -errno: it could not, and has not. */
int volume_modify_settle(struct daemon *d, const char *volume_id);
/* volume-modify.c: modifications that were under way when the daemon ended go on. */
void volume_modify_resume(struct daemon *d);

/* unlink.c: puts the mark. */
int unlink_mark(struct txn *t, const char *name);
/* (fiber) Deletes what is marked. Failures are logged; the mark stays for the next start. */
void unlink_marked(struct daemon *d);

/* import-work.c: (fiber) starts the task's work in the background; `fd` is taken over. */
int import_start(struct daemon *d, const char *task_id, int fd);
/* A task that was under way when the daemon ended: begins again or fails. */
int import_resume(struct daemon *d, const struct doc *task);
/* Opens what a file:// URL names: a regular file. The descriptor, or -errno with the reason in `f`.
 */
int import_open_url(const char *url, struct fault *f);

/* upgrade.c: brings documents of older versions to this one's form. */
int stord_upgrade(struct daemon *d);

/* reconcile.c: (fiber) brings files and documents together after any end. */
int stord_reconcile(struct daemon *d);

#define ROW(action, handler, flags)                                                                \
	int handler(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f);
#include "action-table.h"
#undef ROW
