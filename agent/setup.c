// Set-up at each boot: what the metadata service says becomes the guest's host name, SSH keys and
// identity.
#include "agent.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <linux/magic.h>

#define STATE_DIRECTORY "/var/lib/gureum"
#define WAIT_SECONDS	60
#define KEYS_MAX	16
#define AUTHORIZED_MAX	(64u << 10)
/* linux/ext4.h is not among the kernel's exported headers of Debian 12. */
#define EXT4_IOC_RESIZE_FS _IOW('f', 16, uint64_t)

static struct http_reply reply;

int hostname_is(const char *name)
{
	size_t label = 0, n = strlen(name);

	if (n == 0 || n > 253)
		return 0;
	for (const char *c = name; *c; c++) {
		if (*c == '.') {
			if (label == 0)
				return 0;
			label = 0;
			continue;
		}
		if (!isalnum((unsigned char)*c) && (*c != '-' || label == 0))
			return 0;
		if (++label > 63)
			return 0;
	}
	return label > 0;
}

int ssh_key_is(const char *line, size_t n)
{
	static const char *const types[] = {"ssh-ed25519 ", "ssh-rsa ", "ecdsa-sha2-nistp256 ",
					    "ecdsa-sha2-nistp384 ", "ecdsa-sha2-nistp521 "};

	for (size_t i = 0; i < n; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			return 0;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (n > strlen(types[i]) && memcmp(line, types[i], strlen(types[i])) == 0)
			return 1;
	return 0;
}

/* `text` has `line` as one of its lines. */
static int has_line(const char *text, size_t n_text, const char *line, size_t n)
{
	const char *end = text + n_text;

	while (text < end) {
		const char *stop = memchr(text, '\n', (size_t)(end - text));
		size_t length = (size_t)((stop ? stop : end) - text);

		if (length == n && memcmp(text, line, n) == 0)
			return 1;
		text += length + 1;
	}
	return 0;
}

long ssh_keys_merge(const char *known, const char *const *keys, size_t n_keys, char *ret_text,
		    size_t size)
{
	size_t n = strlen(known);

	if (n + 2 > size)
		return -EFBIG;
	memcpy(ret_text, known, n);
	if (n > 0 && ret_text[n - 1] != '\n')
		ret_text[n++] = '\n';
	for (size_t i = 0; i < n_keys; i++) {
		size_t length = strlen(keys[i]);

		if (has_line(ret_text, n, keys[i], length))
			continue;
		if (n + length + 2 > size)
			return -EFBIG;
		memcpy(ret_text + n, keys[i], length);
		n += length;
		ret_text[n++] = '\n';
	}
	ret_text[n] = '\0';
	return (long)n;
}

static void trim_end(char *text)
{
	size_t n = strlen(text);

	while (n > 0 && isspace((unsigned char)text[n - 1]))
		text[--n] = '\0';
}

/* The disk may be an image's copy: what made the other instance itself must not be carried over. */
static int forget_other_instance(void)
{
	DIR *d = opendir(agent_path("/etc/dropbear"));
	struct dirent *e;
	int r = 0;

	while (d && r == 0 && (e = readdir(d)))
		if (strstr(e->d_name, "_host_key") && unlinkat(dirfd(d), e->d_name, 0) < 0)
			r = -errno;
	if (d)
		(void)closedir(d); /* only read */
	return r;
}

static int set_identity(struct metadata *m)
{
	char before[128] = "";
	int r = metadata_get(m, "meta-data/instance-id", &reply);

	if (r < 0)
		return r;
	trim_end(reply.body);
	if (!hostname_is(reply.body)) /* the same alphabet */
		return -EPROTO;
	if (file_read(agent_path(STATE_DIRECTORY "/instance-id"), before, sizeof(before)) < 0)
		before[0] = '\0';
	trim_end(before);
	if (strcmp(before, reply.body) == 0)
		return 0;
	r = before[0] ? forget_other_instance() : 0;
	if (r == 0)
		r = directory_make(agent_path(STATE_DIRECTORY), 0755);
	return r < 0 ? r
		     : file_write(agent_path(STATE_DIRECTORY "/instance-id"), reply.body,
				  strlen(reply.body), 0644);
}

static int set_hostname(struct metadata *m)
{
	char name[256], hosts[640];
	size_t label;
	int n, r = metadata_get(m, "meta-data/local-hostname", &reply);

	if (r < 0)
		return r;
	trim_end(reply.body);
	if (!hostname_is(reply.body))
		return -EPROTO;
	strcpy(name, reply.body); /* hostname_is bounds it to 253 */
	label = strcspn(name, ".");
	if (sethostname(name, label) < 0)
		return -errno;
	n = snprintf(hosts, sizeof(hosts),
		     "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 %s%s%.*s\n", name,
		     name[label] ? " " : "", name[label] ? (int)label : 0, name);
	r = file_write(agent_path("/etc/hosts"), hosts, (size_t)n, 0644);
	name[label] = '\n';
	return r < 0 ? r : file_write(agent_path("/etc/hostname"), name, label + 1, 0644);
}

/* The list is "0=name" lines; each index has its key at <index>/openssh-key. Keys found, or -errno.
 */
static int get_keys(struct metadata *m, char (*keys)[AGENT_LINE_MAX])
{
	char list[1024], path[64];
	int found = 0, r = metadata_get(m, "meta-data/public-keys/", &reply);

	if (r < 0)
		return r == -ENOENT ? 0 : r; /* launched without a key pair */
	(void)snprintf(list, sizeof(list), "%.1023s",
		       reply.body); /* a cut list has more keys than we take */
	for (char *rest = list, *row; (row = strsep(&rest, "\n")) && found < KEYS_MAX;) {
		unsigned index;

		if (sscanf(row, "%u=", &index) != 1)
			continue;
		(void)snprintf(path, sizeof(path), "meta-data/public-keys/%u/openssh-key",
			       index); /* always fits */
		r = metadata_get(m, path, &reply);
		if (r < 0)
			return r;
		trim_end(reply.body);
		if (strlen(reply.body) < AGENT_LINE_MAX &&
		    ssh_key_is(reply.body, strlen(reply.body)))
			strcpy(keys[found++], reply.body);
	}
	return found;
}

static int set_keys(struct metadata *m)
{
	static char keys[KEYS_MAX][AGENT_LINE_MAX], known[AUTHORIZED_MAX], text[AUTHORIZED_MAX];
	const char *list[KEYS_MAX];
	int n_keys = get_keys(m, keys), r;
	long n;

	if (n_keys <= 0)
		return n_keys;
	for (int i = 0; i < n_keys; i++)
		list[i] = keys[i];
	n = file_read(agent_path("/root/.ssh/authorized_keys"), known, sizeof(known));
	if (n == -ENOENT)
		known[0] = '\0';
	else if (n < 0)
		return (int)n;
	n = ssh_keys_merge(known, list, (size_t)n_keys, text, sizeof(text));
	if (n < 0)
		return (int)n;
	if (strcmp(known, text) == 0)
		return 0;
	r = directory_make(agent_path("/root/.ssh"), 0700);
	return r < 0 ? r
		     : file_write(agent_path("/root/.ssh/authorized_keys"), text, (size_t)n, 0600);
}

/* An image's root file system grows to the disk it was copied to: the kernel does it on line, given
 * the number of blocks. */
static int grow_root(void)
{
	int root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	char path[64], text[32];
	struct statfs fs;
	struct stat st;
	uint64_t blocks;

	if (root < 0)
		return -errno;
	if (fstat(root, &st) == 0 && fstatfs(root, &fs) == 0 && fs.f_type == EXT4_SUPER_MAGIC) {
		(void)snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/size", major(st.st_dev),
			       minor(st.st_dev));
		if (file_read(path, text, sizeof(text)) > 0) {
			blocks = strtoull(text, NULL, 10) * 512 / (uint64_t)fs.f_bsize;
			r = ioctl(root, EXT4_IOC_RESIZE_FS, &blocks) < 0 ? -errno : 0;
		}
	}
	(void)close(root); /* only read */
	return r;
}

int setup_main(void)
{
	static const struct {
		const char *name;
		int (*run)(struct metadata *m);
	} steps[] = {
		{"instance id", set_identity}, {"host name", set_hostname}, {"SSH keys", set_keys}};
	struct metadata m;
	int r, status = 0;

	r = grow_root();
	if (r < 0)
		say("gureum-agent: growing the root file system: %s", strerror(-r));
	r = metadata_wait(&m, WAIT_SECONDS);
	if (r < 0) {
		say("gureum-agent: no instance metadata: %s", strerror(-r));
		return 1;
	}
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		r = steps[i].run(&m);
		if (r < 0) {
			say("gureum-agent: %s: %s", steps[i].name, strerror(-r));
			status = 1; /* the others still help */
		}
	}
	return status;
}
