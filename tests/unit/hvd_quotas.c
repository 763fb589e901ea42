/* Every quota of hvd's: the one more is refused with AWS's code and changes nothing; other accounts
 * and regions have room of their own. What fills them is written to the store as it would be. */
#include "hvd_call.h"
#include "../../hvd/instance.h"

#define OWNER "123456789012"
#define OTHER "210987654321"
#define IMAGE "ami-00000000000000001"

static int stranger(void *userdata, struct rpc_request *r, json_t **ret_reply, struct fault *f)
{
	(void)userdata, (void)r, (void)ret_reply;
	return fault_set(f, FAULT_INSUFFICIENT_FREE_ADDRESSES, "as told");
}

/* `n` documents, numbered, each a copy of `json` with its id and number. */
static void fill(const char *kind, const char *prefix, const char *account, const char *region,
		 int n, const char *id_member, const char *json)
{
	static int number;
	OWN(txn_free) struct txn *t = txn_new(d->store);

	for (int i = 0; i < n; i++) {
		json_t *one = json_loads(json, 0, NULL);
		char id[64], name[32];

		snprintf(id, sizeof id, "%s-%017x", prefix, ++number + 0xf0000);
		snprintf(name, sizeof name, "number-%d", number);
		jset(one, id_member, id);
		jset(one, "KeyName", name);
		jset(one, "Name", name);
		txn_put(t, kind, id, account, region, one);
	}
	is_int(txn_commit(t), 0, "on record");
}

static int count(const char *kind)
{
	int n = 0;

	store_each (d->store, kind, one)
		n += one->id[0] != '\0';
	return n;
}

/* The call of the owner's is refused with this code, and there are as many as before. */
static void refused(const char *code, const char *kind, const char *method, const char *json)
{
	int n = count(kind);

	is_str(call(method, json, NULL), code, method);
	is_int(count(kind), n, "nothing was made");
}

static void key_pairs_are_limited(void)
{
	static const char one_more[] = "{\"KeyName\":\"one-more\",\"KeyType\":\"ed25519\"}";
	static const char import[] =
		"{\"KeyName\":\"one-more\",\"PublicKeyMaterial\":"
		"\"c3NoLWVkMjU1MTkgQUFBQUMzTnphQzFsWkRJMU5URTVBQUFBSUJRV0Z4Z1pHaHNjSFI0ZklDRWlJeVFs"
		"SmljZ0lTSWpKQ1VtSnlncEtpc3M=\"}";

	fill("key-pair", "key", OWNER, "us-east-1", 4999, "KeyPairId", "{\"Tags\":[]}");
	fill("key-pair", "key", OWNER, "ap-northeast-2", 3, "KeyPairId", "{\"Tags\":[]}");
	is_str(call("ec2.CreateKeyPair", "{\"KeyName\":\"last\",\"KeyType\":\"ed25519\"}", NULL),
	       "", "the last");
	refused("ResourceLimitExceeded", "key-pair", "ec2.CreateKeyPair", one_more);
	refused("ResourceLimitExceeded", "key-pair", "ec2.ImportKeyPair", import);
	is_str(call_as(OTHER, "ec2.CreateKeyPair", json_loads(one_more, 0, NULL), NULL), "",
	       "another account's");
	is_str(call("ec2.DeleteKeyPair", "{\"KeyName\":\"last\"}", NULL), "", "one goes");
	is_str(call("ec2.CreateKeyPair", one_more, NULL), "", "one comes");
}

static void images_are_limited(void)
{
	fill("image", "ami", OWNER, "us-east-1", 10000, "ImageId", "{\"OwnerId\":\"" OWNER "\"}");
	refused("ResourceLimitExceeded", "image", "ec2.RegisterImage",
		"{\"Name\":\"one-more\",\"BlockDeviceMappings\":[{\"DeviceName\":\"/dev/sda1\","
		"\"Ebs\":{\"SnapshotId\":\"snap-00000000000000008\"}}],"
		"\"RootDeviceName\":\"/dev/sda1\"}");
}

static void an_image_is_shared_with_so_many_accounts(void)
{
	OWN(json_decref) json_t *accounts = json_array();

	for (int i = 0; i < 200; i++) {
		char account[16];

		snprintf(account, sizeof account, "%012d", 700000 + i);
		json_array_append_new(accounts, json_string(account));
	}
	is_str(call_as(OWNER, "ec2.ModifyImageAttribute",
		       json_pack("{s:s s:s s:s s:O}", "ImageId", IMAGE, "Attribute",
				 "launchPermission", "OperationType", "add", "UserIds", accounts),
		       NULL),
	       "", "two hundred");
	OWN(json_decref)
	json_t *before = json_deep_copy(store_find(d->store, "image", IMAGE)->json);

	refused("ResourceLimitExceeded", "image", "ec2.ModifyImageAttribute",
		"{\"ImageId\":\"" IMAGE "\",\"LaunchPermission\":{\"Add\":[{\"UserId\":"
		"\"000000800000\"}]}}");
	ok(json_equal(before, store_find(d->store, "image", IMAGE)->json), "as it was");
	is_str(call("ec2.ModifyImageAttribute",
		    "{\"ImageId\":\"" IMAGE "\",\"LaunchPermission\":{\"Add\":[{\"UserId\":"
		    "\"000000700007\"}]}}",
		    NULL),
	       "", "one that is among them");
}

static void imports_under_way_are_limited(void)
{
	fill("import-image-task", "import-ami", OWNER, "us-east-1", 50, "ImportTaskId",
	     "{\"Status\":\"completed\"}");
	fill("import-image-task", "import-ami", OTHER, "us-east-1", 50, "ImportTaskId",
	     "{\"Status\":\"active\"}");
	fill("import-image-task", "import-ami", OWNER, "us-east-1", 100, "ImportTaskId",
	     "{\"Status\":\"active\"}");
	refused("ResourceLimitExceeded", "import-image-task", "ec2.ImportImage",
		"{\"DiskContainers\":[{\"SnapshotId\":\"snap-00000000000000008\"}]}");
}

/* Of a region, whoever's; what is terminated does not count. */
static void instances_are_limited(void)
{
	static const struct daemon_spec instances = {.name = "hvd", .actions = instance_actions};
	static const char running[] =
		"{\"State\":{\"Code\":80,\"Name\":\"stopped\"},\"InstanceType\":\"t2.nano\"}";

	fill("instance", "i", OWNER, "us-east-1", 200, "InstanceId", running);
	fill("instance", "i", OTHER, "us-east-1", 55, "InstanceId", running);
	fill("instance", "i", OWNER, "ap-northeast-2", 9, "InstanceId", running);
	fill("instance", "i", OWNER, "us-east-1", 9, "InstanceId",
	     "{\"State\":{\"Code\":48,\"Name\":\"terminated\"},\"InstanceType\":\"t2.nano\"}");
	d->spec = &instances;
	refused("InstanceLimitExceeded", "instance", "ec2.RunInstances",
		"{\"ImageId\":\"" IMAGE
		"\",\"InstanceType\":\"t2.nano\",\"MinCount\":2,\"MaxCount\":9}");
	is_str(call("ec2.RunInstances",
		    "{\"ImageId\":\"" IMAGE
		    "\",\"InstanceType\":\"t2.nano\",\"MinCount\":1,\"MaxCount\":9}",
		    NULL),
	       "InsufficientFreeAddressesInSubnet", "the last gets as far as its interface");
	d->spec = &spec;
}

static void quotas_that_are_settings_are_told(void)
{
	OWN(config_free) struct config *raised = NULL;
	const struct config *standard = d->config;
	OWN(json_decref) json_t *before = NULL, *after = NULL;
	static const char ask[] = "{\"AttributeNames\":[\"max-instances\",\"max-elastic-ips\","
				  "\"vpc-max-elastic-ips\"]}";
	char path[128], error[512];

	snprintf(path, sizeof path, "%s/raised.conf", hvd_dir);
	FILE *file = fopen(path, "w");

	if (!file || fputs("[Compute]\nMaxInstances=7\n[Network]\nElasticIps=12\n", file) < 0 ||
	    fclose(file) != 0 || config_load(path, &raised, error) < 0)
		exit(1);
	is_str(call("ec2.DescribeAccountAttributes", ask, &before), "", "AWS's");
	d->config = raised;
	is_str(call("ec2.DescribeAccountAttributes", ask, &after), "", "raised ones");
	d->config = standard;
	for (size_t i = 0; i < 3; i++) {
		static const char *const want[][2] = {{"256", "7"}, {"5", "12"}, {"5", "12"}};
		json_t *const told[] = {before, after};

		for (size_t k = 0; k < 2; k++) {
			json_t *row =
				json_array_get(json_object_get(told[k], "AccountAttributes"), i);

			is_str(jstr_or(json_array_get(json_object_get(row, "AttributeValues"), 0),
				       "AttributeValue", ""),
			       want[i][k], jstr_or(row, "AttributeName", "none"));
		}
	}
}

/* Of an interface that is to be made, and of one that is there. */
static void no_interface_of_a_launch_has_less_than_no_addresses(void)
{
	static const struct daemon_spec instances = {.name = "hvd", .actions = instance_actions};
	static const char *const counts[] = {"SecondaryPrivateIpAddressCount", "Ipv6AddressCount",
					     "Ipv4PrefixCount", "Ipv6PrefixCount"};

	d->spec = &instances;
	for (size_t i = 0; i < 2 * sizeof counts / sizeof counts[0]; i++) {
		char launch[512];

		snprintf(launch, sizeof launch,
			 "{\"ImageId\":\"" IMAGE "\",\"InstanceType\":\"t2.nano\","
			 "\"MinCount\":1,\"MaxCount\":1,\"NetworkInterfaces\":[{"
			 "\"DeviceIndex\":0,\"%s\":-1%s}]}",
			 counts[i / 2],
			 i % 2 ? ",\"NetworkInterfaceId\":\"eni-00000000000000001\"" : "");
		refused("InvalidParameterValue", "instance", "ec2.RunInstances", launch);
	}
	d->spec = &spec;
}

static void put_image(void)
{
	OWN(txn_free) struct txn *t = txn_new(d->store);

	txn_put(t, "image", IMAGE, OWNER, "us-east-1",
		json_pack("{s:s s:s s:s s:s s:s s:b s:s s:s s:[{s:s s:{s:s s:i}}]}", "ImageId",
			  IMAGE, "Name", "the first", "OwnerId", OWNER, "ImageType", "machine",
			  "State", "available", "Public", 0, "Architecture", "x86_64",
			  "RootDeviceName", "/dev/sda1", "BlockDeviceMappings", "DeviceName",
			  "/dev/sda1", "Ebs", "SnapshotId", "snap-00000000000000008", "VolumeSize",
			  8));
	is_int(txn_commit(t), 0, "an image");
}

static void tests(void)
{
	struct rpc_server *stord = hvd_peer_start("stord", stranger),
			  *netd = hvd_peer_start("netd", stranger);

	put_image();
	RUN(key_pairs_are_limited);
	RUN(an_image_is_shared_with_so_many_accounts);
	RUN(quotas_that_are_settings_are_told);
	RUN(no_interface_of_a_launch_has_less_than_no_addresses);
	RUN(instances_are_limited);
	RUN(imports_under_way_are_limited);
	RUN(images_are_limited);
	rpc_server_free(netd);
	rpc_server_free(stord);
}

int main(void)
{
	return hvd_main(tests);
}
