/* hvd: instances, and the catalog they are made from. */
#include <string.h>

#include "catalog.h"
#include "hvd.h"
#include "instance.h"

#define ACTIONS_MAX 128

static const char *const prefixes[] = {"i", "ami", "aki", "ari", "key", "import-ami", NULL};

/* The rooms' rows, one after the other; action_dispatch() wants one table. */
static const struct action *join(struct action *to, const struct action *const *blocks)
{
	size_t n = 0;

	for (; *blocks; blocks++)
		for (const struct action *a = *blocks; a->name && n < ACTIONS_MAX; a++)
			to[n++] = *a;
	return to;
}

int main(int argc, char **argv)
{
	static const struct action *const blocks[] = {instance_actions, catalog_actions, NULL};
	static struct action actions[ACTIONS_MAX + 1];
	struct daemon_spec spec = {
		.name = "hvd",
		.actions = join(actions, blocks),
		.store_version = 1,
		.open = hvd_open,
		.close = hvd_close,
		.n_workers = 6, /* libvirtd works on five calls of a client at a time */
		.prefixes = prefixes,
		.has_secrets = 1,
	};

	if (argc == 2 && strcmp(argv[1], "--probe") == 0)
		return probe_main();
	return daemon_main(&spec, argc, argv);
}
