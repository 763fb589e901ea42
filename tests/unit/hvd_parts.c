/* What netd and stord do after they were given up: they are served by this process. */
#include "../../hvd/instance-rooms.h"
#include "../../hvd/volume.h"
#include "hvd_call.h"

#define LAUNCHED "i-0000000000000000a"
#define INSTANCE "i-0000000000000000b"
#define CARD	 "eni-0000000000000000c"
#define VOLUME	 "vol-0000000000000000d"

static const struct context ctx = {.account = "123456789012", .region = "us-east-1"};
static int has_card, has_reservation, n_card_lists;
static int n_deleted, n_detached, n_refused;

/* The loop runs until it is so, for a minute at most. */
#define await(what)                                                                                \
	do                                                                                         \
		for (int tries_ = 0; tries_ < 12000 && !(what); tries_++)                          \
			fiber_sleep(5000);                                                         \
	while (0)

static int netd(void *userdata, struct rpc_request *r, json_t **ret_reply, struct fault *f)
{
	int is_here = strcmp(r->ctx.region, ctx.region) == 0;

	(void)userdata, (void)f;
	if (strcmp(r->method, "ec2.DeleteNetworkInterface") == 0) {
		n_deleted++;
		has_card = 0;
		*ret_reply = json_object();
		return 0;
	}
	n_card_lists += is_here;
	*ret_reply = is_here && has_card
			     ? json_pack("{s:[{s:s, s:{s:s, s:b}}]}", "NetworkInterfaces",
					 "NetworkInterfaceId", CARD, "Attachment", "InstanceId",
					 LAUNCHED, "_Born", 1)
			     : json_pack("{s:[]}", "NetworkInterfaces");
	return 0;
}

static int stord(void *userdata, struct rpc_request *r, json_t **ret_reply, struct fault *f)
{
	(void)userdata;
	if (strcmp(r->method, "ec2.DetachVolume") == 0) {
		if (!has_reservation) {
			n_refused++;
			return fault_set(f, FAULT_INCORRECT_STATE, "It is available");
		}
		n_detached++;
		has_reservation = 0;
		*ret_reply = json_object();
		return 0;
	}
	*ret_reply =
		has_reservation && strcmp(r->ctx.region, ctx.region) == 0
			? json_pack("{s:[{s:s, s:[{s:s, s:s}]}]}", "Volumes", "VolumeId", VOLUME,
				    "Attachments", "InstanceId", INSTANCE, "State", "attaching")
			: json_pack("{s:[]}", "Volumes");
	return 0;
}

static void a_part_that_is_made_after_the_launch_was_swept_goes_too(void)
{
	parts_claim(&ctx, LAUNCHED);
	parts_abandon(LAUNCHED);
	await(n_card_lists == 1);
	parts_doubt();
	has_card = 1; /* only now it is made */
	await(n_deleted == 1);
	is_int(n_deleted, 1, "netd is told to delete it");
}

static void a_volume_that_is_reserved_after_it_was_given_back_is_given_back_again(void)
{
	OWN(txn_free) struct txn *t = txn_new(d->store);
	json_t *instance =
		json_pack("{s:s, s:[], s:o}", "InstanceId", INSTANCE, "BlockDeviceMappings",
			  "State", instance_state_json(INSTANCE_STOPPED));

	if (txn_put(t, INSTANCE_KIND, INSTANCE, ctx.account, ctx.region, instance) < 0 ||
	    txn_commit(t) < 0)
		exit(1);
	volume_return_later(&ctx, VOLUME, INSTANCE);
	await(n_refused == 1);
	is_int(n_refused, 1, "stord knows nothing of it");
	has_reservation = 1; /* until now */
	await(n_detached == 1);
	is_int(n_detached, 1, "it is asked again");
}

static void tests(void)
{
	(void)hvd_peer_start("netd", netd); /* to the end of the process */
	(void)hvd_peer_start("stord", stord);
	RUN(a_part_that_is_made_after_the_launch_was_swept_goes_too);
	RUN(a_volume_that_is_reserved_after_it_was_given_back_is_given_back_again);
	parts_doubts_end();
}

int main(void)
{
	return hvd_main(tests);
}
