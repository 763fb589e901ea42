/*
 * A reboot, from the request to the guest's new life.
 *
 * The document says since when one is owed (_RebootSince) before anything is done for it, and until
 * it is done; the power button, and the reset of a guest that does not listen to it, are what is
 * done for it. Who is new (hvd was killed) presses the button anew, unless the agent tells that the
 * guest has begun since: a guest that has none may so be rebooted twice, but is never reset while it
 * listens.
 */
#include <errno.h>

#include "config.h"
#include "guest.h"
#include "instance-rooms.h"
#include "step.h"

#define AGENT_LOOK_MSEC 200

static const struct doc *find(const char *id)
{
	return store_find(daemon_get()->store, INSTANCE_KIND, id);
}

static int msec_until(uint64_t at, uint64_t now)
{
	return at > now ? (int)((at - now) / 1000) + 1 : 1;
}

int instance_want_reboot(json_t *instance)
{
	return jset_new(instance, "_RebootSince", json_integer((json_int_t)now_usec()));
}

int instance_has_begun_since(double uptime, uint64_t heard_usec, uint64_t since_usec)
{
	return heard_usec > since_usec && uptime >= 0 &&
	       uptime < (double)(heard_usec - since_usec) / 1e6;
}

static int agent_tells_so(const struct live *l, uint64_t since)
{
	const json_t *uptime = json_object_get(guest_figures(l->guest), "uptime");

	return json_is_number(uptime) &&
	       instance_has_begun_since(json_number_value(uptime), guest_heard_usec(l->guest),
					since);
}

/* Nothing is owed any more, if it is not asked for anew. */
static int done(struct live *l, json_int_t since)
{
	const struct doc *d = find(l->id);

	if (!d || jint(d->json, "_RebootSince", 0) != since)
		return 0;
	OWN(json_decref) json_t *instance = doc_edit(d);

	if (!instance)
		return -ENOMEM;
	(void)json_object_del(instance, "_RebootSince"); /* it is there */
	step("a reboot that is done");
	return instance_commit(d, give(instance));
}

static int press(struct live *l, json_int_t since)
{
	const struct hvd *h = hvd_get();
	const struct doc *d = find(l->id);
	uint64_t now = now_usec(), patience = (uint64_t)config_integer(h->daemon->config, "Compute",
								       "StopTimeoutSec") *
					      1000000;

	if (jbool(d->json, "_AgentHeard", 0) && !guest_figures(l->guest) &&
	    now < h->listening_usec + GUEST_WAIT_USEC)
		return AGENT_LOOK_MSEC;
	/* Before the call: its event may come first. */
	l->reboot_pressed = since;
	l->has_rebooted = 0;
	l->reset_at_usec = now + patience;
	step("libvirt: a reboot");
	int r = virt_reboot(h->virt, l->id);

	if (r < 0 && virt_may_pass(r)) {
		l->reboot_pressed = 0;
		return r == -ENOTCONN ? 0 : r; /* when libvirt is back all are kicked */
	}
	/* Refused, it is reset all the same. */
	return msec_until(l->reset_at_usec, now_usec());
}

/* AWS: a guest that does not shut down cleanly is reset after a while. */
static int reset(struct live *l, json_int_t since)
{
	guest_forget(l->guest);
	step("libvirt: a reset");
	int r = virt_reset(hvd_get()->virt, l->id);

	if (r < 0 && virt_may_pass(r))
		return r == -ENOTCONN ? 0 : r; /* it is owed still */
	if (r < 0 && r != -ENOENT)
		log_warning(r, "an instance could not be reset", "INSTANCE", l->id);
	return done(l, since);
}

int instance_reboot_settle(struct live *l)
{
	const struct doc *d = find(l->id);
	json_int_t since = d ? jint(d->json, "_RebootSince", 0) : 0;
	uint64_t now = now_usec();

	if (!since || instance_state_of(d->json) != INSTANCE_RUNNING)
		return 0;
	if ((l->reboot_pressed == since && l->has_rebooted) || agent_tells_so(l, (uint64_t)since))
		return done(l, since);
	if (l->reboot_pressed != since)
		return press(l, since);
	return now < l->reset_at_usec ? msec_until(l->reset_at_usec, now) : reset(l, since);
}
