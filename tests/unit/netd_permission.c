/* Permissions and rules: one form in, the same form out, and nothing half-understood. */
#include "tap.h"

#include <unistd.h>

#include "../../netd/permission.h"

static struct store *store;
static struct context ctx = {.account = "123456789012", .region = "us-east-1"};
static struct fault fault;
static const struct doc *group;

static void make_store(const char *dir)
{
	char path[128];

	snprintf(path, sizeof path, "%s/state.db", dir);
	if (store_open(path, 1, NULL, &store) < 0)
		exit(1);
	OWN(txn_free) struct txn *t = txn_new(store);

	for (int i = 1; i <= 3; i++) {
		char id[32], name[8];

		snprintf(id, sizeof id, "sg-%08x", i);
		snprintf(name, sizeof name, "g%d", i);
		txn_put(t, "security-group", id, ctx.account, ctx.region,
			json_pack("{s:s s:s s:s}", "GroupId", id, "GroupName", name, "VpcId",
				  i < 3 ? "vpc-1" : "vpc-2"));
	}
	txn_commit(t);
	group = store_find(store, "security-group", "sg-00000001");
}

/* Permissions in, and out again by way of rules; or the fault's code. NULL json stands for the
 * older parameters. */
static const char *round_trip(const char *permissions)
{
	static char out[1024];
	struct call c = {.ctx = &ctx, .store = store};
	OWN(json_decref) json_t *in = json_loads(permissions, 0, NULL);
	OWN(json_decref) json_t *drafts = NULL;

	fault = (struct fault){0};
	if (permissions_read(&c, group, in, 0, NULL, &drafts, &fault) < 0)
		return fault.code;
	OWN(json_decref) json_t *shown = permissions_show(store, drafts, 0);
	OWN(free) char *text = json_dumps(shown, JSON_COMPACT);

	snprintf(out, sizeof out, "%s", text);
	for (char *p = out, *q = out; (*q = *p); p++) /* easier to write in C */
		q += *p != '"';
	return out;
}

#define V4(range)                                                                                  \
	"[{\"IpProtocol\":\"tcp\",\"FromPort\":22,\"ToPort\":22,\"IpRanges\":[" range "]}]"
#define ONE(protocol, from, to)                                                                    \
	"[{\"IpProtocol\":\"" protocol "\",\"FromPort\":" #from ",\"ToPort\":" #to                 \
	",\"IpRanges\":[{\"CidrIp\":\"1.2.3.4/32\"}]}]"

static void what_goes_in_comes_out(void)
{
	is_str(round_trip(V4("{\"CidrIp\":\"10.0.0.0/8\",\"Description\":\"a "
			     "b\"},{\"CidrIp\":\"1.2.3.4/32\"}")),
	       "[{IpProtocol:tcp,IpRanges:[{CidrIp:10.0.0.0/8,Description:a "
	       "b},{CidrIp:1.2.3.4/32}],Ipv6Ranges:[],"
	       "PrefixListIds:[],UserIdGroupPairs:[],FromPort:22,ToPort:22}]",
	       "ranges");
	is_str(round_trip("[{\"IpProtocol\":\"udp\",\"FromPort\":1,\"ToPort\":9,\"Ipv6Ranges\":[{"
			  "\"CidrIpv6\":\"FE80::1/10\"}],"
			  "\"UserIdGroupPairs\":[{\"GroupId\":\"sg-00000002\"}]}]"),
	       "[{IpProtocol:udp,IpRanges:[],Ipv6Ranges:[{CidrIpv6:fe80::/10}],PrefixListIds:[],"
	       "UserIdGroupPairs:[{GroupId:sg-00000002,UserId:123456789012}],FromPort:1,ToPort:9}]",
	       "IPv6 and groups");
}

static void permissions_of_one_reach_are_one(void)
{
	is_str(round_trip("[{\"IpProtocol\":\"6\",\"FromPort\":22,\"ToPort\":22,\"IpRanges\":[{"
			  "\"CidrIp\":\"1.0.0.0/8\"}]},"
			  "{\"IpProtocol\":\"-1\",\"IpRanges\":[{\"CidrIp\":\"3.0.0.0/8\"}]},"
			  "{\"IpProtocol\":\"TCP\",\"FromPort\":22,\"ToPort\":22,\"IpRanges\":[{"
			  "\"CidrIp\":\"2.0.0.0/8\"}]}]"),
	       "[{IpProtocol:tcp,IpRanges:[{CidrIp:1.0.0.0/8},{CidrIp:2.0.0.0/"
	       "8}],Ipv6Ranges:[],PrefixListIds:[],"
	       "UserIdGroupPairs:[],FromPort:22,ToPort:22},{IpProtocol:-1,IpRanges:[{CidrIp:3.0.0."
	       "0/8}],Ipv6Ranges:[],"
	       "PrefixListIds:[],UserIdGroupPairs:[]}]",
	       "joined in order of the first");
}

static void protocols_without_ports_forget_them(void)
{
	is_str(round_trip(ONE("50", 1, 2)),
	       "[{IpProtocol:50,IpRanges:[{CidrIp:1.2.3.4/"
	       "32}],Ipv6Ranges:[],PrefixListIds:[],UserIdGroupPairs:[]}]",
	       "esp");
	is_str(round_trip(ONE("all", 0, 65535)),
	       "[{IpProtocol:-1,IpRanges:[{CidrIp:1.2.3.4/"
	       "32}],Ipv6Ranges:[],PrefixListIds:[],UserIdGroupPairs:[]}]",
	       "all");
	is_str(round_trip(ONE("icmp", 8, -1)),
	       "[{IpProtocol:icmp,IpRanges:[{CidrIp:1.2.3.4/"
	       "32}],Ipv6Ranges:[],PrefixListIds:[],UserIdGroupPairs:[],FromPort:8,"
	       "ToPort:-1}]",
	       "but ICMP has types");
}

static void wrong_permissions_are_refused(void)
{
	is_str(round_trip(ONE("tcp", 23, 22)), "InvalidParameterValue", "ports backwards");
	is_str(round_trip(ONE("tcp", 1, 65536)), "InvalidParameterValue", "no such port");
	is_str(round_trip(ONE("tcp", -1, -1)), "InvalidParameterValue",
	       "TCP has no 'all ports' but 0-65535");
	is_str(round_trip(ONE("256", 1, 1)), "InvalidParameterValue", "no such protocol number");
	is_str(round_trip(ONE("6x", 1, 1)), "InvalidParameterValue", "half a number");
	is_str(round_trip(ONE("", 1, 1)), "InvalidParameterValue", "empty");
	is_str(round_trip(ONE("icmp", -1, 0)), "InvalidParameterValue", "a code of all types");
	is_str(round_trip(ONE("icmp", 256, 0)), "InvalidParameterValue", "no such type");
	is_str(round_trip(V4("")), "MissingParameter", "from nobody");
	is_str(round_trip(V4("{\"CidrIp\":\"1.2.3.4\"}")), "InvalidParameterValue", "no mask");
	is_str(round_trip(V4("{}")), "InvalidParameterValue", "no block");
	is_str(round_trip(V4("{\"CidrIp\":\"1.2.3.4/32\",\"Description\":\"<b>\"}")),
	       "InvalidParameterValue", "description");
	is_str(round_trip(V4("{\"CidrIp\":\"1.2.3.4/24\"},{\"CidrIp\":\"1.2.3.0/24\"}")),
	       "InvalidParameterValue", "the same twice");
}

static void groups_must_be_near(void)
{
#define GROUP(pair) "[{\"IpProtocol\":\"-1\",\"UserIdGroupPairs\":[" pair "]}]"
	is_str(round_trip(GROUP("{\"GroupName\":\"g2\"}")),
	       "[{IpProtocol:-1,IpRanges:[],Ipv6Ranges:[],PrefixListIds:[],UserIdGroupPairs:[{"
	       "GroupId:sg-00000002,"
	       "UserId:123456789012}]}]",
	       "by name");
	is_str(round_trip(GROUP("{\"GroupId\":\"sg-00000009\"}")), "InvalidGroup.NotFound",
	       "unknown");
	is_str(round_trip(GROUP("{\"GroupId\":\"sg-00000003\"}")), "InvalidGroup.NotFound",
	       "of another VPC");
	is_str(round_trip(GROUP("{\"GroupId\":\"sg-00000002\",\"UserId\":\"999999999999\"}")),
	       "InvalidGroup.NotFound", "of another account");
	is_str(round_trip(GROUP("{\"GroupId\":\"2\"}")), "InvalidGroupId.Malformed",
	       "no id at all");
	is_str(round_trip(GROUP("{}")), "MissingParameter", "nobody");
}

static const char *older(const char *parameters)
{
	static char out[512];
	OWN(json_decref) json_t *in = json_loads(parameters, 0, NULL);
	OWN(json_decref) json_t *list = NULL;

	fault = (struct fault){0};
	if (permissions_parameter(in, &list, &fault) < 0)
		return fault.code;
	OWN(free) char *text = json_dumps(list, JSON_COMPACT | JSON_SORT_KEYS);

	snprintf(out, sizeof out, "%zu %s", json_array_size(list), text);
	return out;
}

static void the_older_form_is_the_same_request(void)
{
	is_str(older("{\"IpProtocol\":\"tcp\",\"FromPort\":22,\"ToPort\":23,\"CidrIp\":\"1.2.3.4/"
		     "32\"}"),
	       "1 "
	       "[{\"FromPort\":22,\"IpProtocol\":\"tcp\",\"IpRanges\":[{\"CidrIp\":\"1.2.3.4/"
	       "32\"}],\"ToPort\":23,"
	       "\"UserIdGroupPairs\":[]}]",
	       "a block");
	is_int(older("{\"SourceSecurityGroupName\":\"g2\"}")[0], '3',
	       "a group means TCP, UDP and ICMP");
	is_str(older("{}"), "MissingParameter", "nothing");
	is_str(older("{\"IpPermissions\":[{}],\"CidrIp\":\"1.2.3.4/32\"}"),
	       "InvalidParameterCombination", "both forms");
}

static void rules_are_told_in_aws_words(void)
{
	OWN(json_decref)
	json_t *tcp = json_pack("{s:s s:i s:i s:s}", "IpProtocol", "tcp", "FromPort", 22, "ToPort",
				22, "CidrIpv4", "0.0.0.0/0");
	OWN(json_decref)
	json_t *all = json_pack("{s:s s:{s:s}}", "IpProtocol", "-1", "ReferencedGroupInfo",
				"GroupId", "sg-1");
	char text[200];

	rule_format(tcp, text);
	is_str(text, "peer: 0.0.0.0/0, TCP, from port: 22, to port: 22, ALLOW", "a port");
	rule_format(all, text);
	is_str(text, "peer: sg-1, ALL, ALLOW", "all");
	ok(rule_is_same(tcp, tcp) && !rule_is_same(tcp, all), "told apart");
}

int main(void)
{
	char dir[] = "/tmp/netd-permission-XXXXXX", command[64];

	if (!mkdtemp(dir))
		return 1;
	make_store(dir);
	RUN(what_goes_in_comes_out);
	RUN(permissions_of_one_reach_are_one);
	RUN(protocols_without_ports_forget_them);
	RUN(wrong_permissions_are_refused);
	RUN(groups_must_be_near);
	RUN(the_older_form_is_the_same_request);
	RUN(rules_are_told_in_aws_words);
	store_free(store);
	snprintf(command, sizeof command, "rm -rf %s", dir);
	return system(command) != 0 || tests_done();
}
