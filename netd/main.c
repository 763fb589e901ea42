/* netd: VPCs, their subnets, interfaces, groups and routes; and all of it in the kernel. */
#include "netd.h"
#include "log.h"
#include "nat-gateway.h"
#include "refresh.h"
#include "taken.h"

#define STORE_VERSION 1

static const struct action actions[] = {
#define ROW(service, action, handler, flags) {#service "." #action, handler, flags},
#include "action-table.h"
#undef ROW
	{NULL},
};

/* Of the ids that netd owns. */
static const char *const prefixes[] = {"vpc", "subnet", "rtb", "igw",	   "acl",  "dopt",
				       "sg",  "sgr",	"eni", "eipalloc", "eigw", "pl",
				       "pcx", "vpce",	"scr", "nat",	   "fl",   NULL};

static int netd_open(struct daemon *d)
{
	int r = taken_open(d->store);

	if (r < 0) {
		log_error(r, "the interfaces could not be gathered");
		return r;
	}
	r = defaults_open(d);
	if (r == 0)
		r = kernel_open(d);
	if (r == 0) {
		refresh_start_all(d->store, NULL);
		nat_gateways_open(d->store);
	}
	return r;
}

static void netd_close(struct daemon *d)
{
	kernel_close(d);
	taken_close();
}

static const struct daemon_spec spec = {
	.name = "netd",
	.actions = actions,
	.prefixes = prefixes,
	.store_version = STORE_VERSION,
	.open = netd_open,
	.close = netd_close,
};

int main(int argc, char **argv)
{
	return daemon_main(&spec, argc, argv);
}
