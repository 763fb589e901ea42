/* Layers that lie: what a guest that took its QEMU over may have written into them. */
#include <openssl/evp.h>
#include "tap.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "../../stord/chain.h"
#include "../../stord/qcow2.h"
#include "../../stord/target.h"

#define GIB	(UINT64_C(1) << 30)
#define CLUSTER CHAIN_CLUSTER

static int layer(void)
{
	int fd = memfd_create("layer", MFD_CLOEXEC);

	return qcow2_write_empty(fd, GIB, NULL, NULL) == 0 ? fd : -1;
}

static void put64(int fd, uint64_t value, off_t at)
{
	value = htobe64(value);
	(void)!pwrite(fd, &value, sizeof value, at);
}

static void put32(int fd, uint32_t value, off_t at)
{
	value = htobe32(value);
	(void)!pwrite(fd, &value, sizeof value, at);
}

static int opened(int fd)
{
	struct chain_file *file = NULL;
	int r = chain_file_new(fd, "layer", "qcow2", NULL, &file);

	chain_file_free(file);
	if (r < 0)
		close(fd);
	return r;
}

static void a_header_that_lies_is_refused(void)
{
	static const struct {
		const char *what;
		int is_long;
		uint64_t value;
		off_t at;
		int error;
	} lies[] = {
		{"another magic", 0, 1, 0, -EUCLEAN},
		{"another version", 0, 4, 4, -EUCLEAN},
		{"tiny clusters", 0, 9, 20, -EOPNOTSUPP},
		{"2^60 bytes", 1, UINT64_C(1) << 60, 24, -EUCLEAN},
		{"negative bytes", 1, UINT64_MAX, 24, -EUCLEAN},
		{"encryption", 0, 2, 32, -EOPNOTSUPP},
		{"a giant L1 table", 0, UINT32_MAX, 36, -EUCLEAN},
		{"an L1 table that is too short", 0, 1, 36, -EUCLEAN},
		{"an L1 table outside", 1, UINT64_C(1) << 40, 40, -EUCLEAN},
		{"an L1 table at the end of numbers", 1, UINT64_MAX & ~UINT64_C(0xffff), 40,
		 -EUCLEAN},
		{"an L1 table off the grid", 1, 3 * CLUSTER + 8, 40, -EUCLEAN},
		{"a data file elsewhere", 1, 4, 72, -EOPNOTSUPP},
		{"extended entries", 1, 16, 72, -EOPNOTSUPP},
	};

	for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
		int fd = layer();

		if (lies[i].is_long)
			put64(fd, lies[i].value, lies[i].at);
		else
			put32(fd, (uint32_t)lies[i].value, lies[i].at);
		is_int(opened(fd), lies[i].error, lies[i].what);
	}
	is_int(opened(layer()), 0, "the truth is not");
}

static void a_table_that_lies_is_refused(void)
{
	static const struct {
		const char *what;
		uint64_t l1, l2;
		int found;
	} lies[] = {
		{"nothing", 0, 0, 0},
		{"an L2 table outside", UINT64_C(1) << 40, 0, -EUCLEAN},
		{"an L2 table off the grid", 4 * CLUSTER + 512, 0, -EUCLEAN},
		{"an L2 table that is cut short", 5 * CLUSTER, 0, -EUCLEAN},
		{"an empty L2 table", 4 * CLUSTER, 0, 0},
		{"zeros", 4 * CLUSTER, 1, 2},
		{"data outside", 4 * CLUSTER, UINT64_C(1) << 50, -EUCLEAN},
		{"data off the grid", 4 * CLUSTER, 4 * CLUSTER + 512, -EUCLEAN},
		{"compressed data", 4 * CLUSTER, UINT64_C(1) << 62 | CLUSTER, -EOPNOTSUPP},
		{"data", 4 * CLUSTER, UINT64_C(1) << 63 | 2 * CLUSTER, 1},
	};

	for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
		struct chain_file *file = NULL;
		uint64_t at = 0;
		int fd = layer();

		(void)!ftruncate(fd, 5 * CLUSTER + 100);
		put64(fd, lies[i].l1, 3 * CLUSTER);
		put64(fd, lies[i].l2, 4 * CLUSTER);
		is_int(chain_file_new(fd, "layer", "qcow2", NULL, &file), 0, "it opens");
		is_int(chain_file_find(file, 0, &at), lies[i].found, lies[i].what);
		is_int(chain_file_find(file, GIB, &at), 2, "behind the end are zeros");
		chain_file_free(file);
	}
}

static void a_target_is_as_large_as_it_must_be(void)
{
	static const uint64_t gib[] = {1, 100, 16384};
	static uint8_t block[TARGET_BLOCK];
	char path[] = "/tmp/stord-target-XXXXXX";
	uint8_t sum[32] = {1};
	int fd = mkstemp(path);

	close(fd);
	for (size_t i = 0; i < sizeof gib / sizeof *gib; i++) {
		struct target t = {.fd = -1};
		struct chain_file *file = NULL;
		uint64_t n = 0, at = 0, last = gib[i] * GIB - TARGET_BLOCK;

		block[0] = 1;
		int r = target_make(path, gib[i] * GIB, NULL, NULL, NULL, 0);

		if (r == -EFBIG) { /* the file system's limit */
			ok(1, "# SKIP no such large files here");
			continue;
		}
		is_int(r, 0, "made");
		is_int(target_open(path, gib[i] * GIB, NULL, &t), 0, "opened");
		is_int(target_put(&t, target_blocks(&t) - 1, block, sum, 0), 0, "the last block");
		is_int(target_put(&t, target_blocks(&t), block, sum, 0), -ERANGE, "and no more");
		is_int(target_count(&t, &n, sum), 0, "counted");
		is_int((int)n, 1, "one");
		is_int(chain_file_new(t.fd, "t", "qcow2", NULL, &file), 0, "a layer");
		is_int(chain_file_find(file, last, &at), 1, "with the block");
		is_int(chain_file_find(file, 0, &at), 0, "and no other");
		chain_file_free(file); /* takes the descriptor with it */
	}
	unlink(path);
}

static void an_encrypted_target_is_read_by_its_passphrase_alone(void)
{
	static uint8_t block[TARGET_BLOCK], got[TARGET_BLOCK], raw[TARGET_BLOCK];
	char path[] = "/tmp/stord-target-XXXXXX";
	struct target t = {.fd = -1};
	struct chain_file *file = NULL;
	uint8_t sum[32], sums[32];
	uint64_t n = 0, at = 0;
	int fd = mkstemp(path);

	close(fd);
	for (size_t i = 0; i < sizeof block; i++)
		block[i] = (uint8_t)(i % 251);
	EVP_Digest(block, sizeof block, sum, NULL, EVP_sha256(), NULL);
	is_int(target_make(path, GIB, NULL, NULL, "secret", 0), 0, "made");
	is_int(target_open(path, GIB, "Secret", &t), -EKEYREJECTED, "not by another");
	is_int(target_open(path, GIB, "secret", &t), 0, "opened");
	is_int(target_put(&t, 3, block, sum, 0), 0, "a block");
	is_int(target_verify(&t, 3, got), 1, "is what was put");
	is_int(memcmp(block, got, sizeof block), 0, "byte for byte");
	is_int(target_verify(&t, 2, got), 0, "and another was not");
	is_int(target_count(&t, &n, sums), 0, "counted");
	is_int((int)n, 1, "one");
	is_int(target_finish(&t, 0600, 0), 0, "finished");
	is_int(chain_file_new(t.fd, "t", "qcow2", NULL, &file), -EOPNOTSUPP, "not without a key");
	is_int(chain_file_new(t.fd, "t", "qcow2", "other", &file), -EKEYREJECTED, "not by another");
	is_int(chain_file_new(dup(t.fd), "t", "qcow2", "secret", &file), 0, "a layer");
	is_int(chain_file_find(file, UINT64_C(3) * TARGET_BLOCK, &at), 1, "with the block");
	is_int(pread(t.fd, raw, sizeof raw, (off_t)at) == (ssize_t)sizeof raw &&
		       memcmp(raw, block, 512) != 0,
	       1, "which cannot be read");
	chain_file_free(file);
	target_close(&t);
	unlink(path);
}

int main(void)
{
	RUN(a_header_that_lies_is_refused);
	RUN(a_table_that_lies_is_refused);
	RUN(a_target_is_as_large_as_it_must_be);
	RUN(an_encrypted_target_is_read_by_its_passphrase_alone);
	return tests_done();
}
