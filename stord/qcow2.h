/*
 * qcow2: the header, read from strangers and written for ourselves. Source: QEMU's
 * docs/interop/qcow2.txt.
 *
 * Writing by hand, because making a volume must take a millisecond and starting qemu-img takes
 * thirty. Reading by hand, because what a header can ask for (other files, absurd sizes) is refused
 * before any tool is let near it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define QCOW2_REASON_MAX  160
#define QCOW2_BACKING_MAX 1023

/* Writes a new, empty image of `bytes` to `fd` (an empty file), over `backing_path` unless NULL.
 * Nothing is flushed. 0 or -errno; -EINVAL for a size or path that the format cannot hold. */
int qcow2_write_empty(int fd, uint64_t bytes, const char *backing_path, const char *backing_format);
/* The same, encrypted: `luks` are the LUKS_USED_BYTES of luks_make(). They lie behind the L1 table. */
int qcow2_write_encrypted(int fd, uint64_t bytes, const char *backing_path,
			  const char *backing_format, const uint8_t *luks);

/* 0 with the size a guest would see, if the header is one that this cloud takes: whole, no other
 * file needed, not encrypted, not larger than max_bytes, its tables inside the file. -EINVAL with a
 * sentence of why not; -errno of reading. */
int qcow2_check_header(int fd, uint64_t max_bytes, uint64_t *ret_bytes,
		       char ret_reason[static QCOW2_REASON_MAX]);

/* The backing file that the header names, "" for none. 0; -EINVAL: no qcow2, or a name longer than
 * that; -errno. */
int qcow2_read_backing(int fd, char ret_path[static QCOW2_BACKING_MAX + 1]);

/* The size a guest sees, as the header says. 0; -EINVAL: no qcow2; -errno. */
int qcow2_read_bytes(int fd, uint64_t *ret_bytes);

/* The file begins as a qcow2 does. */
int qcow2_is(int fd);
