/* Replies and errors on the wire; golden files say the whole of it (tests/golden/aws). */
#include "tap.h"

#include <dirent.h>
#include <errno.h>
#include "aws/aws.h"
#include "jsonx.h"
#include "own.h"

#define GOLDEN "tests/golden/aws"

static const char request_id[] = "59dbff89-35bd-4eac-99ed-be587EXAMPLE";

static char *encode(const char *service, const char *action, const json_t *reply, int *ret_r)
{
	char *body = NULL;
	size_t n_bytes = 0;

	*ret_r = aws_encode(aws_action_find(aws_service_find(service), action), reply, request_id,
			    &body, &n_bytes);
	return body;
}

static int refuses(const char *service, const char *action, const char *reply, const char *where)
{
	OWN(json_decref) json_t *json = json_loads(reply, 0, NULL);
	int r;
	OWN(free) char *body = encode(service, action, json, &r);

	return r == -EPROTO && strcmp(aws_encode_where(), where) == 0 && !body;
}

static void what_does_not_fit_the_model_is_our_mistake(void)
{
	ok(refuses("ec2", "DescribeVpcs", "{\"Vpcs\": {}}", "Vpcs"), "an object for a list");
	ok(refuses("ec2", "DescribeVpcs", "{\"Vpcs\": [[]]}", "Vpcs.member"),
	   "a list for a structure");
	ok(refuses("ec2", "DescribeVpcs", "{\"Vpcs\": [{\"VpcId\": 1}]}", "Vpcs.member.VpcId"),
	   "a number for a text");
	ok(refuses("ec2", "DescribeVpcs", "{\"Vpcs\": [{\"IsDefault\": \"true\"}]}",
		   "Vpcs.member.IsDefault"),
	   "a text for a boolean");
	ok(refuses("ec2", "DescribeInstances",
		   "{\"Reservations\": [{\"Instances\": [{\"LaunchTime\": \"now\"}]}]}",
		   "Reservations.member.Instances.member.LaunchTime"),
	   "no moment");
	ok(refuses("ec2", "DescribeVpcs", "[]", ""), "no object at all");
}

static void ours_and_null_are_left_out(void)
{
	OWN(json_decref)
	json_t *reply =
		json_pack("{s:s, s:n, s:s, s:[]}", "_Tap", "t", "NextToken", "Other", "x", "Vpcs");
	int r;
	OWN(free) char *body = encode("ec2", "DescribeVpcs", reply, &r);

	is_int(r, 0, "encoded");
	ok(strstr(body, "<vpcSet/>"), "an empty list is there");
	ok(!strstr(body, "Tap") && !strstr(body, "Other") && !strstr(body, "nextToken"),
	   "the rest is not");
}

static void text_cannot_break_the_markup(void)
{
	OWN(json_decref)
	json_t *reply = json_pack(
		"{s:s}", "Arn",
		"<&>\"'\r\n\t\x01\x0b\x7f\xc3\xa9\xef\xbf\xbe\xef\xbf\xbf\xf0\x9f\x90\x9f");
	int r;
	OWN(free) char *body = encode("sts", "GetCallerIdentity", reply, &r);

	is_int(r, 0, "encoded");
	ok(strstr(body, "<Arn>&lt;&amp;&gt;&quot;'&#xD;"
			"\n\t\xef\xbf\xbd\xef\xbf\xbd\x7f\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd\xf0\x9f"
			"\x90\x9f</Arn>"),
	   "escaped or replaced");
}

static void an_error_of_strange_bytes_is_xml(void)
{
	struct fault fault = {.code = "A<B",
			      .status = 400,
			      .message = "\xff\xc0\x80\xed\xa0\x80\xf5\x80\x80\x80 \xe2\x82"};
	OWN(free) char *body = NULL;
	size_t n_bytes;

	is_int(aws_encode_error(NULL, &fault, request_id, &body, &n_bytes), 0, "encoded");
	ok(strstr(body, "<Code>A&lt;B</Code>"), "code");
	ok(!strpbrk(body, "\xff\xc0\xed\xf5"), "no byte that is not UTF-8 is left");
	is_int(n_bytes, strlen(body), "length");
}

static char *read_file(const char *path)
{
	OWN(fclose) FILE *in = fopen(path, "re");
	char *text = NULL;
	size_t room = 0;

	return in && getdelim(&text, &room, '\0', in) > 0 ? text : NULL;
}

static void golden(const char *name)
{
	char path[320], title[320];

	snprintf(path, sizeof path, GOLDEN "/%s.json", name);
	OWN(json_decref) json_t *spec = json_load_file(path, 0, NULL);
	const struct aws_service *s = aws_service_find(jstr_or(spec, "service", ""));
	const json_t *error = json_object_get(spec, "error");
	struct fault fault = {.status = (int)jint(error, "status", 400)};
	OWN(free) char *body = NULL;
	size_t n_bytes = 0;
	int r;

	snprintf(fault.code, sizeof fault.code, "%s", jstr_or(error, "code", ""));
	snprintf(fault.message, sizeof fault.message, "%s", jstr_or(error, "message", ""));
	if (error)
		r = aws_encode_error(s, &fault, request_id, &body, &n_bytes);
	else
		body = encode(aws_service_prefix(s), jstr(spec, "action"),
			      json_object_get(spec, "reply"), &r);
	snprintf(path, sizeof path, GOLDEN "/%s.xml", name);
	if (getenv("REGEN") && r == 0) {
		OWN(fclose) FILE *out = fopen(path, "we");

		fprintf(out, "%s\n", body);
		return;
	}
	OWN(free) char *want = read_file(path);

	if (want && *want)
		want[strlen(want) - 1] = '\0';
	snprintf(title, sizeof title, "%s", name);
	is_str(body, want, title);
}

static void the_wire_is_as_it_was(void)
{
	struct dirent **entries;
	int n = scandir(GOLDEN, &entries, NULL, alphasort);

	ok(n > 2, "there are golden files (the test runs at the root of the tree)");
	for (int i = 0; i < n; i++) {
		char *dot = strstr(entries[i]->d_name, ".json");

		if (dot) {
			*dot = '\0';
			golden(entries[i]->d_name);
		}
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
}

int main(void)
{
	RUN(what_does_not_fit_the_model_is_our_mistake);
	RUN(ours_and_null_are_left_out);
	RUN(text_cannot_break_the_markup);
	RUN(an_error_of_strange_bytes_is_xml);
	RUN(the_wire_is_as_it_was);
	return tests_done();
}
