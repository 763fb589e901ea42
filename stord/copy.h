/* Copies of snapshots (copy.c). */
#pragma once

#include "daemon.h"

/* At start: copies that were under way begin again. 0 or -errno. */
int copy_resume(struct daemon *d);
