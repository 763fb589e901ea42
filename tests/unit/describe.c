/* Describe: filters, pages, ids and scope do as AWS says; what is not understood is refused. */
#include "tap.h"
#include "describe.h"
#include "jsonx.h"
#include "tags.h"

#include <unistd.h>

static struct store *store;
static struct context ctx = {.account = "123456789012", .region = "us-east-1"};
static struct fault fault;

static int deep(const struct doc *d, const json_t *values)
{
	return jarray_has(values, "deep") && jint(d->json, "Size", 0) > 20;
}

static const struct filter filters[] = {{"state", "State.Name"},
					{"size", "Size"},
					{"attachment.instance-id", "Attachments.InstanceId"},
					{"is-default", "IsDefault"},
					{"depth", NULL, deep},
					FILTER_TAGS,
					{NULL}};
static const struct describe things = {.kind = "vpc",
				       .result = "Vpcs",
				       .ids = "VpcIds",
				       .prefix = "vpc",
				       .malformed = FAULT_INVALID_VPC_ID_MALFORMED,
				       .not_found = FAULT_INVALID_VPC_ID_NOT_FOUND,
				       .filters = filters};

static void add(struct txn *t, int n, const char *account, const char *region, const char *json)
{
	char id[32];

	snprintf(id, sizeof id, "vpc-%08x", n);
	json_t *j = json_loads(json, 0, NULL);

	jset(j, "VpcId", id);
	txn_put(t, "vpc", id, account, region, j);
}

static void make_store(const char *dir)
{
	char path[128];

	snprintf(path, sizeof path, "%s/state.db", dir);
	if (store_open(path, 1, NULL, &store) < 0)
		exit(1);
	OWN(txn_free) struct txn *t = txn_new(store);

	add(t, 9, ctx.account, ctx.region,
	    "{\"State\":{\"Name\":\"available\"},\"Size\":10,\"IsDefault\":true,\"Tags\":[{\"Key\":"
	    "\"Name\",\"Value\":\"web*1\"}]}");
	add(t, 1, ctx.account, ctx.region,
	    "{\"State\":{\"Name\":\"pending\"},\"Size\":20,\"IsDefault\":false,\"Tags\":[{\"Key\":"
	    "\"Name\",\"Value\":\"web22\"},"
	    "{\"Key\":\"env\",\"Value\":\"구름\"}],\"Attachments\":[{\"InstanceId\":\"i-1\"},{"
	    "\"InstanceId\":\"i-2\"}]}");
	add(t, 2, ctx.account, ctx.region,
	    "{\"State\":{\"Name\":\"available\"},\"Size\":30,\"Tags\":[],\"Attachments\":[]}");
	add(t, 3, "999999999999", ctx.region, "{\"State\":{\"Name\":\"available\"},\"Size\":10}");
	add(t, 4, ctx.account, "eu-west-1", "{\"State\":{\"Name\":\"available\"},\"Size\":10}");
	for (int i = 16; i < 32; i++)
		add(t, i, ctx.account, ctx.region, "{\"State\":{\"Name\":\"many\"},\"Size\":7}");
	txn_commit(t);
}

/* The last digits of what comes back, or the fault's code. */
static const char *ask_as(const struct describe *d, const char *account, const char *region,
			  const char *json)
{
	static char text[512];
	struct context who = {0};
	struct call c = {.method = "ec2.DescribeVpcs", .ctx = &who, .store = store};
	OWN(json_decref) json_t *parameters = json_loads(json, 0, NULL), *reply = NULL;
	size_t i;
	json_t *v;

	snprintf(who.account, sizeof who.account, "%s", account);
	snprintf(who.region, sizeof who.region, "%s", region);
	memset(&fault, 0, sizeof fault);
	if (describe_run(&c, d, parameters, &reply, &fault) < 0)
		return fault.code;
	text[0] = '\0';
	json_array_foreach (json_object_get(reply, "Vpcs"), i, v)
		strcat(strcat(text, *text ? "," : ""), strrchr(jstr(v, "VpcId"), '0') + 1);
	return text;
}

static const char *ask(const char *json)
{
	return ask_as(&things, ctx.account, ctx.region, json);
}

static const char *filtered(const char *name, const char *values)
{
	char json[512];

	snprintf(json, sizeof json, "{\"Filters\":[{\"Name\":\"%s\",\"Values\":[%s]}]}", name,
		 values);
	return ask(json);
}

static void patterns_are_as_aws_has_them(void)
{
	static const struct {
		const char *pattern, *text;
		int fits;
	} table[] = {
		{"", "", 1},
		{"", "a", 0},
		{"*", "", 1},
		{"*", "anything", 1},
		{"a*c", "abc", 1},
		{"a*c", "ac", 1},
		{"a*c", "abcd", 0},
		{"a*b*c", "aXbYbZc", 1},
		{"?", "a", 1},
		{"?", "", 0},
		{"?", "구", 1},
		{"??", "구", 0},
		{"\\*", "*", 1},
		{"\\*", "a", 0},
		{"a\\?b", "a?b", 1},
		{"a\\?b", "axb", 0},
		{"\\\\", "\\", 1},
		{"abc", "ABC", 0},
		{"*.txt", "a.txt.txt", 1},
		{"[a]", "a", 0},
		{"a\\", "a\\", 1},
		{"*\\**", "xx*yy", 1},
		{"*\\**", "xxyy", 0},
		{"*구*", "a구름", 1},
	};

	for (size_t i = 0; i < sizeof table / sizeof *table; i++)
		is_int(pattern_match(table[i].pattern, table[i].text), table[i].fits,
		       table[i].pattern);
	/* Exponential matchers need years for this. */
	ok(!pattern_match("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b",
			  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
	   "many stars end soon");
}

static void filters_choose(void)
{
	is_str(filtered("state", "\"available\""), "9,2", "a path");
	is_str(filtered("state", "\"pending\",\"available\""), "9,1,2", "values are OR");
	is_str(filtered("state", "\"pend*\""), "1", "a wildcard");
	is_str(filtered("size", "\"20\""), "1", "a number");
	is_str(filtered("is-default", "\"true\""), "9", "a boolean");
	is_str(filtered("is-default", "\"false\""), "1", "false is not absent");
	is_str(filtered("attachment.instance-id", "\"i-2\""), "1", "any element");
	is_str(filtered("attachment.instance-id", "\"i-3\""), "", "none");
	is_str(filtered("depth", "\"deep\""), "2", "by function");
	is_str(filtered("tag:Name", "\"web*\""), "9,1", "a tag");
	is_str(filtered("tag:Name", "\"web\\\\*1\""), "9", "an escaped star is a star");
	is_str(filtered("tag:env", "\"구름\""), "1", "another tag");
	is_str(filtered("tag:env", "\"web22\""), "", "key and value belong together");
	is_str(filtered("tag-key", "\"env\""), "1", "tag-key");
	is_str(filtered("tag-value", "\"web22\""), "1", "tag-value");
	is_str(ask("{\"Filters\":[{\"Name\":\"state\",\"Values\":[\"available\"]},{\"Name\":"
		   "\"size\",\"Values\":[\"30\"]}]}"),
	       "2", "filters are AND");
}

static void a_filter_that_is_not_known_is_refused(void)
{
	is_str(filtered("colour", "\"red\""), "InvalidParameterValue", "unknown");
	is_str(filtered("tag:", "\"red\""), "InvalidParameterValue", "no key");
	is_str(filtered("State", "\"available\""), "InvalidParameterValue", "case matters");
	is_str(filtered("state", ""), "InvalidParameterValue", "no values");
	is_str(filtered("state", "1"), "InvalidParameterValue", "not text");
	is_str(ask("{\"Filters\":[{\"Values\":[\"x\"]}]}"), "InvalidParameterValue", "no name");
	char many[2000] = "\"a\"";

	for (int i = 0; i < 200; i++)
		strcat(many, ",\"a\"");
	char json[2200];

	snprintf(json, sizeof json, "{\"Filters\":[{\"Name\":\"state\",\"Values\":[%s]}]}", many);
	is_str(ask(json), "FilterLimitExceeded", "201 values");
}

static void ids_are_checked_one_and_all(void)
{
	is_str(ask("{\"VpcIds\":[\"vpc-00000002\",\"vpc-00000001\",\"vpc-00000002\"]}"), "1,2",
	       "in order, once each");
	is_str(ask("{\"VpcIds\":[\"vpc-00000001\",\"vpc-00000099\"]}"), "InvalidVpcID.NotFound",
	       "one unknown");
	is_str(ask("{\"VpcIds\":[\"vpc-1\"]}"), "InvalidVpcID.Malformed", "malformed");
	is_str(ask("{\"VpcIds\":[\"subnet-00000001\"]}"), "InvalidVpcID.Malformed",
	       "another kind's");
	is_str(ask("{\"VpcIds\":[\"vpc-00000003\"]}"), "InvalidVpcID.NotFound",
	       "another account's");
	is_str(ask("{\"VpcIds\":[\"vpc-00000004\"]}"), "InvalidVpcID.NotFound", "another region's");
	is_str(ask("{\"VpcIds\":[\"vpc-00000001\"],\"MaxResults\":5}"),
	       "InvalidParameterCombination", "with MaxResults");
	is_str(ask("{\"VpcIds\":[\"vpc-00000001\"],\"Filters\":[{\"Name\":\"size\",\"Values\":["
		   "\"30\"]}]}"),
	       "", "and filtered");
}

static int small_are_public(const struct call *c, const struct doc *d)
{
	(void)c;
	return jint(d->json, "Size", 0) == 10;
}

static void the_public_is_seen_by_all(void)
{
	struct describe d = things;

	d.is_visible = small_are_public;
	is_str(ask_as(&d, "111111111111", "us-east-1", "{}"), "9,3,4", "of any account");
	is_str(ask_as(&d, "111111111111", "us-east-1", "{\"VpcIds\":[\"vpc-00000001\"]}"),
	       "InvalidVpcID.NotFound", "no other");
	is_str(ask_as(&things, "111111111111", "us-east-1", "{}"), "", "without it: nothing");
}

static json_t *ask_page(const char *filter, int max, const char *token)
{
	struct call c = {.method = "ec2.DescribeVpcs", .ctx = &ctx, .store = store};
	OWN(json_decref)
	json_t *parameters = json_pack("{s:i, s:[{s:s, s:[s]}]}", "MaxResults", max, "Filters",
				       "Name", "state", "Values", filter);
	json_t *reply = NULL;

	jset(parameters, "NextToken", token);
	memset(&fault, 0, sizeof fault);
	return describe_run(&c, &things, parameters, &reply, &fault) < 0 ? NULL : reply;
}

static void pages_join_without_gap_or_overlap(void)
{
	char token[64] = "";
	int n = 0, n_pages = 0, seen[32] = {0}, twice = 0;

	do {
		OWN(json_decref)
		json_t *reply = ask_page("many", 5 + n_pages, token[0] ? token : NULL);
		json_t *v;
		size_t i;

		json_array_foreach (json_object_get(reply, "Vpcs"), i, v) {
			int k = (int)strtol(jstr(v, "VpcId") + 4, NULL, 16);

			twice += seen[k]++;
			n++;
		}
		snprintf(token, sizeof token, "%s", jstr_or(reply, "NextToken", ""));
	} while (token[0] && ++n_pages < 9);
	is_int(n, 16, "all");
	is_int(twice, 0, "once each");
	is_int(n_pages, 2, "5, 6, 5");
	OWN(json_decref) json_t *reply = ask_page("many", 16, NULL);

	ok(reply && !json_object_get(reply, "NextToken"), "nothing follows: no token");
	is_int(json_array_size(json_object_get(reply, "Vpcs")), 16, "exactly full");
}

static void a_token_answers_its_own_question_only(void)
{
	OWN(json_decref) json_t *reply = ask_page("many", 5, NULL);
	char token[64];

	snprintf(token, sizeof token, "%s", jstr_or(reply, "NextToken", ""));
	ok(token[0] != '\0', "a token");
	ok(!ask_page("available", 5, token), "another filter");
	is_str(fault.code, "InvalidNextToken", "refused");
	token[3] ^= 1;
	ok(!ask_page("many", 5, token), "changed");
	ok(!ask_page("many", 5, "made up"), "made up");
	is_str(fault.code, "InvalidNextToken", "refused");
	ok(!ask_page("many", 5, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), "made up in form");
	token[3] ^= 1;
	strcpy(ctx.account, "999999999999");
	ok(!ask_page("many", 5, token), "another account");
	strcpy(ctx.account, "123456789012");
	OWN(json_decref) json_t *again = ask_page("many", 5, token);

	ok(again != NULL, "its own");
}

static void bounds_of_pages_are_kept(void)
{
	is_str(ask("{\"MaxResults\":4}"), "InvalidParameterValue", "4");
	is_str(ask("{\"MaxResults\":1001}"), "InvalidParameterValue", "1001");
	is_str(ask("{\"MaxResults\":-5}"), "InvalidParameterValue", "-5");
	is_str(ask("{\"MaxResults\":\"5\"}"), "InvalidParameterValue", "text");
}

static void a_list_is_filtered_and_paged_too(void)
{
	static const struct filter by_name[] = {{"zone-name", "ZoneName"}, {NULL}};
	static const struct describe zones = {
		.result = "Zones", .filters = by_name, .n_max_low = 1, .n_max_high = 10};
	struct call c = {.method = "ec2.DescribeZones", .ctx = &ctx, .store = store};
	OWN(json_decref)
	json_t *items =
		json_pack("[{s:s},{s:s},{s:s}]", "ZoneName", "a", "ZoneName", "b", "ZoneName", "c");
	OWN(json_decref)
	json_t *p = json_pack("{s:[{s:s,s:[s,s]}], s:i}", "Filters", "Name", "zone-name", "Values",
			      "a", "c", "MaxResults", 1);
	OWN(json_decref) json_t *first = NULL, *second = NULL;

	is_int(describe_list(&c, &zones, items, p, &first, &fault), 0, "asked");
	is_str(jstr(json_array_get(json_object_get(first, "Zones"), 0), "ZoneName"), "a", "first");
	json_object_set(p, "NextToken", json_object_get(first, "NextToken"));
	is_int(describe_list(&c, &zones, items, p, &second, &fault), 0, "asked again");
	is_str(jstr(json_array_get(json_object_get(second, "Zones"), 0), "ZoneName"), "c",
	       "second");
	ok(!json_object_get(second, "NextToken"), "the end");
}

static void selected_ids_come_in_order(void)
{
	struct call c = {.method = "ec2.DescribeVpcs", .ctx = &ctx, .store = store};
	OWN(json_decref) json_t *p = json_pack("{s:i}", "MaxResults", 5), *ids = NULL;
	OWN(free) char *token = NULL;

	is_int(describe_select(&c, &things, p, &ids, &token, &fault), 0, "selected");
	is_int(json_array_size(ids), 5, "five");
	is_str(json_string_value(json_array_get(ids, 1)), "vpc-00000001", "in order");
	ok(token != NULL, "more follow");
}

int main(void)
{
	char dir[] = "/tmp/gureum-describe-XXXXXX", command[64];

	if (!mkdtemp(dir))
		return 1;
	make_store(dir);
	RUN(patterns_are_as_aws_has_them);
	RUN(filters_choose);
	RUN(a_filter_that_is_not_known_is_refused);
	RUN(ids_are_checked_one_and_all);
	RUN(the_public_is_seen_by_all);
	RUN(pages_join_without_gap_or_overlap);
	RUN(a_token_answers_its_own_question_only);
	RUN(bounds_of_pages_are_kept);
	RUN(a_list_is_filtered_and_paged_too);
	RUN(selected_ids_come_in_order);
	store_free(store);
	snprintf(command, sizeof command, "rm -rf %s", dir);
	return system(command) != 0 || tests_done();
}
