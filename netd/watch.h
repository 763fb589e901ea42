/*
 * Watch: notices when somebody else changes a namespace (deletes a link, flushes a chain), so that
 * the next pass comes soon. Changes of our own are told apart by the kernel's mark of who asked,
 * and by nftables' transaction numbers.
 */
#pragma once

#include <systemd/sd-event.h>
#include "netns.h"

struct watch;

struct watch_calls {
	/* From the loop, once for everything that came together. */
	void (*on_change)(void *arg);
	/* (NULL: nobody cares) Of a link of ours in the host's namespace: the kernel changed it by
	 * itself, as it does when somebody asked for something else. It is perhaps as it should be,
	 * see netns_is_link_known(). */
	void (*on_doubt)(int index, void *arg);
	/* (NULL: all is) The end of a neighbour is told without a name, too, whoever asked for it: it
	 * matters when the address should have one. */
	int (*is_neighbour)(const struct address *address, void *arg);
	void *arg;
};

/* `n` outlives the watch. 0 or -errno. */
int watch_new(sd_event *loop, const struct netns *n, const struct netns *host,
	      const struct watch_calls *calls, struct watch **ret_watch);
void watch_free(struct watch *w);
OWN_DEFINE(struct watch *, watch_free);
