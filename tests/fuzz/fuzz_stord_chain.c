/* A layer that a guest's QEMU wrote, read by hand: where each cluster is. */
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>
#include "../../stord/chain-file.h"
#include "own.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	OWN(chain_file_free) struct chain_file *file = NULL;
	OWN(fd_close) int fd = memfd_create("layer", MFD_CLOEXEC);
	uint64_t offset = 0;

	if (fd < 0 || write(fd, data, size) != (ssize_t)size ||
	    ftruncate(fd, (off_t)size + 4 * CHAIN_CLUSTER) < 0 ||
	    chain_file_new(fd, "layer", "qcow2", NULL, &file) < 0)
		return 0;
	(void)give(fd);
	uint64_t bytes = chain_file_bytes(file);

	for (uint64_t at = 0; at < bytes && at < 64 * (uint64_t)CHAIN_CLUSTER; at += CHAIN_CLUSTER)
		(void)chain_file_find(file, at, &offset); /* it must not fall over */
	(void)chain_file_find(file, bytes - bytes % CHAIN_CLUSTER, &offset);
	return 0;
}
