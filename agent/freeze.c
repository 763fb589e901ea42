// File systems held still for the moment in which the host takes their disks.
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/fs.h>

#define FROZEN_MAX 32
#define MOUNTS_MAX (64u << 10)

static int frozen[FROZEN_MAX];
static size_t n_frozen;

int freeze_is_disk(const char *line, char *ret_point, size_t size)
{
	char point[512], options[256], source[256];
	const char *rest = strstr(line, " - ");

	/* "36 35 98:0 /root /mount/point rw,noatime … - ext4 /dev/vda1 rw" */
	if (!rest || sscanf(line, "%*d %*d %*s %*s %511s %255s", point, options) != 2 ||
	    sscanf(rest, " - %*s %255s", source) != 1)
		return 0;
	if (strncmp(source, "/dev/", 5) != 0 || strncmp(options, "rw", 2) != 0 ||
	    strlen(point) >= size || strchr(point, '\\'))
		return 0;
	strcpy(ret_point, point);
	return 1;
}

/* A descriptor for each, before the first is frozen: opening could wait for ever after that. */
static void open_all(char *mounts)
{
	char *save = NULL, point[512];

	for (char *line = strtok_r(mounts, "\n", &save); line && n_frozen < FROZEN_MAX;
	     line = strtok_r(NULL, "\n", &save)) {
		if (!freeze_is_disk(line, point, sizeof(point)))
			continue;
		int fd = open(point, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);

		if (fd >= 0)
			frozen[n_frozen++] = fd;
	}
}

/* What is not frozen (seen through another mount already, or of a kind that cannot be) is let go
 * of. */
static size_t freeze_opened(void)
{
	size_t n = 0;

	for (size_t i = n_frozen; i-- > 0;) {
		if (ioctl(frozen[i], FIFREEZE, 0) == 0) {
			n++;
			continue;
		}
		(void)close(frozen[i]);
		frozen[i] = -1;
	}
	return n;
}

int freeze(void)
{
	static char mounts[MOUNTS_MAX];
	long n = n_frozen > 0 ? -EBUSY : file_read("/proc/self/mountinfo", mounts, sizeof(mounts));

	if (n < 0)
		return (int)n;
	open_all(mounts);
	if (freeze_opened() > 0)
		return 0;
	thaw();
	return -EOPNOTSUPP;
}

void thaw(void)
{
	for (size_t i = 0; i < n_frozen; i++) {
		if (frozen[i] < 0)
			continue;
		(void)ioctl(frozen[i], FITHAW, 0); /* somebody else may have thawed it */
		(void)close(frozen[i]);
	}
	n_frozen = 0;
}
