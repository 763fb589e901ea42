/*
 * Plan, memo: the chains of a VPC's security groups as the last plan made them. Documents are
 * values that never change: a group whose rules are the very same ones, and whose peers (groups and
 * prefix lists that its rules name) are there or not as before, has the same chains, and nothing of
 * them needs to be thought through again. So making a plan costs what changed, not what is there.
 *
 * A plan is the same with a memo and without one. All calls take a NULL memo.
 */
#pragma once

#include <jansson.h>
#include "id.h"
#include "rules.h"

enum { MEMO_IN, MEMO_OUT, MEMO_CHAINS };

/* Stands for a family where documents are remembered instead of chains. */
#define MEMO_DOCUMENTS RULES_FAMILIES

struct memo_group {
	char id[ID_MAX];
	enum rules_family family;
	const json_t *group; /* of MEMO_DOCUMENTS: the group's document */
	json_t *rules; /* array: keeps them, so that none can become another at the same place */
	json_t *peers; /* {"sg-…" or "pl-…": is it there} */
	char *text[MEMO_CHAINS];
	int is_used; /* in the plan under way */
};

struct plan_memo;
struct plan_memo *plan_memo_new(void);
void plan_memo_free(struct plan_memo *m);

/* What is known of the group if it has these rules; NULL otherwise. */
const struct memo_group *plan_memo_find(struct plan_memo *m, enum rules_family family,
					const char *id, const json_t *rules);
/* Replaces what is known of the group. `rules` and `peers` become shared, the texts are copied
 * (NULL: none). Out of memory it is forgotten. */
void plan_memo_put(struct plan_memo *m, enum rules_family family, const char *id, json_t *rules,
		   json_t *peers, const char *const texts[MEMO_CHAINS]);
/* A group's rules and (in `peers`) what they name, if its document is this very one; NULL
 * otherwise.
 */
const struct memo_group *plan_memo_rules(struct plan_memo *m, const char *id, const json_t *group);
/* The three become shared. */
void plan_memo_put_rules(struct plan_memo *m, const char *id, json_t *group, json_t *rules,
			 json_t *named);
/* At the end of a plan: forgets groups of the family that it did not ask for. */
void plan_memo_sweep(struct plan_memo *m, enum rules_family family);
