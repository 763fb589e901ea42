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
	RUN(tables_are_transactions_of_their_own);
	RUN(protocols_compare_by_number);
	RUN(rubbish_is_no_chain);
	return tests_done();
}
