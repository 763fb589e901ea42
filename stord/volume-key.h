/*
 * Keys of encrypted volumes. A volume's data is LUKS inside its qcow2 files, opened by a passphrase
 * of 32 random bytes (in base64, as QEMU and libvirt take it): one for each volume that was made
 * empty, and for the snapshots of it and the volumes from those, whose layers its layers are. It
 * lies in keys/<volume>.key, encrypted and authenticated by the master key keys/master, which stays
 * in stord; all are 0600 in a directory of 0700. The passphrase leaves stord only to hvd, which
 * gives it to libvirt as a secret that is in memory alone.
 */
#pragma once

#include <stdint.h>
#include "daemon.h"
#include "files.h"

#define VOLUME_KEY_BYTES 48 /* 44 of base64 and a NUL */

/* The name of the key's file (files.h). */
void volume_key_name(const char *volume_id, char ret_name[static FILE_NAME_MAX]);
/* (fiber) The volume's passphrase; made, durably, if there is none and may_make. 0, -ENODATA: there
 * is none; -EBADMSG: it is damaged, or the master key is another; -errno. */
int volume_key_get(struct daemon *d, const char *volume_id, int may_make,
		   char ret_key[static VOLUME_KEY_BYTES]);
/* (fiber) What opens the layer of this name, "" for one that is not encrypted. As volume_key_get(). */
int volume_key_of_layer(struct daemon *d, const char *layer, int may_make,
			char ret_key[static VOLUME_KEY_BYTES]);

/* (fiber) The key of what was given up before it had a layer: its file goes, if there is one. A
 * failure is logged; fsck finds what is left. */
void volume_key_drop(struct daemon *d, const char *volume_id);

/* A passphrase for a tool: in memory alone, read by the tool from a descriptor that it inherits, so
 * that it is on no disk and in no process's arguments. The arguments name it as "key". */
struct volume_key_lent {
	int fd;		 /* confine_qemu_img_chain() hands it on */
	char object[64]; /* the value of --object */
};
#define VOLUME_KEY_NOT_LENT ((struct volume_key_lent){.fd = -1})
/* (fiber) 0, -ENODATA, -EBADMSG: as volume_key_get(). */
int volume_key_lend(struct daemon *d, const char *volume_id, struct volume_key_lent *ret_lent);
void volume_key_lent_clear(struct volume_key_lent *l);
static inline void own_volume_key_lent_clear(struct volume_key_lent *l)
{
	volume_key_lent_clear(l);
}
/* A tool's name (free()) of an encrypted image alone, without what it stands on; and of a layer with
 * its whole chain, all of one key. NULL out of memory. */
char *volume_key_alone(const char *path);
char *volume_key_chain(const struct daemon *d, const char *layer);

/* (fiber) A new empty image of this volume's key at `path`, whole and flushed: over `backing`, a
 * qcow2 of the same key, or (NULL) over nothing, and only then is a missing key made. */
int volume_key_make_image(struct daemon *d, const char *volume_id, const char *path, int64_t bytes,
			  const char *backing);
struct run_result;
/* (fiber) qemu-img check of its image, its leaks mended if is_mending. 0 with the tool's result;
 * -ENODATA, -EBADMSG: the key. */
int volume_key_check_image(struct daemon *d, const char *volume_id, const char *path,
			   int is_mending, struct run_result *ret_result);
/* (fiber) Its image, which nobody has open, becomes `bytes` large. */
int volume_key_grow_image(struct daemon *d, const char *volume_id, const char *path, int64_t bytes);
