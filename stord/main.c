/* stord: volumes and snapshots. */
#include "stord.h"

#include "confine.h"
#include "log.h"

static const struct tags_kind kinds[] = {
	{"volume", "volume", "vol", FAULT_INVALID_VOLUME_NOT_FOUND},
	{"snapshot", "snapshot", "snap", FAULT_INVALID_SNAPSHOT_NOT_FOUND, snapshot_is_visible},
	/* What is in the recycle bin keeps its tags, and they can be changed. Source: EBS user
	 * guide, "Recover deleted volumes from the Recycle Bin". */
	{"volume-in-bin", "volume", "vol", FAULT_INVALID_VOLUME_NOT_FOUND},
	{"snapshot-in-bin", "snapshot", "snap", FAULT_INVALID_SNAPSHOT_NOT_FOUND},
	{"import-snapshot-task", "import-snapshot-task", "import-snap",
	 FAULT_INVALID_CONVERSION_TASK_ID},
	{NULL},
};

int stord_tags_create(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return tags_create(c, kinds, parameters, ret_reply, f);
}

int stord_tags_delete(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return tags_delete(c, kinds, parameters, ret_reply, f);
}

int stord_tags_describe(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return tags_describe(c, kinds, parameters, ret_reply, f);
}

static const struct action actions[] = {
#define ROW(action, handler, flags) {action, handler, flags},
#include "action-table.h"
#undef ROW
	{NULL},
};

static int stord_open(struct daemon *d)
{
	int r = stord_reconcile(d);

	if (r < 0)
		log_error(r, "files and state cannot be brought together", "DIRECTORY",
			  d->state_dir);
	return r;
}

static const char *const prefixes[] = {"vol", "snap", "import-snap", NULL};

static const struct daemon_spec spec = {
	.name = "stord",
	.actions = actions,
	.store_version = 2,
	.open = stord_open,
	.prefixes = prefixes,
	.has_secrets = 1,
};

int main(int argc, char **argv)
{
	if (confine_is(argc, argv))
		return confine_main(argc, argv);
	return daemon_main(&spec, argc, argv);
}
