/* A domain that is not there though it should be, or is though it should not, on libvirt's test driver; netd and stord know of
 * nothing. */
#include "../../hvd/instance-rooms.h"
#include "hvd_call.h"

#define OTHER	   "i-0000000000000000a"
#define ENDING	   "i-0000000000000000b"
#define STOPPED	   "i-0000000000000000c"
#define TERMINATED "i-0000000000000000d"
#define UNHEARD	   "i-0000000000000000e"
#define SECOND	   UINT64_C(1000000)
#define TEST_NAME  "test" /* the driver's own domain, which runs */

static int n_connected;

static void on_connected(void *userdata)
{
	(void)userdata;
	n_connected++;
}

static void on_event(void *userdata, const char *name, enum virt_event event)
{
	(void)userdata;
	instance_on_event(name, event);
}

static const struct virt_hooks hooks = {on_connected, on_event};

/* The loop runs until it is so, for a minute at most. */
#define await(what)                                                                                \
	do                                                                                         \
		for (int tries_ = 0; tries_ < 12000 && !(what); tries_++)                          \
			fiber_sleep(5000);                                                         \
	while (0)

static int peer(void *userdata, struct rpc_request *r, json_t **ret_reply, struct fault *f)
{
	(void)userdata, (void)r, (void)f;
	*ret_reply = json_pack("{s:[], s:[]}", "NetworkInterfaces", "Volumes");
	return 0;
}

static const json_t *instance(const char *id)
{
	return store_find(d->store, INSTANCE_KIND, id)->json;
}

static void put(const char *id, enum instance_state state)
{
	OWN(txn_free) struct txn *t = txn_new(d->store);
	json_t *json = json_pack("{s:s, s:[], s:[], s:o, s:s, s:s}", "InstanceId", id,
				 "BlockDeviceMappings", "NetworkInterfaces", "State",
				 instance_state_json(state), "_ShutdownBehavior", "terminate",
				 "_HostBoot", hvd_get()->host_boot);

	if (txn_put(t, INSTANCE_KIND, id, "123456789012", "us-east-1", json) < 0 ||
	    txn_commit(t) < 0)
		exit(1);
}

/* A running instance of this life of the machine; its guest's own power-off ends it for good. */
static struct live *running(const char *id)
{
	put(id, INSTANCE_RUNNING);
	return live_get(id);
}

static void a_driver_without_a_monitor_is_taken_at_its_word(void)
{
	is_int(virt_has_refused(hvd_get()->virt, TEST_NAME), 1, "it lives: a refusal");
	is_int(virt_has_refused(hvd_get()->virt, OTHER), 0, "it does not: none");
}

static void whoever_looks_a_missing_domain_waits_for_its_event(void)
{
	struct live *l = running(OTHER);

	ok(instance_reconcile(l) > 0, "it is looked at again soon");
	ok(l->missed_usec > 0, "since it is missed");
	for (int i = 0; i < 3; i++) {
		l->missed_usec = now_usec(); /* this machine may be slow */
		ok(instance_reconcile(l) > 0, "somebody looks meanwhile");
		is_int(instance_state_of(instance(OTHER)), INSTANCE_RUNNING, "nothing is decided");
	}
	l->missed_usec = now_usec() - 60 * SECOND;
	is_int(instance_reconcile(l), 1, "no event came");
	is_int(instance_state_of(instance(OTHER)), INSTANCE_STOPPING, "then its QEMU has died");
}

static void a_power_off_that_is_heard_of_late_is_the_guests_still(void)
{
	struct live *l = running(ENDING);

	ok(instance_reconcile(l) > 0, "it is missed");
	l->missed_usec = now_usec();
	instance_on_event(ENDING, VIRT_SHUTDOWN);
	await(instance_state_of(instance(ENDING)) == INSTANCE_TERMINATED);
	is_int(instance_state_of(instance(ENDING)), INSTANCE_TERMINATED, "the guest wanted it");
	is_str(jpath_str(instance(ENDING), "StateReason.Code"), "Client.InstanceInitiatedShutdown",
	       "and it is told so");
}

static void begins(const char *id)
{
	char xml[256], error[VIRT_ERROR_BYTES];

	snprintf(xml, sizeof xml,
		 "<domain type='test'><name>%s</name><memory>1024</memory><os><type>hvm</type></os>"
		 "</domain>",
		 id);
	is_int(virt_create(hvd_get()->virt, id, xml, error), 0, "libvirt starts it");
}

static void is_ended(const char *id)
{
	await(virt_is_active(hvd_get()->virt, id) == 0);
	is_int(virt_is_active(hvd_get()->virt, id), 0, "it is ended");
}

static void begins_and_is_ended(const char *id)
{
	begins(id);
	is_ended(id);
}

static void a_start_that_comes_after_the_instances_end_is_undone(void)
{
	put(STOPPED, INSTANCE_STOPPED);
	put(TERMINATED, INSTANCE_TERMINATED);
	begins_and_is_ended(STOPPED);
	is_int(instance_state_of(instance(STOPPED)), INSTANCE_STOPPED, "it stays stopped");
	begins_and_is_ended(TERMINATED);
	is_int(instance_state_of(instance(TERMINATED)), INSTANCE_TERMINATED, "and terminated");
	await(!live_find(STOPPED) && !live_find(TERMINATED));
	ok(!live_find(STOPPED) && !live_find(TERMINATED), "and nothing of them is in memory");
}

static void a_start_that_nobody_heard_of_is_undone_at_the_next_connection(void)
{
	begins(UNHEARD); /* an event of an instance that is not known yet */
	fiber_sleep(50000);
	put(UNHEARD, INSTANCE_STOPPED);
	is_int(virt_is_active(hvd_get()->virt, UNHEARD), 1, "it runs");
	instance_on_connected(d->store);
	is_ended(UNHEARD);
	await(!live_find(UNHEARD) && !live_find(STOPPED) && !live_find(TERMINATED));
	ok(!live_find(UNHEARD) && !live_find(STOPPED) && !live_find(TERMINATED),
	   "and nothing of those that are over is in memory");
}

static void tests(void)
{
	(void)hvd_peer_start("netd", peer); /* to the end of the process */
	(void)hvd_peer_start("stord", peer);
	snprintf(hvd_get()->host_boot, sizeof hvd_get()->host_boot, "this one");
	hvd_get()->daemon = d;
	if (virt_new(d->loop, "test:///default", 60 * SECOND, &hooks, NULL, &hvd_get()->virt) < 0)
		exit(1);
	await(n_connected);
	RUN(a_driver_without_a_monitor_is_taken_at_its_word);
	RUN(whoever_looks_a_missing_domain_waits_for_its_event);
	RUN(a_power_off_that_is_heard_of_late_is_the_guests_still);
	RUN(a_start_that_comes_after_the_instances_end_is_undone);
	RUN(a_start_that_nobody_heard_of_is_undone_at_the_next_connection);
	instance_purge_stop();
	live_close();
	virt_free(hvd_get()->virt);
}

int main(void)
{
	return hvd_main(tests);
}
