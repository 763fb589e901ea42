/* Documents: what the store says of one VPC, gathered for the plan. */
#pragma once

#include "plan.h"
#include "store.h"

struct documents {
	struct plan_input input; /* its values belong to this struct */
	char region[32];
};
void documents_clear(struct documents *d);
static inline void own_documents_clear(struct documents *d)
{
	documents_clear(d);
}

/* `memo` (NULL: none) is the VPC's, and goes into the input. -ENOENT: there is no such VPC. */
int documents_gather(const struct store *s, const char *vpc_id, struct plan_memo *memo,
		     struct documents *ret_documents);

/* What the VPC sees of its peers (documents-peers.c), after its rules were gathered. 0 or -ENOMEM.
 */
int documents_gather_peers(const struct store *s, const char *vpc_id, struct plan_input *in);
