/* A VPC's documents as a plan; golden files say the whole of it (tests/golden/netd). REGEN=1 writes
 * them anew: the diff is the review. */
#include "tap.h"

#include <dirent.h>
#include "../../lib/jsonx.h"
#include "../../netd/plan.h"

#define GOLDEN "tests/golden/netd"

static const struct plan_settings settings = {0x647f0000, 16}; /* 100.127.0.0/16 */

static struct plan_input input_of(json_t *d)
{
	return (struct plan_input){
		.region = jstr(d, "Region"),
		.vpc = json_object_get(d, "Vpc"),
		.dhcp_options = json_object_get(d, "DhcpOptions"),
		.subnets = json_object_get(d, "Subnets"),
		.route_tables = json_object_get(d, "RouteTables"),
		.internet_gateways = json_object_get(d, "InternetGateways"),
		.network_acls = json_object_get(d, "NetworkAcls"),
		.security_groups = json_object_get(d, "SecurityGroups"),
		.security_group_rules = json_object_get(d, "SecurityGroupRules"),
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

int main(void)
{
	RUN(documents_become_plans);
	RUN(what_is_not_as_its_contract_says_is_named);
	RUN(the_order_of_documents_does_not_matter);
	RUN(a_transit_pool_that_is_used_up_is_no_ones_address);
	return tests_done();
}
