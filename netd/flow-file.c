/* Flow files: appending, rotating, cleaning. */
#include "flow-file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "id.h"

static void path_of(char path[static 512], const char *directory, const char *id)
{
	snprintf(path, 512, "%s/%s.log", directory, id);
}

static void open_part(struct flow_file *f)
{
	struct stat s;
	int fd = open(f->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);

	f->file = fd < 0 ? NULL : fdopen(fd, "a");
	f->n_bytes = fd >= 0 && fstat(fd, &s) == 0 ? (uint64_t)s.st_size : 0;
	if (f->file)
		return;
	f->error = -errno;
	if (fd >= 0)
		(void)close(fd); /* nothing was written */
}

void flow_file_open(struct flow_file *f, const char *directory, const char *id, uint64_t n_max)
{
	*f = (struct flow_file){.n_max = n_max / FLOW_FILE_PARTS};
	path_of(f->path, directory, id);
	open_part(f);
}

static void end_part(struct flow_file *f)
{
	if (f->file && fclose(f->file) != 0 && f->error == 0)
		f->error = -errno;
	f->file = NULL;
}

/* The oldest goes, the others are one older. */
static void rotate(struct flow_file *f)
{
	char from[520], to[520];

	end_part(f);
	for (int i = FLOW_FILE_PARTS - 1; i > 0; i--) {
		snprintf(to, sizeof to, "%s.%d", f->path, i);
		snprintf(from, sizeof from, i > 1 ? "%s.%d" : "%s", f->path, i - 1);
		if (rename(from, to) < 0 && errno != ENOENT && f->error == 0)
			f->error = -errno;
	}
	if (f->error == 0)
		open_part(f);
}

void flow_file_write(struct flow_file *f, const char *text, size_t n)
{
	if (f->error == 0 && f->n_bytes && f->n_bytes + n > f->n_max)
		rotate(f);
	if (f->error < 0)
		return;
	if (fwrite(text, 1, n, f->file) != n)
		f->error = -errno;
	f->n_bytes += n;
}

int flow_file_close(struct flow_file *f)
{
	end_part(f);
	return f->error;
}

int64_t flow_file_time(const char *directory, const char *id)
{
	char path[512];
	struct stat s;

	path_of(path, directory, id);
	return stat(path, &s) == 0 ? s.st_mtime : 0;
}

/* ---- logs that are no more ---- */

struct orphan {
	char id[ID_MAX];
	time_t time;
};

static int newest_first(const void *va, const void *vb)
{
	const struct orphan *a = va, *b = vb;

	return a->time > b->time ? -1 : a->time < b->time;
}

static void remove_parts(const char *directory, const char *id)
{
	char path[512], part[520];

	path_of(path, directory, id);
	for (int i = FLOW_FILE_PARTS - 1; i > 0; i--) {
		snprintf(part, sizeof part, "%s.%d", path, i);
		(void)unlink(part); /* it may never have been that full */
	}
	(void)unlink(path); /* last: by it the others are found again */
}

static int orphan_add(struct orphan **orphans, size_t *n, const char *directory, const char *id)
{
	struct orphan *grown = realloc(*orphans, (*n + 1) * sizeof *grown);

	if (!grown)
		return -ENOMEM;
	*orphans = grown;
	grown[*n].time = flow_file_time(directory, id);
	snprintf(grown[(*n)++].id, ID_MAX, "%s", id);
	return 0;
}

void flow_file_clean(const char *directory, int (*is_known)(const char *id, void *arg), void *arg)
{
	OWN(closedir) DIR *dir = opendir(directory);
	OWN(free) struct orphan *orphans = NULL;
	const struct dirent *e;
	char id[ID_MAX];
	size_t n = 0;

	while (dir && (e = readdir(dir))) {
		size_t len = strlen(e->d_name);

		if (len < 5 || len - 4 >= sizeof id || strcmp(e->d_name + len - 4, ".log") != 0)
			continue;
		snprintf(id, sizeof id, "%.*s", (int)(len - 4), e->d_name);
		if (!is_known(id, arg) && orphan_add(&orphans, &n, directory, id) < 0)
			return; /* the next time will do */
	}
	if (n)
		qsort(orphans, n, sizeof *orphans, newest_first);
	for (size_t i = FLOW_FILE_ORPHANS; i < n; i++)
		remove_parts(directory, orphans[i].id);
}
