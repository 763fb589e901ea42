/*
 * Refusing a parameter in the words of the service: EC2 and the Query services differ in codes and
 * in how they spell the way to a member.
 *
 * EC2: "Value ( 3 ) for parameter MaxResults is invalid. Expecting a value greater than 5."
 * (InvalidParameterValue, MissingParameter, UnknownParameter). Query services: "1 validation error
 * detected: Value '0' at 'maxItems' failed to satisfy constraint: Member must have value greater
 * than or equal to 1" (ValidationError); what cannot be read as the model's type is MalformedInput.
 */
#pragma once

#include "table.h"

/* The way from the action's input to a value; each frame lies on the stack of the function that
 * walks there. */
struct aws_where {
	const struct aws_where *up; /* NULL: the input itself */
	const struct aws_action *action;
	const struct aws_member *member; /* NULL: the input itself */
	size_t index;	/* element of a list or map, from 1; 0: a structure's member */
	unsigned depth; /* structures and lists around it */
};

/* Frames for the input, a member of a structure, and an element of a list. */
static inline struct aws_where aws_where_input(const struct aws_action *a)
{
	return (struct aws_where){.action = a};
}
static inline struct aws_where aws_where_member(const struct aws_where *up,
						const struct aws_member *m)
{
	return (struct aws_where){up, up->action, m, 0, up->depth + 1};
}
static inline struct aws_where aws_where_element(const struct aws_where *up,
						 const struct aws_member *m, size_t i)
{
	return (struct aws_where){up, up->action, m, i, up->depth + 1};
}

/* "Filter.1.Value.2", as the client wrote it. */
void aws_where_print(const struct aws_where *w, char *ret_text, size_t n_bytes);

/* All fill `f` and return -errno. */
int aws_refuse_unknown(const struct aws_where *parent, const char *name, size_t n_bytes,
		       struct fault *f);
int aws_refuse_missing(const struct aws_where *w, struct fault *f);
/* The text is no value of the type at all. */
int aws_refuse_type(const struct aws_where *w, const char *value, struct fault *f);
int aws_refuse_enum(const struct aws_where *w, const char *value, struct fault *f);
int aws_refuse_pattern(const struct aws_where *w, const char *value, struct fault *f);
/* The number, or the length of the text or list, is out of bounds; `is_low`: below, else above. */
int aws_refuse_bounds(const struct aws_where *w, const char *value, int is_low, struct fault *f);
/* Deeper or longer than any request needs to be. */
int aws_refuse_size(const struct aws_where *w, const char *what, struct fault *f);
