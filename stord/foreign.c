/* Headers of other hypervisors' disks. */
#include "foreign.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bytes.h"
#include "own.h"

#define SECTOR		 512u
#define DESCRIPTOR_MAX	 (1u << 20)
#define VHD_TABLE_MAX	 (16u << 20) /* entries: 32 TiB in blocks of 2 MiB */
#define VHD_TYPE_FIXED	 2
#define VHD_TYPE_DYNAMIC 3

const char *foreign_format(const char *word)
{
	static const struct {
		const char *word, *format;
	} words[] = {{"qcow2", "qcow2"}, {"raw", "raw"}, {"vmdk", "vmdk"},
		     {"vhd", "vpc"},	 {"vpc", "vpc"}, {"vhdx", "vhdx"}};

	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (strcasecmp(word, words[i].word) == 0)
			return words[i].format;
	return NULL;
}

static int refuse(char reason[static FOREIGN_REASON_MAX], const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static int refuse(char reason[static FOREIGN_REASON_MAX], const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(reason, FOREIGN_REASON_MAX, format, arguments);
	va_end(arguments);
	return -EINVAL;
}

/* As many bytes as there are; the rest of the buffer is zeros. */
static int read_some(int fd, void *buffer, size_t n, uint64_t offset)
{
	memset(buffer, 0, n);
	ssize_t got = offset > INT64_MAX ? 0 : pread(fd, buffer, n, (off_t)offset);

	return got < 0 ? -errno : 0;
}

static int check_size(uint64_t bytes, uint64_t max_bytes, char reason[static FOREIGN_REASON_MAX])
{
	if (bytes == 0)
		return refuse(reason, "the disk has no size");
	if (bytes > max_bytes)
		return refuse(reason, "the disk has %llu bytes, more than the limit of %llu",
			      (unsigned long long)bytes, (unsigned long long)max_bytes);
	return 0;
}

/* ---- VMDK ---- */

/* The text inside the file: it must not name a parent. Case and blanks as writers have them. */
static int check_descriptor(int fd, uint64_t offset, uint64_t n_bytes, uint64_t file_bytes,
			    char reason[static FOREIGN_REASON_MAX])
{
	if (offset == 0 || n_bytes == 0)
		return 0;
	if (n_bytes > DESCRIPTOR_MAX || offset > file_bytes || n_bytes > file_bytes - offset)
		return refuse(reason, "the VMDK's descriptor is outside of the file");
	OWN(free) char *text = calloc(1, (size_t)n_bytes + 1);
	int r = text ? read_some(fd, text, (size_t)n_bytes, offset) : -ENOMEM;

	if (r < 0)
		return r;
	const char *parent = strcasestr(text, "parentCID");

	parent = parent ? parent + strlen("parentCID") + strspn(parent + strlen("parentCID"), " =")
			: NULL;
	if (strcasestr(text, "parentFileNameHint") ||
	    (parent && strncasecmp(parent, "ffffffff", 8) != 0))
		return refuse(reason, "the VMDK needs another file, its parent");
	return 0;
}

static int check_vmdk(int fd, uint64_t file_bytes, uint64_t max_bytes,
		      char reason[static FOREIGN_REASON_MAX])
{
	static const char text[] = "# Disk DescriptorFile";
	uint8_t h[SECTOR];
	int r = read_some(fd, h, sizeof h, 0);

	if (r < 0)
		return r;
	if (strncasecmp((char *)h, text, strlen(text)) == 0)
		return refuse(reason, "the VMDK is a descriptor of other files; a single sparse or "
				      "stream-optimized file is needed");
	if (memcmp(h, "KDMV", 4) != 0)
		return refuse(reason, "it is not a VMDK image");
	uint64_t capacity = le64(h + 12), grain = le64(h + 20);

	if (le32(h + 4) < 1 || le32(h + 4) > 3)
		return refuse(reason, "VMDK version %u is not known", le32(h + 4));
	if (capacity == 0)
		return refuse(reason, "the VMDK is a descriptor of other files");
	if (capacity > UINT64_MAX / SECTOR)
		return refuse(reason, "the VMDK's size is absurd");
	if (grain < 1 || grain > 128 * 1024 || (grain & (grain - 1)) || le32(h + 44) == 0 ||
	    le32(h + 44) > 512)
		return refuse(reason, "the VMDK's grains are of an impossible size");
	r = check_size(capacity * SECTOR, max_bytes, reason);
	if (r < 0)
		return r;
	if (le64(h + 28) > UINT64_MAX / SECTOR || le64(h + 36) > UINT64_MAX / SECTOR)
		return refuse(reason, "the VMDK's descriptor is outside of the file");
	return check_descriptor(fd, le64(h + 28) * SECTOR, le64(h + 36) * SECTOR, file_bytes,
				reason);
}

/* ---- VHD ---- */

/* The dynamic disk's header, and that its table lies in the file and is long enough. */
static int check_dynamic(int fd, uint64_t offset, uint64_t bytes, uint64_t file_bytes,
			 char reason[static FOREIGN_REASON_MAX])
{
	uint8_t h[1024];

	if (offset > file_bytes || sizeof h > file_bytes - offset)
		return refuse(reason, "the VHD's dynamic header is outside of the file");
	int r = read_some(fd, h, sizeof h, offset);

	if (r < 0)
		return r;
	uint64_t table = be64(h + 16);
	uint32_t n_entries = be32(h + 28), block = be32(h + 32);

	if (memcmp(h, "cxsparse", 8) != 0)
		return refuse(reason, "the VHD has no dynamic header");
	if (block < 64 * 1024 || block > (256u << 20) || (block & (block - 1)))
		return refuse(reason, "the VHD's blocks are of an impossible size");
	if (n_entries > VHD_TABLE_MAX || (uint64_t)n_entries * block < bytes)
		return refuse(reason, "the VHD's table does not fit its size");
	if (table > file_bytes || (uint64_t)n_entries * 4 > file_bytes - table)
		return refuse(reason, "the VHD's table is outside of the file");
	return 0;
}

static int check_vhd(int fd, uint64_t file_bytes, uint64_t max_bytes,
		     char reason[static FOREIGN_REASON_MAX])
{
	uint8_t footer[SECTOR];
	int r = read_some(fd, footer, sizeof footer, 0), is_first = 1;

	if (r == 0 && memcmp(footer, "conectix", 8) != 0) {
		if (file_bytes < SECTOR)
			return refuse(reason, "it is not a VHD image");
		is_first = 0;
		r = read_some(fd, footer, sizeof footer, file_bytes - SECTOR);
	}
	if (r < 0)
		return r;
	if (memcmp(footer, "conectix", 8) != 0)
		return refuse(reason, "it is not a VHD image");
	uint64_t bytes = be64(footer + 48);
	uint32_t type = be32(footer + 60);

	r = check_size(bytes, max_bytes, reason);
	if (r < 0)
		return r;
	if (type == VHD_TYPE_FIXED)
		return bytes <= file_bytes ? 0 : refuse(reason, "the VHD is shorter than it says");
	if (type != VHD_TYPE_DYNAMIC)
		return refuse(reason, "the VHD needs another file, or is of type %u", type);
	if (!is_first)
		return refuse(reason, "the VHD's first footer is missing");
	return check_dynamic(fd, be64(footer + 16), bytes, file_bytes, reason);
}

/* ---- */

int foreign_check(int fd, const char *format, uint64_t max_bytes,
		  char ret_reason[static FOREIGN_REASON_MAX])
{
	struct stat st;
	uint8_t magic[8];

	if (fstat(fd, &st) < 0)
		return -errno;
	if (strcmp(format, "vmdk") == 0)
		return check_vmdk(fd, (uint64_t)st.st_size, max_bytes, ret_reason);
	if (strcmp(format, "vpc") == 0)
		return check_vhd(fd, (uint64_t)st.st_size, max_bytes, ret_reason);
	int r = read_some(fd, magic, sizeof magic, 0);

	/* Its regions and metadata are qemu-img's to find; it knows no parents either. */
	return r < 0 || memcmp(magic, "vhdxfile", 8) == 0
		       ? r
		       : refuse(ret_reason, "it is not a VHDX image");
}
