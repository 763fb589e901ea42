/* Images in the making: copies, what a crash leaves of them, how they fail; and what their owner
 * says of their life. */
#include "hvd_call.h"

#include <errno.h>
#include <unistd.h>
#include "../../hvd/image-work.h"
#include "../../hvd/instance-rooms.h"

#define SOURCE	    "ami-0000000000000000a"
#define KERNEL	    "aki-0000000000000000b"
#define SNAP	    "snap-00000000000000008"
#define INSTANCE    "i-0000000000000000c"
#define ROOT_VOLUME "vol-0000000000000000d"
#define DATA_VOLUME "vol-0000000000000000e"

/* stord's part: snapshots that were copied, {id: {Description, State, _Images: {}}}. */
static json_t *snapshots;
static unsigned n_copies, n_away;
static const char *state_of_copies = "completed";

static int has_value(const json_t *parameters, const json_t *snapshot)
{
	const json_t *filter = json_array_get(json_object_get(parameters, "Filters"), 0);
	const char *description = jstr_or(snapshot, "Description", "");

	if (json_object_get(parameters, "SnapshotIds"))
		return jarray_has(json_object_get(parameters, "SnapshotIds"),
				  jstr(snapshot, "SnapshotId"));
	return !filter || jarray_has(json_object_get(filter, "Values"), description);
}

/* What CreateSnapshots was last asked. */
static json_t *asked;

static void take_snapshot(const json_t *parameters, const char *volume)
{
	const json_t *specification = json_object_get(parameters, "InstanceSpecification");
	char id[64];

	if (jarray_has(json_object_get(specification, "ExcludeDataVolumeIds"), volume))
		return;
	snprintf(id, sizeof id, "snap-%017x", 0x100 + n_copies++);
	json_object_set_new(snapshots, id,
			    json_pack("{s:s, s:O, s:s, s:s, s:{}}", "SnapshotId", id, "Description",
				      json_object_get(parameters, "Description"), "State",
				      "completed", "VolumeId", volume, "Images"));
}

static int stord(void *userdata, struct rpc_request *r, json_t **ret_reply, struct fault *f)
{
	const char *name;
	json_t *s;

	(void)userdata;
	if (n_away > 0 && n_away--)
		return fault_set(f, FAULT_SERVICE_UNAVAILABLE, "as told");
	if (strcmp(r->method, "ec2.CopySnapshot") == 0) {
		char id[64];

		snprintf(id, sizeof id, "snap-%017x", 0x100 + n_copies++);
		s = json_pack("{s:s, s:O, s:s, s:O, s:{}}", "SnapshotId", id, "Description",
			      json_object_get(r->parameters, "Description"), "State",
			      state_of_copies, "Source",
			      json_object_get(r->parameters, "SourceSnapshotId"), "Images");
		json_object_set_new(snapshots, id, s);
		*ret_reply = json_pack("{s:s}", "SnapshotId", id);
	} else if (strcmp(r->method, "ec2.DescribeSnapshots") == 0) {
		json_t *list = json_array();

		json_object_foreach (snapshots, name, s)
			if (has_value(r->parameters, s))
				json_array_append(list, s);
		*ret_reply = json_pack("{s:o}", "Snapshots", list);
	} else if (strcmp(r->method, "ec2.DescribeVolumes") == 0) {
		*ret_reply = json_pack("{s:[{s:s, s:i, s:s, s:i}, {s:s, s:i, s:s, s:i, s:i}]}",
				       "Volumes", "VolumeId", ROOT_VOLUME, "Size", 8, "VolumeType",
				       "gp2", "Iops", 100, "VolumeId", DATA_VOLUME, "Size", 20,
				       "VolumeType", "gp3", "Iops", 3000, "Throughput", 125);
	} else if (strcmp(r->method, "ec2.CreateSnapshots") == 0) {
		json_decref(asked);
		asked = json_deep_copy(r->parameters);
		take_snapshot(r->parameters, ROOT_VOLUME);
		take_snapshot(r->parameters, DATA_VOLUME);
	} else if (strcmp(r->method, "gureum.ProtectSnapshot") == 0) {
		s = json_object_get(json_object_get(snapshots, jstr(r->parameters, "SnapshotId")),
				    "Images");
		if (jbool(r->parameters, "Use", 0))
			json_object_set_new(s, jstr(r->parameters, "ImageId"), json_true());
		else if (s)
			(void)json_object_del(s, jstr(r->parameters, "ImageId"));
	} else if (strcmp(r->method, "ec2.DeleteSnapshot") == 0) {
		name = jstr(r->parameters, "SnapshotId");
		if (json_object_size(json_object_get(json_object_get(snapshots, name), "Images")))
			return fault_set(f, FAULT_INVALID_SNAPSHOT_IN_USE, "in use");
		(void)json_object_del(snapshots, name);
	}
	return 0;
}

static void put_image(const char *id, const char *type, const char *kernel, const char *name)
{
	OWN(txn_free) struct txn *t = txn_new(d->store);
	json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:b, s:s, s:s*, s:s, "
			      "s:[{s:s, s:{s:s, s:i, s:s}}], s:[{s:s, s:s}]}",
			      "ImageId", id, "Name", name, "ImageType", type, "State", "available",
			      "Public", 1, "OwnerId", "123456789012", "KernelId", kernel,
			      "RootDeviceName", "/dev/xvda", "BlockDeviceMappings", "DeviceName",
			      "/dev/xvda", "Ebs", "SnapshotId", SNAP, "VolumeSize", 8, "VolumeType",
			      "gp2", "Tags", "Key", "color", "Value", "red");

	json_object_set_new(j, "LastLaunchedTime", json_string("2026-01-02T03:04:05.000Z"));
	txn_put(t, IMAGE_KIND, id, "123456789012", "ap-northeast-2", j);
	txn_commit(t);
}

static const json_t *image(const char *id)
{
	const struct doc *doc = store_find(d->store, IMAGE_KIND, id);

	return doc ? doc->json : NULL;
}

/* Until it is no longer pending; the state. */
static const char *ended(const char *id)
{
	for (int i = 0; i < 12000 && image_pending(d, id); i++)
		fiber_sleep(5000);
	return jstr_or(image(id), "State", "gone");
}

static const char *copy(const char *json)
{
	static char id[4][64];
	static int n;
	OWN(json_decref) json_t *reply = NULL;

	is_str(call("ec2.CopyImage", json, &reply), "", "copied");
	snprintf(id[++n % 4], sizeof *id, "%s", jstr_or(reply, "ImageId", "none"));
	return id[n % 4];
}

#define COPY(name, more)                                                                           \
	copy("{\"Name\":\"" name "\",\"SourceImageId\":\"" SOURCE                                  \
	     "\",\"SourceRegion\":\"ap-northeast-2\"" more "}")

static void a_copy_has_snapshots_and_kernel_of_its_own(void)
{
	const char *id = COPY("first", ",\"CopyImageTags\":true");
	char description[200];

	is_str(jstr(image(id), "State"), "pending", "pending at first");
	is_str(ended(id), "available", "then available");
	const json_t *ebs = json_object_get(
		json_array_get(json_object_get(image(id), "BlockDeviceMappings"), 0), "Ebs");
	const char *snapshot = jstr_or(ebs, "SnapshotId", "none");
	const json_t *made = json_object_get(snapshots, snapshot);

	snprintf(description, sizeof description,
		 "Copied for DestinationAmi %s from SourceAmi " SOURCE " for SourceSnapshot " SNAP
		 ".",
		 id);
	is_str(jstr(made, "Description"), description, "described as AWS does");
	ok(json_object_get(json_object_get(made, "Images"), id) != NULL, "and in use");
	is_int(json_object_size(ebs), 4, "nothing of ours is left in its mapping");
	const char *kernel = jstr_or(image(id), "KernelId", "none");

	ok(strcmp(kernel, KERNEL) != 0, "the kernel is another");
	is_str(jstr(image(kernel), "SourceImageId"), KERNEL, "copied");
	is_str(jstr(image(kernel), "State"), "available", "and there");
	ok(!jbool(image(id), "Public", 1), "private");
	ok(!jstr(image(id), "LastLaunchedTime"), "and never launched");
	is_str(jstr(image(id), "SourceImageRegion"), "ap-northeast-2", "from there");
	is_int(json_array_size(json_object_get(image(id), "Tags")), 1, "with its tags");
	is_str(jstr(image(id), "Description"), "[Copied " SOURCE " from ap-northeast-2] the source",
	       "and a description");
	const char *second = COPY("second", "");

	is_str(ended(second), "available", "another copy");
	is_str(jstr(image(second), "KernelId"), jstr(image(id), "KernelId"), "has the same kernel");
}

static void a_copy_leaves_with_its_kernel(void)
{
	OWN(json_decref) json_t *ask = NULL;
	size_t before = json_object_size(snapshots);
	char kernel[64];

	store_each (d->store, IMAGE_KIND, other)
		if (strcmp(jstr_or(other->json, "Name", ""), "first") == 0)
			ask = json_pack("{s:s, s:b}", "ImageId", other->id,
					"DeleteAssociatedSnapshots", 1);
	snprintf(kernel, sizeof kernel, "%s",
		 jstr_or(image(jstr_or(ask, "ImageId", "")), "KernelId", ""));
	is_str(call_as("123456789012", "ec2.DeregisterImage", json_incref(ask), NULL), "", "gone");
	ok(image(kernel) != NULL, "the second copy needs the kernel");
	is_int(json_object_size(snapshots), before - 1, "the snapshot went");
}

static void a_copy_that_was_cut_off_finds_what_it_made(void)
{
	const char *id = COPY("third", "");
	unsigned n = n_copies;

	is_str(ended(id), "available", "made");
	ok(n_copies > n, "by a copy");
	n = n_copies;
	/* As it was before the snapshot's id was durable. */
	OWN(txn_free) struct txn *t = txn_new(d->store);
	const struct doc *doc = store_find(d->store, IMAGE_KIND, id);
	json_t *json = doc_edit(doc);
	json_t *ebs = json_object_get(
		json_array_get(json_object_get(json, "BlockDeviceMappings"), 0), "Ebs");

	json_object_del(ebs, "SnapshotId");
	jset(ebs, "_Source", SNAP);
	jset(json, "State", "pending");
	jset_new(json, "_Work",
		 json_pack("{s:s, s:s, s:s}", "Kind", "copy", "Region", "ap-northeast-2", "Account",
			   "123456789012"));
	txn_replace(t, doc, json);
	txn_commit(t);
	n_away = 1; /* stord is away at first */
	is_int(catalog_open(d), 0, "started again");
	is_str(ended(id), "available", "made again");
	is_int(n_copies, n, "of what was there");
}

static void a_snapshot_that_fails_fails_the_image(void)
{
	state_of_copies = "error";
	const char *id = COPY("fourth", "");

	is_str(ended(id), "failed", "failed");
	ok(jpath_str(image(id), "StateReason.Message") != NULL, "with a reason");
	state_of_copies = "completed";
}

static void bad_copies_are_refused(void)
{
	static const struct {
		const char *json, *code;
	} bad[] = {
		{"{\"Name\":\"x\",\"SourceImageId\":\"" SOURCE
		 "\",\"SourceRegion\":\"ap-northeast-2\"}",
		 "InvalidAMIName.Malformed"},
		{"{\"Name\":\"second\",\"SourceImageId\":\"" SOURCE
		 "\",\"SourceRegion\":\"ap-northeast-2\"}",
		 "InvalidAMIName.Duplicate"},
		{"{\"Name\":\"abc\",\"SourceImageId\":\"" SOURCE "\",\"SourceRegion\":\"mars\"}",
		 "InvalidParameterValue"},
		{"{\"Name\":\"abc\",\"SourceImageId\":\"" SOURCE
		 "\",\"SourceRegion\":\"us-east-1\"}",
		 "InvalidAMIID.NotFound"},
		{"{\"Name\":\"abc\",\"SourceImageId\":\"" KERNEL
		 "\",\"SourceRegion\":\"ap-northeast-2\"}",
		 "InvalidAMIID.Unavailable"},
		{"{\"Name\":\"abc\",\"SourceImageId\":\"" SOURCE
		 "\",\"SourceRegion\":\"ap-northeast-2\",\"KmsKeyId\":\"mine\"}",
		 "InvalidParameterDependency"},
	};
	size_t before = store_count(d->store, IMAGE_KIND);

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		is_str(call("ec2.CopyImage", bad[i].json, NULL), bad[i].code, bad[i].code);
	is_int(store_count(d->store, IMAGE_KIND), before, "nothing was made");
}

static void put_instance(const char *state)
{
	OWN(txn_free) struct txn *t = txn_new(d->store);
	json_t *j = json_pack(
		"{s:s, s:{s:s}, s:s, s:s, s:s, s:[{s:s, s:{s:s, s:b}}, {s:s, s:{s:s, s:b}}]}",
		"InstanceId", INSTANCE, "State", "Name", state, "RootDeviceName", "/dev/xvda",
		"Architecture", "x86_64", "KernelId", KERNEL, "BlockDeviceMappings", "DeviceName",
		"/dev/xvda", "Ebs", "VolumeId", ROOT_VOLUME, "DeleteOnTermination", 1, "DeviceName",
		"/dev/sdf", "Ebs", "VolumeId", DATA_VOLUME, "DeleteOnTermination", 0);

	txn_put(t, "instance", INSTANCE, "123456789012", "us-east-1", j);
	txn_commit(t);
}

static const char *create(const char *name, const char *more, json_t **ret_reply)
{
	char json[512];

	snprintf(json, sizeof json, "{\"InstanceId\":\"" INSTANCE "\",\"Name\":\"%s\"%s}", name,
		 more);
	return call("ec2.CreateImage", json, ret_reply);
}

static const json_t *mapping(const char *id, size_t i)
{
	return json_array_get(json_object_get(image(id), "BlockDeviceMappings"), i);
}

static void an_instance_becomes_an_image_with_all_its_volumes(void)
{
	OWN(json_decref) json_t *reply = NULL;
	const json_t *made;

	put_instance("stopped");
	is_str(create("of-instance", "", &reply), "", "begun");
	const char *id = jstr_or(reply, "ImageId", "none");

	is_str(ended(id), "available", "made");
	is_int((long)json_array_size(json_object_get(image(id), "BlockDeviceMappings")), 2, "both");
	is_str(jpath_str(mapping(id, 1), "Ebs.VolumeType"), "gp3", "of the volume's type");
	is_int(json_integer_value(jpath(mapping(id, 1), "Ebs.Throughput")), 125, "and figures");
	ok(json_is_false(jpath(mapping(id, 1), "Ebs.DeleteOnTermination")), "and fate");
	made = json_object_get(snapshots, jpath_str(mapping(id, 1), "Ebs.SnapshotId"));
	is_str(jstr(made, "VolumeId"), DATA_VOLUME, "each its own snapshot");
	ok(!jpath(mapping(id, 1), "Ebs._Volume"), "nothing of ours is left");
	is_str(jstr(image(id), "KernelId"), KERNEL, "with the instance's kernel");
	is_str(jstr(image(id), "SourceInstanceId"), INSTANCE, "and where it comes from");
}

static void a_request_changes_what_the_image_gets(void)
{
	OWN(json_decref) json_t *reply = NULL, *other = NULL;

	is_str(create("without-data",
		      ",\"BlockDeviceMappings\":[{\"DeviceName\":\"/dev/sdf\",\"NoDevice\":\"\"}]",
		      &reply),
	       "", "a device less");
	const char *id = jstr_or(reply, "ImageId", "none");

	is_str(ended(id), "available", "made");
	is_int((long)json_array_size(json_object_get(image(id), "BlockDeviceMappings")), 1, "one");
	is_str(json_string_value(json_array_get(
		       jpath(asked, "InstanceSpecification.ExcludeDataVolumeIds"), 0)),
	       DATA_VOLUME, "the other was not snapshotted");
	is_str(create("larger",
		      ",\"BlockDeviceMappings\":[{\"DeviceName\":\"/dev/xvda\",\"Ebs\":{"
		      "\"VolumeSize\":50,\"VolumeType\":\"gp3\"}},{\"DeviceName\":\"/dev/sdg\","
		      "\"Ebs\":{\"VolumeSize\":5}}]",
		      &other),
	       "", "a larger root and an empty volume");
	id = jstr_or(other, "ImageId", "none");
	is_str(ended(id), "available", "made");
	is_int(json_integer_value(jpath(mapping(id, 0), "Ebs.VolumeSize")), 50, "larger");
	is_int(json_integer_value(jpath(mapping(id, 2), "Ebs.VolumeSize")), 5, "empty");
	ok(!jpath(mapping(id, 2), "Ebs.SnapshotId"), "of no snapshot");
}

static void bad_images_of_instances_are_refused(void)
{
	static const struct {
		const char *more, *code;
	} bad[] = {
		{",\"BlockDeviceMappings\":[{\"DeviceName\":\"/dev/xvda\",\"NoDevice\":\"\"}]",
		 "InvalidBlockDeviceMapping"},
		{",\"BlockDeviceMappings\":[{\"DeviceName\":\"/dev/xvda\",\"Ebs\":{\"VolumeSize\":"
		 "4}}]",
		 "InvalidBlockDeviceMapping"},
		{",\"BlockDeviceMappings\":[{\"DeviceName\":\"/dev/xvda\",\"Ebs\":{\"SnapshotId\":"
		 "\"" SNAP "\"}}]",
		 "InvalidBlockDeviceMapping"},
		{",\"BlockDeviceMappings\":[{\"DeviceName\":\"/dev/sdg\",\"Ebs\":{\"VolumeType\":"
		 "\"io1\",\"VolumeSize\":5}}]",
		 "MissingParameter"},
		{",\"BlockDeviceMappings\":[{\"DeviceName\":\"/etc/"
		 "passwd\",\"Ebs\":{\"VolumeSize\":"
		 "5}}]",
		 "InvalidBlockDeviceMapping"},
		{",\"TagSpecifications\":[{\"ResourceType\":\"instance\",\"Tags\":[]}]",
		 "InvalidParameterValue"},
	};
	size_t before = store_count(d->store, IMAGE_KIND);

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		is_str(create("bad", bad[i].more, NULL), bad[i].code, bad[i].code);
	is_str(create("of-instance", "", NULL), "InvalidAMIName.Duplicate", "a name that is taken");
	put_instance("pending");
	is_str(create("not yet", "", NULL), "IncorrectInstanceState", "an instance on its way");
	is_int((long)store_count(d->store, IMAGE_KIND), (long)before, "nothing was made");
}

static const char *change(const char *method, const char *id, const char *more)
{
	char json[256];

	snprintf(json, sizeof json, "{\"ImageId\":\"%s\"%s}", id, more);
	return call(method, json, NULL);
}

static int shown(const char *parameters)
{
	OWN(json_decref) json_t *reply = NULL;

	call("ec2.DescribeImages", parameters, &reply);
	return (int)json_array_size(json_object_get(reply, "Images"));
}

static void an_owner_ends_and_protects_an_image(void)
{
	const char *id = COPY("fifth", "");
	const char *by_name = "{\"Filters\":[{\"Name\":\"name\",\"Values\":[\"fifth\"]}]}";
	const char *with_disabled = "{\"IncludeDisabled\":true,\"Filters\":[{\"Name\":\"name\","
				    "\"Values\":[\"fifth\"]}]}";
	struct context ctx = {.account = "123456789012", .region = "us-east-1"};
	const struct doc *found = NULL;
	int64_t minute = (jtime_now_usec() / 60000000 + 1000000) * 60; /* in two years */
	OWN(json_decref) json_t *time = jtime(minute * 1000000);
	char at[64];

	ended(id);
	is_str(change("ec2.DisableImage", id, ""), "", "disabled");
	is_int(shown(by_name), 0, "not shown");
	is_int(shown(with_disabled), 1, "unless asked for");
	ok(image_find(d->store, &ctx, id, &found, &fault) < 0, "and not to be launched");
	is_str(change("ec2.EnableImage", id, ""), "", "enabled");
	is_int(image_find(d->store, &ctx, id, &found, &fault), 0, "again");
	is_str(change("ec2.EnableImageDeprecation", id,
		      ",\"DeprecateAt\":\"2020-01-01T00:00:00Z\""),
	       "InvalidParameterValue", "not in the past");
	snprintf(at, sizeof at, ",\"DeprecateAt\":%lld", (long long)minute + 40);
	is_str(change("ec2.EnableImageDeprecation", id, at), "", "to be deprecated");
	is_str(jstr(image(id), "DeprecationTime"), json_string_value(time), "to the minute");
	is_int(shown(by_name), 1, "shown until then");
	is_str(change("ec2.DisableImageDeprecation", id, ""), "", "not any more");
	ok(!jstr(image(id), "DeprecationTime"), "no time");
	is_str(change("ec2.EnableImageDeregistrationProtection", id, ""), "", "protected");
	is_str(change("ec2.DeregisterImage", id, ""), "OperationNotPermitted", "stays");
	is_str(change("ec2.DisableImageDeregistrationProtection", id, ""), "", "not any more");
	is_str(change("ec2.EnableImageDeregistrationProtection", id, ",\"WithCooldown\":true"), "",
	       "with a day's notice");
	is_str(change("ec2.DisableImageDeregistrationProtection", id, ""), "", "given");
	is_str(change("ec2.DeregisterImage", id, ""), "OperationNotPermitted", "not yet over");
	is_str(change("ec2.DisableImage", "ami-00000000000000bad", ""), "InvalidAMIID.NotFound",
	       "another");
}

static int n_connected;

static void on_connected(void *userdata)
{
	(void)userdata;
	n_connected++;
}

static void on_event(void *userdata, const char *name, enum virt_event event)
{
	(void)userdata, (void)name, (void)event;
}

/* Given up too early it would be asked for anew, and what came of the first not be seen: again and
 * again, and the guest reset each time. */
static void a_reboot_is_waited_for_however_little_time_its_guest_is_given(void)
{
	static const struct virt_hooks hooks = {on_connected, on_event};
	static const char xml[] = "<domain type='test'><name>" INSTANCE
				  "</name><memory>1024</memory><os><type>hvm</type></os></domain>";
	const struct config *before = d->config;
	OWN(config_free) struct config *config = NULL;
	OWN(json_decref) json_t *reply = NULL;
	char path[128], error[512];

	snprintf(path, sizeof path, "%s/short.conf", hvd_dir);
	FILE *f = fopen(path, "we");
	if (!f || fputs("[Compute]\nStopTimeoutSec=0\n", f) < 0 || fclose(f) != 0 ||
	    config_load(path, &config, error) < 0)
		exit(1);
	d->config = config;
	hvd_get()->daemon = d;
	if (virt_new(d->loop, "test:///default", 60000000, &hooks, NULL, &hvd_get()->virt) < 0)
		exit(1);
	while (!n_connected)
		fiber_sleep(5000);
	is_int(virt_create(hvd_get()->virt, INSTANCE, xml, error), 0, "the guest runs");
	put_instance("running");
	OWN(json_decref)
	json_t *unasked = json_incref(store_find(d->store, INSTANCE_KIND, INSTANCE)->json);
	is_str(create("rebooted", "", &reply), "", "begun");
	const char *id = jstr_or(reply, "ImageId", "none");

	while (store_find(d->store, INSTANCE_KIND, INSTANCE)->json == unasked)
		fiber_sleep(5000);
	fiber_sleep(50000); /* longer than the guest is given */
	is_str(jstr(image(id), "State"), "pending", "its guest goes down");
	image_on_event(INSTANCE, VIRT_REBOOTED);
	is_str(ended(id), "available", "and is up again: made");
	instance_purge_stop();
	live_close();
	virt_free(hvd_get()->virt);
	hvd_get()->virt = NULL;
	d->config = before;
}

static void tests(void)
{
	snapshots = json_object();
	struct rpc_server *server = hvd_peer_start("stord", stord);

	put_image(KERNEL, "kernel", NULL, "a kernel");
	put_image(SOURCE, "machine", KERNEL, "the source");
	RUN(a_copy_has_snapshots_and_kernel_of_its_own);
	RUN(a_copy_leaves_with_its_kernel);
	RUN(a_copy_that_was_cut_off_finds_what_it_made);
	RUN(a_snapshot_that_fails_fails_the_image);
	RUN(bad_copies_are_refused);
	RUN(an_instance_becomes_an_image_with_all_its_volumes);
	RUN(a_request_changes_what_the_image_gets);
	RUN(bad_images_of_instances_are_refused);
	RUN(an_owner_ends_and_protects_an_image);
	RUN(a_reboot_is_waited_for_however_little_time_its_guest_is_given);
	rpc_server_free(server);
	json_decref(snapshots);
	json_decref(asked);
}

int main(void)
{
	return hvd_main(tests);
}
