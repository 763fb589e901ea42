/*
 * What the rooms of the kernel room share: kernel.c (its calls, and the list of VPCs),
 * kernel-pass.c (when passes run, and what comes of them), kernel-notice.c (what others change).
 */
#pragma once

#include "kernel.h"
#include "pass.h"
#include "plan-memo.h"
#include "responders.h"

#define KERNEL_PULSE_USEC     2000000
#define KERNEL_RETRY_MIN_USEC 1000000
#define KERNEL_DOUBTS	      1024

/* A VPC, or a node of one: then it has no documents, and nobody asks it for DHCP or DNS. */
struct vpc {
	struct router router; /* first: passes know only this */
	int is_node;
	uint64_t touched, begun, done; /* touches so far; those the running pass covers; those that
					  a pass has covered */
	int error;		       /* of the last pass */
	struct plan_memo *memo;	       /* for its plans */
	int is_asked, is_due;	       /* a document changed: of the next, of this pass */
	int is_nothing;		       /* the last pass found nothing of it, and nothing to make */
	int is_suspect;		       /* somebody else changed something in its namespace */
	uint64_t read_usec;	       /* when it was last read back for no reason; 0: never */
	struct responders responders;
};

struct waiter {
	struct fiber *fiber;
	struct waiter *next;
	int is_queued;
};

struct kernel {
	struct daemon *daemon;
	struct plan_settings plan_settings;
	struct flow_place flow_place;
	struct vpc **vpcs;
	size_t n_vpcs, n_room;
	struct pass pass; /* a worker's while it runs: its list of routers is its own */
	struct watch *watch;
	sd_event_source *soon, *later; /* a touch; a retry or a foreign change */
	sd_event_source *pulse;
	size_t pulse_at;	/* the VPC to be felt next */
	sd_event_source *names; /* of namespaces */
	uint64_t retry_usec;
	uint64_t n_begun, n_ended; /* passes */
	unsigned n_changes;	   /* of the last pass */
	int is_running, is_closing;
	int is_host_touched, is_host_suspect;
	uint64_t host_read_usec;
	int doubts[KERNEL_DOUBTS]; /* links of the host's namespace to be looked at */
	size_t n_doubts;
	int is_due;  /* the pass is about changed documents, or the first */
	int is_full; /* the next pass looks at what an earlier process may have left, too */
	struct waiter *waiters;
};
extern struct kernel kernel;

struct vpc *kernel_vpc_find(const char *vpc_id);
/* NULL out of memory. */
struct vpc *kernel_vpc_new(const char *vpc_id);
void kernel_vpc_free(struct vpc *v);

/* ---- kernel-pass.c ---- */

/* Soon, or after that time, a pass runs over what was touched. */
void kernel_schedule(void);
void kernel_schedule_later(uint64_t usec);
/* (fiber) Passes, until nothing is touched; the caller has said that they run. */
void kernel_run_passes(void *arg);
int kernel_on_soon(sd_event_source *s, void *arg);
int kernel_on_later(sd_event_source *s, uint64_t usec, void *arg);

/* ---- kernel-notice.c ---- */

/* Of a VPC, NULL: of the host. */
void kernel_on_foreign_change(void *arg);
/* The VPC's plan has a neighbour of this address. */
int kernel_is_neighbour(const struct address *address, void *arg);
/* A link of ours in the host's namespace was perhaps changed. */
void kernel_on_doubt(int index, void *arg);
/* While no pass runs: looks at those links. */
void kernel_resolve_doubts(void);
int kernel_on_unlink(sd_event_source *s, const struct inotify_event *e, void *arg);
int kernel_on_pulse(sd_event_source *s, uint64_t usec, void *arg);
