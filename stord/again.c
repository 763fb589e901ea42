/* How long to wait before the next try. */
#include "again.h"

#include "fiber.h"

#define FIRST_USEC 500000ull
#define LAST_USEC  30000000ull

void again_wait(uint64_t *wait_usec)
{
	uint64_t wait = *wait_usec ? *wait_usec * 2 : FIRST_USEC;

	*wait_usec = wait < LAST_USEC ? wait : LAST_USEC;
	(void)fiber_sleep(*wait_usec); /* a shorter one is no harm */
}
