/*
 * EBS direct: snapshots read and written by blocks of 512 KiB over HTTP. Source: EBS direct APIs
 * reference.
 *
 * A block token is a promise to read one block of one snapshot for a week: expiry and a MAC over
 * it, the snapshot and the block, by a key in our store. Nothing is kept of those handed out.
 *
 * A snapshot that is being written is `pending`, its layer a file of target.h. Its member `_Direct`
 * has Timeout (minutes from the last block to the end of patience), IsMade (its file was made once:
 * a missing one is a loss) and IsCounted (CompleteSnapshot found everything right; what is left is
 * ours to do).
 */
#pragma once

#include "stord.h"

#define DIRECT_BLOCK	       (512 * 1024)
#define DIRECT_TIMEOUT_DEFAULT 60 /* minutes */
#define TOKEN_BYTES_MAX	       64 /* as text */
#define TOKEN_PLACE_BYTES      192

/* What a token stands for: "block snap-… 7", "page snap-… snap-…". */
struct token {
	uint64_t index;
	int64_t expiry_sec;
};
/* The moment until which tokens made now are good. */
int64_t token_expiry(void);
/* `what` is covered by the MAC and not in the token. 0 or -errno. */
int token_make(struct daemon *d, const char *what, const struct token *token,
	       char ret_text[static TOKEN_BYTES_MAX]);
/* 0, -EINVAL: it is none of ours for this, or too old. */
int token_read(struct daemon *d, const char *what, const char *text, struct token *ret_token);

/* SHA-256 as the API writes it; the way back is -EINVAL for what is none. */
void sum_print(const uint8_t sum[static 32], char ret_text[static 48]);
int sum_parse(const char *text, uint8_t ret_sum[static 32]);

/* The caller's snapshot, in the words of this service. */
int direct_snapshot(const struct call *c, const char *id, const struct doc **ret_doc,
		    struct fault *f);

/* direct-start.c: (fiber) the pending snapshot's empty file is there, and its document says that it was
 * made, when it returns 0. */
int direct_make_layer(struct daemon *d, const char *id);

/* direct-wait.c: the pending snapshot's client is waited for, so many minutes from now, and again
 * from each sign of life; not any more. Its layer is pinned meanwhile. */
int direct_wait_begin(struct daemon *d, const char *snapshot_id, unsigned minutes);
void direct_wait_more(const char *snapshot_id);
void direct_wait_end(const char *snapshot_id);
/* (fiber) Gives up what nobody has completed in time, as of this moment of CLOCK_MONOTONIC. */
void direct_expire(struct daemon *d, uint64_t now_usec);
/* (fiber) At start: pending snapshots get their file if it was never made, their patience anew, and
 * are ended if everything was right. */
int direct_resume(struct daemon *d);
