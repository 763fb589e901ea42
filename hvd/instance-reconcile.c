/*
 * One function closes the difference between an instance's document and the world: at hvd's start,
 * after each change, after an event, when libvirt is back. It reads the state, does what that
 * state is still owed, and moves on.
 *
 * Each step may be cut off anywhere and is then done again from its beginning: all that netd and
 * stord are asked is safe to repeat, and whether a domain runs is read from libvirt, never
 * remembered.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "config.h"
#include "console.h"
#include "guest.h"
#include "image-work.h"
#include "imds.h"
#include "instance-rooms.h"
#include "interface.h"
#include "volume.h"

#define ASK_AGAIN_USEC                                                                             \
	5000000ull /* a guest that is still booting does not see the power button                  \
		    */
#define MISSED_USEC	3000000ull /* the event is seconds late where the host is crowded */
#define PORT_AGAIN_MSEC 5000

static sd_event_source *purge_timer;

static const struct doc *find(const struct live *l)
{
	return store_find(daemon_get()->store, INSTANCE_KIND, l->id);
}

/* Moves the instance on, with what `change` (may be NULL) does to its copy. 1: go round again. */
static int move(struct live *l, enum instance_state to, enum instance_reason why)
{
	const struct doc *d = find(l);
	OWN(json_decref) json_t *instance = d ? doc_edit(d) : NULL;
	int r = instance ? instance_move(instance, to, why) : -ENOMEM;

	if (r == 0)
		r = instance_commit(d, give(instance));
	if (r < 0)
		return r;
	log_info("instance changes", "INSTANCE", l->id, "STATE", instance_state_name(to));
	return 1;
}

/* ---- running ---- */

/* Its domain is not there though it should be. */
static int lost_domain(struct live *l)
{
	const struct doc *d = find(l);
	const char *boot = d ? jstr_or(d->json, "_HostBoot", "") : "";

	/* The machine was started anew: what ran before runs again. */
	if (!l->has_ended && strcmp(boot, hvd_get()->host_boot) != 0)
		return instance_start(l);
	/* The event may still be on its way. */
	uint64_t now = now_usec();
	if (!l->missed_usec)
		l->missed_usec = now;
	if (!l->has_ended && now < l->missed_usec + MISSED_USEC)
		return (int)((l->missed_usec + MISSED_USEC - now) / 1000) + 1;
	enum instance_reason why =
		l->has_ended && l->ended == VIRT_SHUTDOWN ? REASON_GUEST : REASON_HOST;
	/* Only a power-off that was seen may end an instance and its volumes for good. */
	int is_final = why == REASON_GUEST && d &&
		       strcmp(jstr_or(d->json, "_ShutdownBehavior", ""), "terminate") == 0;
	if (why == REASON_HOST)
		log_error(0, "an instance's virtual machine ended without being asked", "INSTANCE",
			  l->id);
	return move(l, is_final ? INSTANCE_SHUTTING_DOWN : INSTANCE_STOPPING, why);
}

/* Life that was seen becomes part of the document once per start of the guest, and when it was given up. */
static int note_life(struct live *l)
{
	const struct doc *d = find(l);

	if (!l->has_life || !d)
		return 0;
	OWN(json_decref) json_t *instance = doc_edit(d);
	int r = json_object_get(instance, "_SeenAlive")
			? 0
			: jset_new(instance, "_SeenAlive", jtime_now());
	(void)json_object_del(instance, "_ImpairedSince"); /* seldom there */
	if (r == 0 && l->has_agent)
		r = jset_new(instance, "_AgentHeard", json_true());
	if (r == 0)
		r = instance_commit(d, give(instance));
	l->is_life_known = r == 0;
	l->has_life = r < 0;
	return r;
}

/* Of two steps' wishes to be looked at again. */
static int sooner(int a, int b)
{
	if (a < 0 || b < 0)
		return a < 0 ? a : b;
	return !a || (b && b < a) ? b : a;
}

int instance_is_quiet(const char *id)
{
	struct live *l = live_find(id);
	unsigned connection = instance_connection();

	if (l && l->quiet_connection == connection)
		return 1;
	int r = virt_has_refused(hvd_get()->virt, id);
	if (r == 1 && (l = live_find(id)))
		l->quiet_connection = connection;
	return r;
}

/* 1: what is amiss with its devices is not what libvirt is about to mend; 0: when something happens;
 * -errno. */
static int may_settle(const struct live *l)
{
	const struct doc *d = find(l);

	if (d && volumes_are_settled(d->json) && interfaces_are_settled(d->json))
		return 1;
	int r = instance_is_quiet(l->id);
	return r == -ENOTCONN ? 0 : r; /* the reconnection kicks, and so does the guest's end */
}

/* What came or is to go while it lives: both are looked at, whatever becomes of the first. */
static int settle(struct live *l, int has_domain)
{
	int r = has_domain ? may_settle(l) : 1;

	if (r < 1)
		return r;
	int disks = volumes_settle(l, has_domain), nics = interfaces_settle(l, has_domain);

	return sooner(disks, nics);
}

static int step_running(struct live *l)
{
	const struct doc *d;
	int r = virt_is_active(hvd_get()->virt, l->id);

	if (r == 0)
		return lost_domain(l);
	if (r < 0)
		return r == -ENOTCONN ? 0 : r; /* when libvirt is back all are kicked */
	l->missed_usec = 0;
	if ((d = find(l)) && !l->is_life_known && json_object_get(d->json, "_SeenAlive"))
		l->is_life_known = 1;
	if ((r = note_life(l)) < 0)
		return r;
	int reboot = instance_reboot_settle(l), msec = settle(l, 1);

	return sooner(reboot, msec);
}

/* ---- stopping ---- */

/* The domain is gone: what a stopped instance does not keep is given back. */
static int finish_stop(struct live *l)
{
	OWN(json_decref) json_t *interfaces = NULL;
	struct context ctx;
	const struct doc *d = find(l);
	int r = 0;

	instance_context(d, &ctx);
	const char *eni = jstr(json_array_get(json_object_get(d->json, "NetworkInterfaces"), 0),
			       "NetworkInterfaceId");
	if (eni)
		r = parts_call("netd", &ctx, "gureum.Release",
			       json_pack("{s:s}", "NetworkInterfaceId", eni), NULL);
	if (r == 0)
		r = parts_interfaces(&ctx, l->id, &interfaces, NULL);
	d = find(l);
	if (r < 0 || instance_state_of(d->json) != INSTANCE_STOPPING)
		return r < 0 ? r : 1;
	OWN(json_decref) json_t *instance = doc_edit(d);
	static const char *const forgotten[] = {"_Force",	  "_SeenAlive", "_AgentHeard",
						"_ImpairedSince", "_HostBoot",	"_RebootSince"};
	for (size_t i = 0; i < sizeof(forgotten) / sizeof(forgotten[0]); i++)
		(void)json_object_del(instance, forgotten[i]); /* not all are there */
	r = instance_set_interfaces(instance, interfaces);
	if (r == 0)
		r = instance_move(instance, INSTANCE_STOPPED, REASON_SAME);
	if (r == 0)
		r = instance_commit(d, give(instance));
	if (r < 0)
		return r;
	log_info("instance stopped", "INSTANCE", l->id);
	return settle(l, 0);
}

static int step_stopping(struct live *l)
{
	struct hvd *h = hvd_get();
	uint64_t patience =
		(uint64_t)config_integer(h->daemon->config, "Compute", "StopTimeoutSec") * 1000000;
	int r = virt_is_active(h->virt, l->id);
	const struct doc *d = find(l);
	uint64_t now = now_usec();

	if (r < 0)
		return r == -ENOTCONN ? 0 : r;
	if (r == 0)
		return finish_stop(l);
	if (!l->stop_since_usec)
		l->stop_since_usec = now;
	if ((d && jbool(d->json, "_Force", 0)) || now >= l->stop_since_usec + patience) {
		r = virt_destroy(h->virt, l->id);
		return r < 0 ? r : finish_stop(l);
	}
	if (now >= l->asked_usec + ASK_AGAIN_USEC) {
		l->asked_usec = now;
		(void)guest_ask(l->guest, "poweroff"); /* without an agent the button has to do */
		r = virt_power_button(h->virt, l->id);
		if (r < 0 && r != -ENOENT && r != -EIO)
			return r;
	}
	uint64_t next = l->asked_usec + ASK_AGAIN_USEC, end = l->stop_since_usec + patience;
	next = next < end ? next : end;
	now = now_usec();
	return next > now ? (int)((next - now) / 1000) + 1 : 1;
}

/* ---- shutting-down ---- */

/* IMDS is not needed in a VPC without instances. */
static void leave_vpc(const char *vpc_id)
{
	struct daemon *d = daemon_get();

	store_each (d->store, INSTANCE_KIND, other)
		if (strcmp(jstr_or(other->json, "VpcId", ""), vpc_id) == 0)
			return;
	imds_forget(d, vpc_id);
}

static int terminated(struct live *l, const struct doc *d)
{
	static const char *const forgotten[] = {"_UserData",  "_PublicKey",  "_Force",
						"_SeenAlive", "_AgentHeard", "_ImpairedSince",
						"_HostBoot",  "_RebootSince"};
	OWN(json_decref) json_t *instance = doc_edit(d);
	OWN(json_decref) json_t *none = json_array();
	char vpc_id[ID_MAX];

	snprintf(vpc_id, sizeof(vpc_id), "%s", jstr_or(d->json, "VpcId", ""));
	for (size_t i = 0; i < sizeof(forgotten) / sizeof(forgotten[0]); i++)
		(void)json_object_del(instance, forgotten[i]); /* not all are there */
	int r = instance_set_interfaces(instance, none);
	if (r == 0)
		r = jset_new(instance, "BlockDeviceMappings", json_array());
	if (r == 0)
		r = jset_new(instance, "_TerminatedAt",
			     json_integer((json_int_t)time(NULL) * 1000000));
	if (r == 0)
		r = instance_move(instance, INSTANCE_TERMINATED, REASON_SAME);
	if (r == 0)
		r = instance_commit(d, give(instance));
	if (r < 0)
		return r;
	log_info("instance terminated", "INSTANCE", l->id);
	leave_vpc(vpc_id);
	(void)image_parts_start(daemon_get()); /* at the next start */
	instance_purge(daemon_get()->store);
	return 0;
}

static int step_shutting_down(struct live *l)
{
	struct fault fault = {0};
	struct context ctx;
	const struct doc *d;
	int r = virt_destroy(hvd_get()->virt, l->id);

	if (r < 0)
		return r == -ENOTCONN ? 0 : r;
	d = find(l);
	instance_context(d, &ctx);
	OWN(json_decref) json_t *instance = json_incref(d->json);
	if ((r = parts_sweep(&ctx, l->id, instance, &fault)) < 0) {
		log_warning(r, "an instance's parts are left for now", "INSTANCE", l->id, "CODE",
			    fault.code, "MESSAGE_TEXT", fault.message);
		return r;
	}
	console_remove(daemon_get(), l->id);
	return terminated(l, find(l));
}

static int step_stopped(struct live *l)
{
	return settle(l, 0);
}

/* A crash between libvirt's and our own last step leaves nothing here that was not done before
 * the move. */
static int step_none(struct live *l)
{
	(void)l;
	return 0;
}

/* Whatever has a domain, or will have one, can be spoken with: also while libvirt is away. Without
 * its port it is no worse off than with a guest that has no agent. */
static int keep_port(struct live *l)
{
	int r = l->guest || (l->guest = guest_new(l->id)) ? guest_listen(l->guest) : -ENOMEM;

	if (r < 0)
		log_warning(r, "an instance's agent cannot be heard yet", "INSTANCE", l->id);
	return r < 0 ? PORT_AGAIN_MSEC : 0;
}

/* A libvirtd that hung, and was given up, does later what it was asked before: a start that comes
 * after the instance's end would write to volumes that are others' by now. */
static int end_unwanted(struct live *l)
{
	int r;

	if (!l->is_doubtful)
		return 0;
	r = virt_is_active(hvd_get()->virt, l->id);
	if (r > 0) {
		log_warning(0, "a start that libvirt did too late is undone", "INSTANCE", l->id);
		r = virt_destroy(hvd_get()->virt, l->id);
	}
	if (r < 0 && r != -ENOTCONN) /* the next connection doubts again */
		return r;
	l->is_doubtful = 0;
	return 0;
}

int instance_reconcile(struct live *l)
{
	static int (*const steps[INSTANCE_STATES])(struct live *) = {
		[INSTANCE_PENDING] = instance_start,	       [INSTANCE_RUNNING] = step_running,
		[INSTANCE_STOPPING] = step_stopping,	       [INSTANCE_STOPPED] = step_stopped,
		[INSTANCE_SHUTTING_DOWN] = step_shutting_down, [INSTANCE_TERMINATED] = step_none,
	};
	const struct doc *d = find(l);

	if (!d) {
		parts_abandon(l->id); /* the launch's commit failed */
		return 0;
	}
	parts_unclaim(l->id);
	int r = end_unwanted(l);
	if (r < 0)
		return r;
	d = find(l);
	enum instance_state s = d ? instance_state_of(d->json) : INSTANCE_TERMINATED;
	int again = s == INSTANCE_PENDING || s == INSTANCE_RUNNING || s == INSTANCE_STOPPING
			    ? keep_port(l)
			    : 0;
	int msec = steps[s](l);
	return msec == 0 ? again : msec;
}

int instance_is_over(const char *id)
{
	const struct doc *d = store_find(daemon_get()->store, INSTANCE_KIND, id);
	enum instance_state s = d ? instance_state_of(d->json) : INSTANCE_TERMINATED;

	return s == INSTANCE_TERMINATED || (s == INSTANCE_STOPPED && volumes_are_settled(d->json) &&
					    interfaces_are_settled(d->json));
}

/* ---- what is told ---- */

void instance_on_event(const char *id, enum virt_event e)
{
	const struct doc *d = store_find(daemon_get()->store, INSTANCE_KIND, id);
	struct live *l = d ? live_get(id) : NULL;

	if (!l)
		return; /* not ours */
	enum instance_state s = instance_state_of(d->json);
	if (e == VIRT_STARTED && (s == INSTANCE_STOPPED || s == INSTANCE_TERMINATED))
		l->is_doubtful = 1;
	l->are_disks_known = l->are_nics_known = 0;
	if (e == VIRT_REBOOTED) {
		l->has_rebooted = 1;
	} else if (e == VIRT_TERMINATED) {
		l->is_terminated = 1;
	} else if (e != VIRT_DEVICES) {
		l->has_ended = e != VIRT_STARTED;
		/* A machine that goes down ends its QEMUs by signals: none of its guests asked
		 * to be terminated. */
		l->ended = e == VIRT_SHUTDOWN && l->is_terminated ? VIRT_DESTROYED : e;
	}
	instance_kick(id);
}

void instance_on_life(const char *id, int has_agent)
{
	struct live *l = live_find(id);

	if (!l || (l->is_life_known && !has_agent) || l->has_life)
		return;
	const struct doc *d = find(l);
	if (!d || (json_object_get(d->json, "_SeenAlive") &&
		   (!has_agent || (json_object_get(d->json, "_AgentHeard") &&
				   !json_object_get(d->json, "_ImpairedSince")))))
		return;
	l->has_life = 1;
	l->has_agent |= has_agent;
	instance_kick(id);
}

/* ---- the terminated ---- */

static int on_purge(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source, (void)usec;
	instance_purge(userdata);
	return 0;
}

void instance_purge_stop(void)
{
	purge_timer = sd_event_source_disable_unref(purge_timer);
}

void instance_purge(struct store *s)
{
	int64_t visible =
		config_integer(daemon_get()->config, "Compute", "TerminatedVisibleSec") * 1000000;
	int64_t now = (int64_t)time(NULL) * 1000000, next = INT64_MAX;
	OWN(txn_free) struct txn *t = txn_new(s);

	if (!t)
		return; /* at the next termination */
	store_each (s, INSTANCE_KIND, d) {
		if (instance_state_of(d->json) != INSTANCE_TERMINATED)
			continue;
		int64_t until = jint(d->json, "_TerminatedAt", 0) + visible;
		if (until <= now)
			/* out of memory: the next time */
			(void)txn_delete(t, INSTANCE_KIND, d->id);
		else if (until < next)
			next = until;
	}
	int r = txn_commit(t);
	if (r < 0)
		log_warning(r, "terminated instances could not be forgotten");
	instance_purge_stop();
	if (next != INT64_MAX)
		(void)sd_event_add_time(fiber_loop(), &purge_timer, CLOCK_MONOTONIC,
					now_usec() + (uint64_t)(next - now) + 1000000, 1000000,
					on_purge, s); /* out of memory: at the next termination */
}
