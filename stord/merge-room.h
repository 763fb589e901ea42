/*
 * Room for merges. One that ended because the disk is full is not begun again before there is more
 * room: it would copy everything once more, and end at the same place.
 *
 * How much it needs is known from above only, for what both layers have takes no new room; and a merge
 * is what gives room back. So it waits for the most that it may need, or for some more than there was
 * when it failed, twice as much each time. What a merge into a file has written there stays, and is
 * not needed again.
 *
 * One in a running guest waits for none: its QEMU does not say why it failed, and what finds no room
 * here is the documents, which are all that is left to do when the data is there.
 *
 * In memory: a daemon that starts anew tries each merge once.
 */
#pragma once

#include "merge-work.h"

/* Before a merge: 1: it may begin. 0: it waits for room. */
int merge_room_begin(const struct daemon *d, const struct merge *m);
/* The one that began last has ended with this. */
void merge_room_end(const struct daemon *d, const struct merge *m, int result);
