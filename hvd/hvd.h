/*
 * What hvd's rooms share while it runs. What must survive is in the store; this is found out again
 * at each start.
 */
#pragma once

#include "daemon.h"
#include "probe.h"
#include "virt.h"

struct hvd {
	struct daemon *daemon;
	struct virt *virt;
	struct probe probe;
	const char *domain_type; /* libvirt's word: "kvm" or "qemu" (TCG); NULL until it is known */
	uint64_t listening_usec; /* monotonic; since when guests' agents can be heard */
	/* differs after each start of the machine (or of the namespaces that play one) */
	char host_boot[96];
};

/* The one there is. */
struct hvd *hvd_get(void);

int hvd_open(struct daemon *d); /* (fiber) */
void hvd_close(struct daemon *d);

/* Guests run: their consoles are kept short from now on. */
void hvd_watch_consoles(void);

/* hvd.c: {Acceleration, Reason, Probe, Libvirt}: what `gureum doctor` asks. */
int hypervisor_describe(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f);
