/* Hostile images are refused with a reason, and nothing of them is left; good ones become immutable
 * snapshots. */
#include "tap.h"
#include "../../stord/confine.h"
#include "../../stord/files.h"
#include "../../stord/import.h"
#include "../../stord/qcow2.h"
#include "fiber.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB	UINT64_C(1048576)
#define GIB	(1024 * MIB)
#define CLUSTER 65536

static char dir[] = "/tmp/gureum-import-XXXXXX";
static char image[64], work[64], final[64];

static void put(int fd, off_t at, uint64_t value, int bytes)
{
	uint64_t wire = htobe64(value << (64 - 8 * bytes));

	if (pwrite(fd, &wire, (size_t)bytes, at) != bytes)
		exit(1);
}

/* An image of `bytes` with 1 MiB of 'A' in its second megabyte, as a tool of good will writes it.
 */
static int image_new(uint64_t bytes)
{
	int fd = open(image, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	char data[CLUSTER];

	if (fd < 0 || qcow2_write_empty(fd, bytes, NULL, NULL) < 0)
		exit(1);
	/* Clusters: 0 header, 1 refcount table, 2 refcount block, 3 L1, 4 L2, 5..20 data. */
	put(fd, 3 * CLUSTER, UINT64_C(1) << 63 | 4 * CLUSTER, 8);
	memset(data, 'A', sizeof data);
	if (ftruncate(fd, 21 * CLUSTER) < 0)
		exit(1);
	for (int i = 0; i < 16; i++) {
		put(fd, 4 * CLUSTER + 8 * (16 + i), UINT64_C(1) << 63 | (uint64_t)(5 + i) * CLUSTER,
		    8);
		if (pwrite(fd, data, sizeof data, (5 + i) * CLUSTER) != sizeof data)
			exit(1);
	}
	for (int i = 4; i < 21; i++)
		put(fd, 2 * CLUSTER + 2 * i, 1, 2);
	return fd;
}

static struct import import_of(const char *format)
{
	return (struct import){.format = format,
			       .work_path = work,
			       .final_path = final,
			       .max_bytes = 64 * GIB,
			       .is_synced = 1};
}

static int n_files(void)
{
	OWN(closedir) DIR *d = opendir(dir);
	int n = -2;

	while (readdir(d))
		n++;
	return n;
}

/* Both the check of the beginning and the whole import refuse it, with this in the reason, and
 * leave nothing. */
static void refused(int fd, const char *format, const char *reason, const char *name)
{
	struct import i = import_of(format);
	int early = import_check(&i, fd);
	int whole = import_run(&i, fd);

	ok(whole == -EINVAL && strstr(i.reason, reason) && n_files() == 1, name);
	if (!(whole == -EINVAL && strstr(i.reason, reason)))
		printf("# early %d whole %d reason: %s\n", early, whole, i.reason);
	close(fd);
}

static void a_good_image_becomes_immutable(void)
{
	OWN(fd_close) int fd = image_new(1000 * MIB);
	struct import i = import_of("qcow2");
	struct stat st;
	char command[256];

	is_int(import_check(&i, fd), 0, "its header");
	is_int(import_run(&i, fd), 0, "all of it");
	is_int((long long)i.bytes, 1000 * MIB, "its size");
	is_int(stat(final, &st), 0, "there");
	is_int(st.st_mode & 0777, 0444, "never written again");
	is_int(st.st_uid, geteuid(), "ours");
	ok(st.st_blocks * 512 < 3 * (int64_t)MIB, "what was empty takes no room");
	is_int(n_files(), 2, "nothing else is left");
	snprintf(command, sizeof command,
		 "qemu-io -r -f qcow2 -c 'read -P 0 0 1M' -c 'read -P 0x41 1M 1M' -c 'read -P 0 2M "
		 "998M' %s | grep -qi 'pattern\\|fail'",
		 final);
	if (system("command -v qemu-io >/dev/null") == 0)
		ok(system(command) != 0, "its contents");
	else
		skip("qemu-io is not installed");
	unlink(final);
}

static void a_header_that_asks_for_too_much_is_refused(void)
{
	static const struct {
		const char *name, *reason;
		off_t at;
		uint64_t value;
		int bytes;
	} table[] = {
		{"no magic", "not a qcow2", 0, 0, 4},
		{"version 1", "version", 4, 1, 4},
		{"version 4", "version", 4, 4, 4},
		{"a backing file", "backing", 8, 512, 8},
		{"a backing name of some length", "backing", 16, 20, 4},
		{"clusters of 2^8", "cluster size", 20, 8, 4},
		{"clusters of 2^22", "cluster size", 20, 22, 4},
		{"clusters of 2^4294967295", "cluster size", 20, 0xffffffff, 4},
		{"a size of 2^60", "virtual size", 24, UINT64_C(1) << 60, 8},
		{"a size of 2^64-1", "virtual size", 24, UINT64_MAX, 8},
		{"a size of 64 GiB and a sector", "virtual size", 24, 64 * GIB + 512, 8},
		{"no size", "virtual size", 24, 0, 8},
		{"half a sector", "virtual size", 24, 256, 8},
		{"AES", "encrypted", 32, 1, 4},
		{"LUKS", "encrypted", 32, 2, 4},
		{"a giant L1", "L1", 36, 0xffffffff, 4},
		{"an L1 longer than the file", "L1", 36, 4 * MIB, 4},
		{"no L1", "L1", 36, 0, 4},
		{"an L1 in the header", "L1", 40, 0, 8},
		{"an L1 after the end", "L1", 40, UINT64_C(1) << 40, 8},
		{"an L1 at the end of numbers", "L1", 40, UINT64_MAX - 65535, 8},
		{"an L1 between clusters", "L1", 40, 3 * CLUSTER + 8, 8},
		{"a refcount table after the end", "refcount", 48, UINT64_C(1) << 40, 8},
		{"no refcount table", "refcount", 56, 0, 4},
		{"a giant refcount table", "refcount", 56, 0xffffffff, 4},
		{"marked dirty", "closed", 72, 1, 8},
		{"marked corrupt", "corrupt", 72, 2, 8},
		{"an external data file", "another file", 72, 4, 8},
		{"a feature of the future", "features", 72, UINT64_C(1) << 40, 8},
		{"refcounts of 2^7 bits", "refcounts", 96, 7, 4},
		{"a header shorter than it is", "length", 100, 96, 4},
		{"a header longer than its cluster", "length", 100, 1 << 20, 4},
		{"a data file's name", "another file", 104, UINT64_C(0x44415441) << 32 | 8, 8},
		{"an encryption header", "encrypted", 104, UINT64_C(0x0537be77) << 32 | 16, 8},
		{"a backing format", "backing", 104, UINT64_C(0xe2792aca) << 32 | 5, 8},
		{"an endless extension", "extension", 104, UINT64_C(0x12345678) << 32 | 0xffffffff,
		 8},
	};

	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		int fd = image_new(1000 * MIB);

		put(fd, table[i].at, table[i].value, table[i].bytes);
		refused(fd, "qcow2", table[i].reason, table[i].name);
	}
}

static void tables_that_lie_are_refused(void)
{
	int fd = image_new(1000 * MIB);

	put(fd, 3 * CLUSTER, UINT64_C(1) << 63 | UINT64_C(1) << 40, 8);
	refused(fd, "qcow2", "tables", "an L2 table after the end");
	fd = image_new(1000 * MIB);
	put(fd, 3 * CLUSTER, UINT64_C(1) << 63, 8);
	refused(fd, "qcow2", "", "the header as L2 table");
	fd = image_new(1000 * MIB);
	put(fd, 4 * CLUSTER, UINT64_C(1) << 63 | 3 * CLUSTER, 8);
	refused(fd, "qcow2", "tables", "the L1 table as data");
	fd = image_new(1000 * MIB);
	put(fd, 4 * CLUSTER, UINT64_C(1) << 63 | UINT64_C(1) << 45, 8);
	refused(fd, "qcow2", "tables", "data after the end");
	fd = image_new(1000 * MIB);
	put(fd, CLUSTER, UINT64_C(1) << 50, 8);
	refused(fd, "qcow2", "", "a refcount block after the end");
	fd = image_new(1000 * MIB);
	put(fd, 4 * CLUSTER, UINT64_C(1) << 62 | UINT64_C(0xff) << 54 | 5 * CLUSTER, 8);
	refused(fd, "qcow2", "", "data compressed to nonsense");
}

static void a_truncated_image_is_refused(void)
{
	static const off_t at[] = {1,		50,	     71,	  103,
				   108,		4096,	     CLUSTER,	  2 * CLUSTER,
				   3 * CLUSTER, 4 * CLUSTER, 5 * CLUSTER, 18 * CLUSTER};

	for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
		char name[32];
		int fd = image_new(1000 * MIB);

		snprintf(name, sizeof name, "at %lld", (long long)at[i]);
		if (ftruncate(fd, at[i]) < 0)
			exit(1);
		refused(fd, "qcow2", "", name);
	}
}

static void no_header_is_too_strange_to_be_read(void)
{
	OWN(fd_close) int fd = image_new(1000 * MIB);
	char first[512], reason[QCOW2_REASON_MAX] = "";
	int n_refused = 0, n_taken = 0, n_silent = 0;
	uint64_t bytes;

	if (pread(fd, first, sizeof first, 0) != sizeof first)
		exit(1);
	for (int i = 0; i < 20000; i++) {
		char strange[sizeof first];

		memcpy(strange, first, sizeof strange);
		for (int k = rand() % 8; k >= 0; k--)
			strange[rand() % 160] = (char)(rand() % 4 ? rand() : rand() % 2 * 255);
		if (pwrite(fd, strange, sizeof strange, 0) != sizeof strange)
			exit(1);
		reason[0] = '\0';
		if (qcow2_check_header(fd, 64 * GIB, &bytes, reason) == 0) {
			n_taken++;
			n_silent += bytes == 0 || bytes > 64 * GIB;
		} else {
			n_refused++;
			n_silent += reason[0] == '\0';
		}
	}
	ok(n_refused > 1000 && n_taken > 0, "some are refused, some are harmless");
	is_int(n_silent, 0, "each with a reason, none with a wrong size");
}

static void what_we_write_is_what_we_read(void)
{
	char reason[QCOW2_REASON_MAX] = "";
	uint64_t bytes = 0;
	static const uint64_t sizes[] = {512, MIB, GIB, 64 * GIB, 65536 * GIB};

	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		OWN(fd_close) int fd = open(image, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

		is_int(qcow2_write_empty(fd, sizes[i], NULL, NULL), 0, "written");
		is_int(qcow2_check_header(fd, UINT64_MAX, &bytes, reason), 0, "read");
		ok(bytes == sizes[i], "its size");
	}
	OWN(fd_close) int fd = open(image, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	is_int(qcow2_write_empty(fd, GIB, "/some/where/snap-1.qcow2", "qcow2"), 0, "an overlay");
	is_int(qcow2_check_header(fd, UINT64_MAX, &bytes, reason), -EINVAL,
	       "is not to be imported");
	ok(strstr(reason, "backing"), reason);
	is_int(qcow2_write_empty(fd, 100, NULL, NULL), -EINVAL, "no half sectors");
	is_int(qcow2_write_empty(fd, UINT64_C(1) << 60, NULL, NULL), -EINVAL,
	       "no size that the format cannot hold");
}

static int raw_new(uint64_t bytes)
{
	int fd = open(image, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
		exit(1);
	return fd;
}

static void a_raw_file_is_kept_as_it_is(void)
{
	OWN(fd_close) int fd = raw_new(40 * MIB + 123);
	struct import i = import_of("raw");
	struct stat st;
	char command[160];

	put(fd, 20 * MIB, 0x1122334455667788, 8);
	put(fd, 40 * MIB + 100, 0x1122334455667788, 8);
	is_int(import_run(&i, fd), 0, "imported");
	is_int((long long)i.bytes, 40 * MIB + 123, "to the byte");
	is_int(stat(final, &st), 0, "there");
	is_int(st.st_mode & 0777, 0444, "never written again");
	ok(st.st_blocks * 512 < 2 * (int64_t)MIB, "holes stay holes");
	snprintf(command, sizeof command, "cmp -s %s %s", image, final);
	is_int(system(command), 0, "its contents");
	unlink(final);
}

static void what_is_no_raw_image_is_refused(void)
{
	refused(raw_new(0), "raw", "empty", "an empty file");
	refused(raw_new(64 * GIB + 1), "raw", "larger", "a file over the limit");
	refused(image_new(GIB), "raw", "another format", "a qcow2 that says raw");
	refused(open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), "raw", "regular", "a directory");
	refused(open("/dev/zero", O_RDONLY | O_CLOEXEC), "raw", "regular", "a device");
	refused(open("/dev/zero", O_RDONLY | O_CLOEXEC), "qcow2", "regular", "a device as qcow2");
}

static void a_descriptor_that_cannot_be_read_is_an_error(void)
{
	close(image_new(GIB));
	OWN(fd_close) int fd = open(image, O_WRONLY | O_CLOEXEC);
	struct import i = import_of("qcow2");

	is_int(import_run(&i, fd), -EBADF, "not readable");
	is_int(n_files(), 1, "nothing is left");
}

static void tests(void *arg)
{
	(void)arg;
	RUN(a_good_image_becomes_immutable);
	RUN(a_header_that_asks_for_too_much_is_refused);
	RUN(tables_that_lie_are_refused);
	RUN(a_truncated_image_is_refused);
	RUN(no_header_is_too_strange_to_be_read);
	RUN(what_we_write_is_what_we_read);
	RUN(a_raw_file_is_kept_as_it_is);
	RUN(what_is_no_raw_image_is_refused);
	RUN(a_descriptor_that_cannot_be_read_is_an_error);
	sd_event_exit(fiber_loop(), 0);
}

int main(int argc, char **argv)
{
	sd_event *loop = NULL;
	char command[64];

	if (confine_is(argc, argv))
		return confine_main(argc, argv);
	if (!mkdtemp(dir) || sd_event_new(&loop) < 0 || fiber_start(loop, 2) < 0)
		return 1;
	snprintf(image, sizeof image, "%s/image", dir);
	snprintf(work, sizeof work, "%s/work", dir);
	snprintf(final, sizeof final, "%s/final", dir);
	srand(1);
	if (fiber_spawn(tests, NULL) < 0)
		return 1;
	sd_event_loop(loop);
	fiber_stop();
	sd_event_unref(loop);
	snprintf(command, sizeof command, "rm -rf %s", dir);
	return system(command) != 0 || tests_done();
}
