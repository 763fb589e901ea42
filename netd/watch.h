/*
 * Watch: notices when somebody else changes a namespace (deletes a link, flushes a chain), so that
 * the next pass comes soon. Changes of our own are told apart by the kernel's mark of who asked,
 * and by nftables' transaction numbers.
 */
#pragma once

#include <systemd/sd-event.h>
#include "netns.h"

struct watch;

/* Calls on_change(arg) from the loop, once for everything that came together. `n` outlives the
 * watch. 0 or -errno. */
int watch_new(sd_event *loop, const struct netns *n, const struct netns *host,
	      void (*on_change)(void *arg), void *arg, struct watch **ret_watch);
void watch_free(struct watch *w);
OWN_DEFINE(struct watch *, watch_free);
