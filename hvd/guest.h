/*
 * Guest: the conversation with the agent inside, over the virtio-serial port: one JSON object a
 * line (doc/messages.md, "The guest"). All that comes is a stranger's: lines are bounded, what is
 * not understood is dropped.
 */
#pragma once

#include <stdint.h>
#include <jansson.h>

/* Agents connect to a new hvd within a second, and say at once how long they have been up; one whose
 * guest is just booting needs longer. */
#define GUEST_WAIT_USEC 60000000ull

struct guest;

/* For the guest of this instance; nobody listens yet. NULL out of memory. */
struct guest *guest_new(const char *instance_id);
/* NULL is fine. */
void guest_free(struct guest *g);

/* Its QEMU may connect from now on (guest-port.h); at once if it does already. 0 or -errno. */
int guest_listen(struct guest *g);
/* Asks for "poweroff" or "reboot". 0 when it was sent; -ENOTCONN, -EPIPE. */
int guest_ask(struct guest *g, const char *what);
/* (fiber) Asks the agent to hold the file systems still, and waits until it has: 0. It lets go by
 * itself after ten seconds. One that spoke since the guest's start, but not yet to us or not yet
 * since a reset, is waited for. -ENOTCONN: there is no agent; -EIO: it cannot; -ETIMEDOUT. The guest
 * is looked up by its instance each time: it may be another one after a wait. */
int guest_freeze(const char *instance_id);
/* And to let go. */
void guest_thaw(const char *instance_id);
/* The guest is reset: what was heard and asked is of its former life. */
void guest_forget(struct guest *g);

/* The agent's last figures (borrowed; see doc/messages.md, "beat"), NULL: none since its start. */
const json_t *guest_figures(const struct guest *g);
/* When the agent was last heard, monotonic microseconds; 0: never since the guest's start or
 * ours. */
uint64_t guest_heard_usec(const struct guest *g);
/* When guest_forget() was last asked, 0: never. */
uint64_t guest_forgotten_usec(const struct guest *g);
