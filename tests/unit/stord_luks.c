/* LUKS headers: ours opens, and one that a guest's QEMU was made to write does no harm. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "../../stord/luks.h"
#include "tap.h"

#define SLOTS	   208 /* in the header, of SLOT_BYTES each: active, iterations … */
#define SLOT_BYTES 48
#define N_SLOTS	   8

static uint8_t *header;

/* What opening says of the header as it is now. */
static int open_with(const char *passphrase)
{
	OWN(luks_free) struct luks *luks = NULL;
	OWN(fd_close) int fd = memfd_create("layer", MFD_CLOEXEC);

	if (fd < 0 || pwrite(fd, header, LUKS_USED_BYTES, 0) != (ssize_t)LUKS_USED_BYTES)
		return -EIO;
	return luks_open(fd, 0, LUKS_BYTES, passphrase, &luks);
}

static void the_passphrase_opens_it_and_no_other(void)
{
	is_int(open_with("right"), 0, "the right one");
	is_int(open_with("wrong"), -EKEYREJECTED, "another");
}

/* Each slot by itself would be bearable. */
static void a_header_that_would_keep_a_worker_busy_is_refused(void)
{
	static const uint8_t slot[8] = {0x00, 0xac, 0x71, 0xf3, 0x00, 0x00, 0x40, 0x00};

	for (size_t i = 1; i < N_SLOTS; i++)
		memcpy(header + SLOTS + i * SLOT_BYTES, slot, sizeof slot);
	is_int(open_with("right"), 0, "seven more slots of 16,384 iterations");
	header[SLOTS + SLOT_BYTES + 5] = 0x01;
	is_int(open_with("right"), -EUCLEAN, "and more than 131,072 in all");
}

int main(void)
{
	OWN(luks_free) struct luks *luks = NULL;

	if (luks_make("right", &luks, &header) < 0)
		return 1;
	the_passphrase_opens_it_and_no_other();
	a_header_that_would_keep_a_worker_busy_is_refused();
	free(header);
	return tests_done();
}
