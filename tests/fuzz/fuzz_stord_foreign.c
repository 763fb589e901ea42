/* The beginning of a VMDK, VHD or VHDX that a stranger sent. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "../../stord/foreign.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const char *const formats[] = {"vmdk", "vpc", "vhdx"};
	int fd = memfd_create("image", MFD_CLOEXEC);

	if (fd < 0 || write(fd, data, n) != (ssize_t)n || ftruncate(fd, (off_t)n + 65536) < 0)
		abort();
	for (size_t i = 0; i < 3; i++) {
		char reason[FOREIGN_REASON_MAX] = "";
		int r = foreign_check(fd, formats[i], UINT64_C(64) << 30, reason);

		if (r < 0 && reason[0] == '\0')
			abort();
	}
	close(fd);
	return 0;
}
