/*
 * IMDSv2's session tokens: nothing is remembered. A token carries its end and a MAC over it and the
 * instance, so that it dies in time, is worth nothing to another instance, and outlives a restart
 * of ours (the key is in the store).
 */
#pragma once

#include <stdint.h>

#define IMDS_KEY_BYTES	 32
#define IMDS_TOKEN_CHARS 56
#define IMDS_TTL_MAX_SEC 21600

struct imds_key {
	uint8_t bytes[IMDS_KEY_BYTES];
};

/* 0 or -EIO. */
int imds_token_make(const struct imds_key *key, const char *instance_id, int64_t ttl_sec,
		    int64_t now_sec, char ret_token[static IMDS_TOKEN_CHARS + 1]);
/* The seconds that it has left (> 0), or -EACCES. */
int64_t imds_token_check(const struct imds_key *key, const char *instance_id, const char *token,
			 int64_t now_sec);
