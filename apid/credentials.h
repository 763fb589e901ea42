/*
 * Credentials: the access keys of this cloud, kept in apid's store (kind "access-key", its id is
 * the access key id).
 *
 * The root credentials of the configured account are made at the first start and written to
 * <state_dir>/root-credentials (0600) in the form of AWS's shared credentials file, so that
 * AWS_SHARED_CREDENTIALS_FILE may simply name it. The store is the truth: the file is written again
 * whenever it is missing or different.
 */
#pragma once

#include "store.h"

struct access_key {
	const char *secret;
	const char *account;
	const char *principal; /* ARN of who it stands for */
	const char *user_id;   /* as GetCallerIdentity shows it */
};

/* Makes sure that `account` has root credentials and that the file in `state_dir` shows them. 0 or
 * -errno. */
int credentials_open(struct store *s, const char *state_dir, const char *account);
/* The active key of this id; its strings live until the next commit. 0 or -ENOENT. */
int credentials_find(const struct store *s, const char *access_key_id, struct access_key *ret_key);
