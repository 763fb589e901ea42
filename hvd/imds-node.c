/* Nodes of the metadata tree: their texts, and the way along a path from table to table. */
#include "imds-node.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "jsonx.h"
#include "own.h"

int imds_text(const char *text, char **ret_text)
{
	if (!text)
		return -ENOENT;
	*ret_text = strdup(text);
	return *ret_text ? 0 : -ENOMEM;
}

int imds_number(int64_t number, char **ret_text)
{
	return asprintf(ret_text, "%lld", (long long)number) < 0 ? -ENOMEM : 0;
}

int imds_lines(const json_t *list, const char *member, char **ret_text)
{
	OWN(free) char *text = NULL;
	size_t n_text = 0, i;
	json_t *item;
	FILE *out = open_memstream(&text, &n_text);

	if (!out)
		return -ENOMEM;
	json_array_foreach (list, i, item)
		if (jstr(item, member))
			fprintf(out, "%s%s", ftell(out) > 0 ? "\n" : "", jstr(item, member));
	if (fclose(out) != 0)
		return -ENOMEM;
	if (n_text == 0)
		return -ENOENT;
	*ret_text = give(text);
	return 0;
}

static int name_copy(char to[static IMDS_NAME_MAX], const char *name, size_t n)
{
	if (n == 0 || n >= IMDS_NAME_MAX)
		return -ENOENT;
	memcpy(to, name, n);
	to[n] = '\0';
	return 0;
}

/* What a listing shows of one node: nothing if it is not there. A value that has yet to be asked
 * for is there. */
static void list_node(FILE *out, const struct imds_place *p, const struct imds_node *n)
{
	OWN(free) char *text = NULL;
	int r = n->children ? 0 : n->get(p, &text);

	if ((n->is_there && !n->is_there(p)) || (r < 0 && r != -EAGAIN))
		return;
	fprintf(out, "%s%s%s", ftell(out) > 0 ? "\n" : "", n->name, n->children ? "/" : "");
}

static void list_each(FILE *out, const struct imds_place *p, const struct imds_node *n)
{
	char name[IMDS_NAME_MAX], label[IMDS_NAME_MAX];

	for (size_t i = 0; n->each(p, i, name) == 0; i++) {
		int is_labelled = n->label && n->label(p, name, label) == 0;

		fprintf(out, "%s%s%s", i > 0 ? "\n" : "", is_labelled ? label : name,
			n->children && !is_labelled ? "/" : "");
	}
}

static int list(const struct imds_place *p, const struct imds_node *table, char **ret_text)
{
	size_t n_text = 0;
	FILE *out = open_memstream(ret_text, &n_text);

	if (!out)
		return -ENOMEM;
	if (table->each)
		list_each(out, p, table);
	for (const struct imds_node *n = table; n->name; n++)
		list_node(out, p, n);
	if (fclose(out) == 0)
		return 0;
	free(*ret_text);
	*ret_text = NULL;
	return -ENOMEM;
}

/* The node of this name in the table, p moved to it. */
static const struct imds_node *enter(struct imds_place *p, const struct imds_node *table,
				     const char *name)
{
	char entry[IMDS_NAME_MAX];

	if (table->each) {
		for (size_t i = 0; table->each(p, i, entry) == 0; i++) {
			if (strcmp(entry, name) != 0)
				continue;
			strcpy(p->name, name);
			if (table->enter)
				table->enter(p, i);
			return table;
		}
		return NULL;
	}
	for (const struct imds_node *n = table; n->name; n++)
		if (strcmp(n->name, name) == 0)
			return n->is_there && !n->is_there(p) ? NULL : n;
	return NULL;
}

int imds_walk(const struct imds_view *view, const struct imds_node *table, const char *path,
	      char **ret_text)
{
	struct imds_place p = {.view = view};

	for (;;) {
		char name[IMDS_NAME_MAX];
		const struct imds_node *n;
		size_t n_name;

		path += strspn(path, "/");
		if (!*path)
			return list(&p, table, ret_text);
		n_name = strcspn(path, "/");
		if (name_copy(name, path, n_name) < 0 || !(n = enter(&p, table, name)))
			return -ENOENT;
		path += n_name;
		if (!n->children)
			return path[strspn(path, "/")] ? -ENOENT : n->get(&p, ret_text);
		table = n->children;
	}
}
