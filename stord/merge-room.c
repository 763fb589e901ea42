/* Which merges wait for room on the disk, and for how much. */
#include "merge-room.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include "jsonx.h"
#include "layer.h"
#include "log.h"

/* So much more than before is worth a try. */
#define STEP_BYTES  (INT64_C(256) << 20)
#define DOUBLED_MAX 16
/* Tables and headers, which no file's data tells. */
#define TABLES_BYTES (INT64_C(1) << 20)

/* {"UNDER OVER": [the written file's bytes before the first try, tries, bytes to wait for]} */
static json_t *waiting;
static int64_t bytes_before; /* of the file that the merge under way writes */

enum { BEFORE, TRIES, WANTED };

static void key_of(const struct merge *m, char ret_key[static 2 * FILE_NAME_MAX + 2])
{
	snprintf(ret_key, 2 * FILE_NAME_MAX + 2, "%s %s", m->under, m->over);
}

static const char *written(const struct merge *m)
{
	return m->is_commit && !m->is_long ? m->under : m->over;
}

/* 0: there is no such file. */
static int64_t bytes_of(const struct daemon *d, const char *name)
{
	char path[FILE_PATH_MAX];
	struct stat st;

	file_path(d, name, path);
	return stat(path, &st) < 0 ? 0 : (int64_t)st.st_blocks * 512;
}

static int64_t room_for(const struct daemon *d, const struct merge *m)
{
	char path[FILE_PATH_MAX];
	struct statvfs fs;

	file_path(d, written(m), path);
	return statvfs(path, &fs) < 0 ? INT64_MAX : (int64_t)(fs.f_bavail * fs.f_frsize);
}

/* All data that may go to another file. */
static int64_t bytes_moved(const struct daemon *d, const struct merge *m)
{
	const struct doc *over = layer_find(d->store, m->over), *l = over;
	int is_anew = over && jstr(over->json, "Key") != NULL; /* merge-offline.h */

	if (m->is_commit && !m->is_long)
		return bytes_of(d, m->over);
	int64_t sum = is_anew ? bytes_of(d, m->over) : 0;

	if (!m->is_long)
		return sum + bytes_of(d, m->under);
	for (unsigned n = 0; l && n < LAYERS_FOLLOWED; n++) {
		const char *name = jstr_or(l->json, "Backing", m->under);

		if (strcmp(name, m->under) == 0)
			break;
		sum += bytes_of(d, name);
		l = layer_find(d->store, name);
	}
	return sum;
}

int merge_room_begin(const struct daemon *d, const struct merge *m)
{
	char key[2 * FILE_NAME_MAX + 2];

	if (m->instance_id[0])
		return 1;
	key_of(m, key);
	int64_t wanted = json_integer_value(json_array_get(json_object_get(waiting, key), WANTED));

	if (wanted > 0 && room_for(d, m) < wanted) {
		log_debug("a merge waits for room", "UNDER", m->under, "OVER", m->over);
		return 0;
	}
	bytes_before = bytes_of(d, written(m));
	return 1;
}

/* Those whose layers are merged or gone. */
static void forget_others(const struct daemon *d)
{
	const char *key;
	json_t *row;
	void *next;

	json_object_foreach_safe(waiting, next, key,
				 row) if (!layer_find(d->store, strchr(key, ' ') + 1))(void)
		json_object_del(waiting, key); /* it is there */
}

void merge_room_end(const struct daemon *d, const struct merge *m, int result)
{
	char key[2 * FILE_NAME_MAX + 2];

	key_of(m, key);
	if (m->instance_id[0] || (result != -ENOSPC && result != -EDQUOT)) {
		if (result == 0)
			(void)json_object_del(waiting, key); /* seldom there */
		return;
	}
	forget_others(d);
	const json_t *row = json_object_get(waiting, key);
	int64_t before = row ? json_integer_value(json_array_get(row, BEFORE)) : bytes_before,
		tries = json_integer_value(json_array_get(row, TRIES)), room = room_for(d, m),
		most = bytes_moved(d, m) - (bytes_of(d, written(m)) - before) + TABLES_BYTES,
		more = room + (STEP_BYTES << (tries < DOUBLED_MAX ? tries : DOUBLED_MAX));

	if (!waiting)
		waiting = json_object();
	/* Out of memory: it is tried again as what fails for other reasons. */
	(void)json_object_set_new(waiting, key,
				  json_pack("[I, I, I]", (json_int_t)before, (json_int_t)tries + 1,
					    (json_int_t)(most < more ? most : more)));
}
