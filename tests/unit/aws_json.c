/* JSON in: what the console and the command line send. */
#include "tap.h"

#include "aws/aws.h"
#include "jsonx.h"
#include "own.h"

static struct fault f;

static const struct aws_action *find(const char *service, const char *action)
{
	return aws_action_find(aws_service_find(service), action);
}

static int decode(const char *body)
{
	OWN(json_decref) json_t *parameters = NULL;

	memset(&f, 0, sizeof f);
	return aws_decode_json(find("ec2", "RunInstances"), body, strlen(body), &parameters, &f);
}

static void a_body_is_checked_by_the_model(void)
{
	is_int(decode("{\"MinCount\": 1, \"MaxCount\": 1, \"Placement\": {\"AvailabilityZone\": "
		      "\"a\"}}"),
	       0, "fits");
	is_int(decode("{\"MinCount\": \"1\", \"MaxCount\": 1}"), -22, "a text is no number");
	is_str(f.code, "InvalidParameterValue", "code");
	is_int(decode("{\"MinCount\": 1.5, \"MaxCount\": 1}"), -22, "a fraction is no integer");
	is_int(decode("{\"MinCount\": 1, \"MaxCount\": 1, \"Placement\": []}"), -22,
	       "a list is no structure");
	is_int(decode("{\"MinCount\": 1, \"MaxCount\": 1, \"Placement\": null}"), -22,
	       "nor is null");
	is_int(decode("{\"MinCount\": 1, \"MaxCount\": 1, \"placement\": {}}"), -22,
	       "names are exact");
	is_str(f.code, "UnknownParameter", "code");
	is_int(decode("{\"MinCount\": 1}"), -22, "a required one is missing");
	is_str(f.code, "MissingParameter", "code");
}

static void what_is_no_object_is_refused(void)
{
	const char *const bodies[] = {"[]",
				      "1",
				      "{",
				      "{\"a\": 1, \"a\": 2}",
				      "{\"ImageId\": \"\\u0000\"}",
				      "{\"ImageId\": \"\xff\"}",
				      "{} {}"};

	for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
		is_int(decode(bodies[i]), -22, bodies[i]);
		is_str(f.code, "SerializationException", "code");
	}
	is_int(decode(""), -22, "an empty body has no parameters");
	is_str(f.code, "MissingParameter", "code");
}

static void nesting_ends(void)
{
	size_t n = 100000;
	OWN(free) char *body = malloc(n + 1);

	memset(body, '[', n);
	body[n] = '\0';
	is_int(decode(body), -22, "refused, and not by the stack");
	is_str(f.code, "SerializationException", "code");
}

static void parameters_can_be_asked_for(void)
{
	ok(aws_action_takes(find("ec2", "RunInstances"), "DryRun"), "takes DryRun");
	ok(!aws_action_takes(find("ec2", "RunInstances"), "Dry"), "not by a part of the name");
	ok(!aws_action_takes(find("sts", "GetCallerIdentity"), "DryRun"), "takes nothing");
	ok(!find("ec2", "runInstances") && !find("ec2", "") && !find("ec2", "RunInstance"),
	   "AWS has no such action");
	ok(!aws_service_find("sqs"), "nor we such a service");
	is_str(aws_action_name(find("iam", "CreateUser")), "CreateUser", "name");
	is_str(aws_service_version(aws_service_find("elasticloadbalancing")), "2015-12-01",
	       "version");
}

static void the_overlay_is_laid_over_the_models(void)
{
	OWN(json_decref)
	json_t *future = json_pack("{s:i, s:i, s:s}", "MinCount", 1, "MaxCount", 1, "InstanceType",
				   "x99.nano");

	is_int(aws_check(find("ec2", "RunInstances"), future, &f), 0,
	       "an instance type of tomorrow is for the catalog to refuse");
	ok(find("elasticloadbalancing", "DescribeListenerAttributes"),
	   "an action that the models lack");
}

int main(void)
{
	RUN(a_body_is_checked_by_the_model);
	RUN(what_is_no_object_is_refused);
	RUN(nesting_ends);
	RUN(parameters_can_be_asked_for);
	RUN(the_overlay_is_laid_over_the_models);
	return tests_done();
}
