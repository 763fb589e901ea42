/*
 * Rules: iptables chains as values. A ruleset is a list of chains with their rules in the very
 * words that iptables-save prints, so that what is wanted and what is there compare as text. The
 * difference is one iptables-restore --noflush input: only chains that differ are in it, and of
 * those that mostly stay only the lines that differ; each table changes at once or not at all.
 */
#pragma once

#include <stddef.h>
#include "own.h"

/* Whose chains: iptables' or ip6tables'. Both families have the same tables; a ruleset is of one.
 */
enum rules_family { RULES_IPV4, RULES_IPV6, RULES_FAMILIES };

struct chain {
	char table[12]; /* "filter" */
	char name[32];	/* at most 28 characters */
	char policy[8]; /* "DROP", "ACCEPT" of a built-in chain; "-" for our own */
	char *text;	/* its rules, each "-A NAME …\n" */
	size_t n_text;
};

struct ruleset {
	struct chain *at;
	size_t n, n_room;
	int error; /* -ENOMEM sticks: checked once, after filling */
};
void ruleset_free(struct ruleset *s);
static inline void own_ruleset_free(struct ruleset *s)
{
	ruleset_free(s);
}

/* Adds a chain to which the following ruleset_rule() calls may write. */
void ruleset_chain(struct ruleset *s, const char *table, const char *name, const char *policy);
/* Appends a rule (without "-A NAME ") to the chain of this table and name, which exists. */
void ruleset_rule(struct ruleset *s, const char *table, const char *name, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
/* Appends rules that are there as text, each "-A NAME …\n". */
void ruleset_append(struct ruleset *s, const char *table, const char *name, const char *text);
/* A chain's rules, borrowed until more are added; NULL: none. */
const char *ruleset_text(const struct ruleset *s, const char *table, const char *name);
int ruleset_has(const struct ruleset *s, const char *table, const char *name);
/* Sorts. Returns s->error. */
int ruleset_sort(struct ruleset *s);

/* Reads iptables-save's output. Protocols other than tcp, udp, icmp become numbers. 0 or -ENOMEM.
 */
int ruleset_parse(const char *saved, struct ruleset *ret_set);
/* Drops chains for which keep() is 0. */
void ruleset_keep(struct ruleset *s, int (*keep)(const struct chain *c));

/* The input for iptables-restore --noflush that leads from `actual` to `wanted` (both sorted);
 * chains that are not wanted go, built-in ones are emptied. *ret_text is NULL when nothing is to be
 * done; *ret_n (may be NULL) counts the chains. 0 or -ENOMEM. */
int ruleset_transaction(const struct ruleset *wanted, const struct ruleset *actual, char **ret_text,
			size_t *ret_n);

/* Makes `actual` what the transaction has led to: a copy of `wanted`. Both sorted; what is the same
 * is not copied. -ENOMEM: `actual` is of no more use. */
int ruleset_follow(struct ruleset *actual, const struct ruleset *wanted);

/* In iptables-save's form, for people and golden tests. */
void ruleset_print(const struct ruleset *s, FILE *out);
