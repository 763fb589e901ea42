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

void ruleset_append(struct ruleset *s, const char *table, const char *name, const char *text)
{
	struct chain *c = find(s, table, name);

	if (c && s->error >= 0 && *text)
		append(s, c, text, strlen(text));
}

const char *ruleset_text(const struct ruleset *s, const char *table, const char *name)
{
	const struct chain *c = find(s, table, name);

	return c ? c->text : NULL;
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
		struct protoent room, *e;
		char text[1024];

		/* The doctor reads tables on another thread. */
		if (getprotobyname_r(name, &room, text, sizeof text, &e) == 0 && e) {
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

/* The word at `p`, cut to fit. sscanf() would measure all that follows at every call. */
static void copy_word(const char *p, char *ret_word, size_t n_word)
{
	size_t n = strcspn(p, " \n");

	snprintf(ret_word, n_word, "%.*s", (int)(n < n_word ? n : n_word - 1), p);
}

int ruleset_parse(const char *saved, struct ruleset *ret_set)
{
	OWN(ruleset_free) struct ruleset s = {0};
	char table[sizeof((struct chain *)0)->table] = "", name[32], policy[8];

	for (const char *line = saved, *end; *line; line = end) {
		struct chain *c;

		end = strchr(line, '\n');
		end = end ? end + 1 : line + strlen(line);
		copy_word(*line ? line + 1 : line, name, sizeof name);
		if (*line == '*') {
			copy_word(line + 1, table, sizeof table);
		} else if (*line == ':' && name[0] && line[1 + strlen(name)] == ' ') {
			copy_word(line + 2 + strlen(name), policy, sizeof policy);
			if (policy[0])
				ruleset_chain(&s, table, name, policy);
		} else if (strncmp(line, "-A ", 3) == 0) {
			copy_word(line + 3, name, sizeof name);
			c = find(&s, table, name);
			if (c)
				append_line(&s, c, line, (size_t)(end - line));
		}
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

/* ---- what differs within a chain ---- */

/* Two texts of the same chain: how many of their lines are the same at the beginning, and what is
 * left of both in the middle. */
struct edit {
	size_t n_before; /* lines */
	const char *was, *will;
	size_t n_was, n_will; /* bytes */
};

static size_t count_lines(const char *text, size_t n)
{
	size_t n_lines = 0;

	for (size_t i = 0; i < n; i++)
		n_lines += text[i] == '\n';
	return n_lines;
}

static struct edit compare_texts(const char *was, const char *will)
{
	size_t n_was = strlen(was), n_will = strlen(will), n = 0, line = 0, tail = 0;

	while (n < n_was && n < n_will && was[n] == will[n])
		if (was[n++] == '\n')
			line = n;
	n_was -= line;
	n_will -= line;
	/* Backwards, and then only whole lines of it. */
	while (tail < n_was && tail < n_will &&
	       was[line + n_was - 1 - tail] == will[line + n_will - 1 - tail])
		tail++;
	while (tail && ((tail < n_was && was[line + n_was - tail - 1] != '\n') ||
			(tail < n_will && will[line + n_will - tail - 1] != '\n')))
		tail--;
	return (struct edit){.n_before = count_lines(was, line),
			     .was = was + line,
			     .will = will + line,
			     .n_was = n_was - tail,
			     .n_will = n_will - tail};
}

/* A chain whose rules mostly stay is edited by line numbers, so that a change costs as much as what
 * changes and not as much as what is there; any other is emptied and filled. */
static int is_editable(const struct chain *was, const struct chain *will, struct edit *ret_edit)
{
	size_t n_edited, n_all;

	if (strcmp(was->policy, will->policy) != 0)
		return 0;
	*ret_edit = compare_texts(text_of(was), text_of(will));
	n_edited = count_lines(ret_edit->was, ret_edit->n_was) +
		   count_lines(ret_edit->will, ret_edit->n_will);
	n_all = count_lines(text_of(will), will->n_text);
	return 2 * n_edited < n_all;
}

/* From the last to the first, so that numbers hold; new lines go before the first that stays. */
static void print_edit(const struct chain *c, const struct edit *e, FILE *out)
{
	size_t n_removed = count_lines(e->was, e->n_was), at = e->n_before + 1;
	int is_last = e->will[e->n_will] == '\0';

	for (size_t i = n_removed; i-- > 0;)
		fprintf(out, "-D %s %zu\n", c->name, at + i);
	for (const char *line = e->will, *end; line < e->will + e->n_will; line = end) {
		const char *rule = line + 3 + strlen(c->name); /* after "-A NAME" */

		end = strchr(line, '\n') + 1;
		if (is_last)
			fprintf(out, "%.*s", (int)(end - line), line);
		else
			fprintf(out, "-I %s %zu%.*s", c->name, at++, (int)(end - rule), rule);
	}
}

/* ---- the whole transaction ---- */

/* Empty, and with its policy. */
static void print_declaration(const struct chain *c, FILE *out)
{
	fprintf(out, ":%s %s [0:0]\n", c->name, c->policy);
	if (is_builtin(c))
		fprintf(out, "-F %s\n", c->name);
}

static size_t print_wanted(const char *table, const struct ruleset *wanted,
			   const struct ruleset *actual, int is_filling, FILE *out)
{
	size_t n = 0;

	for (size_t i = 0; i < wanted->n; i++) {
		const struct chain *c = &wanted->at[i];
		const struct chain *was = strcmp(c->table, table) == 0 ? lookup(actual, c) : NULL;
		struct edit edit;

		if (strcmp(c->table, table) != 0 || (was && is_same(c, was)))
			continue;
		n++;
		if (was && is_editable(was, c, &edit)) {
			if (is_filling)
				print_edit(c, &edit, out);
		} else if (is_filling) {
			fprintf(out, "%s", text_of(c));
		} else {
			print_declaration(c, out);
		}
	}
	return n;
}

static size_t print_unwanted(const char *table, const struct ruleset *wanted,
			     const struct ruleset *actual, int is_removing, FILE *out)
{
	size_t n = 0;

	for (size_t i = 0; i < actual->n; i++) {
		const struct chain *c = &actual->at[i];

		if (strcmp(c->table, table) != 0 || lookup(wanted, c) || is_idle(c))
			continue;
		n++;
		if (is_removing && !is_builtin(c))
			fprintf(out, "-X %s\n", c->name);
		else if (!is_removing && is_builtin(c))
			fprintf(out, ":%s ACCEPT [0:0]\n-F %s\n", c->name, c->name);
		else if (!is_removing)
			fprintf(out, "-F %s\n", c->name);
	}
	return n;
}

/* One table's part. Chains are declared first (that empties ours), then filled, then the unwanted
 * go: so no line speaks of a chain that is not there. */
static size_t print_table(const char *table, const struct ruleset *wanted,
			  const struct ruleset *actual, FILE *out)
{
	size_t n = print_wanted(table, wanted, actual, 0, out);

	n += print_unwanted(table, wanted, actual, 0, out);
	(void)print_wanted(table, wanted, actual, 1, out);   /* the same ones again */
	(void)print_unwanted(table, wanted, actual, 1, out); /* likewise */
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

int ruleset_follow(struct ruleset *actual, const struct ruleset *wanted)
{
	OWN(ruleset_free) struct ruleset s = {.at = calloc(wanted->n + 1, sizeof *s.at)};

	if (!s.at)
		return -ENOMEM;
	s.n_room = wanted->n + 1;
	for (; s.n < wanted->n; s.n++) {
		const struct chain *c = &wanted->at[s.n];
		struct chain *was = (struct chain *)lookup(actual, c);

		s.at[s.n] = *c;
		s.at[s.n].text = NULL;
		if (was && is_same(was, c)) {
			s.at[s.n].text = was->text;
			was->text = NULL;
			was->n_text = 0;
		} else if (c->text && !(s.at[s.n].text = strdup(c->text))) {
			s.n++;
			return -ENOMEM;
		}
	}
	ruleset_free(actual);
	*actual = s;
	s = (struct ruleset){0};
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
