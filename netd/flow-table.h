/*
 * Flow table: what was rejected in a window, one row for each flow, in bounded memory. (Accepted
 * flows need no table: the kernel's connection tracking is theirs.)
 */
#pragma once

#include "flow-line.h"

#define FLOW_TABLE_MAX 4096 /* flows; half a megabyte */

struct flow_table {
	struct flow_count *rows; /* NULL until the first */
	unsigned short *slots;	 /* by hash: row + 1, 0: free */
	size_t n;
};
/* Adds to the row of this flow: same ends, ports, protocol, kind of ICMP and verdict. -ENOSPC when there is no
 * more room, -ENOMEM. */
int flow_table_add(struct flow_table *t, const struct flow_count *c);
void flow_table_free(struct flow_table *t);
