/*
 * Encryption as customers ask for it: what becomes of Encrypted and KmsKeyId of a request, of what
 * the new thing is made from, and of the account's settings. There is no key service: an id of a key
 * is kept and shown, and the data's keys are stord's own (volume-key.h).
 *
 * Sources: EBS user guide, "Amazon EBS encryption" (the table of outcomes); API reference of
 * CreateVolume and CopySnapshot.
 */
#pragma once

#include "action.h"
#include "id.h"
#include "jsonx.h"

#define KMS_KEY_MAX 384

struct encryption_ask {
	int is_said, is_on; /* Encrypted */
	int is_plain;	    /* a daemon's or tool's word: QEMU itself opens it (a kernel) */
	const char *key;    /* NULL or "": none was named */
};
struct encryption {
	int is_on;
	/* The origin's layers cannot be stood on: they are not encrypted, or under another key. */
	int is_anew;
	char key[KMS_KEY_MAX]; /* an ARN; "": not encrypted */
};

/* Encrypted and this member of the request. */
struct encryption_ask encryption_asked(const json_t *parameters, const char *key_member);
/* A volume's or a copy's, made from `origin` (NULL: from nothing). 0, or refused as AWS does. */
int encryption_choose(const struct call *c, const struct encryption_ask *ask,
		      const struct doc *origin, struct encryption *ret_encryption, struct fault *f);
/* Encrypted and KmsKeyId into the document of what was made. */
int encryption_set(json_t *json, const struct encryption *e);
/* The id that a snapshot shows for the data's key: of the key of this owner. */
void encryption_data_key(const char *owner, char ret_id[static ID_MAX + 8]);
/* The account encrypts all that is made in the region. */
int encryption_is_default(const struct call *c);
