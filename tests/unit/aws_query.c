/* Query parameters to JSON: what clients send, and what strangers send. */
#include "tap.h"

#include "aws/aws.h"
#include "jsonx.h"
#include "own.h"

static json_t *parameters;
static struct fault f;

/* Decodes "Name=value&Name=value" (nothing escaped), leaving `parameters` and `f`. */
static int decode(const char *service, const char *action, const char *query)
{
	OWN(free) char *copy = strdup(query);
	struct aws_pair pairs[64];
	size_t n = 0;
	char *rest = copy;

	json_decref(parameters);
	parameters = NULL;
	memset(&f, 0, sizeof f);
	for (char *pair = strsep(&rest, "&"); pair && *pair; pair = strsep(&rest, "&")) {
		char *value = strchr(pair, '=');

		*value++ = '\0';
		pairs[n++] = (struct aws_pair){pair, value};
	}
	return aws_decode_query(aws_action_find(aws_service_find(service), action), pairs, n,
				&parameters, &f);
}

static const char *json(void)
{
	static char *text;

	free(text);
	text = json_dumps(parameters, JSON_COMPACT | JSON_SORT_KEYS);
	return text;
}

static void ec2_wire_names_become_member_names(void)
{
	is_int(decode("ec2", "DescribeInstances",
		      "Action=DescribeInstances&Version=2016-11-15&InstanceId.1=i-1&Filter.1.Name="
		      "vpc-id&Filter.1.Value.1=a&Filter.1.Value.2=b"),
	       0, "decoded");
	is_str(json(),
	       "{\"Filters\":[{\"Name\":\"vpc-id\",\"Values\":[\"a\",\"b\"]}],\"InstanceIds\":[\"i-"
	       "1\"]}",
	       "by the model");
}

static void an_empty_id_is_none(void)
{
	is_int(decode("ec2", "CreateSecurityGroup", "GroupName=a&GroupDescription=&VpcId="), 0,
	       "decoded");
	is_str(json(), "{\"Description\":\"\",\"GroupName\":\"a\"}", "other empty texts stay");
	is_int(decode("ec2", "DescribeVpcs", "VpcId.1="), 0, "in a list");
	is_str(json(), "{\"VpcIds\":[\"\"]}", "it is asked for");
	ok(decode("ec2", "CreateSubnet", "VpcId=") < 0, "needed");
	is_str(f.code, "MissingParameter", "is missing");
}

static void gaps_in_numbering_close_in_order(void)
{
	is_int(decode("ec2", "DescribeInstances",
		      "InstanceId.10=j&InstanceId.9=i&InstanceId.200=k"),
	       0, "decoded");
	is_str(json(), "{\"InstanceIds\":[\"i\",\"j\",\"k\"]}", "9 before 10 before 200");
}

static void types_are_converted(void)
{
	is_int(decode("ec2", "RunInstances",
		      "MinCount=1&MaxCount=2&EbsOptimized=true&UserData=YQ==&BlockDeviceMapping.1."
		      "Ebs.VolumeSize=8"),
	       0, "decoded");
	is_str(json(),
	       "{\"BlockDeviceMappings\":[{\"Ebs\":{\"VolumeSize\":8}}],\"EbsOptimized\":true,"
	       "\"MaxCount\":2,\"MinCount\":1,\"UserData\":\"YQ==\"}",
	       "numbers and booleans");
	is_int(decode("monitoring", "GetMetricStatistics",
		      "Namespace=a&MetricName=b&Period=60&StartTime=2026-11-22T16:00:00Z&EndTime="
		      "2026-11-23T01:00:00.5%2b09:00"),
	       -22, "an escape is not ours to undo");
	is_int(decode("monitoring", "GetMetricStatistics",
		      "Namespace=a&MetricName=b&Period=60&StartTime=2026-11-22T16:00:00Z&EndTime="
		      "2026-11-23T01:00:00.5+09:00"),
	       0, "decoded");
	is_str(jstr(parameters, "StartTime"), "2026-11-22T16:00:00.000Z", "a moment");
	is_str(jstr(parameters, "EndTime"), "2026-11-22T16:00:00.500Z", "a moment elsewhere");
}

static void query_lists_have_member_and_maps_entry(void)
{
	is_int(decode("iam", "TagUser", "UserName=u&Tags.member.1.Key=k&Tags.member.1.Value=v"), 0,
	       "decoded");
	is_str(json(), "{\"Tags\":[{\"Key\":\"k\",\"Value\":\"v\"}],\"UserName\":\"u\"}", "list");
	is_int(decode("iam", "TagUser", "UserName=u&Tags.1.Key=k&Tags.1.Value=v"), -22,
	       "a flat list where none is");
	is_int(decode("iam", "TagUser", "UserName=u&Tags="), 0, "an empty list has a form");
	is_str(json(), "{\"Tags\":[],\"UserName\":\"u\"}", "and stays");
}

static void signature_parameters_are_skipped(void)
{
	is_int(decode("sts", "GetCallerIdentity",
		      "Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Signature=1&X-Amz-Date=2&"
		      "AWSAccessKeyId=3&Signature=4"),
	       0, "decoded");
	is_str(json(), "{}", "nothing is left");
}

static void unknown_names_are_refused(void)
{
	is_int(decode("ec2", "DescribeInstances", "Foo=1"), -22, "at the top");
	is_str(f.code, "UnknownParameter", "code");
	is_str(f.message, "The parameter Foo is not recognized", "AWS's words");
	is_int(decode("ec2", "DescribeInstances", "Filter.1.Name=a&Filter.1.Color=b"), -22,
	       "inside");
	is_str(f.message, "The parameter Filter.1.Color is not recognized", "with the way to it");
	is_int(decode("ec2", "DescribeInstances", "instanceId.1=i-1"), -22, "names are exact");
	is_int(decode("ec2", "DescribeInstances", "InstanceIds.1=i-1"), -22,
	       "the SDK's name is not the wire's");
	is_int(decode("ec2", "DescribeInstances", "InstanceId.x=i-1"), -22, "no index");
	is_int(decode("ec2", "DescribeInstances", "InstanceId.01=i-1"), -22, "a padded index");
	is_int(decode("ec2", "DescribeInstances", "InstanceId.-1=i-1"), -22, "a negative index");
	is_int(decode("ec2", "DescribeInstances", "InstanceId..1=i-1"), -22, "an empty component");
	is_int(decode("ec2", "DescribeInstances", "InstanceId.=i-1"), -22,
	       "an empty last component");
	is_int(decode("ec2", "DescribeInstances", "=i-1"), -22, "an empty name");
	is_int(decode("ec2", "DescribeInstances", "DryRun.1=true"), -22,
	       "a scalar has no elements");
	is_int(decode("sts", "GetCallerIdentity", "A=1"), -22, "an action that takes nothing");
	ok(!parameters, "and nothing comes back");
}

static void wrong_values_are_refused(void)
{
	is_int(decode("ec2", "RunInstances", "MinCount=one&MaxCount=1"), -22, "no number");
	is_str(f.code, "InvalidParameterValue", "code");
	is_int(decode("ec2", "RunInstances", "MinCount=&MaxCount=1"), -22, "empty");
	is_int(decode("ec2", "RunInstances", "MinCount= 1&MaxCount=1"), -22, "blank before");
	is_int(decode("ec2", "RunInstances", "MinCount=1x&MaxCount=1"), -22, "more behind");
	is_int(decode("ec2", "RunInstances", "MinCount=-&MaxCount=1"), -22, "a sign alone");
	is_int(decode("ec2", "RunInstances", "MinCount=2147483648&MaxCount=1"), -22,
	       "over 32 bits");
	is_int(decode("ec2", "RunInstances", "MinCount=99999999999999999999&MaxCount=1"), -22,
	       "over 64 bits");
	is_int(decode("ec2", "RunInstances", "MinCount=1&MaxCount=1&DryRun=yes"), -22,
	       "no boolean");
	is_int(decode("ec2", "RunInstances", "MinCount=1&MaxCount=1&ImageId=\xff"), -22,
	       "not UTF-8");
	is_int(decode("ec2", "RunInstances", "MinCount=1&MaxCount=1&Placement=x"), -22,
	       "text for a structure");
	is_int(decode("ec2", "RunInstances", "MinCount=1&MaxCount=1&SecurityGroupId=x"), -22,
	       "text for a list");
	is_int(decode("ec2", "CreateVolume", "AvailabilityZone=a&VolumeType=gp9"), -22,
	       "not in the enum");
	is_str(f.message,
	       "Value (gp9) for parameter VolumeType is invalid. It must be one of: gp2, gp3, io1, "
	       "io2, sc1, st1, standard.",
	       "says what is");
	is_int(decode("ec2", "CreateVolume",
		      "AvailabilityZone=a&VolumeType=xx구구구구구구구구구구구구구구구구구구구구구"
		      "구구구구구구구구구구구구구구"),
	       -22, "a long one");
	is_str(f.message,
	       "Value (xx구구구구구구구구구구구구구구구구구구구구구구구구구구구구구구구구...) for "
	       "parameter VolumeType is invalid. It must be one of: gp2, gp3, io1, io2, sc1, st1, "
	       "standard.",
	       "is shown up to a whole character");
	is_int(decode("ec2", "ImportKeyPair", "KeyName=k&PublicKeyMaterial=***"), -22,
	       "not base64");
}

static void twice_is_refused(void)
{
	is_int(decode("ec2", "RunInstances", "MinCount=1&MinCount=2&MaxCount=1"), -22, "refused");
	is_str(f.code, "MalformedQueryString", "code");
}

static void a_required_parameter_is_asked_for(void)
{
	is_int(decode("ec2", "RunInstances", "MinCount=1"), -22, "EC2");
	is_str(f.code, "MissingParameter", "code");
	is_str(f.message, "The request must contain the parameter MaxCount", "AWS's words");
	is_int(decode("iam", "CreateUser", ""), -22, "IAM");
	is_str(f.code, "ValidationError", "code");
	is_str(f.message,
	       "1 validation error detected: Value null at 'userName' failed to satisfy "
	       "constraint: Member must not be null",
	       "AWS's words");
}

static void query_services_speak_of_constraints(void)
{
	is_int(decode("iam", "ListUsers", "MaxItems=0"), -22, "below");
	is_str(f.message,
	       "1 validation error detected: Value '0' at 'maxItems' failed to satisfy constraint: "
	       "Member must have value greater than or equal to 1",
	       "AWS's words");
	is_int(decode("iam", "CreateUser", "UserName=a b"), -22, "pattern");
	is_str(f.message,
	       "1 validation error detected: Value 'a b' at 'userName' failed to satisfy "
	       "constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]+",
	       "AWS's words");
	is_int(decode("sts", "AssumeRole", "RoleArn=short&RoleSessionName=ab"), -22, "length");
	is_str(f.code, "ValidationError", "code");
	is_int(decode("iam", "ListUsers", "MaxItems=x"), -22, "no number");
	is_str(f.code, "MalformedInput", "code");
}

static void secrets_are_not_repeated(void)
{
	is_int(decode("iam", "CreateLoginProfile", "UserName=u&Password=\x01hunter2"), -22,
	       "refused");
	ok(f.message[0] && !strstr(f.message, "hunter2"), "without the password");
}

static void lengths_count_characters(void)
{
	char query[512] = "UserName=u&Tags.member.1.Value=v&Tags.member.1.Key=";
	size_t at = strlen(query);

	for (int i = 0; i < 128; i++)
		memcpy(query + at + 2 * i, "\xc3\xa9", 3);
	is_int(decode("iam", "TagUser", query), 0, "128 letters of two bytes");
	strcat(query, "x");
	is_int(decode("iam", "TagUser", query), -22, "129");
}

static void lists_end_at_ten_thousand(void)
{
	size_t n = 10001;
	OWN(free) struct aws_pair *pairs = calloc(n, sizeof *pairs);
	OWN(free) char *names = malloc(n * 24);
	const struct aws_action *a = aws_action_find(aws_service_find("ec2"), "DescribeInstances");
	OWN(json_decref) json_t *got = NULL;

	for (size_t i = 0; i < n; i++) {
		snprintf(names + 24 * i, 24, "InstanceId.%zu", n - i);
		pairs[i] = (struct aws_pair){names + 24 * i, "i-1"};
	}
	is_int(aws_decode_query(a, pairs, n - 1, &got, &f), 0, "10,000 are taken");
	is_int(json_array_size(json_object_get(got, "InstanceIds")), 10000, "all of them");
	is_int(aws_decode_query(a, pairs, n, &got, &f), -22, "one more is refused");
}

static void groups_and_alternatives_fit_or_do_not(void)
{
	is_int(decode("iam", "CreateRole", "RoleName=r&AssumeRolePolicyDocument=x&Path=/a/b/"), 0,
	       "one alternative");
	is_int(decode("iam", "CreateRole", "RoleName=r&AssumeRolePolicyDocument=x&Path=/"), 0,
	       "the other");
	is_int(decode("iam", "CreateRole", "RoleName=r&AssumeRolePolicyDocument=x&Path=/a/b"), -22,
	       "neither");
}

/* ManagedRule.TemplateName: [0-9A-Za-z][\-\.\_0-9A-Za-z]{0,126}[0-9A-Za-z] */
static int template(size_t n, const char *end)
{
	char query[600] = "ManagedRules.member.1.ResourceARN=a&ManagedRules.member.1.TemplateName=";
	size_t at = strlen(query);

	memset(query + at, 'a', n);
	strcpy(query + at + n, end);
	return decode("monitoring", "PutManagedInsightRules", query);
}

static void counts_in_patterns_are_kept(void)
{
	is_int(template(2, ""), 0, "the shortest");
	is_int(template(128, ""), 0, "the longest");
	is_int(template(129, ""), -22, "longer");
	is_int(template(1, ""), -22, "shorter");
	is_int(template(127, "!"), -22, "a letter that is not allowed, at the end");
	is_int(template(0, "a.b-c_d"), 0, "with punctuation inside");
	is_int(template(0, "a."), -22, "but not at the end");
}

int main(void)
{
	RUN(ec2_wire_names_become_member_names);
	RUN(an_empty_id_is_none);
	RUN(gaps_in_numbering_close_in_order);
	RUN(types_are_converted);
	RUN(query_lists_have_member_and_maps_entry);
	RUN(signature_parameters_are_skipped);
	RUN(unknown_names_are_refused);
	RUN(wrong_values_are_refused);
	RUN(twice_is_refused);
	RUN(a_required_parameter_is_asked_for);
	RUN(query_services_speak_of_constraints);
	RUN(secrets_are_not_repeated);
	RUN(lengths_count_characters);
	RUN(lists_end_at_ten_thousand);
	RUN(groups_and_alternatives_fit_or_do_not);
	RUN(counts_in_patterns_are_kept);
	json_decref(parameters);
	return tests_done();
}
