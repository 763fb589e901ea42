/* What a box does not have is asked for and answered in the words of AWS's model. */
#include "tap.h"
#include "../../apid/local.h"
#include "../../lib/jsonx.h"

static const struct {
	const char *action, *list, *ids, *not_found;
} rows[] = {
#define ABSENT(action, list, ids, not_found) {action, list, ids, not_found},
#include "../../apid/absent-table.h"
#undef ABSENT
};
#define N_ROWS (sizeof rows / sizeof *rows)

static int run(const char *action, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	char method[128];

	snprintf(method, sizeof method, "ec2.%s", action);
	return local_describe_absent(&(struct local_call){.method = method}, parameters, ret_reply,
				     f);
}

static void every_row_is_an_action_of_aws(void)
{
	for (size_t i = 0; i < N_ROWS; i++) {
		const struct aws_action *a =
			aws_action_find(aws_service_find("ec2"), rows[i].action);

		if (!ok(a != NULL, rows[i].action))
			continue;
		ok(!rows[i].ids || aws_action_takes(a, rows[i].ids),
		   rows[i].ids ? rows[i].ids : "no ids");
	}
}

/* A list that the model does not know is left out by the encoder: then the two bodies are the same.
 */
static void every_list_is_in_the_model(void)
{
	for (size_t i = 0; i < N_ROWS; i++) {
		const struct aws_action *a =
			aws_action_find(aws_service_find("ec2"), rows[i].action);
		json_t *none = json_object(), *parameters = json_object(), *reply = NULL;
		char *with = NULL, *without = NULL;
		size_t n_with = 0, n_without = 0;

		is_int(run(rows[i].action, parameters, &reply, NULL), 0, rows[i].action);
		if (a) {
			is_int(aws_encode(a, reply, "r", &with, &n_with), 0, "is encoded");
			(void)aws_encode(a, none, "r", &without, &n_without);
			ok(n_with > n_without, rows[i].list);
		}
		free(with);
		free(without);
		json_decref(none);
		json_decref(parameters);
		json_decref(reply);
	}
}

static void an_id_of_one_does_not_exist(void)
{
	json_t *parameters = json_pack("{s:[s]}", "VpnGatewayIds", "vgw-0123456789abcdef0"),
	       *reply = NULL;
	struct fault f = {0};

	ok(run("DescribeVpnGateways", parameters, &reply, &f) < 0, "refused");
	is_str(f.code, "InvalidVpnGatewayID.NotFound", "its code");
	is_int(f.status, 400, "its status");
	json_decref(parameters);
}

static void a_token_is_none_of_ours(void)
{
	json_t *parameters = json_pack("{s:s}", "NextToken", "abc"), *reply = NULL;
	struct fault f = {0};

	ok(run("DescribeTransitGateways", parameters, &reply, &f) < 0, "refused");
	is_str(f.code, "InvalidNextToken", "its code");
	json_decref(parameters);
}

static void what_is_to_come_is_not_absent(void)
{
	static const char *const later[] = {"DescribeNatGateways",
					    "DescribeVpcPeeringConnections",
					    "DescribeFlowLogs",
					    "DescribeVpcEndpoints",
					    "DescribeLaunchTemplates",
					    "DescribeInstances",
					    "DescribeLaunchTemplateVersions",
					    "RunInstances"};

	for (size_t i = 0; i < sizeof later / sizeof *later; i++) {
		char method[128];

		snprintf(method, sizeof method, "ec2.%s", later[i]);
		ok(!absent_has(method), later[i]);
	}
}

int main(void)
{
	RUN(every_row_is_an_action_of_aws);
	RUN(every_list_is_in_the_model);
	RUN(an_id_of_one_does_not_exist);
	RUN(a_token_is_none_of_ours);
	RUN(what_is_to_come_is_not_absent);
	return tests_done();
}
