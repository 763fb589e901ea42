/*
 * The LUKS header of a layer that a guest's QEMU wrote. What comes in is either the header itself, or
 * patches on one of ours, [place (2 bytes), length (1), bytes] again and again, so that what lies behind the
 * first checks is reached. Whatever opens has been opened by the right passphrase.
 */
#include "../../stord/luks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "../../stord/qcow2.h"

#define HEADER_BYTES 592

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char passphrase[] = "a passphrase of ours";
static uint8_t *good;

static void patch(uint8_t *header, const uint8_t *data, size_t n)
{
	while (n >= 3) {
		size_t at = (data[0] | (size_t)data[1] << 8) % HEADER_BYTES, length = data[2];

		data += 3;
		n -= 3;
		if (length > n)
			length = n;
		if (length > HEADER_BYTES - at)
			length = HEADER_BYTES - at;
		memcpy(header + at, data, length);
		data += length;
		n -= length;
	}
}

/* A file whose header begins at `offset`; it may end early. */
static int file_of(const uint8_t *data, size_t n, int is_patch, off_t offset)
{
	int fd = memfd_create("layer", MFD_CLOEXEC);
	OWN(free) uint8_t *header = malloc(LUKS_USED_BYTES);

	if (fd < 0 || !header)
		abort();
	memcpy(header, good, LUKS_USED_BYTES);
	if (is_patch)
		patch(header, data, n);
	size_t length = is_patch ? LUKS_USED_BYTES : n;

	if (pwrite(fd, is_patch ? header : data, length, offset) != (ssize_t)length)
		abort();
	return fd;
}

static void open_with(int fd, off_t offset, uint64_t n_bytes, const char *with)
{
	OWN(luks_free) struct luks *luks = NULL;
	uint8_t sector[LUKS_SECTOR] = {1}, before[LUKS_SECTOR] = {1};
	int r = luks_open(fd, (uint64_t)offset, n_bytes, with, &luks);

	if ((r == 0) != (luks != NULL) || (r == 0 && strcmp(with, passphrase) != 0))
		abort();
	if (r == 0 && (luks_encrypt(luks, 4096, sector, sizeof sector) < 0 ||
		       luks_decrypt(luks, 4096, sector, sizeof sector) < 0 ||
		       memcmp(sector, before, sizeof sector) != 0))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	OWN(luks_free) struct luks *made = NULL;
	char backing[QCOW2_BACKING_MAX + 1];
	uint64_t bytes;

	if (!good && luks_make(passphrase, &made, &good) < 0)
		abort();
	if (n < 2)
		return 0;
	off_t offset = data[1] % 4 * 512;
	uint64_t room = data[1] & 0x80 ? n : LUKS_BYTES;
	int fd = file_of(data + 2, n - 2, data[0] % 8 != 0, offset);

	open_with(fd, offset, room, passphrase);
	open_with(fd, offset, room, "another");
	/* The same bytes as the header around it. */
	if (qcow2_read_backing(fd, backing) == 0 && strlen(backing) > QCOW2_BACKING_MAX)
		abort();
	(void)qcow2_read_bytes(fd, &bytes);
	close(fd);
	return 0;
}
