/* A VPC's documents as a plan; golden files say the whole of it (tests/golden/netd). REGEN=1 writes
 * them anew: the diff is the review. */
#include "tap.h"

#include <dirent.h>
#include "../../lib/jsonx.h"
#include "../../netd/plan-memo.h"
#include "../../netd/plan.h"

#define GOLDEN "tests/golden/netd"

static const struct plan_settings settings = {0x647f0000, 16}; /* 100.127.0.0/16 */

/* The files list rules as customers see them; plans have them by their groups. */
static void group_rules(json_t *d)
{
	json_t *rules = json_object_get(d, "SecurityGroupRules"), *groups = json_object(), *rule;
	json_t *named = json_object();
	size_t i;

	json_array_foreach (rules, i, rule) {
		const char *id = jstr_or(rule, "GroupId", ""), *list = jstr(rule, "PrefixListId");
		const char *group = jpath_str(rule, "ReferencedGroupInfo.GroupId");

		if (!json_object_get(groups, id))
			json_object_set_new(groups, id, json_array());
		json_array_append(json_object_get(groups, id), rule);
		if (list || group)
			json_object_set_new(named, list ? list : group, json_true());
	}
	json_object_set_new(d, "_GroupRules", groups);
	json_object_set_new(d, "_Named", named);
}

static struct plan_input input_of(json_t *d)
{
	group_rules(d);
	return (struct plan_input){
		.region = jstr(d, "Region"),
		.vpc = json_object_get(d, "Vpc"),
		.dhcp_options = json_object_get(d, "DhcpOptions"),
		.subnets = json_object_get(d, "Subnets"),
		.route_tables = json_object_get(d, "RouteTables"),
		.internet_gateways = json_object_get(d, "InternetGateways"),
		.network_acls = json_object_get(d, "NetworkAcls"),
		.security_groups = json_object_get(d, "SecurityGroups"),
		.group_rules = json_object_get(d, "_GroupRules"),
		.named = json_object_get(d, "_Named"),
		.prefix_lists = json_object_get(d, "PrefixLists"),
		.network_interfaces = json_object_get(d, "NetworkInterfaces"),
		.egress_only_gateways = json_object_get(d, "EgressOnlyInternetGateways"),
		.peers = json_object_get(d, "Peers"),
		.peer_groups = json_object_get(d, "PeerGroups"),
		.flow_logs = json_object_get(d, "FlowLogs"),
	};
}

static json_t *load(const char *name)
{
	char path[256];

	snprintf(path, sizeof path, GOLDEN "/%s.json", name);
	return json_load_file(path, 0, NULL);
}

static char *read_file(const char *path)
{
	OWN(fclose) FILE *in = fopen(path, "re");
	OWN(free) char *text = calloc(1, 1 << 16);

	if (!in || !text || !fread(text, 1, (1 << 16) - 1, in))
		return NULL;
	return give(text);
}

static char *print(const struct plan *p)
{
	char *text = NULL;
	size_t n = 0;
	FILE *out = open_memstream(&text, &n);

	plan_print(p, out);
	return fclose(out) == 0 ? text : NULL;
}

static void golden(const char *name)
{
	OWN(json_decref) json_t *documents = load(name);
	struct plan_input in = input_of(documents);
	OWN(plan_free) struct plan *plan = NULL;
	OWN(free) char *got = NULL, *want = NULL;
	char path[256], what[ID_MAX];

	is_int(plan_make(&settings, &in, &plan, what), 0, name);
	if (!plan)
		return;
	got = print(plan);
	snprintf(path, sizeof path, GOLDEN "/%s.txt", name);
	if (getenv("REGEN")) {
		OWN(fclose) FILE *out = fopen(path, "we");

		fputs(got, out);
	}
	want = read_file(path);
	is_str(got, want, name);
}

static void documents_become_plans(void)
{
	struct dirent **entries;
	int n = scandir(GOLDEN, &entries, NULL, alphasort), n_files = 0;

	for (int i = 0; i < n; i++) {
		char *dot = strstr(entries[i]->d_name, ".json");

		if (dot) {
			*dot = '\0';
			golden(entries[i]->d_name);
			n_files++;
		}
		free(entries[i]);
	}
	if (n > 0)
		free(entries);
	ok(n_files >= 4, "there are golden files (the test runs at the root of the tree)");
}

/* What a damaged store might hold. */
static void what_is_not_as_its_contract_says_is_named(void)
{
	static const struct {
		const char *list, *member, *value, *named;
	} bad[] = {
		{"NetworkInterfaces", "MacAddress", "02:00", "eni-00000000000000001"},
		{"NetworkInterfaces", "PrivateIpAddresses", NULL, NULL},
		{"NetworkInterfaces", "SubnetId", "subnet-00000000000000009",
		 "eni-00000000000000001"},
		{"Subnets", "CidrBlock", "10.0.1.0", "subnet-00000000000000001"},
		{"Subnets", "CidrBlock", "10.0.0.0/8", "subnet-00000000000000001"},
	};

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		OWN(json_decref) json_t *documents = load("two-guests");
		json_t *first = json_array_get(json_object_get(documents, bad[i].list), 0);
		struct plan_input in = input_of(documents);
		OWN(plan_free) struct plan *plan = NULL;
		char what[ID_MAX];

		jset(first, bad[i].member, bad[i].value);
		is_int(plan_make(&settings, &in, &plan, what), bad[i].named ? -22 : 0,
		       bad[i].member);
		is_str(what, bad[i].named ? bad[i].named : "", bad[i].member);
	}
}

static void the_order_of_documents_does_not_matter(void)
{
	OWN(json_decref) json_t *documents = load("two-guests");
	struct plan_input in = input_of(documents);
	OWN(json_decref) json_t *reversed = json_array();
	OWN(plan_free) struct plan *one = NULL, *two = NULL;
	OWN(changes_free) struct changes changes = {0};
	char what[ID_MAX];
	size_t n = json_array_size(in.network_interfaces);

	for (size_t i = n; i-- > 0;)
		json_array_append(reversed, json_array_get(in.network_interfaces, i));
	plan_make(&settings, &in, &one, what);
	in.network_interfaces = reversed;
	plan_make(&settings, &in, &two, what);
	items_compare(&one->router, &two->router, &changes);
	is_int(changes.n, 0, "nothing is different inside");
	changes_free(&changes);
	items_compare(&one->host, &two->host, &changes);
	is_int(changes.n, 0, "nor outside");
}

static void a_transit_pool_that_is_used_up_is_no_ones_address(void)
{
	static const struct plan_settings small = {0x647f0000, 30};
	OWN(json_decref) json_t *documents = load("two-guests");
	struct plan_input in = input_of(documents);
	OWN(plan_free) struct plan *plan = NULL;
	char what[ID_MAX];

	is_int(plan_make(&small, &in, &plan, what), -22, "refused");
	is_str(what, "vpc-00000000000000001", "and named");
}

static int is_same_with_memo(struct plan_input in, struct plan_memo *memo)
{
	OWN(plan_free) struct plan *with = NULL, *without = NULL;
	OWN(free) char *one = NULL, *two = NULL;
	char what[ID_MAX];
	int r = plan_make(&settings, &in, &without, what);

	in.memo = memo;
	if (plan_make(&settings, &in, &with, what) != r)
		return 0;
	one = r < 0 ? NULL : print(without);
	two = r < 0 ? NULL : print(with);
	return r < 0 || strcmp(one, two) == 0;
}

/* Every document of the list changed or taken away in turn, and put back. */
static int count_differences(json_t *documents, const char *list, const char *member,
			     struct plan_memo *memo)
{
	json_t *array = json_object_get(documents, list);
	int n_wrong = 0;

	for (size_t i = 0; i < json_array_size(array); i++) {
		json_t *kept = json_incref(json_array_get(array, i));
		json_t *changed = json_deep_copy(kept);

		if (json_is_integer(json_object_get(changed, member)))
			jset_new(changed, member, json_integer(7));
		else
			json_object_del(changed, member);
		json_array_set_new(array, i, changed);
		n_wrong += !is_same_with_memo(input_of(documents), memo);
		json_array_remove(array, i);
		n_wrong += !is_same_with_memo(input_of(documents), memo);
		json_array_insert_new(array, i, kept);
		n_wrong += !is_same_with_memo(input_of(documents), memo);
	}
	return n_wrong;
}

static void a_plan_is_the_same_with_a_memo_and_without(void)
{
	static const char *const names[] = {"two-guests", "prefix-list", "middlebox", "ipv6",
					    "peering"};

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		OWN(json_decref) json_t *documents = load(names[i]);
		struct plan_memo *memo = plan_memo_new();

		ok(is_same_with_memo(input_of(documents), memo) &&
			   is_same_with_memo(input_of(documents), memo),
		   names[i]);
		is_int(count_differences(documents, "SecurityGroupRules", "FromPort", memo), 0,
		       "rules");
		is_int(count_differences(documents, "NetworkInterfaces", "Groups", memo), 0,
		       "members");
		is_int(count_differences(documents, "PrefixLists", "AddressFamily", memo), 0,
		       "prefix lists");
		is_int(count_differences(documents, "SecurityGroups", "GroupId", memo), 0,
		       "groups");
		plan_memo_free(memo);
	}
}

int main(void)
{
	RUN(documents_become_plans);
	RUN(a_plan_is_the_same_with_a_memo_and_without);
	RUN(what_is_not_as_its_contract_says_is_named);
	RUN(the_order_of_documents_does_not_matter);
	RUN(a_transit_pool_that_is_used_up_is_no_ones_address);
	return tests_done();
}
