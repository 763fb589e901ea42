/*
 * Host, tables of iptables, ip6tables and ebtables that cut guests off and that netd leaves to
 * their owner. What mangle and security do with packets besides dropping some (a segment size that
 * fits the uplink, marks) guests' packets need, too: an ACCEPT in front would take it from them.
 * The legacy commands' tables tell nobody of their changes, and ebtables-nft can read no rule that
 * matches a link's group. So the doctor says what drops, and which rules let guests pass.
 */
#include "host-doctor.h"

#include <errno.h>
#include <string.h>

#define DEPTH 16 /* of chains that jump to chains */

#define OF_MANGLE_AND_SECURITY                                                                     \
	{                                                                                          \
		"mangle", "security"                                                               \
	}
#define OF_ALL                                                                                     \
	{                                                                                          \
		"filter", "mangle", "security"                                                     \
	}

/* `loaded`: where the kernel lists what the legacy command would otherwise create by asking. */
static const struct source {
	const char *check, *command, *loaded;
	enum rules_family family;
	int is_bridge;
	const char *tables[4];
} sources[] = {
	{"iptables", "iptables-nft", NULL, RULES_IPV4, 0, OF_MANGLE_AND_SECURITY},
	{"ip6tables", "ip6tables-nft", NULL, RULES_IPV6, 0, OF_MANGLE_AND_SECURITY},
	{"iptables-legacy", "iptables-legacy", "/proc/net/ip_tables_names", RULES_IPV4, 0, OF_ALL},
	{"ip6tables-legacy", "ip6tables-legacy", "/proc/net/ip6_tables_names", RULES_IPV6, 0,
	 OF_ALL},
	{"ebtables", "ebtables-nft", NULL, RULES_IPV4, 1, {"filter"}},
};

/* ---- what drops ---- */

static const struct chain *find(const struct ruleset *s, const char *table, const char *name,
				size_t n_name)
{
	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->at[i].table, table) == 0 &&
		    strncmp(s->at[i].name, name, n_name) == 0 && !s->at[i].name[n_name])
			return &s->at[i];
	return NULL;
}

/* By its policy, by a rule, or by a chain that it leads to. */
static int may_drop(const struct ruleset *s, const struct chain *c, int depth)
{
	if (strcmp(c->policy, "DROP") == 0)
		return 1;
	for (const char *line = c->text; line && *line; line = strchr(line, '\n') + 1) {
		const char *end = strchr(line, '\n'), *target = strstr(line, " -j ");
		const struct chain *next;
		size_t n;

		if (!target || target > end)
			target = strstr(line, " -g ");
		if (!target || target > end)
			continue;
		target += 4;
		n = strcspn(target, " \n");
		if ((n == 4 && memcmp(target, "DROP", n) == 0) ||
		    (n == 6 && memcmp(target, "REJECT", n) == 0))
			return 1;
		next = find(s, c->table, target, n);
		if (next && depth && may_drop(s, next, depth - 1))
			return 1;
	}
	return 0;
}

/* ---- what lets guests pass ---- */

static void accepting_rules(const struct source *s, const struct host_settings *settings,
			    char ret_rules[2][160])
{
	char pool[CIDR6_TEXT_MAX];

	if (s->family == RULES_IPV6)
		cidr6_format(settings->ipv6_pool, pool);
	else
		cidr_format(settings->public_pool, pool);
	for (int way = 0; way < 2; way++)
		if (s->is_bridge) /* from taps to a router's legs, and back */
			snprintf(ret_rules[way], sizeof ret_rules[way],
				 "FORWARD -i %s -o %s -j ACCEPT", way ? "l+" : "t+",
				 way ? "t+" : "l+");
		else
			snprintf(ret_rules[way], sizeof ret_rules[way], "FORWARD -%c %s -j ACCEPT",
				 way ? 'd' : 's', pool);
}

static int has_rule(const struct chain *c, const char *rule)
{
	char line[176];

	snprintf(line, sizeof line, "-A %s\n", rule);
	return c->text && strstr(c->text, line);
}

/* ---- what the doctor says ---- */

static int check_table(json_t *list, const struct source *s, const struct host_settings *settings,
		       const struct ruleset *there, const char *table)
{
	const struct chain *c = find(there, table, "FORWARD", strlen("FORWARD"));
	char rules[2][160];

	accepting_rules(s, settings, rules);
	if (!c || !may_drop(there, c, DEPTH) || (has_rule(c, rules[0]) && has_rule(c, rules[1])))
		return 0;
	host_finding(list, s->check, 0,
		     "FORWARD of table %s may drop what guests send%s, and netd changes nothing "
		     "there; to let them pass: %s -t %s -I %s; %s -t %s -I %s",
		     table, s->is_bridge ? " within a VPC" : " outside", s->command, table,
		     rules[0], s->command, table, rules[1]);
	return 1;
}

static int is_loaded(const struct source *s, const char *table)
{
	OWN(fclose) FILE *file = s->loaded ? fopen(s->loaded, "re") : NULL;
	char line[40];

	while (file && fgets(line, sizeof line, file)) {
		line[strcspn(line, "\n")] = '\0';
		if (strcmp(line, table) == 0)
			return 1;
	}
	return !s->loaded;
}

/* 0 or -errno with the namespace's reason. */
static int read_table(const struct source *s, struct netns *host, const char *table,
		      struct ruleset *ret_there)
{
	char program[32];
	const char *const argv[] = {program, s->is_bridge ? NULL : "-t", table, NULL};
	OWN(free) char *out = NULL;
	int r;

	snprintf(program, sizeof program, "%s-save", s->command);
	r = netns_command(host, argv, NULL, &out);
	return r < 0 ? r : ruleset_parse(out, ret_there);
}

static void check_source(json_t *list, const struct source *s, const struct host_settings *settings,
			 struct netns *host)
{
	int n_found = 0;

	for (const char *const *t = s->tables; *t; t++) {
		OWN(ruleset_free) struct ruleset there = {0};

		if (!is_loaded(s, *t))
			continue;
		if (read_table(s, host, *t, &there) < 0) {
			host_finding(list, s->check, 0, "%s-save cannot read table %s: %s",
				     s->command, *t, host->reason);
			return;
		}
		n_found += check_table(list, s, settings, &there, *t);
	}
	if (!n_found)
		host_finding(list, s->check, 1, "no other table of %s drops what guests send",
			     s->command);
}

void host_check_tables(json_t *list, const struct host_settings *settings, struct netns *host,
		       int has_ipv6)
{
	for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
		if (has_ipv6 || sources[i].family == RULES_IPV4)
			check_source(list, &sources[i], settings, host);
}
