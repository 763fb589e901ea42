/* Trying again in the background what cannot be now, ever more seldom. */
#pragma once

#include <stdint.h>

/* (fiber) Waits for half a second, then for twice as long each time, half a minute at most. *wait_usec
 * is 0 before the first. */
void again_wait(uint64_t *wait_usec);
