/*
 * Key material: making key pairs and reading public keys, in the forms that OpenSSH and AWS use. No
 * documents, no daemon: bytes in, text out.
 *
 * Public keys come from strangers: every length is checked, and what is kept is written anew from
 * the parsed key, so that nothing but type, key and our own comment can get into a guest's
 * authorized_keys. Sources: RFC 4253 6.6, RFC 8709, RFC 4716, OpenSSH PROTOCOL.key; fingerprints:
 * EC2 user guide, "Verify the fingerprint of your key pair".
 */
#pragma once

#include <stddef.h>
#include "own.h"

#define KEY_MATERIAL_MAX_BYTES 16384

enum key_type { KEY_RSA, KEY_ED25519 };

struct key_material {
	enum key_type type;
	char *public_line; /* "ssh-ed25519 AAAA…", without a comment */
	char *fingerprint; /* as AWS shows it */
	char *private_pem; /* of a made key: PKCS#1 for RSA, OpenSSH's own form for ed25519; wiped
			      by clear */
};
void key_material_clear(struct key_material *k);
static inline void own_key_material_clear(struct key_material *k)
{
	key_material_clear(k);
}

/* "rsa", "ed25519" */
const char *key_type_name(enum key_type type);

/* Makes a key pair; RSA has 2048 bits and takes a moment: call it on a worker. 0, -ENOMEM or -EIO
 * (the generator failed). */
int key_material_make(enum key_type type, struct key_material *ret_key);

/* Reads a public key: an OpenSSH line, RFC 4716, PEM (SubjectPublicKeyInfo or PKCS#1), or base64 of
 * the DER. `text` needs no NUL. -EINVAL: none of these; -ERANGE: RSA of a length AWS does not take
 * (1024 to 4096 bits are taken). */
int key_material_parse(const char *text, size_t n_bytes, struct key_material *ret_key);
