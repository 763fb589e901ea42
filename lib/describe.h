/*
 * Describe, once for all kinds: ids, filters, paging, scope. A Describe action is a row of this table and a one-line
 * handler:
 *
 *	static const struct filter vpc_filters[] = { {"cidr", "CidrBlock"}, {"state", "State"}, FILTER_TAGS, {NULL} };
 *	static const struct describe vpcs = { .kind = "vpc", .result = "Vpcs", .ids = "VpcIds", .prefix = "vpc",
 *		.malformed = FAULT_INVALID_VPC_ID_MALFORMED, .not_found = FAULT_INVALID_VPC_ID_NOT_FOUND, .filters = vpc_filters };
 *	return describe_run(c, &vpcs, parameters, ret_reply, f);
 *
 * Filter values: several are OR, several filters AND; `*` and `?` are wildcards, `\` escapes; booleans are "true"/"false"; a path through
 * arrays matches if any element does ("Attachments.InstanceId"). An unknown filter name is InvalidParameterValue. Limits: 200 values.
 * Paging: MaxResults 5..1000 (or the row's own bounds), NextToken is opaque and carries a MAC: a made-up one, or one of other parameters, is
 * InvalidNextToken. Ids together with MaxResults: InvalidParameterCombination. Unknown ids: all of the call fails.
 * Source: EC2 API reference, "Filtering", "Pagination".
 */
#pragma once

#include "action.h"

struct filter {
	const char *name; /* as the customer writes it; ends the table when NULL */
	const char *path; /* dotted path in the document; arrays are walked; NULL: only `match` */
	/* For what no path can say. 1 when any of the values (patterns) fits, 0 otherwise. */
	int (*match)(const struct doc *d, const json_t *values);
};
/* tag:<key>, tag-key, tag-value over the document's "Tags". */
#define FILTER_TAGS                                                                                \
	{"tag:", "Tags", NULL}, {"tag-key", "Tags.Key", NULL},                                     \
	{                                                                                          \
		"tag-value", "Tags.Value", NULL                                                    \
	}

struct describe {
	const char *kind;
	const char *result; /* the reply's list member */
	const char *ids;    /* the parameter that lists ids, NULL: none */
	const char *gone;   /* the kind of ids that left lately: no error, but nothing to show */
	const char *prefix; /* of a well-formed id; NULL: not checked */
	enum fault_kind malformed, not_found;
	const struct filter *filters;
	int n_max_default; /* page size when MaxResults is absent: 0 is no paging until asked */
	int n_max_low, n_max_high; /* MaxResults' bounds, 0,0: 5..1000 */
	/* Documents not of the caller's account that he may see all the same (public images), with
	 * the tags that he gave them himself; NULL: none. */
	int (*is_visible)(const struct call *c, const struct doc *d);
	/* What to show instead of the document itself (a new reference); NULL: the document. */
	json_t *(*present)(const struct call *c, const struct doc *d);
	int is_filtered_as_shown; /* filters look at what is shown, not at the document */
};

/* The whole action. */
int describe_run(struct call *c, const struct describe *d, json_t *parameters, json_t **ret_reply,
		 struct fault *f);
/* For replies of another form (reservations): the documents that match, in order, as an array of
 * ids of the kind (a new reference), and the NextToken for after them (NULL or a malloced string).
 */
int describe_select(struct call *c, const struct describe *d, json_t *parameters, json_t **ret_ids,
		    char **ret_next_token, struct fault *f);
/* Filters and paging over a list made by the caller (regions, instance types): `items` are the
 * objects. */
int describe_list(struct call *c, const struct describe *d, json_t *items, json_t *parameters,
		  json_t **ret_reply, struct fault *f);

/* `text` fits AWS's filter pattern (`*`, `?`, `\`). */
int pattern_match(const char *pattern, const char *text);
/* It fits one of a filter's values. */
int pattern_match_any(const json_t *values, const char *text);
/* Checks every filter of `parameters` against the table: names known, values present, limits. */
int filter_check(const struct filter *table, json_t *parameters, struct fault *f);
/* The document passes every filter (already checked). */
int filter_match(const struct filter *table, const struct doc *d, json_t *parameters);
