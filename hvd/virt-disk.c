/* A running domain's disk: resized, limited, and on again after the host's disk was full. */
#include "virt-disk.h"

#include <errno.h>
#include <string.h>
#include "fiber.h"
#include "step.h"
#include "virt-internal.h"

struct disk_work {
	virConnectPtr connection;
	const char *name, *target;
	int (*run)(virDomainPtr d, struct disk_work *w); /* < 0: libvirt's error */
	int64_t bytes;
	const struct domain_limits *limits;
	struct virt_stuck *stuck;
	char error[VIRT_ERROR_BYTES];
};

/* (worker) */
static int disk_work(void *arg)
{
	struct disk_work *w = arg;
	OWN(virt_domain_unref) virDomainPtr d = virDomainLookupByName(w->connection, w->name);

	if (!d)
		return virt_errno(w->connection, w->error);
	int r = w->run(d, w);
	return r < 0 ? virt_errno(w->connection, w->error) : r;
}

static int disk_do(struct virt *v, struct disk_work *w, char *ret_error)
{
	OWN(virt_connection_unref) virConnectPtr c = virt_connection(v);

	w->connection = c;
	int r = c ? fiber_work(disk_work, w) : -ENOTCONN;
	if (ret_error)
		snprintf(ret_error, VIRT_ERROR_BYTES, "%s",
			 r == -ENOTCONN ? "libvirt is away" : w->error);
	return r;
}

static int resize(virDomainPtr d, struct disk_work *w)
{
	step("libvirt: a disk grows");
	return virDomainBlockResize(d, w->target, (unsigned long long)w->bytes,
				    VIR_DOMAIN_BLOCK_RESIZE_BYTES);
}

int virt_disk_resize(struct virt *v, const char *name, const char *target, int64_t bytes,
		     char ret_error[static VIRT_ERROR_BYTES])
{
	struct disk_work w = {.name = name, .target = target, .run = resize, .bytes = bytes};

	return disk_do(v, &w, ret_error);
}

static int limit(virDomainPtr d, struct disk_work *w)
{
	virTypedParameterPtr p = NULL;
	int n = 0, n_max = 0, r = 0;

	step("libvirt: a disk's limits");
	/* 0 takes a limit off: what the new type does not have must go. */
	for (size_t i = 0; r == 0 && i < DOMAIN_LIMITS; i++)
		r = virTypedParamsAddULLong(&p, &n, &n_max, domain_limit_names[i],
					    (unsigned long long)w->limits->of[i]);
	if (r == 0)
		r = virDomainSetBlockIoTune(d, w->target, p, n, VIR_DOMAIN_AFFECT_LIVE);
	virTypedParamsFree(p, n);
	return r;
}

int virt_disk_limit(struct virt *v, const char *name, const char *target,
		    const struct domain_limits *limits, char ret_error[static VIRT_ERROR_BYTES])
{
	struct disk_work w = {.name = name, .target = target, .run = limit, .limits = limits};

	return disk_do(v, &w, ret_error);
}

static int is_stuck(virDomainPtr d)
{
	int state, reason;

	if (virDomainGetState(d, &state, &reason, 0) < 0)
		return -1;
	return state == VIR_DOMAIN_PAUSED && reason == VIR_DOMAIN_PAUSED_IOERROR;
}

static int read_stuck(virDomainPtr d, struct disk_work *w)
{
	virDomainDiskError errors[DOMAIN_DISKS_MAX];
	int r = is_stuck(d), n = r > 0 ? virDomainGetDiskErrors(d, errors, DOMAIN_DISKS_MAX, 0) : 0;

	w->stuck->is_stuck = r > 0;
	for (int i = 0; i < n; i++) {
		snprintf(w->stuck->targets[w->stuck->n++], sizeof(w->stuck->targets[0]), "%s",
			 errors[i].disk);
		free(errors[i].disk);
	}
	return r < 0 || n < 0 ? -1 : 0;
}

int virt_disk_read_stuck(struct virt *v, const char *name, struct virt_stuck *ret_stuck)
{
	struct virt_stuck stuck = {0};
	struct disk_work w = {.name = name, .run = read_stuck, .stuck = &stuck};
	int r = disk_do(v, &w, NULL);

	if (r == 0)
		*ret_stuck = stuck;
	return r;
}

static int go_on(virDomainPtr d, struct disk_work *w)
{
	int r = is_stuck(d);

	(void)w;
	return r <= 0 ? r : virDomainResume(d);
}

int virt_disk_go_on(struct virt *v, const char *name, char ret_error[static VIRT_ERROR_BYTES])
{
	struct disk_work w = {.name = name, .run = go_on};

	return disk_do(v, &w, ret_error);
}
