/*
 * Console: the first serial port of each instance as a file, <state>/hvd/console/<id>.log. hvd
 * makes it before the guest starts and reads it; QEMU appends. All starts of an instance stay in
 * one file; its head is given back to the disk once it is long, so that a guest that talks without
 * end fills nobody's disk.
 */
#pragma once

#include <stdint.h>
#include "daemon.h"

#define CONSOLE_PATH_BYTES 384
#define CONSOLE_TAIL_BYTES (64 << 10) /* what GetConsoleOutput shows: AWS's figure */

/* At least so much of its end is kept, and so much is a file that nothing was given back of. */
#define CONSOLE_KEPT_BYTES (256 << 10)

/* Where it is. */
void console_path(const struct daemon *d, const char *instance_id,
		  char ret_path[static CONSOLE_PATH_BYTES]);
/* Makes the file if needed and writes a line of ours into it: a new start begins here. 0 or
 * -errno. */
int console_begin(const struct daemon *d, const char *instance_id, const char *line);
/* The file's last bytes, at most n_max (malloced), and when it was last written; -ENOENT. */
int console_read(const struct daemon *d, const char *instance_id, size_t n_max, char **ret_bytes,
		 size_t *ret_n, int64_t *ret_usec);
/* Removes it. It may never have been there. */
void console_remove(const struct daemon *d, const char *instance_id);
/* Gives the disk back what is older than the tail, when that is worth it. */
void console_trim(const struct daemon *d, const char *instance_id);
