/* What a box does not have: empty answers, and for an id that was asked for, that it does not
 * exist. */
#include "local.h"

#include <errno.h>
#include <string.h>
#include "jsonx.h"

static const struct row {
	const char *action, *list, *ids, *not_found;
} rows[] = {
#define ABSENT(action, list, ids, not_found) {action, list, ids, not_found},
#include "absent-table.h"
#undef ABSENT
};

static const struct row *row_find(const char *method)
{
	if (strncmp(method, "ec2.", 4) != 0)
		return NULL;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		if (strcmp(rows[i].action, method + 4) == 0)
			return &rows[i];
	return NULL;
}

int absent_has(const char *method)
{
	return row_find(method) != NULL;
}

int local_describe_absent(struct local_call *c, json_t *parameters, json_t **ret_reply,
			  struct fault *f)
{
	const struct row *row = row_find(c->method);
	const json_t *ids = row->ids ? json_object_get(parameters, row->ids) : NULL;
	const char *token = jstr(parameters, "NextToken");
	if (json_array_size(ids) > 0)
		return fault_set_code(f, row->not_found, 400, "The ID '%.128s' does not exist",
				      json_string_value(json_array_get(ids, 0)));
	/* No page was ever cut off, so no token can be ours. */
	if (token && *token)
		return fault_set(f, FAULT_INVALID_PAGINATION_TOKEN, "The token '%.64s' is invalid",
				 token);
	*ret_reply = json_pack("{s:[]}", row->list);
	return *ret_reply ? 0 : -ENOMEM;
}
