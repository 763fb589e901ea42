/*
 * LUKS inside qcow2, as QEMU writes and reads it: made for new layers, and opened to read or write
 * the data without QEMU. Sources: "LUKS1 On-Disk Format Specification" 1.2.3, QEMU's
 * docs/interop/qcow2.txt ("Full disk encryption header pointer").
 *
 * One cipher (AES-256 in XTS with plain64, SHA-256), one key slot. Sectors of 512 bytes are counted
 * by their place in the file, not by what the guest sees. The passphrase is as random as the key
 * under it, so it is stretched no more than the format asks for.
 *
 * A header may have been written by a QEMU that its guest took over: everything in it is checked.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include "own.h"

#define LUKS_SECTOR 512
/* What the header and all key slots take in the file. */
#define LUKS_BYTES 2068480u
/* The part of it that is not zeros in what luks_make() makes. */
#define LUKS_USED_BYTES (4096u + 256000u)

struct luks;

/* The header at `offset` of the file. 0; -EKEYREJECTED: the passphrase does not open it; -EUCLEAN,
 * -EOPNOTSUPP: it is not one of ours; -errno. Blocks. */
int luks_open(int fd, uint64_t offset, uint64_t n_bytes, const char *passphrase,
	      struct luks **ret_luks);
/* A new one: LUKS_USED_BYTES of header in *ret_header (free()). 0 or -errno. Blocks. */
int luks_make(const char *passphrase, struct luks **ret_luks, uint8_t **ret_header);
void luks_free(struct luks *l);
OWN_DEFINE(struct luks *, luks_free);

/* In place; `offset` in the file and n_bytes are multiples of LUKS_SECTOR. 0 or -errno. From any
 * thread. */
int luks_encrypt(const struct luks *l, uint64_t offset, void *data, size_t n_bytes);
int luks_decrypt(const struct luks *l, uint64_t offset, void *data, size_t n_bytes);
/* The same for a few bytes (16 to LUKS_SECTOR) that are no data, told apart by `number`. */
int luks_seal(const struct luks *l, uint64_t number, void *data, size_t n_bytes);
int luks_unseal(const struct luks *l, uint64_t number, void *data, size_t n_bytes);
