/* One at a time for each id. */
#include "hold.h"

#include <errno.h>
#include <string.h>
#include "fiber.h"

struct hold {
	struct hold *next;
	struct fiber_lock lock;
	unsigned n_users; /* who holds it and who waits */
	char id[];
};
static struct hold *holds;

static struct hold *find(const char *id)
{
	struct hold *h = holds;

	while (h && strcmp(h->id, id) != 0)
		h = h->next;
	return h;
}

struct hold *hold_enter(const char *id)
{
	struct hold *h = find(id);

	if (!h) {
		h = calloc(1, sizeof *h + strlen(id) + 1);
		if (!h)
			return NULL;
		strcpy(h->id, id);
		h->next = holds;
		holds = h;
	}
	h->n_users++;
	fiber_lock(&h->lock);
	return h;
}

int hold_try(const char *id, struct hold **ret_hold)
{
	if (find(id))
		return -EBUSY;
	*ret_hold = hold_enter(id);
	return *ret_hold ? 0 : -ENOMEM;
}

int hold_is_wanted(const struct hold *h)
{
	return h->n_users > 1;
}

void hold_leave(struct hold *h)
{
	fiber_unlock(&h->lock);
	if (--h->n_users > 0)
		return;
	struct hold **slot = &holds;

	while (*slot != h)
		slot = &(*slot)->next;
	*slot = h->next;
	free(h);
}
