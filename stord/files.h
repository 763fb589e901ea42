/*
 * Files: where volumes and snapshots lie under <StateDirectory>/stord, and the few ways to make and
 * unmake them durably.
 *
 *	zones/<zone>/volumes/vol-….qcow2	a volume's first layer, vol-….2.qcow2 the next …; a
 *						zone's directory may be a mount or a link to its
 *						own disk
 *	snapshots/snap-….qcow2 or .raw		what was imported
 *	tmp/					imports under way; emptied at every start
 *
 * A name is a path relative to that root. A file with its final name is whole: it was written
 * beside it as NAME.new (or in tmp/), flushed and renamed. The directories are 0711: QEMU, which
 * runs as another user, opens files whose ids it was told, and lists nothing. All calls but the
 * first two block and belong on a worker, save where a few microseconds do not matter.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include "daemon.h"

#define FILE_NAME_MAX 128
#define FILE_PATH_MAX 400

/* The volume's n-th layer, from 1. */
void file_volume_name(const char *zone, const char *volume_id, int64_t n,
		      char ret_name[static FILE_NAME_MAX]);
/* `format` is "qcow2" or "raw". */
void file_snapshot_name(const char *snapshot_id, const char *format,
			char ret_name[static FILE_NAME_MAX]);
/* The absolute path of a name. */
void file_path(const struct daemon *d, const char *name, char ret_path[static FILE_PATH_MAX]);

/* Makes the directories of all configured zones, and flushes them: who was killed between a file's
 * place and its directory's flush left a name that is there, and would be gone after a power cut. 0
 * or -errno. */
int files_open(const struct daemon *d);
int file_exists(const char *path);
/* Renames `from`, whose bytes are flushed, to `to`; both stay on one file system. With is_synced
 * the directory is flushed. */
int file_place(const char *from, const char *to, int is_synced);
/* Makes a whole file in its place: `fill` (0 or -errno) writes it beside, it is flushed and placed.
 * What fails leaves nothing. */
int file_make(const char *path, mode_t mode, int is_synced, int (*fill)(int fd, const void *arg),
	      const void *arg);
/* Deletes; absent is fine. */
int file_remove(const char *path, int is_synced);
/* Copies `n_bytes` of `from` to `to`, holes stay holes, by reference where the file system can.
 * -EIO when the source is shorter. */
int file_copy(int from, int to, int64_t n_bytes);
/* The configuration asks for flushes (Storage.Sync). */
int files_are_synced(const struct daemon *d);
