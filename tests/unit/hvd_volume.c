/* What DetachVolume says to who may not, in AWS's words; stord is the test's. */
#include "hvd_call.h"
#include "../../hvd/instance.h"

#define VOLUME "vol-00000000000000001"
#define GUEST  "i-00000000000000001"
#define OTHER  "i-00000000000000002"

static const char *attached_to[2]; /* up to NULL */
static int n_detached;

static int stord_answers(void *userdata, struct rpc_request *r, json_t **ret_reply, struct fault *f)
{
	json_t *list = json_array();

	(void)userdata, (void)f;
	n_detached += strcmp(r->method, "ec2.DetachVolume") == 0;
	for (size_t i = 0; i < 2 && attached_to[i]; i++)
		json_array_append_new(list, json_pack("{s:s s:s s:s}", "InstanceId", attached_to[i],
						      "Device", "/dev/sdf", "State", "attached"));
	*ret_reply = json_pack("{s:[{s:s s:s s:o}]}", "Volumes", "VolumeId", VOLUME, "State",
			       attached_to[0] ? "in-use" : "available", "Attachments", list);
	return 0;
}

static void put_instance(const char *id, int code, const char *state, const char *device)
{
	OWN(txn_free) struct txn *t = txn_new(d->store);

	txn_put(t, "instance", id, "123456789012", "us-east-1",
		json_pack("{s:s s:{s:i s:s} s:s s:[{s:s s:{s:s s:s}}]}", "InstanceId", id, "State",
			  "Code", code, "Name", state, "RootDeviceName", "/dev/sda1",
			  "BlockDeviceMappings", "DeviceName", device, "Ebs", "VolumeId", VOLUME,
			  "Status", "attached"));
	is_int(txn_commit(t), 0, state);
}

static void refused(const char *json, const char *code, const char *message)
{
	is_str(call("ec2.DetachVolume", json, NULL), code, message);
	is_str(fault.message, message, code);
}

static void a_volume_that_nobody_has_is_available(void)
{
	attached_to[0] = NULL;
	refused("{\"VolumeId\":\"" VOLUME "\"}", "IncorrectState",
		"Volume '" VOLUME "' is in the 'available' state.");
	refused("{\"VolumeId\":\"" VOLUME "\",\"InstanceId\":\"" GUEST "\"}", "IncorrectState",
		"Volume '" VOLUME "' is in the 'available' state.");
}

static void another_attachment_is_none(void)
{
	attached_to[0] = GUEST;
	refused("{\"VolumeId\":\"" VOLUME "\",\"InstanceId\":\"" OTHER "\"}",
		"InvalidAttachment.NotFound",
		"The volume '" VOLUME "' is not attached to instance '" OTHER "'.");
	refused("{\"VolumeId\":\"" VOLUME "\",\"InstanceId\":\"" OTHER
		"\",\"Device\":\"/dev/sdf\"}",
		"InvalidAttachment.NotFound",
		"The volume '" VOLUME "' is not attached to instance '" OTHER
		"' as device '/dev/sdf'.");
	refused("{\"VolumeId\":\"" VOLUME "\",\"Device\":\"/dev/sdg\"}",
		"InvalidAttachment.NotFound",
		"The volume '" VOLUME "' is not attached to instance '" GUEST
		"' as device '/dev/sdg'.");
}

static void several_attachments_need_an_instance(void)
{
	attached_to[0] = GUEST, attached_to[1] = OTHER;
	refused("{\"VolumeId\":\"" VOLUME "\"}", "MissingParameter",
		"The request must contain the parameter instanceId: the volume '" VOLUME
		"' is attached to several instances");
	attached_to[1] = NULL;
}

static void an_instance_between_two_states_lets_nothing_go(void)
{
	put_instance(GUEST, 64, "stopping", "/dev/sdf");
	refused("{\"VolumeId\":\"" VOLUME "\"}", "IncorrectInstanceState",
		"Unable to detach volume '" VOLUME "' from instance '" GUEST
		"'. The instance is not in a state in which volumes can be detached.");
}

static void a_running_instance_keeps_its_root(void)
{
	put_instance(GUEST, 16, "running", "/dev/sda1");
	refused("{\"VolumeId\":\"" VOLUME "\"}", "OperationNotPermitted",
		"Unable to detach root volume '" VOLUME "' from instance '" GUEST "'");
	is_int(n_detached, 0, "nothing of all this came to the volume");
}

static void tests(void)
{
	static const struct daemon_spec instances = {.name = "hvd", .actions = instance_actions};
	struct rpc_server *stord = hvd_peer_start("stord", stord_answers);

	d->spec = &instances;
	RUN(a_volume_that_nobody_has_is_available);
	RUN(another_attachment_is_none);
	RUN(several_attachments_need_an_instance);
	RUN(an_instance_between_two_states_lets_nothing_go);
	RUN(a_running_instance_keeps_its_root);
	rpc_server_free(stord);
}

int main(void)
{
	return hvd_main(tests);
}
