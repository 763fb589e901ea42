/* Local actions: the table, and those of STS. */
#include "local.h"

#include <errno.h>
#include <string.h>
#include "own.h"

static int get_caller_identity(struct local_call *c, json_t *parameters, json_t **ret_reply,
			       struct fault *f)
{
	(void)parameters, (void)f;
	*ret_reply = json_pack("{s:s, s:s, s:s}", "UserId", c->who->user_id, "Account",
			       c->who->account, "Arn", c->who->principal);
	return *ret_reply ? 0 : -ENOMEM;
}

static const struct {
	const char *method;
	local_action run;
} table[] = {
	{"ec2.CreateTags", local_create_tags},
	{"ec2.DeleteTags", local_delete_tags},
	{"ec2.DescribeTags", local_describe_tags},
	{"sts.GetCallerIdentity", get_caller_identity},
};

local_action local_find(const char *method)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++)
		if (strcmp(table[i].method, method) == 0)
			return table[i].run;
	return absent_has(method) ? local_describe_absent : NULL;
}

int local_owns(const char *method)
{
	return strncmp(method, "sts.", 4) == 0 || strncmp(method, "iam.", 4) == 0;
}
