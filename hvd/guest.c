/* The agent's lines: read, bounded, remembered. */
#include "guest.h"

#include <errno.h>
#include <string.h>

#include "domain.h"
#include "fiber.h"
#include "guest-port.h"
#include "instance-rooms.h"

#define LINE_BYTES_MAX	 4096
#define NESTING_MAX	 16
#define FREEZE_WAIT_USEC 30000000ull /* what was written goes to the disk first */
#define LOOK_USEC	 50000ull

struct guest {
	char id[ID_MAX];
	struct guest_port *port; /* NULL: not yet */
	uint64_t heard_usec, forgotten_usec;
	json_t *figures;
	enum { FREEZE_UNKNOWN, FREEZE_DONE, FREEZE_FAILED } freeze; /* the last answer */
	char line[LINE_BYTES_MAX];
	size_t n_line;
	int is_skipping; /* a line too long is dropped to its end */
};

struct guest *guest_new(const char *instance_id)
{
	struct guest *g = calloc(1, sizeof(*g));

	if (g)
		snprintf(g->id, sizeof(g->id), "%s", instance_id);
	return g;
}

void guest_free(struct guest *g)
{
	if (!g)
		return;
	guest_port_free(g->port);
	json_decref(g->figures);
	free(g);
}

static void take_line(struct guest *g, const char *line, size_t n)
{
	OWN(json_decref)
	json_t *said = jtext_is_shallow(line, n, NESTING_MAX)
			       ? json_loadb(line, n, JSON_REJECT_DUPLICATES, NULL)
			       : NULL;
	json_t *beat = json_object_get(said, "beat");

	if (strcmp(jstr_or(said, "ok", ""), "freeze") == 0)
		g->freeze = FREEZE_DONE;
	else if (strcmp(jstr_or(said, "error", ""), "freeze") == 0)
		g->freeze = FREEZE_FAILED;
	if (!beat && !json_object_get(said, "hello"))
		return; /* an answer to what we asked, or of a later version */
	if (json_is_object(beat)) {
		json_decref(g->figures);
		g->figures = json_incref(beat);
	}
	g->heard_usec = now_usec();
	instance_on_life(g->id, 1);
}

static void on_data(void *userdata, const char *bytes, size_t n_bytes)
{
	struct guest *g = userdata;

	for (size_t i = 0; i < n_bytes; i++) {
		if (bytes[i] == '\n') {
			if (!g->is_skipping)
				take_line(g, g->line, g->n_line);
			g->n_line = 0;
			g->is_skipping = 0;
		} else if (g->n_line < sizeof(g->line)) {
			g->line[g->n_line++] = bytes[i];
		} else {
			g->is_skipping = 1;
		}
	}
}

static void on_connected(void *userdata)
{
	struct guest *g = userdata;

	g->n_line = 0;
	g->is_skipping = 0;
}

int guest_listen(struct guest *g)
{
	static const struct guest_port_hooks hooks = {on_connected, on_data};

	return g->port ? 0 : guest_port_new(daemon_get(), g->id, &hooks, g, &g->port);
}

int guest_ask(struct guest *g, const char *what)
{
	char line[64];

	if (!g || !g->port || !g->heard_usec)
		return -ENOTCONN;
	snprintf(line, sizeof(line), "{\"%s\": {}}\n", what);
	return guest_port_write(g->port, line, strlen(line));
}

static struct guest *guest_of(const char *instance_id)
{
	const struct live *l = live_find(instance_id);

	return l ? l->guest : NULL;
}

/* An agent that spoke before we were here, or before a reset, will speak to us, too: its guest is
 * not one without. */
static int is_expected(const char *instance_id)
{
	const struct doc *d = store_find(daemon_get()->store, INSTANCE_KIND, instance_id);
	uint64_t audible = hvd_get()->listening_usec,
		 forgotten = guest_forgotten_usec(guest_of(instance_id));

	if (forgotten > audible)
		audible = forgotten;
	return d && instance_state_of(d->json) == INSTANCE_RUNNING &&
	       jbool(d->json, "_AgentHeard", 0) && now_usec() < audible + GUEST_WAIT_USEC;
}

int guest_freeze(const char *instance_id)
{
	int r = 0;

	while (r == 0 && !guest_heard_usec(guest_of(instance_id)) && is_expected(instance_id))
		r = fiber_sleep(LOOK_USEC);
	struct guest *g = guest_of(instance_id);
	uint64_t end = now_usec() + FREEZE_WAIT_USEC;

	if (g)
		g->freeze = FREEZE_UNKNOWN;
	if (r == 0)
		r = guest_ask(g, "freeze");

	while (r == 0) {
		g = guest_of(instance_id);
		if (!g || !guest_port_is_connected(g->port))
			return -ENOTCONN;
		if (g->freeze == FREEZE_FAILED)
			return -EIO;
		if (g->freeze == FREEZE_DONE)
			return 0;
		r = now_usec() > end ? -ETIMEDOUT : fiber_sleep(2000);
	}
	if (r == -ETIMEDOUT)
		guest_thaw(instance_id); /* it may read both later */
	return r;
}

void guest_thaw(const char *instance_id)
{
	(void)guest_ask(guest_of(instance_id), "thaw"); /* it does so by itself soon */
}

void guest_forget(struct guest *g)
{
	if (!g)
		return;
	/* What its former life was asked and did not read is not for this one. */
	if (g->port)
		guest_port_cut(g->port);
	g->heard_usec = 0;
	g->forgotten_usec = now_usec();
	json_decref(g->figures);
	g->figures = NULL;
}

const json_t *guest_figures(const struct guest *g)
{
	return g ? g->figures : NULL;
}

uint64_t guest_heard_usec(const struct guest *g)
{
	return g ? g->heard_usec : 0;
}

uint64_t guest_forgotten_usec(const struct guest *g)
{
	return g ? g->forgotten_usec : 0;
}
