/* Instances without any other daemon: the table of states, and what requests may say. */
#include <errno.h>

#include "../../hvd/instance-rooms.h"
#include "tap.h"

static json_t *instance_in(enum instance_state s)
{
	return json_pack("{s:s, s:o}", "InstanceId", "i-0123456789abcdef0", "State",
			 instance_state_json(s));
}

static void every_move_is_allowed_by_the_table_or_changes_nothing(void)
{
	for (int from = 0; from < INSTANCE_STATES; from++)
		for (int to = 0; to < INSTANCE_STATES; to++) {
			OWN(json_decref) json_t *i = instance_in(from);
			OWN(json_decref) json_t *before = json_deep_copy(i);
			int r = instance_move(i, to, REASON_USER);

			if (instance_may_become(from, to))
				ok(r == 0 && instance_state_of(i) == (enum instance_state)to,
				   instance_state_name(to));
			else
				ok(r == -EBUSY && json_equal(i, before), instance_state_name(to));
		}
}

static void the_dead_stay_dead(void)
{
	for (int to = 0; to < INSTANCE_STATES; to++)
		ok(!instance_may_become(INSTANCE_TERMINATED, to), instance_state_name(to));
}

/* Every state can still end: no instance is stuck. */
static void every_instance_can_end(void)
{
	for (int from = 0; from < INSTANCE_STATES; from++)
		ok(from == INSTANCE_TERMINATED || from == INSTANCE_SHUTTING_DOWN ||
			   instance_may_become(from, INSTANCE_SHUTTING_DOWN),
		   instance_state_name(from));
	ok(instance_may_become(INSTANCE_SHUTTING_DOWN, INSTANCE_TERMINATED), "shutting-down ends");
}

static void states_have_awss_numbers(void)
{
	static const int codes[INSTANCE_STATES] = {
		[INSTANCE_PENDING] = 0,	    [INSTANCE_RUNNING] = 16,  [INSTANCE_SHUTTING_DOWN] = 32,
		[INSTANCE_TERMINATED] = 48, [INSTANCE_STOPPING] = 64, [INSTANCE_STOPPED] = 80};

	for (int s = 0; s < INSTANCE_STATES; s++) {
		OWN(json_decref) json_t *shown = instance_state_json(s);
		is_int(jint(shown, "Code", -1), codes[s], instance_state_name(s));
	}
}

static void reasons_are_awss_and_last(void)
{
	OWN(json_decref) json_t *i = instance_in(INSTANCE_RUNNING);

	is_int(instance_move(i, INSTANCE_STOPPING, REASON_USER), 0, "a user stops it");
	is_str(jpath_str(i, "StateReason.Code"), "Client.UserInitiatedShutdown", "who");
	ok(strncmp(jstr_or(i, "StateTransitionReason", ""), "User initiated (20", 18) == 0,
	   "and when");
	OWN(json_decref) json_t *reason = json_deep_copy(json_object_get(i, "StateReason"));
	is_int(instance_move(i, INSTANCE_STOPPED, REASON_SAME), 0, "it stops");
	ok(json_equal(reason, json_object_get(i, "StateReason")), "the reason stays");
	is_int(instance_move(i, INSTANCE_PENDING, REASON_NONE), 0, "it is started");
	ok(!json_object_get(i, "StateReason"), "and has no reason any more");
	is_str(jstr(i, "StateTransitionReason"), "", "nor a transition's");
}

static void base64_is_measured_strictly(void)
{
	is_int(base64_length(""), 0, "nothing");
	is_int(base64_length("QQ=="), 1, "one byte");
	is_int(base64_length("QUI="), 2, "two");
	is_int(base64_length("QUJD"), 3, "three");
	is_int(base64_length("QU\nJD\n"), 3, "line ends count for nothing");
	is_int(base64_length("QUJ"), -EINVAL, "cut off");
	is_int(base64_length("Q==="), -EINVAL, "too much padding");
	is_int(base64_length("QQ==QQ=="), -EINVAL, "padding inside");
	is_int(base64_length("Q-_D"), -EINVAL, "the other alphabet");
	is_int(base64_length("#!/bin/sh\n"), -EINVAL, "not base64 at all");
}

static void user_data_is_limited(void)
{
	struct fault f = {0};
	char text[21848 + 1];

	memset(text, 'A', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	text[21847] = '='; /* 16,385 bytes: one too many */
	is_int(base64_length(text), 16385, "as meant");
	ok(user_data_check(text, &f) < 0 && fault_is(&f, FAULT_INVALID_PARAMETER_VALUE),
	   "16 KiB and a byte are refused");
	text[21846] = '=';
	is_int(user_data_check(text, NULL), 0, "16 KiB are not");
	ok(user_data_check("%%%%", &f) < 0 && fault_is(&f, FAULT_INVALID_USER_DATA_MALFORMED),
	   "what is not base64 is malformed");
}

static void metadata_options_change_what_is_asked_and_no_more(void)
{
	OWN(json_decref)
	json_t *o = json_pack("{s:s, s:i, s:s}", "HttpTokens", "optional",
			      "HttpPutResponseHopLimit", 1, "HttpEndpoint", "enabled");
	OWN(json_decref)
	json_t *ask =
		json_pack("{s:s, s:i}", "HttpTokens", "required", "HttpPutResponseHopLimit", 64);
	OWN(json_decref) json_t *far = json_pack("{s:i}", "HttpPutResponseHopLimit", 65);
	OWN(json_decref) json_t *six = json_pack("{s:s}", "HttpProtocolIpv6", "enabled");
	struct fault f = {0};

	is_int(metadata_options_apply(o, ask, &f), 0, "taken");
	is_str(jstr(o, "HttpTokens"), "required", "tokens");
	is_int(jint(o, "HttpPutResponseHopLimit", 0), 64, "hops");
	is_str(jstr(o, "HttpEndpoint"), "enabled", "the rest is as it was");
	ok(metadata_options_apply(o, far, &f) < 0 && fault_is(&f, FAULT_INVALID_PARAMETER_VALUE),
	   "65 hops are refused");
	is_int(metadata_options_apply(o, six, &f), 0, "IPv6 is taken");
	is_str(jstr(o, "HttpProtocolIpv6"), "enabled", "and kept");
	is_int(metadata_options_apply(o, NULL, NULL), 0, "nothing asked is nothing done");
}

/* An instance shows what netd says of its interfaces, the first one also as its own. */
static void interfaces_become_the_instances_own(void)
{
	OWN(json_decref)
	json_t *enis = json_loads(
		"[{\"NetworkInterfaceId\": \"eni-2\", \"PrivateIpAddress\": \"10.0.0.2\", "
		"\"VpcId\": \"vpc-1\","
		"  \"Attachment\": {\"DeviceIndex\": 1, \"InstanceId\": \"i-1\"}},"
		" {\"NetworkInterfaceId\": \"eni-1\", \"PrivateIpAddress\": \"10.0.0.1\", "
		"\"VpcId\": \"vpc-1\", \"SubnetId\": \"subnet-1\","
		"  \"PrivateDnsName\": \"ip-10-0-0-1.ec2.internal\", \"Groups\": [{\"GroupId\": "
		"\"sg-1\"}], \"TagSet\": [], \"Ipv6Addresses\": [{\"Ipv6Address\": \"fd00::1\"}, "
		"{\"Ipv6Address\": \"fd00::2\"}],"
		"  \"Association\": {\"PublicIp\": \"198.18.0.1\", \"PublicDnsName\": \"x\"},"
		"  \"Attachment\": {\"DeviceIndex\": 0, \"InstanceId\": \"i-1\"}}]",
		0, NULL);
	OWN(json_decref) json_t *none = json_array();
	OWN(json_decref) json_t *i = instance_in(INSTANCE_RUNNING);

	is_int(instance_set_interfaces(i, enis), 0, "set");
	is_str(jstr(i, "PrivateIpAddress"), "10.0.0.1", "device 0 comes first");
	is_str(jstr(i, "PublicIpAddress"), "198.18.0.1", "its public address");
	is_str(jstr(i, "Ipv6Address"), "fd00::1", "its first one of IPv6");
	is_str(jstr(json_array_get(json_object_get(i, "NetworkInterfaces"), 1),
		    "NetworkInterfaceId"),
	       "eni-2", "then device 1");
	ok(!jpath(json_array_get(json_object_get(i, "NetworkInterfaces"), 0),
		  "Attachment.InstanceId"),
	   "without what only netd shows");
	is_int(instance_set_interfaces(i, none), 0, "none left");
	ok(!json_object_get(i, "VpcId") && !json_object_get(i, "PublicIpAddress") &&
		   !json_object_get(i, "Ipv6Address"),
	   "as a terminated instance shows itself");
	is_str(jstr(i, "PrivateDnsName"), "", "with an empty name");
}

static void metadata_is_for_addresses_of_prefixes_too(void)
{
	static const struct {
		const char *address;
		int is_its;
	} asks[] = {{"10.0.0.1", 1},	  {"10.0.0.2", 0},  {"10.0.0.15", 0},
		    {"10.0.0.16", 1},	  {"10.0.0.31", 1}, {"10.0.0.32", 0},
		    {"fd00::1", 1},	  {"fd00::2", 0},   {"fd00:0:0:0:1:ffff:0:1", 1},
		    {"fd00:0:0:0:2::", 0}};
	OWN(json_decref) json_t *i = instance_in(INSTANCE_RUNNING);
	OWN(json_decref)
	json_t *enis =
		json_loads("[{\"VpcId\": \"vpc-1\", \"Attachment\": {\"DeviceIndex\": 0},"
			   "  \"PrivateIpAddresses\": [{\"PrivateIpAddress\": \"10.0.0.1\"}],"
			   "  \"Ipv4Prefixes\": [{\"Ipv4Prefix\": \"10.0.0.16/28\"}],"
			   "  \"Ipv6Addresses\": [{\"Ipv6Address\": \"fd00::1\"}],"
			   "  \"Ipv6Prefixes\": [{\"Ipv6Prefix\": \"fd00:0:0:0:1::/80\"}]}]",
			   0, NULL);

	is_int(instance_set_interfaces(i, enis), 0, "set");
	struct doc d = {.json = i};

	for (size_t k = 0; k < sizeof(asks) / sizeof(asks[0]); k++)
		is_int(instance_has_address(&d, "vpc-1", asks[k].address), asks[k].is_its,
		       asks[k].address);
	is_int(instance_has_address(&d, "vpc-2", "10.0.0.16"), 0, "not in another VPC");
}

static void silence_is_what_could_have_been_broken(void)
{
	const uint64_t sec = 1000000, now = 1000 * sec;

	ok(!agent_is_silent(now, now - 59 * sec, sec, 0), "six beats may be late");
	ok(agent_is_silent(now, now - 60 * sec, sec, 0), "not more");
	ok(!agent_is_silent(now, 0, now - 59 * sec, 0),
	   "before we listened nothing could be heard");
	ok(agent_is_silent(now, 0, now - 60 * sec, 0), "but since");
	ok(!agent_is_silent(now, now - 300 * sec, now - sec, 0), "nor before the guest was reset");
	ok(agent_is_silent(now, 0, now - sec, 1), "who was silent before our restart is so still");
	ok(!agent_is_silent(now, now - sec, now - 2 * sec, 1), "until it is heard");
}

static void a_guests_uptime_tells_whether_it_has_begun_since(void)
{
	const uint64_t second = 1000000, since = 1000 * second;

	ok(!instance_has_begun_since(50, since + 5 * second, since), "up for longer than that");
	ok(instance_has_begun_since(3, since + 5 * second, since), "up for less");
	ok(!instance_has_begun_since(3, since - 1, since), "it was heard before that");
	ok(!instance_has_begun_since(-1, since + 5 * second, since), "what no clock says");
}

int main(void)
{
	RUN(every_move_is_allowed_by_the_table_or_changes_nothing);
	RUN(the_dead_stay_dead);
	RUN(every_instance_can_end);
	RUN(states_have_awss_numbers);
	RUN(reasons_are_awss_and_last);
	RUN(base64_is_measured_strictly);
	RUN(user_data_is_limited);
	RUN(metadata_options_change_what_is_asked_and_no_more);
	RUN(interfaces_become_the_instances_own);
	RUN(metadata_is_for_addresses_of_prefixes_too);
	RUN(silence_is_what_could_have_been_broken);
	RUN(a_guests_uptime_tells_whether_it_has_begun_since);
	return tests_done();
}
