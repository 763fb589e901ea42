/* Rules: iptables chains as values, compared as text, closed by one transaction per table. */
#include "rules.h"

#include <errno.h>
#include <netdb.h>
#include <stdarg.h>
#include <string.h>

void ruleset_free(struct ruleset *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->at[i].text);
	free(s->at);
	*s = (struct ruleset){0};
}

static int compare(const void *va, const void *vb)
{
	const struct chain *a = va, *b = vb;
	int c = strcmp(a->table, b->table);

	return c ? c : strcmp(a->name, b->name);
}

static struct chain *find(const struct ruleset *s, const char *table, const char *name)
{
	/* From the end: rules are written to the chain that was added last. */
	for (size_t i = s->n; i-- > 0;)
		if (strcmp(s->at[i].name, name) == 0 && strcmp(s->at[i].table, table) == 0)
			return &s->at[i];
	return NULL;
}

int ruleset_has(const struct ruleset *s, const char *table, const char *name)
{
	return find(s, table, name) != NULL;
}

void ruleset_chain(struct ruleset *s, const char *table, const char *name, const char *policy)
{
	struct chain *c;

	if (s->n == s->n_room) {
		size_t n_room = s->n_room ? s->n_room * 2 : 16;

		c = realloc(s->at, n_room * sizeof *c);
		if (!c) {
			s->error = -ENOMEM;
			return;
		}
		s->at = c;
		s->n_room = n_room;
	}
	c = &s->at[s->n++];
	memset(c, 0, sizeof *c);
	snprintf(c->table, sizeof c->table, "%s", table);
	snprintf(c->name, sizeof c->name, "%s", name);
	snprintf(c->policy, sizeof c->policy, "%s", policy);
}

static void append(struct ruleset *s, struct chain *c, const char *text, size_t n)
{
	/* Grows by powers of two: chains may have thousands of rules. */
	size_t need = c->n_text + n + 1, room = 64;

	while (room < need)
		room *= 2;
	if (!c->text || c->n_text + 1 <= room / 2) {
		char *grown = realloc(c->text, room);

		if (!grown) {
			s->error = -ENOMEM;
			return;
		}
		c->text = grown;
	}
	memcpy(c->text + c->n_text, text, n);
	c->n_text += n;
	c->text[c->n_text] = '\0';
}

void ruleset_rule(struct ruleset *s, const char *table, const char *name, const char *format, ...)
{
	struct chain *c = find(s, table, name);
	char line[512];
	va_list ap;
	int n;

	if (!c || s->error < 0)
		return;
	n = snprintf(line, sizeof line, "-A %s ", name);
	va_start(ap, format);
	n += vsnprintf(line + n, sizeof line - (size_t)n - 1, format, ap);
	va_end(ap);
	if ((size_t)n >= sizeof line - 1) {
		s->error = -EMSGSIZE;
		return;
	}
	line[n++] = '\n';
	append(s, c, line, (size_t)n);
}

int ruleset_sort(struct ruleset *s)
{
	if (s->n)
		qsort(s->at, s->n, sizeof *s->at, compare);
	return s->error;
}

/* iptables-save prints a protocol by the machine's /etc/protocols; we think in numbers. */
static void append_line(struct ruleset *s, struct chain *c, const char *line, size_t n)
{
	const char *p = memmem(line, n, " -p ", 4);
	char name[32], number[16];

	if (p && sscanf(p + 4, "%31s", name) == 1 && strcmp(name, "tcp") != 0 &&
	    strcmp(name, "udp") != 0 && strcmp(name, "icmp") != 0) {
		const struct protoent *e = getprotobyname(name);

		if (e) {
			size_t n_head = (size_t)(p + 4 - line);

			append(s, c, line, n_head);
			append(s, c, number,
			       (size_t)snprintf(number, sizeof number, "%d", e->p_proto));
			line += n_head + strlen(name);
			n -= n_head + strlen(name);
		}
	}
	append(s, c, line, n);
}

int ruleset_parse(const char *saved, struct ruleset *ret_set)
{
	OWN(ruleset_free) struct ruleset s = {0};
	char table[8] = "", name[32], policy[8];

	for (const char *line = saved, *end; *line; line = end) {
		end = strchr(line, '\n');
		end = end ? end + 1 : line + strlen(line);
		if (*line == '*')
			(void)sscanf(
				line, "*%7[^ \n]",
				table); /* an unreadable line leaves a table that nobody wants */
		else if (*line == ':' && sscanf(line, ":%31[^ \n]%*[ ]%7[^ \n]", name, policy) == 2)
			ruleset_chain(&s, table, name, policy);
		else if (sscanf(line, "-A%*[ ]%31[^ \n]", name) == 1 && find(&s, table, name))
			append_line(&s, find(&s, table, name), line, (size_t)(end - line));
	}
	if (ruleset_sort(&s) < 0)
		return s.error;
	*ret_set = s;
	s = (struct ruleset){0};
	return 0;
}

void ruleset_keep(struct ruleset *s, int (*keep)(const struct chain *c))
{
	size_t n = 0;

	for (size_t i = 0; i < s->n; i++) {
		if (keep(&s->at[i]))
			s->at[n++] = s->at[i];
		else
			free(s->at[i].text);
	}
	s->n = n;
}

static const char *text_of(const struct chain *c)
{
	return c->text ? c->text : "";
}

static int is_builtin(const struct chain *c)
{
	return strcmp(c->policy, "-") != 0;
}

static int is_same(const struct chain *a, const struct chain *b)
{
	return strcmp(a->policy, b->policy) == 0 && strcmp(text_of(a), text_of(b)) == 0;
}

/* A built-in chain of which we want nothing is as it should be when it does nothing. */
static int is_idle(const struct chain *c)
{
	return is_builtin(c) && !c->n_text && strcmp(c->policy, "ACCEPT") == 0;
}

static const struct chain *lookup(const struct ruleset *s, const struct chain *key)
{
	return s->n ? bsearch(key, s->at, s->n, sizeof *s->at, compare) : NULL;
}

/* One table's part. Chains are declared first (that empties ours), then filled, then the unwanted
 * go: so no line speaks of a chain that is not there. */
static size_t print_table(const char *table, const struct ruleset *wanted,
			  const struct ruleset *actual, FILE *out)
{
	size_t n = 0;

	for (int step = 0; step < 4; step++) {
		const struct ruleset *from = step == 0 || step == 2 ? wanted : actual;

		for (size_t i = 0; i < from->n; i++) {
			const struct chain *c = &from->at[i],
					   *other = lookup(from == wanted ? actual : wanted, c);

			if (strcmp(c->table, table) != 0 ||
			    (from == wanted ? other && is_same(c, other) : other || is_idle(c)))
				continue;
			n++;
			if (step == 0)
				fprintf(out, ":%s %s [0:0]\n%s%s%s", c->name, c->policy,
					is_builtin(c) ? "-F " : "", is_builtin(c) ? c->name : "",
					is_builtin(c) ? "\n" : "");
			else if (step == 1 && is_builtin(c))
				fprintf(out, ":%s ACCEPT [0:0]\n-F %s\n", c->name, c->name);
			else if (step == 1)
				fprintf(out, "-F %s\n", c->name);
			else if (step == 2)
				fprintf(out, "%s", text_of(c));
			else if (!is_builtin(c))
				fprintf(out, "-X %s\n", c->name);
		}
	}
	return n;
}

int ruleset_transaction(const struct ruleset *wanted, const struct ruleset *actual, char **ret_text,
			size_t *ret_n)
{
	static const char *const tables[] = {"raw", "nat", "filter"};
	OWN(free) char *text = NULL;
	size_t n_text = 0, n = 0;
	OWN(fclose) FILE *out = open_memstream(&text, &n_text);

	if (!out)
		return -ENOMEM;
	for (size_t t = 0; t < sizeof tables / sizeof *tables; t++) {
		OWN(free) char *part = NULL;
		size_t n_part = 0, n_chains;
		FILE *part_out = open_memstream(&part, &n_part);

		if (!part_out)
			return -ENOMEM;
		n_chains = print_table(tables[t], wanted, actual, part_out);
		if (fclose(part_out) != 0)
			return -ENOMEM;
		if (n_chains)
			fprintf(out, "*%s\n%sCOMMIT\n", tables[t], part);
		n += n_chains;
	}
	if (fclose(give(out)) != 0)
		return -ENOMEM;
	*ret_text = n ? give(text) : NULL;
	if (ret_n)
		*ret_n = n;
	return 0;
}

void ruleset_print(const struct ruleset *s, FILE *out)
{
	for (size_t i = 0; i < s->n;) {
		const char *table = s->at[i].table;
		size_t from = i;

		fprintf(out, "*%s\n", table);
		for (; i < s->n && strcmp(s->at[i].table, table) == 0; i++)
			fprintf(out, ":%s %s\n", s->at[i].name, s->at[i].policy);
		for (size_t c = from; c < i; c++)
			fprintf(out, "%s", text_of(&s->at[c]));
	}
}
