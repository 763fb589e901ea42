/* Chains as values: what leads from one ruleset to another, in iptables-restore's words. */
#include "tap.h"

#include "../../netd/rules.h"

static struct ruleset parse(const char *text)
{
	struct ruleset s = {0};

	is_int(ruleset_parse(text, &s), 0, "parses");
	return s;
}

static void is_transaction(const char *from, const char *to, const char *want, const char *name)
{
	OWN(ruleset_free) struct ruleset actual = parse(from), wanted = parse(to);
	OWN(free) char *got = NULL;

	is_int(ruleset_transaction(&wanted, &actual, &got, NULL), 0, name);
	is_str(got, want, name);
}

static void what_is_the_same_needs_nothing(void)
{
	static const char text[] = "# a comment\n*filter\n:FORWARD DROP [12:345]\n:a - [0:0]\n-A "
				   "FORWARD -j a\n-A a -p tcp -j DROP\nCOMMIT\n";

	is_transaction(text, text, NULL, "counters and comments do not matter");
}

static void what_nobody_wants_of_a_builtin_chain_is_fine_while_it_does_nothing(void)
{
	is_transaction("*filter\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n",
		       "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n", NULL, "idle");
	is_transaction(
		"*filter\n:INPUT ACCEPT [0:0]\n:OUTPUT DROP [0:0]\n-A OUTPUT -j DROP\nCOMMIT\n",
		"*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n",
		"*filter\n:OUTPUT ACCEPT [0:0]\n-F OUTPUT\nCOMMIT\n", "not idle");
}

static void only_chains_that_differ_are_written(void)
{
	is_transaction("*filter\n:a - [0:0]\n:b - [0:0]\n-A a -j b\n-A b -j DROP\nCOMMIT\n",
		       "*filter\n:a - [0:0]\n:b - [0:0]\n-A a -j b\n-A b -j ACCEPT\nCOMMIT\n",
		       "*filter\n:b - [0:0]\n-A b -j ACCEPT\nCOMMIT\n", "one of two");
}

static void a_chain_comes_before_its_first_use_and_goes_after_its_last(void)
{
	is_transaction("*filter\n:FORWARD DROP [0:0]\n:old - [0:0]\n-A FORWARD -j old\n-A old -j "
		       "DROP\nCOMMIT\n",
		       "*filter\n:FORWARD DROP [0:0]\n:new - [0:0]\n-A FORWARD -j new\n-A new -j "
		       "DROP\nCOMMIT\n",
		       "*filter\n:FORWARD DROP [0:0]\n-F FORWARD\n:new - [0:0]\n-F old\n-A FORWARD "
		       "-j new\n-A new -j DROP\n-X old\nCOMMIT\n",
		       "replaced");
}

#define FIVE "*filter\n:a - [0:0]\n-A a -j r1\n-A a -j r2\n-A a -j r3\n-A a -j r4\n-A a -j r5\n"

static void a_chain_that_mostly_stays_is_edited_by_its_lines(void)
{
	is_transaction(FIVE, FIVE "-A a -j r6\n", "*filter\n-A a -j r6\nCOMMIT\n", "one more");
	is_transaction(FIVE "-A a -j r6\n", FIVE, "*filter\n-D a 6\nCOMMIT\n", "one less");
	is_transaction(FIVE,
		       "*filter\n:a - [0:0]\n-A a -j r0\n-A a -j r1\n-A a -j r2\n-A a -j r3\n-A a "
		       "-j r4\n-A a -j r5\n",
		       "*filter\n-I a 1 -j r0\nCOMMIT\n", "one before");
	is_transaction(
		FIVE,
		"*filter\n:a - [0:0]\n-A a -j r1\n-A a -j r2\n-A a -j x\n-A a -j r4\n-A a -j "
		"r5\n",
		"*filter\n-D a 3\n-I a 3 -j x\nCOMMIT\n", "one of five");
	is_transaction(FIVE, "*filter\n:a - [0:0]\n-A a -j r1\n-A a -j r5\n",
		       "*filter\n:a - [0:0]\n-A a -j r1\n-A a -j r5\nCOMMIT\n", "most go");
	is_transaction("*filter\n:a - [0:0]\n-A a -j x\n-A a -j x\n-A a -j x\n",
		       "*filter\n:a - [0:0]\n-A a -j x\n-A a -j x\n-A a -j x\n-A a -j x\n",
		       "*filter\n-A a -j x\nCOMMIT\n", "all the same");
}

/* What iptables-restore makes of a transaction's lines of chain "a". */
static void apply(const char *transaction, char lines[static 64], size_t *n)
{
	for (const char *t = transaction; t && *t; t = strchr(t, '\n') + 1) {
		unsigned at;
		char rule;

		if (sscanf(t, "-D a %u", &at) == 1) {
			memmove(lines + at - 1, lines + at, *n - at);
			(*n)--;
		} else if (sscanf(t, "-I a %u -j %c", &at, &rule) == 2) {
			memmove(lines + at, lines + at - 1, *n - at + 1);
			lines[at - 1] = rule;
			(*n)++;
		} else if (sscanf(t, "-A a -j %c", &rule) == 1) {
			lines[(*n)++] = rule;
		} else if (t[0] == ':') {
			*n = 0;
		}
	}
}

static void write_chain(const char *lines, size_t n, char text[static 1024])
{
	int at = snprintf(text, 1024, "*filter\n:a - [0:0]\n");

	for (size_t i = 0; i < n; i++)
		at += snprintf(text + at, 1024 - (size_t)at, "-A a -j %c\n", lines[i]);
}

static void any_change_leads_where_it_should(void)
{
	char was[64], will[64], got[64], from[1024], to[1024];
	int n_wrong = 0;

	srand(4711);
	for (int i = 0; i < 20000; i++) {
		size_t n_was = (size_t)rand() % 20, n_will = n_was, n_got = n_was;

		for (size_t k = 0; k < n_was; k++)
			was[k] = will[k] = (char)('a' + rand() % (i % 2 ? 3 : 26));
		for (int edits = rand() % 4; edits > 0; edits--) {
			size_t at = n_will ? (size_t)rand() % n_will : 0;

			if (n_will && rand() % 2) {
				memmove(will + at, will + at + 1, --n_will - at);
			} else {
				memmove(will + at + 1, will + at, n_will++ - at);
				will[at] = (char)('a' + rand() % 26);
			}
		}
		write_chain(was, n_was, from);
		write_chain(will, n_will, to);
		OWN(ruleset_free) struct ruleset actual = {0}, wanted = {0};
		OWN(free) char *text = NULL;

		n_wrong += ruleset_parse(from, &actual) < 0 || ruleset_parse(to, &wanted) < 0 ||
			   ruleset_transaction(&wanted, &actual, &text, NULL) < 0;
		memcpy(got, was, sizeof got);
		apply(text, got, &n_got);
		n_wrong += n_got != n_will || memcmp(got, will, n_will) != 0;
		n_wrong += ruleset_follow(&actual, &wanted) < 0;
		free(text);
		text = NULL;
		n_wrong += ruleset_transaction(&wanted, &actual, &text, NULL) < 0 || text;
	}
	is_int(n_wrong, 0, "20,000 changes of a chain");
}

static void tables_are_transactions_of_their_own(void)
{
	is_transaction("", "*nat\n:c - [0:0]\nCOMMIT\n*filter\n:c - [0:0]\nCOMMIT\n",
		       "*nat\n:c - [0:0]\nCOMMIT\n*filter\n:c - [0:0]\nCOMMIT\n",
		       "same name, two tables");
}

static void protocols_compare_by_number(void)
{
	is_transaction("*filter\n:a - [0:0]\n-A a -s 10.0.0.0/8 -p gre -j DROP\n-A a -p tcp -m tcp "
		       "--dport 1 -j DROP\nCOMMIT\n",
		       "*filter\n:a - [0:0]\n-A a -s 10.0.0.0/8 -p 47 -j DROP\n-A a -p tcp -m tcp "
		       "--dport 1 -j DROP\nCOMMIT\n",
		       NULL, "gre is 47");
}

static void rubbish_is_no_chain(void)
{
	OWN(ruleset_free)
	struct ruleset s = parse("-A nowhere -j DROP\n:\n*\n-A\n\n*filter\n-A a -j DROP");

	is_int(s.n, 0, "nothing");
}

int main(void)
{
	RUN(what_is_the_same_needs_nothing);
	RUN(what_nobody_wants_of_a_builtin_chain_is_fine_while_it_does_nothing);
	RUN(only_chains_that_differ_are_written);
	RUN(a_chain_comes_before_its_first_use_and_goes_after_its_last);
	RUN(a_chain_that_mostly_stays_is_edited_by_its_lines);
	RUN(any_change_leads_where_it_should);
	RUN(tables_are_transactions_of_their_own);
	RUN(protocols_compare_by_number);
	RUN(rubbish_is_no_chain);
	return tests_done();
}
