/*
 * TLS: the endpoint's key and certificate.
 *
 * Either the operator's own files, or ours: a certificate authority made at first need in
 * <state_dir>/tls (ca.pem for clients to trust: AWS_CA_BUNDLE; ca.key 0600) and a server
 * certificate signed by it (server.pem, server.key 0600) for localhost, this host's name and the
 * address that is listened on; made again when it is about to expire or the names changed.
 */
#pragma once

#include <stddef.h>
#include "own.h"

struct tls_files {
	char *key;	   /* PEM text */
	char *certificate; /* PEM text, the chain */
};
void tls_files_clear(struct tls_files *t);
static inline void own_tls_files_clear(struct tls_files *t)
{
	tls_files_clear(t);
}

/* The operator's files. 0 or -errno. */
int tls_load(const char *certificate_path, const char *key_path, struct tls_files *ret_files);
/* Ours. `host` is the name or address of the listening socket ("" if any). 0 or -errno. */
int tls_make(const char *state_dir, const char *host, struct tls_files *ret_files);
