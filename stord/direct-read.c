/* EBS direct: which blocks a snapshot has, which differ between two, and one block's contents. */
#include "direct.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "chain.h"
#include "fiber.h"

#define RESULTS_DEFAULT 10000
/* One call looks at and reads so much at most, then answers what it has and how to go on. */
#define LOOKED_MAX   (4u << 20)	  /* blocks */
#define COMPARED_MAX (256u << 20) /* bytes */

int direct_snapshot(const struct call *c, const char *id, const struct doc **ret_doc,
		    struct fault *f)
{
	int r = snapshot_get_usable(c, id, ret_doc, f);

	if (r == 0)
		return 0;
	if (fault_is(f, FAULT_INVALID_SNAPSHOT_NOT_FOUND))
		return fault_set(f, FAULT_EBS_NOT_FOUND, "The snapshot '%s' does not exist.", id);
	return fault_set(f, FAULT_EBS_INVALID_SNAPSHOT_ID,
			 "Value (%.64s) for parameter snapshotId is invalid. Expected: 'snap-...'.",
			 id ? id : "");
}

static int completed_snapshot(const struct call *c, const char *id, const struct doc **ret_doc,
			      struct fault *f)
{
	int r = direct_snapshot(c, id, ret_doc, f);

	if (r == 0 && strcmp(jstr_or((*ret_doc)->json, "State", ""), "completed") != 0)
		return fault_set(f, FAULT_EBS_INVALID_SNAPSHOT_ID,
				 "The snapshot '%s' is not completed.", id);
	return r;
}

static int open_contents(struct daemon *d, const struct doc *snapshot, struct chain **ret_chain,
			 struct fault *f)
{
	char id[ID_MAX];

	snprintf(id, sizeof id, "%s", snapshot->id);
	int r = chain_open_snapshot(d, id, ret_chain);

	if (r == -EOPNOTSUPP)
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
				 "The snapshot's contents cannot be read by blocks here.");
	return r;
}

/* ---- lists ---- */

struct scan {
	struct chain *first, *second; /* first NULL: all blocks of the second */
	uint64_t start, end;
	size_t max;
	struct found {
		uint64_t index;
		uint8_t in_first, in_second;
	} * found;
	size_t n;
	uint64_t next; /* where it stopped */
	uint64_t n_compared;
	uint8_t *buffers; /* two blocks */
};

/* 1: the same cluster in both, or the same bytes. 0 or -errno. */
static int is_same_cluster(struct scan *s, uint64_t at)
{
	struct place a = {NULL, 0}, b = {NULL, 0};
	int r = chain_place(s->first, at, &a);

	if (r == 0)
		r = chain_place(s->second, at, &b);
	if (r < 0 || place_is(&a, &b))
		return r < 0 ? r : 1;
	r = chain_read(s->first, at, s->buffers, CHAIN_CLUSTER);
	if (r == 0)
		r = chain_read(s->second, at, s->buffers + DIRECT_BLOCK, CHAIN_CLUSTER);
	s->n_compared += 2 * CHAIN_CLUSTER;
	return r < 0 ? r : memcmp(s->buffers, s->buffers + DIRECT_BLOCK, CHAIN_CLUSTER) == 0;
}

static int is_same_block(struct scan *s, uint64_t index)
{
	for (uint64_t at = index * DIRECT_BLOCK; at < (index + 1) * DIRECT_BLOCK;
	     at += CHAIN_CLUSTER) {
		int r = is_same_cluster(s, at);

		if (r != 1)
			return r;
	}
	return 1;
}

/* A block that changed to zeros is there all the same: its contents are zeros now. */
static int look_at(struct scan *s, uint64_t index)
{
	uint64_t at = index * DIRECT_BLOCK;
	int in_first = 0, in_second;

	if (s->first) {
		int same = is_same_block(s, index);

		if (same != 0)
			return same < 0 ? same : 0;
		in_first = at < chain_bytes(s->first);
		in_second = at < chain_bytes(s->second);
	} else {
		in_second = chain_has_data(s->second, at, DIRECT_BLOCK);
		if (in_second <= 0)
			return in_second;
	}
	s->found[s->n++] = (struct found){index, (uint8_t)in_first, (uint8_t)in_second};
	return 0;
}

/* On a worker. */
static int run_scan(void *arg)
{
	struct scan *s = arg;
	int r = 0;

	for (s->next = s->start; r == 0 && s->next < s->end && s->n < s->max &&
				 s->next - s->start < LOOKED_MAX && s->n_compared < COMPARED_MAX;
	     s->next += r == 0)
		r = look_at(s, s->next);
	return r;
}

static int scan_prepare(struct scan *s, const struct call *c, const json_t *parameters,
			const char *what, struct fault *f)
{
	const char *text = jstr(parameters, "NextToken");
	struct token token = {.index = (uint64_t)jint(parameters, "StartingBlockIndex", 0)};

	if (text && token_read(c->daemon, what, text, &token) < 0)
		return fault_set(f, FAULT_EBS_INVALID_PAGE_TOKEN, "The page token is not valid.");
	s->start = token.index;
	s->max = (size_t)jint(parameters, "MaxResults", RESULTS_DEFAULT);
	s->found = calloc(s->max, sizeof *s->found);
	s->buffers = malloc(2 * DIRECT_BLOCK);
	return s->found && s->buffers ? 0 : -ENOMEM;
}

static void own_scan_clear(struct scan *s)
{
	chain_free(s->first);
	chain_free(s->second);
	free(s->found);
	free(s->buffers);
}

static int put_token(struct daemon *d, json_t *object, const char *member, const char *snapshot,
		     uint64_t index, int64_t expiry)
{
	char what[TOKEN_PLACE_BYTES], text[TOKEN_BYTES_MAX];
	struct token token = {index, expiry};

	snprintf(what, sizeof what, "block %s", snapshot);
	int r = token_make(d, what, &token, text);

	return r == 0 ? jset(object, member, text) : r;
}

/* One row of either list. */
static json_t *row_of(struct daemon *d, const struct scan *s, const struct found *b,
		      const char *first, const char *second, int64_t expiry)
{
	OWN(json_decref)
	json_t *row = json_pack("{s:I}", "BlockIndex", (json_int_t)b->index);
	int r = row ? 0 : -ENOMEM;

	if (r == 0 && b->in_first)
		r = put_token(d, row, "FirstBlockToken", first, b->index, expiry);
	if (r == 0 && b->in_second)
		r = put_token(d, row, s->first ? "SecondBlockToken" : "BlockToken", second,
			      b->index, expiry);
	return r == 0 ? give(row) : NULL;
}

static json_t *rows_of(struct daemon *d, const struct scan *s, const char *first,
		       const char *second, int64_t expiry, int is_changes)
{
	OWN(json_decref) json_t *rows = json_array();

	for (size_t i = 0; i < s->n; i++) {
		json_t *row = row_of(d, s, &s->found[i], first, second, expiry);

		/* Without a first snapshot all that the second has is a change. */
		if (row && is_changes && !s->first) {
			json_t *token = json_object_get(row, "BlockToken");

			if (json_object_set(row, "SecondBlockToken", token) < 0)
				return NULL;
			(void)json_object_del(row, "BlockToken"); /* it is there */
		}
		if (json_array_append_new(rows, row) < 0)
			return NULL;
	}
	return give(rows);
}

/* Both lists: what came of the scan, and how to go on. */
static int answer(struct call *c, const struct scan *s, const char *first, const char *second,
		  const char *what, int64_t gib, int is_changes, json_t **ret_reply)
{
	int64_t expiry = token_expiry();
	OWN(json_decref) json_t *rows = rows_of(c->daemon, s, first, second, expiry, is_changes);
	OWN(json_decref)
	json_t *reply = json_pack("{s:O, s:I, s:I, s:i}", is_changes ? "ChangedBlocks" : "Blocks",
				  rows, "ExpiryTime", (json_int_t)expiry, "VolumeSize",
				  (json_int_t)gib, "BlockSize", DIRECT_BLOCK);
	char text[TOKEN_BYTES_MAX];

	if (!reply)
		return -ENOMEM;
	if (s->next < s->end) {
		struct token token = {s->next, expiry};
		int r = token_make(c->daemon, what, &token, text);

		if (r == 0)
			r = jset(reply, "NextToken", text);
		if (r < 0)
			return r;
	}
	*ret_reply = give(reply);
	return 0;
}

static uint64_t blocks_of(const struct chain *c)
{
	return (chain_bytes(c) + DIRECT_BLOCK - 1) / DIRECT_BLOCK;
}

int direct_list_blocks(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	__attribute__((cleanup(own_scan_clear))) struct scan s = {0};
	const char *id = jstr(parameters, "SnapshotId");
	const struct doc *d = NULL;
	char what[TOKEN_PLACE_BYTES];
	int r = completed_snapshot(c, id, &d, f);

	if (r < 0)
		return r;
	int64_t gib = jint(d->json, "VolumeSize", 1);

	snprintf(what, sizeof what, "page %s", id);
	r = scan_prepare(&s, c, parameters, what, f);
	if (r == 0)
		r = open_contents(c->daemon, d, &s.second, f);
	if (r < 0)
		return r;
	s.end = blocks_of(s.second);
	r = fiber_work(run_scan, &s);
	return r < 0 ? r : answer(c, &s, NULL, id, what, gib, 0, ret_reply);
}

/* The same volume, one copied or written from the other, or layers in common. */
static int is_related(const struct store *store, const struct doc *a, const struct doc *b)
{
	const char *volume = jstr_or(a->json, "VolumeId", "");

	if (strcmp(volume, "vol-ffffffff") != 0 &&
	    strcmp(volume, jstr_or(b->json, "VolumeId", "")) == 0)
		return 1;
	return layers_meet(store, jstr_or(a->json, "_Layer", ""), jstr_or(b->json, "_Layer", ""));
}

int direct_list_changed(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	__attribute__((cleanup(own_scan_clear))) struct scan s = {0};
	const char *second = jstr(parameters, "SecondSnapshotId"),
		   *first = jstr(parameters, "FirstSnapshotId");
	const struct doc *after = NULL, *before = NULL;
	char what[TOKEN_PLACE_BYTES];
	int r = completed_snapshot(c, second, &after, f);

	if (r == 0 && first)
		r = completed_snapshot(c, first, &before, f);
	if (r < 0)
		return r;
	if (before && !is_related(c->store, before, after))
		return fault_set(f, FAULT_EBS_UNRELATED,
				 "The snapshots %s and %s are not of one volume.", first, second);
	int64_t gib = jint(after->json, "VolumeSize", 1);
	OWN(json_decref) json_t *kept = json_incref(after->json); /* across the waits below */

	snprintf(what, sizeof what, "page %s %s", first ? first : "-", second);
	r = scan_prepare(&s, c, parameters, what, f);
	if (r == 0 && before)
		r = open_contents(c->daemon, before, &s.first, f);
	after = r == 0 ? store_find(c->store, "snapshot", second) : NULL;
	if (r == 0 && !after)
		return fault_set(f, FAULT_EBS_NOT_FOUND, "The snapshot '%s' does not exist.",
				 second);
	if (r == 0)
		r = open_contents(c->daemon, after, &s.second, f);
	if (r < 0)
		return r;
	s.end = blocks_of(s.second);
	if (s.first && blocks_of(s.first) > s.end)
		s.end = blocks_of(s.first);
	r = fiber_work(run_scan, &s);
	return r < 0 ? r : answer(c, &s, first, second, what, gib, 1, ret_reply);
}

/* ---- a block ---- */

struct block {
	struct chain *chain;
	uint64_t index;
	int fd;
	uint8_t sum[32];
};

/* On a worker. */
static int read_block(void *arg)
{
	struct block *b = arg;
	OWN(free) uint8_t *data = malloc(DIRECT_BLOCK);
	int r = data ? chain_read(b->chain, b->index * DIRECT_BLOCK, data, DIRECT_BLOCK) : -ENOMEM;

	if (r < 0)
		return r;
	if (!EVP_Digest(data, DIRECT_BLOCK, b->sum, NULL, EVP_sha256(), NULL))
		return -ENOMEM;
	OWN(fd_close) int fd = memfd_create("block", MFD_CLOEXEC);

	if (fd < 0 || write(fd, data, DIRECT_BLOCK) != DIRECT_BLOCK)
		return fd < 0 ? -errno : -ENOMEM;
	b->fd = give(fd);
	return 0;
}

int direct_get_block(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *id = jstr(parameters, "SnapshotId");
	struct block b = {.index = (uint64_t)jint(parameters, "BlockIndex", 0), .fd = -1};
	OWN(chain_free) struct chain *chain = NULL;
	char what[TOKEN_PLACE_BYTES], sum[48];
	const struct doc *d = NULL;
	struct token token;
	int r = completed_snapshot(c, id, &d, f);

	if (r < 0)
		return r;
	snprintf(what, sizeof what, "block %s", id);
	if (token_read(c->daemon, what, jstr_or(parameters, "BlockToken", ""), &token) < 0 ||
	    token.index != b.index)
		return fault_set(f, FAULT_EBS_INVALID_BLOCK_TOKEN,
				 "The block token is not valid for block %llu of %s.",
				 (unsigned long long)b.index, id);
	r = open_contents(c->daemon, d, &chain, f);
	b.chain = chain;
	if (r == 0)
		r = fiber_work(read_block, &b);
	if (r == 0 && fds_add(c->out, b.fd) < 0) {
		close(b.fd);
		r = -ENOMEM;
	}
	if (r < 0)
		return r;
	sum_print(b.sum, sum);
	*ret_reply = json_pack("{s:i, s:s, s:s}", "DataLength", DIRECT_BLOCK, "Checksum", sum,
			       "ChecksumAlgorithm", "SHA256");
	return *ret_reply ? 0 : -ENOMEM;
}
