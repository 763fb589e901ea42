/* Volumes that come to a running guest and go: libvirt's test driver, whose guest's devices are ours; stord and netd are served
 * by this process. */
#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>

#include "../../hvd/instance-rooms.h"
#include "../../hvd/virt-internal.h"
#include "../../hvd/volume.h"
#include "hvd_call.h"

#define INSTANCE "i-0000000000000000a"
#define FIRST	 "vol-0000000000000000b"
#define SECOND	 "vol-0000000000000000c"

/* The loop runs until it is so, for a minute at most. */
#define await(what)                                                                                \
	do                                                                                         \
		for (int tries_ = 0; tries_ < 12000 && !(what); tries_++)                          \
			fiber_sleep(5000);                                                         \
	while (0)

static int n_connected;

/* ---- the guest: what libvirt says of it ---- */

static char plugged[4][1024]; /* XML of its disks */
static unsigned n_plugged, n_pulled;
static int is_busy; /* with something that it was asked before */
static _Thread_local int has_timed_out;

char *virDomainGetXMLDesc(virDomainPtr domain, unsigned int flags)
{
	char *xml = NULL;
	size_t n_bytes;
	FILE *f = open_memstream(&xml, &n_bytes);

	(void)domain, (void)flags;
	fprintf(f, "<domain><devices>");
	for (unsigned i = 0; i < n_plugged; i++)
		fprintf(f, "%s", plugged[i]);
	fprintf(f, "</devices></domain>");
	(void)fclose(f);
	return xml;
}

int virDomainAttachDeviceFlags(virDomainPtr domain, const char *xml, unsigned int flags)
{
	(void)domain, (void)flags;
	snprintf(plugged[n_plugged++], sizeof plugged[0], "%s", strstr(xml, "<disk"));
	return 0;
}

int virDomainDetachDeviceAlias(virDomainPtr domain, const char *alias, unsigned int flags)
{
	(void)domain, (void)alias, (void)flags;
	n_plugged = 0;
	n_pulled++;
	return 0;
}

/* A question waits until libvirt has done what it was asked before, or gives up. */
int virDomainQemuMonitorCommand(virDomainPtr domain, const char *command, char **result,
				unsigned int flags)
{
	(void)domain, (void)command, (void)flags;
	has_timed_out = is_busy;
	*result = is_busy ? NULL : strdup("{}");
	return is_busy ? -1 : 0;
}

virErrorPtr virGetLastError(void)
{
	static virError timed_out = {.code = VIR_ERR_OPERATION_TIMEOUT,
				     .message = (char *)"cannot acquire state change lock"};

	return has_timed_out ? &timed_out : NULL;
}

static void on_connected(void *userdata)
{
	(void)userdata;
	n_connected++;
	instance_on_connected(d->store);
}

static void on_event(void *userdata, const char *name, enum virt_event event)
{
	(void)userdata, (void)name, (void)event;
}

static const struct virt_hooks hooks = {on_connected, on_event};

/* ---- stord and netd ---- */

static int n_given_back;

static int peer(void *userdata, struct rpc_request *r, json_t **ret_reply, struct fault *f)
{
	(void)userdata, (void)f;
	n_given_back += strcmp(r->method, "ec2.DetachVolume") == 0;
	*ret_reply = json_pack("{s:[], s:[], s:s, s:s}", "NetworkInterfaces", "Volumes", "_Path",
			       "/a/volume.qcow2", "_Format", "qcow2");
	return 0;
}

/* ---- the instance ---- */

static const json_t *instance(void)
{
	return store_find(d->store, INSTANCE_KIND, INSTANCE)->json;
}

static json_t *row(const char *device, const char *volume, const char *status)
{
	return json_pack("{s:s, s:{s:s, s:s}}", "DeviceName", device, "Ebs", "VolumeId", volume,
			 "Status", status);
}

static void put(json_t *rows)
{
	OWN(txn_free) struct txn *t = txn_new(d->store);
	json_t *json = json_pack("{s:s, s:o, s:[], s:o, s:s, s:s}", "InstanceId", INSTANCE,
				 "BlockDeviceMappings", rows, "NetworkInterfaces", "State",
				 instance_state_json(INSTANCE_RUNNING), "_HostBoot",
				 hvd_get()->host_boot, "_SeenAlive", "2026-01-01T00:00:00.000Z");

	if (txn_put(t, INSTANCE_KIND, INSTANCE, "123456789012", "us-east-1", json) < 0 ||
	    txn_commit(t) < 0)
		exit(1);
}

static const char *status_of(const char *volume)
{
	const json_t *r = volume_mapping(instance(), volume);

	return r ? jpath_str(r, "Ebs.Status") : "none";
}

/* ---- the tests ---- */

static void two_volumes_that_would_have_one_target_both_come(void)
{
	put(json_pack("[o, o]", row("/dev/sdf", FIRST, "attaching"),
		      row("/dev/xvdf", SECOND, "attaching")));
	ok(instance_reconcile(live_get(INSTANCE)) >= 0, "one round");
	is_str(status_of(FIRST), "attached", "the one is there");
	is_str(status_of(SECOND), "attached", "and the other");
	is_int((int)n_plugged, 2, "the guest has two disks");
	ok(strstr(plugged[0], "dev=\"vdf\"") || strstr(plugged[0], "dev='vdf'"),
	   "the first as vdf");
	ok(!strstr(plugged[1], "vdf"), "the second under another name");
	is_int(n_given_back, 0, "stord has none of them back");
}

/* libvirt is still at it when a later connection asks what the guest has. */
static void a_volume_that_libvirt_may_be_plugging_in_is_not_taken_for_gone(void)
{
	const struct live *l = live_get(INSTANCE);

	await(!l->has_fiber && !l->is_kicked);
	n_plugged = n_pulled = 0;
	n_given_back = 0;
	put(json_pack("[o]", row("/dev/sdf", FIRST, "detaching")));
	is_busy = 1;
	instance_on_connected(d->store);
	await(l->n_failures || n_given_back);
	is_str(status_of(FIRST), "detaching", "it is not known yet: the row stays");
	is_int(n_given_back, 0, "and stord's attachment with it");
	snprintf(plugged[n_plugged++], sizeof plugged[0],
		 "<disk><target dev='vdf'/><serial>vol0000000000000000b</serial>"
		 "<alias name='virtio-disk5'/></disk>");
	is_busy = 0; /* it has come */
	await(n_given_back);
	is_int((int)n_pulled, 1, "it is pulled out");
	is_str(status_of(FIRST), "none", "then the row goes");
	is_int(n_given_back, 1, "and stord has the volume back");
	await(!l->has_fiber && !l->is_kicked);
}

/* Else it would come in the file that it was plugged in with, which is a snapshot's by then. */
static void a_volume_that_libvirt_may_be_plugging_in_does_not_go_on_in_another_file(void)
{
	struct call c = {.ctx = &(struct context){.region = "us-east-1"}, .daemon = d};
	OWN(json_decref)
	json_t *ask = json_pack("{s:s, s:[{s:s, s:s}]}", "InstanceId", INSTANCE, "Disks",
				"VolumeId", SECOND, "Path", "/another.qcow2");
	OWN(json_decref) json_t *reply = NULL;

	n_plugged = 1; /* its root */
	snprintf(plugged[0], sizeof plugged[0], "<disk><target dev='vda'/></disk>");
	put(json_array());
	instance_on_connected(d->store);
	is_busy = 1;
	fault = (struct fault){0};
	ok(layers_switch(&c, ask, &reply, &fault) < 0, "it is not known yet");
	is_str(fault.code, "ServiceUnavailable", "and stord told so");
	is_busy = 0;
	is_int(layers_switch(&c, ask, &reply, &fault), 0, "nothing has come");
	ok(json_is_false(json_object_get(reply, "Live")), "no guest has it");
}

/* Else it would come with the limits that it was plugged in with, and keep them. */
static void a_volume_that_libvirt_may_be_plugging_in_is_not_changed_without_its_guest(void)
{
	struct call c = {.ctx = &(struct context){.region = "us-east-1"}, .daemon = d};
	OWN(json_decref)
	json_t *ask = json_pack("{s:s, s:s, s:{}}", "InstanceId", INSTANCE, "VolumeId", SECOND,
				"_Limits");
	OWN(json_decref) json_t *reply = NULL;

	n_plugged = 1; /* its root */
	snprintf(plugged[0], sizeof plugged[0], "<disk><target dev='vda'/></disk>");
	put(json_array());
	instance_on_connected(d->store);
	is_busy = 1;
	fault = (struct fault){0};
	ok(volume_apply(&c, ask, &reply, &fault) < 0, "it is not known yet");
	is_str(fault.code, "ServiceUnavailable", "and stord told so");
	is_busy = 0;
	is_int(volume_apply(&c, ask, &reply, &fault), 0, "nothing has come");
	ok(json_is_false(json_object_get(reply, "Live")), "no guest has it");
}

static void begin(void)
{
	char xml[256], error[VIRT_ERROR_BYTES];

	snprintf(xml, sizeof xml,
		 "<domain type='test'><name>%s</name><memory>1024</memory><os><type>hvm</type></os>"
		 "</domain>",
		 INSTANCE);
	await(n_connected);
	is_int(virt_create(hvd_get()->virt, INSTANCE, xml, error), 0, "the guest runs");
}

static void tests(void)
{
	(void)hvd_peer_start("netd", peer); /* to the end of the process */
	(void)hvd_peer_start("stord", peer);
	snprintf(hvd_get()->host_boot, sizeof hvd_get()->host_boot, "this one");
	hvd_get()->daemon = d;
	if (virt_new(d->loop, "test:///default", 60000000, &hooks, NULL, &hvd_get()->virt) < 0)
		exit(1);
	begin();
	RUN(two_volumes_that_would_have_one_target_both_come);
	RUN(a_volume_that_libvirt_may_be_plugging_in_is_not_taken_for_gone);
	RUN(a_volume_that_libvirt_may_be_plugging_in_does_not_go_on_in_another_file);
	RUN(a_volume_that_libvirt_may_be_plugging_in_is_not_changed_without_its_guest);
	parts_doubts_end();
	instance_purge_stop();
	live_close();
	virt_free(hvd_get()->virt);
}

int main(void)
{
	return hvd_main(tests);
}
