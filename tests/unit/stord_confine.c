/* How long a tool may work on layers. */
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include "../../stord/confine.h"
#include "own.h"

#define MIB (1024L * 1024)

/* 0 or -errno. */
static int make(char path[static 64], off_t data, off_t end)
{
	strcpy(path, "/tmp/gureum-confine-XXXXXX");
	OWN(fd_close) int fd = mkstemp(path);

	if (fd < 0)
		return -errno;
	return (data > 0 && fallocate(fd, 0, 0, data) < 0) || ftruncate(fd, end) < 0 ? -errno : 0;
}

static void what_layers_have_is_what_they_take(void)
{
	char large[64], sparse[64];
	int r = make(large, 80 * MIB, 80 * MIB);

	if (r == -EOPNOTSUPP) {
		printf("# no room can be reserved here\n");
		r = 0;
	} else {
		const struct confined_file files[] = {{large, 1}, {large, 0}};

		ok(confine_seconds(files, 1) >= 20, "a slow disk has its time");
		ok(confine_seconds(files, 2) >= 40, "for each file");
	}
	is_int(r, 0, "made");
	is_int(make(sparse, 0, 80 * MIB), 0, "made");
	is_int(confine_seconds(&(struct confined_file){sparse, 1}, 1), 0, "holes take none");
	is_int(confine_seconds(&(struct confined_file){"/nowhere/at/all", 1}, 1), 0,
	       "what is not there takes none");
	(void)unlink(large);  /* the test's own */
	(void)unlink(sparse); /* likewise */
}

int main(void)
{
	RUN(what_layers_have_is_what_they_take);
	return tests_done();
}
