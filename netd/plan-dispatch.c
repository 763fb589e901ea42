/*
 * Plan, dispatch: how a packet finds the chains of its interface's groups.
 *
 * A few groups are asked one after another: is the address a member? More are told apart by their
 * ids' last digit: a set for each digit has the members of all its groups, and a chain asks only
 * those; and again by the digit before it, until few are left. So a connection in a VPC of 1,000
 * groups is asked some forty questions each way, not a thousand (140 ns each), and a member is an
 * entry more for each digit. Sets of a group are as they were, and so are rules that name them.
 *
 * Marks in one set of all addresses (skbinfo) would be one question, but a mark stands for all
 * groups of an interface at once: a chain for each combination, and an order between changes of sets
 * and of chains that lets no packet through unseen.
 */
#include "plan-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FEW 16

struct level {
	struct plan *p;
	enum rules_family family;
	json_t *depths; /* by a group's id: how many digits tell it apart */
};

static char digit_of(const char *id, size_t place)
{
	size_t n = strlen(id);

	return place < n ? id[n - 1 - place] : '-';
}

/* In the order of the digits from the last one on: each branch of the tree is a run. */
static int by_digits(const void *one, const void *two)
{
	const char *a = *(const char *const *)one, *b = *(const char *const *)two;

	for (size_t place = 0; place < PLAN_DEPTH_MAX; place++)
		if (digit_of(a, place) != digit_of(b, place))
			return digit_of(a, place) < digit_of(b, place) ? -1 : 1;
	return strcmp(a, b);
}

static const char *suffix_of(enum rules_family family)
{
	return family == RULES_IPV6 ? PLAN_SUFFIX6 : "";
}

void plan_set_of_branch(enum rules_family family, const char *id, size_t n_digits,
			char ret_name[static 32])
{
	char digits[PLAN_DEPTH_MAX + 1] = "";

	for (size_t i = 0; i < n_digits; i++)
		digits[i] = digit_of(id, i);
	snprintf(ret_name, 32, "groups-%s%s", digits, suffix_of(family));
}

/* "egress" and "ingress" begin; a branch has "-out" and "-in". */
static void chains_of(const char *branch, char ret_out[static 40], char ret_in[static 40])
{
	snprintf(ret_out, 40, branch[0] ? "%s-out" : "egress%s", branch);
	snprintf(ret_in, 40, branch[0] ? "%s-in" : "ingress%s", branch);
}

/* Members of `set` go on to the two chains `to`. */
static void ask(const struct level *l, const char *branch, const char *set, const char *to)
{
	struct ruleset *s = plan_chains(l->p, l->family);
	char out[40], in[40];

	chains_of(branch, out, in);
	ruleset_rule(s, "filter", out, "-m set --match-set %s src -j %s-out", set, to);
	ruleset_rule(s, "filter", in, "-m set --match-set %s dst -j %s-in", set, to);
}

static int ask_groups(const struct level *l, const char *branch, size_t n_digits,
		      const char *const *ids, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char set[32], to[32];

		snprintf(set, sizeof set, "%.24s%s", ids[i], suffix_of(l->family));
		snprintf(to, sizeof to, "%.24s", ids[i]);
		ask(l, branch, set, to);
		if (json_object_set_new(l->depths, ids[i], json_integer((json_int_t)n_digits)) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int plan_branch(const struct level *l, const char *branch, size_t n_digits,
		       const char *const *ids, size_t n)
{
	struct ruleset *s = plan_chains(l->p, l->family);
	int r = 0;

	if (n <= FEW || n_digits == PLAN_DEPTH_MAX)
		return ask_groups(l, branch, n_digits, ids, n);
	for (size_t i = 0, next; r == 0 && i < n; i = next) {
		char set[32], child[32], out[40], in[40];

		for (next = i + 1;
		     next < n && digit_of(ids[next], n_digits) == digit_of(ids[i], n_digits);)
			next++;
		plan_set_of_branch(l->family, ids[i], n_digits + 1, set);
		plan_set_of_branch(RULES_IPV4, ids[i], n_digits + 1, child);
		plan_member_set(l->p, l->family, set);
		ask(l, branch, set, child);
		chains_of(child, out, in);
		ruleset_chain(s, "filter", out, "-");
		ruleset_chain(s, "filter", in, "-");
		r = plan_branch(l, child, n_digits + 1, ids + i, next - i);
	}
	return r;
}

int plan_dispatch(struct plan *p, enum rules_family family, const char **ids, size_t n,
		  json_t *depths)
{
	const struct level root = {p, family, depths};

	if (n > FEW)
		qsort(ids, n, sizeof *ids, by_digits);
	return plan_branch(&root, "", 0, ids, n);
}
