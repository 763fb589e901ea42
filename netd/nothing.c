/* Network things that nobody can make here yet, so there are none: clients read them whenever
 * they look at a VPC, and stop at an error. An id of one is never known. (What a box never has
 * is in apid's absent-table.h.) */
#include "netd.h"

#include <errno.h>
#include <string.h>

static const struct {
	const char *method, *result;
	const char *not_found; /* AWS's code for an id of this kind */
} nothings[] = {
	{"ec2.DescribeSecurityGroupReferences", "SecurityGroupReferenceSet", NULL},
	{"ec2.DescribeStaleSecurityGroups", "StaleSecurityGroupSet", NULL},
};

/* The first id that the request asks for, in whatever list of ids its action has. */
static const char *id_asked(json_t *parameters)
{
	const char *name;
	json_t *value;

	json_object_foreach (parameters, name, value) {
		size_t n = strlen(name);

		if (n > 3 && strcmp(name + n - 3, "Ids") == 0 && json_array_size(value) > 0)
			return json_string_value(json_array_get(value, 0));
	}
	return NULL;
}

int describe_nothing(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *id = id_asked(parameters);
	size_t i = 0;

	while (strcmp(nothings[i].method, c->method) != 0)
		i++; /* every row of the action table that leads here is in this one */
	if (id && nothings[i].not_found)
		return fault_set_code(f, nothings[i].not_found, 400,
				      "The ID '%.64s' does not exist", id);
	*ret_reply = json_pack("{s:[]}", nothings[i].result);
	return *ret_reply ? 0 : -ENOMEM;
}
