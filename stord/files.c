/* Where volumes and snapshots lie, and how files appear and go. */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include "own.h"
#include "step.h"
#include "zones.h"

void file_volume_name(const char *zone, const char *volume_id, int64_t n,
		      char ret_name[static FILE_NAME_MAX])
{
	char number[24] = "";

	if (n > 1)
		snprintf(number, sizeof number, ".%lld", (long long)n);
	snprintf(ret_name, FILE_NAME_MAX, "zones/%.40s/volumes/%.40s%s.qcow2", zone, volume_id,
		 number);
}

void file_snapshot_name(const char *snapshot_id, const char *format,
			char ret_name[static FILE_NAME_MAX])
{
	snprintf(ret_name, FILE_NAME_MAX, "snapshots/%.40s.%.8s", snapshot_id, format);
}

void file_path(const struct daemon *d, const char *name, char ret_path[static FILE_PATH_MAX])
{
	snprintf(ret_path, FILE_PATH_MAX, "%.255s/%.127s", d->state_dir, name);
}

static int make_directory(const struct daemon *d, const char *name)
{
	char path[FILE_PATH_MAX];
	struct stat st;

	file_path(d, name, path);
	if (mkdir(path, 0711) < 0 && errno != EEXIST)
		return -errno;
	/* The umask may have taken the others' x away; a link to another disk keeps what its owner
	 * chose. */
	if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && (st.st_mode & 0777) != 0711 &&
	    chmod(path, 0711) < 0)
		return -errno;
	return 0;
}

int files_are_synced(const struct daemon *d)
{
	return config_bool(d->config, "Storage", "Sync");
}

int file_exists(const char *path)
{
	return faccessat(AT_FDCWD, path, F_OK, 0) == 0;
}

static int sync_directory(const char *path)
{
	OWN(fd_close) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

static int sync_directory_of(const char *path)
{
	char parent[FILE_PATH_MAX];
	const char *slash = strrchr(path, '/');

	snprintf(parent, sizeof parent, "%.*s", slash ? (int)(slash - path) : 1,
		 slash ? path : ".");
	return sync_directory(parent);
}

static int sync_named(const struct daemon *d, const char *name)
{
	char path[FILE_PATH_MAX];

	file_path(d, name, path);
	return sync_directory(path);
}

static int each_directory(const struct daemon *d, int (*what)(const struct daemon *, const char *))
{
	static const char *const top[] = {".", "snapshots", "tmp", "zones"};
	char zone[ZONE_NAME_MAX], name[FILE_NAME_MAX];
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof top / sizeof *top; i++)
		r = what(d, top[i]);
	for (const char *const *region = config_list(d->config, "Cloud", "Regions"); *region;
	     region++)
		for (int i = 0; r == 0 && i < zone_count(d->config); i++) {
			zone_name(*region, i, zone);
			snprintf(name, sizeof name, "zones/%s", zone);
			r = what(d, name);
			snprintf(name, sizeof name, "zones/%s/volumes", zone);
			if (r == 0)
				r = what(d, name);
		}
	return r;
}

int files_open(const struct daemon *d)
{
	int r = each_directory(d, make_directory);

	return r == 0 && files_are_synced(d) ? each_directory(d, sync_named) : r;
}

int file_place(const char *from, const char *to, int is_synced)
{
	step("a file's place");
	if (rename(from, to) < 0)
		return -errno;
	step("a directory's flush");
	return is_synced ? sync_directory_of(to) : 0;
}

int file_remove(const char *path, int is_synced)
{
	step("a file's end");
	if (unlink(path) < 0)
		return errno == ENOENT ? 0 : -errno;
	return is_synced ? sync_directory_of(path) : 0;
}

int file_make(const char *path, mode_t mode, int is_synced, int (*fill)(int fd, const void *arg),
	      const void *arg)
{
	char beside[FILE_PATH_MAX + 8];

	snprintf(beside, sizeof beside, "%s.new", path);
	OWN(fd_close)
	int fd = open(beside, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
	int r = fd < 0 ? -errno : fill(fd, arg);

	step("a file's flush");
	if (r == 0 && is_synced && fsync(fd) < 0)
		r = -errno;
	if (r == 0)
		r = file_place(beside, path, is_synced);
	if (r < 0)
		(void)file_remove(beside, 0); /* a leftover goes at the next start */
	return r;
}

/* One stretch of data, from the same offset to the same offset. */
static int copy_stretch(int from, int to, off_t offset, off_t end)
{
	char buffer[1 << 16];
	int may_share = 1;

	while (offset < end) {
		off_t in = offset, out = offset;
		size_t want = end - offset > (1 << 30) ? 1 << 30 : (size_t)(end - offset);
		ssize_t n = may_share ? copy_file_range(from, &in, to, &out, want, 0) : -1;

		if (n < 0) {
			/* Not between these file systems: by hand. */
			may_share = 0;
			n = pread(from, buffer, want < sizeof buffer ? want : sizeof buffer,
				  offset);
			if (n > 0)
				n = pwrite(to, buffer, (size_t)n, offset);
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		offset += n;
	}
	return 0;
}

int file_copy(int from, int to, int64_t n_bytes)
{
	struct stat st;

	if (fstat(from, &st) < 0)
		return -errno;
	if (st.st_size < n_bytes)
		return -EIO;
	if (st.st_size == n_bytes && ioctl(to, FICLONE, from) == 0)
		return 0;
	if (ftruncate(to, n_bytes) < 0)
		return -errno;
	for (off_t at = 0; at < n_bytes;) {
		off_t data = lseek(from, at, SEEK_DATA), hole;

		if (data < 0 && errno == ENXIO)
			break; /* nothing but a hole is left */
		if (data < 0)
			data = at; /* the file system does not tell */
		hole = lseek(from, data, SEEK_HOLE);
		if (hole < 0 || hole > n_bytes)
			hole = n_bytes;
		int r = data < n_bytes ? copy_stretch(from, to, data, hole) : 0;

		if (r < 0)
			return r;
		at = data < n_bytes ? hole : n_bytes;
	}
	return 0;
}
