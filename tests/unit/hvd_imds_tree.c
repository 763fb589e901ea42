/* IMDS: the tree, tokens and rules, on a view. */
#include "tap.h"

#include <errno.h>
#include "../../hvd/imds-answer.h"
#include "hvd_imds.h"
#include "jsonx.h"

static void shows(const char *path, const char *want)
{
	struct imds_leaf leaf = {0};
	int r = imds_resolve(&view, path, &leaf);

	is_str(r < 0 ? (r == -ENOENT   ? "404"
			: r == -EAGAIN ? "again"
				       : "error")
		     : leaf.body,
	       want, path);
	free(leaf.body);
}

static void ipv6_is_shown_where_there_is_some(void)
{
	json_t *eni = json_array_get(json_object_get(instance, "NetworkInterfaces"), 0);

#define MACS "/latest/meta-data/network/interfaces/macs/02:00:00:00:00:01/"
	shows(MACS "ipv6s", "404");
	shows(MACS "vpc-ipv6-cidr-blocks", "404");
	json_object_set_new(
		eni, "Ipv6Addresses",
		json_pack("[{s:s} {s:s}]", "Ipv6Address", "fd00::a", "Ipv6Address", "fd00::b"));
	json_object_set_new(vpc, "Ipv6CidrBlockAssociationSet",
			    json_pack("[{s:s}]", "Ipv6CidrBlock", "fd00::/56"));
	json_object_set_new(eni, "Ipv6Prefixes",
			    json_pack("[{s:s}]", "Ipv6Prefix", "fd00:0:0:0:1::/80"));
	json_object_set_new(eni, "Ipv4Prefixes",
			    json_pack("[{s:s} {s:s}]", "Ipv4Prefix", "10.0.0.16/28", "Ipv4Prefix",
				      "10.0.0.64/28"));
	shows(MACS "ipv4-prefix", "10.0.0.16/28\n10.0.0.64/28");
	shows(MACS "ipv6-prefix", "fd00:0:0:0:1::/80");
	shows(MACS "ipv6s", "fd00::a\nfd00::b");
	shows(MACS "vpc-ipv6-cidr-blocks", "fd00::/56");
	shows(MACS "subnet-ipv6-cidr-blocks", "404");
	shows("/latest/meta-data/ipv6", "fd00::a");
	json_object_del(eni, "Ipv6Addresses");
	json_object_del(eni, "Ipv6Prefixes");
	json_object_del(eni, "Ipv4Prefixes");
	json_object_del(vpc, "Ipv6CidrBlockAssociationSet");
	shows(MACS "ipv4-prefix", "404");
#undef MACS
}

static void the_tree_is_that_of_aws(void)
{
	shows("/latest/", "dynamic\nmeta-data\nuser-data");
	shows("/latest", "dynamic\nmeta-data\nuser-data");
	shows("/latest/meta-data/instance-id", "i-00000000000000001");
	shows("/2021-03-23/meta-data/instance-id", "i-00000000000000001");
	shows("/1.0/meta-data/ami-launch-index", "0");
	shows("//latest//meta-data//instance-id/", "i-00000000000000001");
	shows("/latest/meta-data/placement/", "availability-zone\navailability-zone-id\nregion");
	shows("/latest/meta-data/placement/availability-zone-id", "use1-az2");
	shows("/latest/meta-data/network", "interfaces/");
	shows("/latest/meta-data/network/interfaces/macs/", "02:00:00:00:00:01/");
	shows("/latest/meta-data/network/interfaces/macs/02:00:00:00:00:01/",
	      "device-number\ninterface-id\nipv4-associations/"
	      "\nlocal-hostname\nlocal-ipv4s\nmac\nowner-id\npublic-ipv4s\nsecurity-group-ids\n"
	      "security-groups\nsubnet-id\nsubnet-ipv4-cidr-block\nvpc-id\nvpc-ipv4-cidr-"
	      "block\nvpc-ipv4-cidr-blocks");
	shows("/latest/meta-data/network/interfaces/macs/02:00:00:00:00:01/local-ipv4s",
	      "127.0.0.1\n127.0.0.9");
	shows("/latest/meta-data/network/interfaces/macs/02:00:00:00:00:01/ipv4-associations/",
	      "198.18.0.5");
	shows("/latest/meta-data/network/interfaces/macs/02:00:00:00:00:01/ipv4-associations/"
	      "198.18.0.5",
	      "127.0.0.1");
	shows("/latest/meta-data/network/interfaces/macs/02:00:00:00:00:01/subnet-ipv4-cidr-block",
	      "127.0.0.0/24");
	shows("/latest/meta-data/network/interfaces/macs/02:00:00:00:00:01/vpc-ipv4-cidr-blocks",
	      "127.0.0.0/8\n10.0.0.0/16");
	shows("/latest/meta-data/block-device-mapping/", "ami\nebs1\nroot");
	shows("/latest/meta-data/block-device-mapping/root", "/dev/sda1");
	shows("/latest/meta-data/block-device-mapping/ebs1", "sdb");
	shows("/latest/meta-data/public-keys/", "0=k");
	shows("/latest/meta-data/public-keys/0/", "openssh-key");
	shows("/latest/meta-data/public-keys/0/openssh-key", "ssh-ed25519 AAAA k\n");
	shows("/latest/meta-data/security-groups", "default\nweb");
	shows("/latest/meta-data/services/partition", "aws");
	shows("/latest/meta-data/tags/instance/", "Name");
	shows("/latest/meta-data/tags/instance/Name", "구름");
	shows("/latest/meta-data/system", "nitro");
	shows("/latest/dynamic/instance-identity/", "document");
}

static void what_is_not_there_is_404(void)
{
	static const char *const paths[] = {"/latest/meta-data/nothing",
					    "/latest/nothing",
					    "/1999-01-01/meta-data/",
					    "/latest/meta-data/instance-id/x",
					    "/latest/meta-data/public-keys/1/",
					    "/latest/meta-data/network/interfaces/macs/00/",
					    "/latest/meta-data/tags/instance/a/b",
					    "/latest/meta-data/tags/instance/..",
					    "/latest/meta-data/../user-data",
					    "/latest/meta-data/public-hostname",
					    "/latest/meta-data/block-device-mapping/ebs2",
					    "/latest/user-data/x",
					    "/latest/meta-data/block-device-mapping/ebs0",
					    "/latest/meta-data/kernel-id",
					    "/latestx/meta-data",
					    "/late",
					    NULL};

	for (size_t i = 0; paths[i]; i++)
		shows(paths[i], "404");
}

static void the_document_is_json(void)
{
	struct imds_leaf leaf = {0};
	OWN(json_decref) json_t *j = NULL;

	is_int(imds_resolve(&view, "/latest/dynamic/instance-identity/document", &leaf), 0,
	       "there");
	j = json_loads(leaf.body, 0, NULL);
	is_str(jstr(j, "instanceId"), "i-00000000000000001", "id");
	is_str(jstr(j, "pendingTime"), "2026-11-22T16:00:00Z", "time");
	is_str(jstr(j, "accountId"), "123456789012", "account");
	ok(json_is_null(json_object_get(j, "billingProducts")), "null");
	free(leaf.body);
}

static void user_data_is_bytes(void)
{
	struct imds_leaf leaf = {0};

	is_int(imds_resolve(&view, "/latest/user-data", &leaf), 0, "there");
	ok(leaf.kind == IMDS_BYTES && leaf.n_body == 5 && memcmp(leaf.body, "\0\1\2hi", 5) == 0,
	   "with zeros in it");
	free(leaf.body);
	jset(instance, "_UserData", "AAEC\naGk=\r\n");
	shows("/latest/", "dynamic\nmeta-data\nuser-data");
	is_int(imds_resolve(&view, "/latest/user-data", &leaf), 0, "wrapped, as encoders do");
	ok(leaf.n_body == 5 && memcmp(leaf.body, "\0\1\2hi", 5) == 0, "the same");
	free(leaf.body);
	json_object_del(instance, "_UserData");
	shows("/latest/user-data", "404");
	shows("/latest/", "dynamic\nmeta-data");
	jset(instance, "_UserData", "AAECaGk=");
}

static void a_view_without_network_is_asked_again(void)
{
	view.vpc = view.subnets = NULL;
	shows("/latest/meta-data/network/interfaces/macs/02:00:00:00:00:01/subnet-ipv4-cidr-block",
	      "again");
	shows("/latest/meta-data/network/interfaces/macs/02:00:00:00:00:01/vpc-ipv4-cidr-block",
	      "again");
	shows("/latest/meta-data/local-ipv4", "127.0.0.1");
	view.vpc = vpc;
	view.subnets = subnets;
}

static void a_token_is_for_one_instance_and_time(void)
{
	struct imds_key key = {{1, 2, 3}}, other = {{3}};
	char token[IMDS_TOKEN_CHARS + 1], bent[IMDS_TOKEN_CHARS + 1];

	is_int(imds_token_make(&key, "i-1", 60, 1000, token), 0, "made");
	is_int(strlen(token), IMDS_TOKEN_CHARS, "56 characters");
	is_int(imds_token_check(&key, "i-1", token, 1000), 60, "good");
	is_int(imds_token_check(&key, "i-1", token, 1059), 1, "until the end");
	ok(imds_token_check(&key, "i-1", token, 1060) < 0, "not after");
	ok(imds_token_check(&key, "i-2", token, 1000) < 0, "not for another");
	ok(imds_token_check(&other, "i-1", token, 1000) < 0, "not by another key");
	for (int i = 0; i < IMDS_TOKEN_CHARS; i++) {
		strcpy(bent, token);
		bent[i] = bent[i] == 'A' ? 'B' : 'A';
		if (imds_token_check(&key, "i-1", bent, 1000) > 0)
			ok(0, "a changed character");
	}
	ok(imds_token_check(&key, "i-1", "", 1000) < 0 &&
		   imds_token_check(&key, "i-1", "====", 1000) < 0,
	   "no token");
}

static struct imds_reply reply;

static int asks(const char *method, const char *path, const char *token, const char *ttl,
		int is_forwarded)
{
	struct imds_key key = {{1}};
	struct imds_request q = {method, path, token, ttl, is_forwarded};

	imds_reply_clear(&reply);
	is_int(imds_answer(&key, &view, &q, 1000, &reply), 0, "answered");
	return reply.status;
}

static void version_2_has_its_rules(void)
{
	json_t *options = json_object_get(instance, "MetadataOptions");
	char token[IMDS_TOKEN_CHARS + 1];

	is_int(asks("PUT", "/latest/api/token", NULL, NULL, 0), 400, "no TTL");
	is_int(asks("PUT", "/latest/api/token", NULL, "0", 0), 400, "none");
	is_int(asks("PUT", "/latest/api/token", NULL, "21601", 0), 400, "too long");
	is_int(asks("PUT", "/latest/api/token", NULL, "6x", 0), 400, "no number");
	is_int(asks("PUT", "/latest/api/token", NULL, "60", 1), 403, "through a proxy");
	is_int(asks("PUT", "/latest/api/token", NULL, "60", 0), 200, "a token");
	is_int(reply.hop_limit, 2, "goes so far");
	strcpy(token, reply.body);
	is_int(asks("GET", "/latest/meta-data/instance-id", token, NULL, 0), 200, "with it");
	is_int(reply.token_ttl_sec, 60, "its rest");
	is_int(reply.hop_limit, 0, "goes anywhere");
	is_int(asks("GET", "/latest/meta-data/instance-id", "wrong", NULL, 0), 401, "a wrong one");
	is_int(asks("GET", "/latest/meta-data/instance-id", NULL, NULL, 0), 200, "version 1");
	is_int(asks("GET", "/latest/meta-data/nothing", NULL, NULL, 0), 404, "nothing");
	ok(strstr(reply.body, "<title>404 - Not Found</title>"), "in AWS's form");
	is_int(asks("POST", "/latest/meta-data/", NULL, NULL, 0), 405, "no other method");
	is_int(asks("GET", "/latest/api/token", NULL, NULL, 0), 405, "tokens are put");
	jset(options, "HttpTokens", "required");
	is_int(asks("GET", "/latest/meta-data/instance-id", NULL, NULL, 0), 401,
	       "version 1 is off");
	is_int(asks("GET", "/latest/meta-data/instance-id", token, NULL, 0), 200,
	       "version 2 is on");
	jset(options, "HttpEndpoint", "disabled");
	is_int(asks("GET", "/latest/meta-data/instance-id", token, NULL, 0), 403, "all is off");
	is_int(asks("PUT", "/latest/api/token", NULL, "60", 0), 403, "tokens too");
	jset(options, "HttpTokens", "optional");
	jset(options, "HttpEndpoint", "enabled");
	imds_reply_clear(&reply);
}

int main(void)
{
	make_view();
	RUN(the_tree_is_that_of_aws);
	RUN(ipv6_is_shown_where_there_is_some);
	RUN(what_is_not_there_is_404);
	RUN(the_document_is_json);
	RUN(user_data_is_bytes);
	RUN(a_view_without_network_is_asked_again);
	RUN(a_token_is_for_one_instance_and_time);
	RUN(version_2_has_its_rules);
	drop_view();
	return tests_done();
}
