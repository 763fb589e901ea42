/* The header of an image that a stranger sent. */
#include "../../stord/qcow2.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	char reason[QCOW2_REASON_MAX] = "";
	uint64_t bytes = 0, limit = UINT64_C(64) << 30;
	int fd = memfd_create("image", MFD_CLOEXEC);

	/* A file is longer than its header: what the tables point at must be able to exist. */
	if (fd < 0 || write(fd, data, n) != (ssize_t)n || ftruncate(fd, 1 << 22) < 0)
		abort();
	int r = qcow2_check_header(fd, limit, &bytes, reason);

	if (r == 0 ? bytes == 0 || bytes > limit : reason[0] == '\0')
		abort();
	close(fd);
	return 0;
}
