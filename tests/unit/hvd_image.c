/* Images: what can be registered, who sees what, and that hvd and stord agree on snapshots in use
 * through refusals and crashes. */
#include "hvd_call.h"

#include <errno.h>
#include <unistd.h>
#include "../../hvd/image-work.h"
#include "tags.h"

/* stord's part, as far as images go. */
static json_t *in_use; /* {"snap-…": {"ami-…": true}} */
static int stord_refuses;
static const char
	*stord_hook_name; /* while stord is asked to protect, another request registers this name */

static int snapshots(const json_t *ids, json_t **ret_reply, struct fault *f)
{
	const char *id = json_string_value(json_array_get(ids, 0));

	if (strcmp(id, "snap-00000000000000008") == 0)
		*ret_reply = json_pack("{s:[{s:s, s:i, s:s}]}", "Snapshots", "SnapshotId", id,
				       "VolumeSize", 8, "State", "completed");
	else if (strcmp(id, "snap-0000000000000000f") == 0)
		*ret_reply = json_pack("{s:[{s:s, s:i, s:s}]}", "Snapshots", "SnapshotId", id,
				       "VolumeSize", 1, "State", "pending");
	else
		return fault_set(f, FAULT_INVALID_SNAPSHOT_NOT_FOUND,
				 "The snapshot '%s' does not exist.", id);
	return 0;
}

static int stord(void *userdata, struct rpc_request *r, json_t **ret_reply, struct fault *f)
{
	const char *snapshot = jstr(r->parameters, "SnapshotId"),
		   *image = jstr(r->parameters, "ImageId");
	json_t *users;

	(void)userdata;
	if (strcmp(r->method, "ec2.DescribeSnapshots") == 0)
		return snapshots(json_object_get(r->parameters, "SnapshotIds"), ret_reply, f);
	if (stord_refuses)
		return fault_set(f, FAULT_SERVICE_UNAVAILABLE, "as told");
	users = json_object_get(in_use, snapshot);
	if (!users) {
		users = json_object();
		json_object_set_new(in_use, snapshot, users);
	}
	if (!jbool(r->parameters, "Use", 0)) {
		json_object_del(users, image);
		return 0;
	}
	json_object_set_new(users, image, json_true());
	if (stord_hook_name) {
		OWN(json_decref)
		json_t *j = json_pack("{s:s, s:s, s:b}", "Name", stord_hook_name, "OwnerId",
				      "123456789012", "Public", 0);
		OWN(txn_free) struct txn *t = txn_new(d->store);

		txn_put(t, "image", "ami-0000000000000beef", "123456789012", "us-east-1",
			json_incref(j));
		txn_commit(t);
	}
	return 0;
}

static size_t users_of(const char *snapshot)
{
	return json_object_size(json_object_get(in_use, snapshot));
}

#define SNAP	"snap-00000000000000008"
#define MAPPING "{\"DeviceName\":\"/dev/sda1\",\"Ebs\":{\"SnapshotId\":\"" SNAP "\"}}"

/* The new image's id. */
static const char *registers(const char *json)
{
	static char id[8][64];
	static int n;
	OWN(json_decref) json_t *reply = NULL;

	is_str(call("ec2.RegisterImage", json, &reply), "", "registered");
	snprintf(id[++n % 8], sizeof *id, "%s", jstr_or(reply, "ImageId", "none"));
	return id[n % 8];
}

static void an_image_is_what_aws_shows(void)
{
	struct context ctx = {.account = "123456789012", .region = "us-east-1"};
	OWN(json_decref) json_t *reply = NULL;
	const struct doc *image = NULL;
	const char *id = registers("{\"Name\":\"one\",\"Description\":\"words\",\"RootDeviceName\":"
				   "\"/dev/sda1\",\"BlockDeviceMappings\":[" MAPPING
				   ",{\"DeviceName\":\"/dev/"
				   "sdb\",\"Ebs\":{\"VolumeSize\":20,\"VolumeType\":\"gp3\","
				   "\"Iops\":4000,\"Throughput\":200}}]}");

	is_int(image_find(d->store, &ctx, id, &image, &fault), 0, "found");
	is_str(jstr(image->json, "RootDeviceName"), "/dev/sda1", "root");
	json_t *first = json_array_get(json_object_get(image->json, "BlockDeviceMappings"), 0);
	is_int(json_integer_value(jpath(first, "Ebs.VolumeSize")), 8, "the snapshot's size");
	is_str(jpath_str(first, "Ebs.VolumeType"), "gp2", "type");
	ok(json_is_true(jpath(first, "Ebs.DeleteOnTermination")), "deleted on termination");
	is_str(jstr(image->json, "ImageLocation"), "123456789012/one", "location");
	is_str(image_account(d->store, id), "123456789012", "owner");
	is_int(users_of(SNAP), 1, "stord knows");
	is_str(call("ec2.RegisterImage", "{\"Name\":\"one\",\"BlockDeviceMappings\":[" MAPPING "]}",
		    NULL),
	       "InvalidAMIName.Duplicate", "name");
	is_str(call("ec2.DeregisterImage",
		    json_string_value(json_object_get(image->json, "ImageId"))
			    ? "{\"ImageId\":\"ami-00000000\"}"
			    : "{}",
		    NULL),
	       "InvalidAMIID.NotFound", "another");
	OWN(json_decref) json_t *p = json_pack("{s:s}", "ImageId", id);
	is_str(call_as("123456789012", "ec2.DeregisterImage", json_incref(p), NULL), "",
	       "deregistered");
	is_int(users_of(SNAP), 0, "stord knows");
	ok(image_find(d->store, &ctx, id, &image, &fault) < 0 &&
		   fault_is(&fault, FAULT_INVALID_AMI_ID_NOT_FOUND),
	   "gone");
	is_str(call_as("123456789012", "ec2.DescribeImages", json_pack("{s:[s]}", "ImageIds", id),
		       &reply),
	       "", "its owner asks for it without an error");
	is_int((long)json_array_size(json_object_get(reply, "Images")), 0, "and is shown nothing");
	is_str(call_as("999999999999", "ec2.DescribeImages", json_pack("{s:[s]}", "ImageIds", id),
		       NULL),
	       "InvalidAMIID.NotFound", "others never knew of it");
	is_int(store_count(d->store, "image-leaving") + store_count(d->store, "image-arriving"), 0,
	       "nothing on its way");
}

static void bad_images_change_nothing(void)
{
	static const struct {
		const char *json, *code, *what;
	} bad[] = {
		{"{\"BlockDeviceMappings\":[" MAPPING "]}", "MissingParameter", "no name"},
		{"{\"Name\":\"ab\",\"BlockDeviceMappings\":[" MAPPING "]}",
		 "InvalidAMIName.Malformed", "a short name"},
		{"{\"Name\":\"a\\u0007bc\",\"BlockDeviceMappings\":[" MAPPING "]}",
		 "InvalidAMIName.Malformed", "a bell in it"},
		{"{\"Name\":\"abc\"}", "InvalidBlockDeviceMapping", "no snapshot"},
		{"{\"Name\":\"abc\",\"RootDeviceName\":\"/dev/"
		 "xvda\",\"BlockDeviceMappings\":[" MAPPING "]}",
		 "InvalidBlockDeviceMapping", "another root"},
		{"{\"Name\":\"abc\",\"BlockDeviceMappings\":[" MAPPING "," MAPPING "]}",
		 "InvalidBlockDeviceMapping", "twice"},
		{"{\"Name\":\"abc\",\"BlockDeviceMappings\":[{\"DeviceName\":\"/etc/"
		 "passwd\",\"Ebs\":{\"SnapshotId\":\"" SNAP "\"}}]}",
		 "InvalidBlockDeviceMapping", "no device"},
		{"{\"Name\":\"abc\",\"BlockDeviceMappings\":[{\"DeviceName\":\"/dev/"
		 "sda1\",\"Ebs\":{\"SnapshotId\":\"snap-1\"}}]}",
		 "InvalidSnapshotID.Malformed", "malformed"},
		{"{\"Name\":\"abc\",\"BlockDeviceMappings\":[{\"DeviceName\":\"/dev/"
		 "sda1\",\"Ebs\":{\"SnapshotId\":\"snap-00000000000000009\"}}]}",
		 "InvalidSnapshot.NotFound", "unknown"},
		{"{\"Name\":\"abc\",\"BlockDeviceMappings\":[{\"DeviceName\":\"/dev/"
		 "sda1\",\"Ebs\":{\"SnapshotId\":\"snap-0000000000000000f\"}}]}",
		 "IncorrectState", "pending"},
		{"{\"Name\":\"abc\",\"BlockDeviceMappings\":[{\"DeviceName\":\"/dev/"
		 "sda1\",\"Ebs\":{\"SnapshotId\":\"" SNAP "\",\"VolumeSize\":7}}]}",
		 "InvalidBlockDeviceMapping", "smaller than its snapshot"},
		{"{\"Name\":\"abc\",\"BlockDeviceMappings\":[{\"DeviceName\":\"/dev/"
		 "sda1\",\"Ebs\":{\"SnapshotId\":\"" SNAP "\",\"Iops\":100}}]}",
		 "InvalidParameterCombination", "IOPS of gp2"},
		{"{\"Name\":\"abc\",\"BlockDeviceMappings\":[{\"DeviceName\":\"/dev/"
		 "sda1\",\"Ebs\":{\"SnapshotId\":\"" SNAP "\",\"Encrypted\":true}}]}",
		 "InvalidBlockDeviceMapping", "encrypted"},
		{"{\"Name\":\"abc\",\"Architecture\":\"arm64\",\"BlockDeviceMappings\":[" MAPPING
		 "]}",
		 "UnsupportedOperation", "arm64"},
		{"{\"Name\":\"abc\",\"BootMode\":\"uefi\",\"BlockDeviceMappings\":[" MAPPING "]}",
		 "UnsupportedOperation", "uefi"},
		{"{\"Name\":\"abc\",\"VirtualizationType\":\"paravirtual\",\"BlockDeviceMappings\":"
		 "[" MAPPING "]}",
		 "UnsupportedOperation", "paravirtual"},
		{"{\"Name\":\"abc\",\"KernelId\":\"aki-00000000\",\"BlockDeviceMappings\":[" MAPPING
		 "]}",
		 "InvalidAMIID.NotFound", "unknown kernel"},
		{"{\"Name\":\"abc\",\"_Public\":true,\"BlockDeviceMappings\":[" MAPPING "]}",
		 "OperationNotPermitted", "ours"},
		{"{\"Name\":\"abc\",\"_ImageType\":\"kernel\",\"BlockDeviceMappings\":[" MAPPING
		 "]}",
		 "OperationNotPermitted", "a kernel"},
	};
	size_t n = store_count(d->store, "image");

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		is_str(call("ec2.RegisterImage", bad[i].json, NULL), bad[i].code, bad[i].what);
	stord_refuses = 1;
	is_str(call("ec2.RegisterImage", "{\"Name\":\"abc\",\"BlockDeviceMappings\":[" MAPPING "]}",
		    NULL),
	       "ServiceUnavailable", "stord refuses");
	stord_refuses = 0;
	is_int(store_count(d->store, "image"), n, "no more images");
	is_int(store_count(d->store, "image-arriving"), 0, "nothing arriving");
}

static void a_name_taken_meanwhile_is_refused(void)
{
	stord_hook_name = "race";
	is_str(call("ec2.RegisterImage",
		    "{\"Name\":\"race\",\"BlockDeviceMappings\":[" MAPPING "]}", NULL),
	       "InvalidAMIName.Duplicate", "refused");
	stord_hook_name = NULL;
	is_int(users_of(SNAP), 0, "and its snapshot released");
	is_int(store_count(d->store, "image-leaving") + store_count(d->store, "image-arriving"), 0,
	       "nothing on its way");
	OWN(txn_free) struct txn *t = txn_new(d->store);
	txn_delete(t, "image", "ami-0000000000000beef");
	txn_commit(t);
}

static void what_was_arriving_at_a_crash_leaves(void)
{
	OWN(txn_free) struct txn *t = txn_new(d->store);

	txn_put(t, "image-arriving", "ami-00000000000000001", "123456789012", "us-east-1",
		json_loads("{\"BlockDeviceMappings\":[" MAPPING "]}", 0, NULL));
	txn_commit(t);
	json_object_set_new(in_use, SNAP, json_pack("{s:b}", "ami-00000000000000001", 1));
	is_int(catalog_open(d), 0, "start");
	for (int i = 0; i < 6000 && store_count(d->store, "image-leaving") > 0; i++)
		fiber_sleep(10000);
	is_int(users_of(SNAP), 0, "released");
	is_int(store_count(d->store, "image-arriving") + store_count(d->store, "image-leaving"), 0,
	       "forgotten");
}

static void what_was_copied_for_an_image_that_is_gone_leaves(void)
{
	OWN(txn_free) struct txn *t = txn_new(d->store);
	static const char *const parts[] = {"aki-00000000000000001", "aki-00000000000000002"};

	txn_put(t, "image-in-bin", "ami-00000000000000002", "123456789012", "us-east-1",
		json_loads("{\"BlockDeviceMappings\":[],\"_BinExit\":9000000000000000}", 0, NULL));
	for (int i = 0; i < 2; i++)
		txn_put(t, "image", parts[i], "123456789012", "us-east-1",
			json_pack("{s:s, s:s, s:[]}", "_PartOf",
				  i ? "ami-00000000000000002" : "ami-00000000000000001", "State",
				  "available", "BlockDeviceMappings"));
	txn_commit(t);
	is_int(catalog_open(d), 0, "start");
	for (int i = 0; i < 6000 && store_find(d->store, "image", parts[0]); i++)
		fiber_sleep(10000);
	ok(!store_find(d->store, "image", parts[0]), "of one that is gone");
	ok(store_find(d->store, "image", parts[1]), "not of one in the recycle bin");
	txn_delete(t, "image", parts[1]);
	txn_delete(t, "image-in-bin", "ami-00000000000000002");
	is_int(txn_commit(t), 0, "nothing is left");
}

/* An instance that boots with the kernel is in this state. */
static void boots_with(const char *kernel, const char *state)
{
	OWN(txn_free) struct txn *t = txn_new(d->store);

	txn_put(t, "instance", "i-00000000000000001", "123456789012", "us-east-1",
		json_pack("{s:s, s:{s:s}}", "KernelId", kernel, "State", "Name", state));
	is_int(txn_commit(t), 0, state);
}

static void an_instance_keeps_the_kernel_of_an_image_that_is_gone(void)
{
	static const char aki[] = "aki-00000000000000003";
	OWN(txn_free) struct txn *t = txn_new(d->store);

	txn_put(t, "image", aki, "123456789012", "us-east-1",
		json_pack("{s:s, s:s, s:s, s:[]}", "ImageId", aki, "_PartOf",
			  "ami-00000000000000003", "State", "available", "BlockDeviceMappings"));
	txn_commit(t);
	boots_with(aki, "stopped");
	is_int(image_parts_start(d), 0, "looked for");
	fiber_sleep(50000);
	ok(store_find(d->store, "image", aki), "it will be started again");
	caller_uid = 0;
	is_str(call("ec2.DeregisterImage", "{\"ImageId\":\"aki-00000000000000003\"}", NULL),
	       "DependencyViolation", "nor does root take it away");
	caller_uid = 1000;
	boots_with(aki, "terminated");
	is_int(image_parts_start(d), 0, "looked for again");
	for (int i = 0; i < 6000 && store_find(d->store, "image", aki); i++)
		fiber_sleep(10000);
	ok(!store_find(d->store, "image", aki), "nobody needs it any more");
	txn_delete(t, "instance", "i-00000000000000001");
	txn_commit(t);
}

static void kernels_are_roots_and_protected(void)
{
	caller_uid = 0;
	const char *aki = registers(
		"{\"Name\":\"kernel\",\"_ImageType\":\"kernel\",\"BlockDeviceMappings\":[" MAPPING
		"]}");
	char json[512], one[128];

	ok(strncmp(aki, "aki-", 4) == 0, "aki");
	is_str(image_raw_snapshot(d->store, aki), SNAP, "its file");
	snprintf(json, sizeof json,
		 "{\"Name\":\"boots "
		 "it\",\"_Public\":true,\"_Cmdline\":\"quiet\",\"KernelId\":\"%s\","
		 "\"BlockDeviceMappings\":[" MAPPING "]}",
		 aki);
	const char *ami = registers(json);
	caller_uid = 1000;
	struct context ctx = {.account = "999999999999", .region = "us-east-1"},
		       far = {.account = "999999999999", .region = "ap-northeast-2"};
	const struct doc *image = NULL;

	is_int(image_find(d->store, &ctx, ami, &image, &fault), 0, "public");
	is_str(jstr(image->json, "_Cmdline"), "quiet", "command line");
	ok(image_find(d->store, &far, ami, &image, &fault) < 0, "not in another region");
	ok(image_find(d->store, &ctx, "ami-xyz", &image, &fault) < 0 &&
		   fault_is(&fault, FAULT_INVALID_AMI_ID_MALFORMED),
	   "malformed");
	snprintf(one, sizeof one, "{\"ImageId\":\"%s\"}", aki);
	is_str(call("ec2.DeregisterImage", one, NULL), "DependencyViolation",
	       "a kernel in use stays");
	snprintf(one, sizeof one, "{\"ImageId\":\"%s\"}", ami);
	is_str(call_as("999999999999", "ec2.DeregisterImage", json_loads(one, 0, NULL), NULL),
	       "AuthFailure", "another's");
}

static size_t count_as(const char *account, const char *json)
{
	OWN(json_decref) json_t *reply = NULL;

	is_str(call_as(account, "ec2.DescribeImages", json_loads(json, 0, NULL), &reply), "", json);
	return json_array_size(json_object_get(reply, "Images"));
}

static void owners_and_users_choose(void)
{
	const char *mine = registers("{\"Name\":\"mine\",\"BlockDeviceMappings\":[" MAPPING "]}");
	char json[256];

	is_int(count_as("123456789012", "{\"Owners\":[\"self\"]}"), 3, "all are mine");
	is_int(count_as("123456789012", "{\"Owners\":[\"amazon\"]}"), 1, "one is the cloud's");
	is_int(count_as("999999999999", "{}"), 1, "others see the public one");
	is_int(count_as("999999999999", "{\"Owners\":[\"self\"]}"), 0, "which is not theirs");
	is_int(count_as("999999999999", "{\"ExecutableUsers\":[\"all\"]}"), 1, "public");
	snprintf(json, sizeof json,
		 "{\"ImageId\":\"%s\",\"LaunchPermission\":{\"Add\":[{\"UserId\":\"999999999999\"}]"
		 "}}",
		 mine);
	is_str(call("ec2.ModifyImageAttribute", json, NULL), "", "given");
	is_int(count_as("999999999999", "{\"ExecutableUsers\":[\"self\"]}"), 1, "to them");
	is_int(count_as("888888888888", "{}"), 1, "to nobody else");
	snprintf(json, sizeof json,
		 "{\"ImageId\":\"%s\",\"OperationType\":\"remove\",\"UserIds\":[\"999999999999\"]}",
		 mine);
	is_str(call("ec2.ModifyImageAttribute", json, NULL), "", "taken back");
	is_int(count_as("999999999999", "{}"), 1, "seen no more");
	is_int(count_as("123456789012", "{\"Filters\":[{\"Name\":\"name\",\"Values\":[\"mi*\"]},{"
					"\"Name\":\"is-public\",\"Values\":[\"false\"]}]}"),
	       1, "filters");
	is_int(count_as("123456789012", "{\"Filters\":[{\"Name\":\"block-device-mapping.snapshot-"
					"id\",\"Values\":[\"" SNAP "\"]},"
					"{\"Name\":\"image-type\",\"Values\":[\"machine\"]}]}"),
	       2, "by snapshot");
	is_str(call("ec2.DescribeImages", "{\"ImageIds\":[\"ami-00000000000000abc\"]}", NULL),
	       "InvalidAMIID.NotFound", "unknown");
	is_str(call("ec2.DescribeImages", "{\"ImageIds\":[\"foo\"]}", NULL),
	       "InvalidAMIID.Malformed", "malformed");
	is_str(call("ec2.DescribeImages", "{\"Filters\":[{\"Name\":\"nme\",\"Values\":[\"x\"]}]}",
		    NULL),
	       "InvalidParameterValue", "unknown filter");
}

static void tag_as(const char *account, const char *id)
{
	OWN(txn_free) struct txn *t = txn_new(d->store);
	const struct doc *image = store_find(d->store, IMAGE_KIND, id);
	json_t *json = doc_edit(image);

	json_object_set_new(json, TAGS_OTHERS,
			    json_pack("{s:[{s:s, s:s}]}", account, "Key", "k", "Value", "theirs"));
	txn_replace(t, image, json);
	txn_commit(t);
}

/* Calls that end what is shared with another account end the tags that it gave. */
static void tags_of_others_go_with_what_they_see(void)
{
	static const char *const ends[] = {
		"ec2.ModifyImageAttribute\0,\"LaunchPermission\":{\"Remove\":[{\"UserId\":"
		"\"999999999999\"}]}}",
		"ec2.ResetImageAttribute\0,\"Attribute\":\"launchPermission\"}",
		"ec2.DisableImage\0}", "ec2.CancelImageLaunchPermission\0}"};
	const char *id = registers("{\"Name\":\"tagged\",\"BlockDeviceMappings\":[" MAPPING "]}");
	const char *by_tag = "{\"Filters\":[{\"Name\":\"tag:k\",\"Values\":[\"theirs\"]}]}";
	char json[256];

	for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
		const char *who = i == 3 ? "999999999999" : "123456789012";

		snprintf(json, sizeof json,
			 "{\"ImageId\":\"%s\",\"UserIds\":[\"999999999999\"],\"OperationType\":"
			 "\"add\"}",
			 id);
		is_str(call("ec2.EnableImage", json, NULL), "", "enabled");
		is_str(call("ec2.ModifyImageAttribute", json, NULL), "", "shared");
		tag_as("999999999999", id);
		is_int(count_as("999999999999", by_tag), 1, "found by its tag");
		is_int(count_as("123456789012", by_tag), 0, "not by its owner");
		snprintf(json, sizeof json, "{\"ImageId\":\"%s\"%s", id,
			 ends[i] + strlen(ends[i]) + 1);
		is_str(call_as(who, ends[i], json_loads(json, 0, NULL), NULL), "", ends[i]);
		ok(!json_object_get(store_find(d->store, IMAGE_KIND, id)->json, TAGS_OTHERS),
		   ends[i]);
	}
}

static void attributes_change_one_at_a_time(void)
{
	const char *id = registers("{\"Name\":\"attr\",\"BlockDeviceMappings\":[" MAPPING "]}");
	OWN(json_decref) json_t *description = NULL, *permissions = NULL;
	char json[512];

	snprintf(json, sizeof json, "{\"ImageId\":\"%s\",\"Description\":{\"Value\":\"new\"}}", id);
	is_str(call("ec2.ModifyImageAttribute", json, NULL), "", "description");
	snprintf(json, sizeof json, "{\"ImageId\":\"%s\",\"Attribute\":\"description\"}", id);
	is_str(call("ec2.DescribeImageAttribute", json, &description), "", "asked");
	is_str(jpath_str(description, "Description.Value"), "new", "it is");
	snprintf(json, sizeof json,
		 "{\"ImageId\":\"%s\",\"LaunchPermission\":{\"Add\":[{\"Group\":\"all\"},{"
		 "\"UserId\":\"111111111111\"}]}}",
		 id);
	is_str(call("ec2.ModifyImageAttribute", json, NULL), "", "permissions");
	snprintf(json, sizeof json, "{\"ImageId\":\"%s\",\"Attribute\":\"launchPermission\"}", id);
	is_str(call("ec2.DescribeImageAttribute", json, &permissions), "", "asked");
	is_int(json_array_size(json_object_get(permissions, "LaunchPermissions")), 2, "both");
	snprintf(json, sizeof json,
		 "{\"ImageId\":\"%s\",\"LaunchPermission\":{\"Add\":[{\"UserId\":\"1111\"}]}}", id);
	is_str(call("ec2.ModifyImageAttribute", json, NULL), "InvalidAMIAttributeItemValue",
	       "no account");
	snprintf(json, sizeof json,
		 "{\"ImageId\":\"%s\",\"Description\":{\"Value\":\"x\"},\"UserIds\":["
		 "\"111111111111\"]}",
		 id);
	is_str(call("ec2.ModifyImageAttribute", json, NULL), "InvalidParameterCombination", "two");
	snprintf(json, sizeof json, "{\"ImageId\":\"%s\"}", id);
	is_str(call("ec2.ModifyImageAttribute", json, NULL), "InvalidParameterCombination", "none");
	snprintf(json, sizeof json, "{\"ImageId\":\"%s\",\"Attribute\":\"launchPermission\"}", id);
	is_str(call("ec2.ResetImageAttribute", json, NULL), "", "reset");
	is_int(count_as("111111111111",
			"{\"Filters\":[{\"Name\":\"name\",\"Values\":[\"attr\"]}]}"),
	       0, "private again");
}

static void tests(void)
{
	struct rpc_server *server = hvd_peer_start("stord", stord);

	in_use = json_object();
	RUN(an_image_is_what_aws_shows);
	RUN(bad_images_change_nothing);
	RUN(a_name_taken_meanwhile_is_refused);
	RUN(what_was_arriving_at_a_crash_leaves);
	RUN(what_was_copied_for_an_image_that_is_gone_leaves);
	RUN(an_instance_keeps_the_kernel_of_an_image_that_is_gone);
	RUN(kernels_are_roots_and_protected);
	RUN(owners_and_users_choose);
	RUN(attributes_change_one_at_a_time);
	RUN(tags_of_others_go_with_what_they_see);
	rpc_server_free(server);
	json_decref(in_use);
}

int main(void)
{
	return hvd_main(tests);
}
