/*
 * Instances: the documents of kind "instance" and what may happen to them.
 *
 * A document is AWS's Instance shape, ready to be shown, plus
 *	_ReservationId, _OwnerId   of the reservation
 *	_UserData		   base64 as the customer gave it, absent if none
 *	_PublicKey		   the key pair's OpenSSH line at launch, absent if none
 *	_Cmdline		   for a direct kernel boot (KernelId), absent: the default
 *	_ShutdownBehavior	   "stop" or "terminate"
 *	_DisableApiTermination, _DisableApiStop, _CpuCredits
 *	_Force			   this stop does not wait for the guest
 *	_HasRun			   it has been `running` once: a failure to start stops it, and
 *				   does not terminate it
 *	_HostBoot		   on which boot of the machine its domain was started (see hvd.h)
 *	_SeenAlive, _AgentHeard	   of this start of the guest: when life was first seen, and that
 *				   the agent gave it
 *	_ImpairedSince		   since when the guest's check fails, as it was told; gone when the
 *				   agent is heard again
 *	_RebootSince		   monotonic microseconds: a reboot was asked for then, and is owed
 *	_PacketsBefore		   what its tap had counted before this start
 *	_TerminatedAt		   microseconds: it is shown for TerminatedVisibleSec after that
 *
 * State.Name is what AWS would show and at the same time what is wanted: pending wants a running
 * domain, stopping wants none. The handlers only move it and kick; instance_reconcile() makes the
 * world agree, however often it is called.
 */
#pragma once

#include <jansson.h>
#include "action.h"
#include "daemon.h"
#include "id.h"
#include "virt.h"

#define INSTANCE_KIND "instance"

/* ---- states (instance-state.c) ---- */

enum instance_state {
	INSTANCE_PENDING,
	INSTANCE_RUNNING,
	INSTANCE_STOPPING,
	INSTANCE_STOPPED,
	INSTANCE_SHUTTING_DOWN,
	INSTANCE_TERMINATED,
	INSTANCE_STATES
};

/* Why an instance left its state, in AWS's words. */
enum instance_reason {
	REASON_NONE,	      /* nothing to tell: a start */
	REASON_SAME,	      /* as told when the change began */
	REASON_USER,	      /* by the API */
	REASON_GUEST,	      /* by the guest's own power-off */
	REASON_LAUNCH_FAILED, /* it could not be started */
	REASON_HOST,	      /* its QEMU ended without being asked */
	REASON_COUNT
};

const char *instance_state_name(enum instance_state s);
/* {Code, Name} as the API shows it (a new reference). */
json_t *instance_state_json(enum instance_state s);
/* Of a document. */
enum instance_state instance_state_of(const json_t *instance);
int instance_may_become(enum instance_state from, enum instance_state to);
/* Changes State, StateReason and StateTransitionReason of a document's editable copy. 0,
 * -ENOMEM, or -EBUSY: not an allowed move. */
int instance_move(json_t *instance, enum instance_state to, enum instance_reason why);

/* ---- the document (instance-doc.c) ---- */

/* The caller's instance, not yet forgotten. InvalidInstanceID.Malformed, .NotFound. */
int instance_get(const struct call *c, const char *id, const struct doc **ret_instance,
		 struct fault *f);
/* All of InstanceIds are the caller's: else a fault, so that nothing is done to any. At least
 * one. */
int instance_check_ids(const struct call *c, json_t *parameters, struct fault *f);
/* How many private addresses its type allows an interface: netd's _AddressLimit. */
json_int_t instance_address_limit(const json_t *instance);
/* Writes everything an Instance shows of its interfaces: `interfaces` is netd's list. */
int instance_set_interfaces(json_t *instance, const json_t *interfaces);
/* What the API shows of a document (a new reference). */
json_t *instance_present(const struct call *c, const struct doc *d);
/* For IMDS: the instance is neither terminated nor about to be, and has this private address (IPv4,
 * or IPv6 in canonical text; one of a prefix, too) in the VPC; the one that has, or NULL. */
int instance_has_address(const struct doc *d, const char *vpc_id, const char *address);
const struct doc *instance_by_address(const struct store *s, const char *vpc_id,
				      const char *address);
/* Account and region of a document, for hvd's own calls to other daemons. */
void instance_context(const struct doc *d, struct context *ret_ctx);
/* Commits a changed copy (taken over) of a document by itself. */
int instance_commit(const struct doc *d, json_t *changed);

/* ---- what it is made of (instance-parts.c): interfaces are netd's, volumes stord's ---- */

struct launch;

/* (fiber) Makes the interfaces and volumes of a new instance, born attached, and writes them
 * into its document. On failure what was made may be left: parts_sweep(). */
int parts_make(const struct context *ctx, const struct launch *l, json_t *instance,
	       struct fault *f);
/* (fiber) Nothing claims to be attached to this instance any more. With its document, the
 * document says what is only detached; without (a launch that came to nothing) all goes that was
 * made for it. Safe to repeat. */
int parts_sweep(const struct context *ctx, const char *instance_id, const json_t *instance,
		struct fault *f);
/* The second in the background, again and again until it works. */
void parts_sweep_later(const struct context *ctx, const char *instance_id);
/* (fiber) The same for each instance id that interfaces and volumes name and that is unknown: a
 * launch was cut off; and what is reserved for an instance that does not know of it is given back.
 * At any time. */
void parts_sweep_unknown(struct daemon *d);
/* part-return.c: hvd starts: that is done at once, and then as after a doubt. 0 or -errno. */
int parts_doubts_begin(void);
/* A daemon has not said what became of a call that makes or reserves something: it may do it yet, and
 * that is done after a while, again and again for about an hour. */
void parts_doubt(void);
/* No timer fires any more. */
void parts_doubts_end(void);
/* An instance that is being made: its parts are not orphans. */
void parts_claim(const struct context *ctx, const char *instance_id);
/* It is durable now. */
void parts_unclaim(const char *instance_id);
/* It never will be: parts_sweep_later() for one that is claimed, nothing otherwise. */
void parts_abandon(const char *instance_id);
/* (fiber) Its interfaces as netd shows them (a new list). */
int parts_interfaces(const struct context *ctx, const char *instance_id, json_t **ret_interfaces,
		     struct fault *f);
/* (fiber) One call to a peer whose reply is of no interest. */
int parts_call(const char *peer, const struct context *ctx, const char *method, json_t *parameters,
	       struct fault *f);

/* ---- a launch (instance-launch.c) ---- */

/* RunInstances' parameters, checked and completed. */
struct launch {
	const struct instance_type *type;
	json_t *instance; /* what all instances of the launch have in common */
	/* parameters for CreateNetworkInterface, or {NetworkInterfaceId}, by device index */
	json_t *interfaces;
	json_t *volumes; /* BlockDeviceMappings, the root first */
	json_t *volume_tags, *interface_tags;
	/* asked for, NULL: the subnet decides; borrowed from the parameters */
	const char *zone;
	int64_t n_min, n_max;
};
void launch_clear(struct launch *l);
/* (fiber) There is room for it when it returns: launch_promise() before the next wait keeps it. */
int launch_read(struct call *c, json_t *parameters, struct launch *ret_launch, struct fault *f);
/* Room for n of its instances is kept from other launches; negative: they are stored, or came to
 * nothing. */
void launch_promise(const struct launch *l, int64_t n);
/* There is room for those of InstanceIds that are stopped. */
int instances_start_check(struct call *c, json_t *parameters, struct fault *f);

/* ---- reconciling (instance-live.c, -reconcile.c, -start.c, -reboot.c) ---- */

struct guest;

/* An instance that is not terminated, as it lives in memory: what was seen, and the fiber that
 * works on it. */
struct live {
	char id[ID_MAX];
	struct guest *guest; /* the agent's port, NULL: not yet */
	int has_fiber, is_kicked;
	sd_event_source *timer; /* kicks when it fires */
	enum virt_event ended;	/* how its domain ended, while has_ended */
	int has_ended;
	/* none is wanted any more, and yet there may be a domain of its name */
	int is_doubtful;
	int is_terminated; /* its QEMU was told to end by somebody on the host */
	/* monotonic; when the guest was first asked to power off, 0: not yet */
	uint64_t stop_since_usec;
	uint64_t asked_usec; /* and last */
	/* the reboot for which the button was pressed (its _RebootSince), 0: none; that it has come
	 * since; when it is done by reset if it has not */
	json_int_t reboot_pressed;
	int has_rebooted;
	uint64_t reset_at_usec;
	unsigned n_failures; /* in a row, of what may pass */
	/* monotonic; when its domain was first found missing, 0: it is there */
	uint64_t missed_usec;
	int has_life, has_agent; /* seen, and not in the document yet */
	int is_life_known;	 /* it is */
	int are_nics_known;	 /* likewise its network devices */
	int are_disks_known;	 /* compared with the document since the last news of them */
	/* the connection to libvirt on which nothing is left of what was asked of its guest before,
	 * 0: none yet */
	unsigned quiet_connection;
	/* a write found no room on the host */
	enum { STUCK_UNKNOWN, STUCK_NOT, STUCK_IS } stuck;
};

/* Made at need; NULL out of memory. Valid until the next wait, or as long as its fiber runs. */
struct live *live_get(const char *id);
/* NULL: none. */
struct live *live_find(const char *id);
/* Reconciles this instance soon, from the loop. Callable anywhere, also before the commit that
 * it is about: by then it is done. */
void instance_kick(const char *id);
/* All that are neither stopped nor terminated. */
void instance_kick_all(struct store *s);
/* libvirt is there, maybe after hvd or libvirtd were away: all are compared with it, also those
 * that are over. */
void instance_on_connected(struct store *s);
/* Counts them: 0 before the first. */
unsigned instance_connection(void);
/* (fiber) libvirt finishes what an earlier life of ours, or we on an earlier connection, asked for the
 * guest: until then a device that is not there may be about to come, and whoever took it for gone
 * would give its volume to others, or go on in another file. A question to QEMU waits for its turn
 * behind all that, once per connection. 1: nothing is left of it; 0: the guest has ended;
 * -EINPROGRESS: it is not to be known now; -ENOTCONN. */
int instance_is_quiet(const char *id);
/* Closes what is held in memory. */
void live_close(void);

/* (fiber) Makes the world agree with the document, once. Milliseconds after which to look again,
 * 0: when something happens; -errno: something that may pass failed, look again after a while. */
int instance_reconcile(struct live *l);
/* Stopped, terminated or never come to be: nothing of it need be in memory. */
int instance_is_over(const char *id);
/* (fiber) A document that wants a running domain gets one, and is `running` then; the same
 * returns. */
int instance_start(struct live *l);
/* A reboot is owed from now on, by an instance's editable copy. 0 or -ENOMEM. */
int instance_want_reboot(json_t *instance);
/* (fiber) Of a running domain: does what is due for the reboot that is owed; returns as
 * instance_reconcile() does. */
int instance_reboot_settle(struct live *l);
/* A guest that had been up for `uptime` seconds when it said so has begun after `since` (both
 * monotonic microseconds, here). */
int instance_has_begun_since(double uptime, uint64_t heard_usec, uint64_t since_usec);
/* libvirt told something about a domain. */
void instance_on_event(const char *id, enum virt_event e);
/* The guest showed life (its agent, if has_agent); from anywhere on the loop's thread. */
void instance_on_life(const char *id, int has_agent);

/* Forgets terminated instances whose time is over, and sets a timer for the next. */
void instance_purge(struct store *s);
/* No timer fires any more. */
void instance_purge_stop(void);

/* hvd's rows for instances; see instance-table.h. */
extern const struct action instance_actions[];
