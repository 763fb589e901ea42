/* Console files: made, bounded, and shown by GetConsoleOutput. */
#include "console.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/stat.h>

#include "instance-rooms.h"

#define TRIM_FROM_BYTES (1 << 20) /* kept at least until there is so much */
#define TRIM_KEEP_BYTES (256 << 10)

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
			st.st_size - TRIM_KEEP_BYTES);
}

/* The file's last bytes, base64 (malloced), and when it was last written; -ENOENT. */
static int read_tail(const char *path, char **ret_base64, int64_t *ret_usec)
{
	OWN(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	off_t from = st.st_size > CONSOLE_TAIL_BYTES ? st.st_size - CONSOLE_TAIL_BYTES : 0;
	OWN(free) unsigned char *bytes = malloc(CONSOLE_TAIL_BYTES);
	OWN(free) char *base64 = malloc(CONSOLE_TAIL_BYTES * 4 / 3 + 8);
	if (!bytes || !base64)
		return -ENOMEM;
	ssize_t n = pread(fd, bytes, CONSOLE_TAIL_BYTES, from);
	if (n < 0)
		return -errno;
	EVP_EncodeBlock((unsigned char *)base64, bytes, (int)n);
	*ret_base64 = give(base64);
	*ret_usec = (int64_t)st.st_mtim.tv_sec * 1000000 + st.st_mtim.tv_nsec / 1000;
	return 0;
}

/* Latest or not: the file is always as new as the guest's last byte. */
int console_output_get(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	char path[CONSOLE_PATH_BYTES];
	OWN(free) char *base64 = NULL;
	const struct doc *d;
	int64_t usec = 0;
	int r = instance_get(c, jstr(parameters, "InstanceId"), &d, f);

	if (r < 0)
		return r;
	console_path(c->daemon, d->id, path);
	r = read_tail(path, &base64, &usec);
	if (r < 0 && r != -ENOENT)
		return r;
	/* AWS: an instance that has not written yet has a time and no output. */
	*ret_reply = json_pack("{s:s, s:o, s:s*}", "InstanceId", d->id, "Timestamp",
			       r == 0 ? jtime(usec) : jtime_now(), "Output",
			       base64 && *base64 ? base64 : NULL);
	return *ret_reply ? 0 : -ENOMEM;
}
