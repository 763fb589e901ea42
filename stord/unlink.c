/* Files whose owners are gone: marked in the owner's last transaction, deleted afterwards. */
#include "stord.h"

#include <errno.h>
#include "fiber.h"
#include "files.h"
#include "log.h"

#define KIND "_unlink"

int unlink_mark(struct txn *t, const char *name)
{
	return txn_put(t, KIND, name, "", "", json_object());
}

struct removal {
	int is_synced;
	char path[FILE_PATH_MAX];
};

static int remove_one(void *arg)
{
	const struct removal *r = arg;

	return file_remove(r->path, r->is_synced);
}

static struct fiber_lock lock;
static int is_asked_again;

/* One pass over what was marked when it began. */
static int pass(struct daemon *d)
{
	OWN(json_decref) json_t *names = json_array();
	OWN(txn_free) struct txn *t = txn_new(d->store);
	size_t i;
	json_t *name;

	store_each (d->store, KIND, doc)
		(void)json_array_append_new(names,
					    json_string(doc->id)); /* left out: still marked */
	if (!t)
		return -ENOMEM;
	json_array_foreach (names, i, name) {
		struct removal r = {.is_synced = files_are_synced(d)};

		file_path(d, json_string_value(name), r.path);
		int error = fiber_work(remove_one, &r);

		if (error == 0)
			error = txn_delete(t, KIND, json_string_value(name));
		if (error < 0)
			log_warning(error, "a file is not deleted yet", "FILE", r.path);
	}
	return txn_commit(t);
}

void unlink_marked(struct daemon *d)
{
	/* Who comes while a pass is under way waits for the one after it, together with all others
	 * who came. */
	is_asked_again = 1;
	fiber_lock(&lock);
	if (is_asked_again) {
		is_asked_again = 0;
		int r = pass(d);

		if (r < 0)
			log_warning(r, "deleted files stay marked");
	}
	fiber_unlock(&lock);
}
