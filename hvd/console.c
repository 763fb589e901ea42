/* Console files: made, bounded, and shown by GetConsoleOutput. */
#include "console.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/stat.h>

#include "instance-rooms.h"

#define TRIM_FROM_BYTES (1 << 20) /* kept at least until there is so much */

void console_path(const struct daemon *d, const char *instance_id,
		  char ret_path[static CONSOLE_PATH_BYTES])
{
	snprintf(ret_path, CONSOLE_PATH_BYTES, "%s/console/%s.log", d->state_dir, instance_id);
}

int console_begin(const struct daemon *d, const char *instance_id, const char *line)
{
	char path[CONSOLE_PATH_BYTES];

	snprintf(path, sizeof(path), "%s/console", d->state_dir);
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return -errno;
	console_path(d, instance_id, path);
	OWN(fd_close)
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	return dprintf(fd, "%s\r\n", line) < 0 ? -errno : 0;
}

void console_remove(const struct daemon *d, const char *instance_id)
{
	char path[CONSOLE_PATH_BYTES];

	console_path(d, instance_id, path);
	(void)unlink(path); /* it may never have been there */
}

void console_trim(const struct daemon *d, const char *instance_id)
{
	char path[CONSOLE_PATH_BYTES];
	struct stat st;

	console_path(d, instance_id, path);
	OWN(fd_close) int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_blocks * 512 < TRIM_FROM_BYTES ||
	    st.st_size < TRIM_FROM_BYTES)
		return;
	/* The writer's place in the file stays what it was: a hole instead of a cut. A file
	 * system without holes keeps it all. */
	(void)fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			st.st_size - CONSOLE_KEPT_BYTES);
}

int console_read(const struct daemon *d, const char *instance_id, size_t n_max, char **ret_bytes,
		 size_t *ret_n, int64_t *ret_usec)
{
	char path[CONSOLE_PATH_BYTES];
	struct stat st;

	console_path(d, instance_id, path);
	OWN(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	OWN(free) char *bytes = malloc(n_max);
	if (!bytes)
		return -ENOMEM;
	ssize_t n =
		pread(fd, bytes, n_max, st.st_size > (off_t)n_max ? st.st_size - (off_t)n_max : 0);
	if (n < 0)
		return -errno;
	*ret_bytes = give(bytes);
	*ret_n = (size_t)n;
	*ret_usec = (int64_t)st.st_mtim.tv_sec * 1000000 + st.st_mtim.tv_nsec / 1000;
	return 0;
}

/* Latest or not: the file is always as new as the guest's last byte. */
int console_output_get(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	OWN(free) char *bytes = NULL;
	OWN(free) char *base64 = malloc(CONSOLE_TAIL_BYTES * 4 / 3 + 8);
	const struct doc *d;
	size_t n = 0;
	int64_t usec = 0;
	int r = instance_get(c, jstr(parameters, "InstanceId"), &d, f);

	if (r < 0)
		return r;
	if (!base64)
		return -ENOMEM;
	r = console_read(c->daemon, d->id, CONSOLE_TAIL_BYTES, &bytes, &n, &usec);
	if (r < 0 && r != -ENOENT)
		return r;
	EVP_EncodeBlock((unsigned char *)base64, (const unsigned char *)bytes, (int)n);
	/* AWS: an instance that has not written yet has a time and no output. */
	*ret_reply =
		json_pack("{s:s, s:o, s:s*}", "InstanceId", d->id, "Timestamp",
			  r == 0 ? jtime(usec) : jtime_now(), "Output", *base64 ? base64 : NULL);
	return *ret_reply ? 0 : -ENOMEM;
}
