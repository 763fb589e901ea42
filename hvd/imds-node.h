/* The metadata tree's inside: what its tables are made of, and the way through them. The tables are
 * imds-tree.c's and, below macs/, imds-interface.c's. */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>
#include "imds-tree.h"

#define IMDS_NAME_MAX 256

/* Where in the tree we are: the view and what dynamic directories on the way chose. */
struct imds_place {
	const struct imds_view *view;
	const json_t *interface;  /* below macs/<mac>/ */
	char name[IMDS_NAME_MAX]; /* of the last dynamic entry */
};

struct imds_node {
	const char *name;
	/* A file's text: 0 with *ret_text malloced; -ENOENT: not there (nor listed). */
	int (*get)(const struct imds_place *p, char **ret_text);
	const struct imds_node *children; /* a directory's */
	/* A directory whose entries depend on the instance: the i-th entry's name, -ENOENT after
	 * the last. Each is a file (`get` above, by place.name) or a directory (`children`). */
	int (*each)(const struct imds_place *p, size_t i, char ret_name[static IMDS_NAME_MAX]);
	/* The i-th entry was chosen: what is below it asks. */
	void (*enter)(struct imds_place *p, size_t i);
	/* How an entry is listed, when that is not its name ("0=my-key"). */
	int (*label)(const struct imds_place *p, const char *name,
		     char ret_label[static IMDS_NAME_MAX]);
	/* A directory that is not always there. */
	int (*is_there)(const struct imds_place *p);
};

/* macs/: a table of one dynamic directory. */
extern const struct imds_node imds_macs[];
/* The i-th interface of the instance, NULL: no more. */
const json_t *imds_interface_at(const struct imds_place *p, size_t i);

/* A copy of the text; -ENOENT for NULL. */
int imds_text(const char *text, char **ret_text);
int imds_number(int64_t number, char **ret_text);
/* The member of each object in the list, a line each; -ENOENT for no lines. */
int imds_lines(const json_t *list, const char *member, char **ret_text);

/* Down from a directory's table along `path`, as imds_resolve(). */
int imds_walk(const struct imds_view *view, const struct imds_node *table, const char *path,
	      char **ret_text);
