/* Who has which address: none is given twice, reserved ones never, and what is given back is
 * free. */
#include "tap.h"

#include <errno.h>
#include <unistd.h>

#include "jsonx.h"
#include "../../netd/address.h"
#include "../../netd/delegation.h"
#include "../../netd/taken.h"

#define SUBNET "subnet-00000001"

static char path[128];
static struct store *store;
static json_t *subnet;

static void put_interface(struct txn *t, int n, const char *subnet_id, const char *first,
			  const char *public, int device)
{
	char id[40], mac[20];

	snprintf(id, sizeof id, "eni-%08x", n);
	snprintf(mac, sizeof mac, "02:00:00:00:00:%02x", n);
	txn_put(t, "network-interface", id, "123456789012", "us-east-1",
		json_pack("{s:s s:s s:s s:[{s:s s:o*}] s:{s:s s:i}}", "NetworkInterfaceId", id,
			  "SubnetId", subnet_id, "MacAddress", mac, "PrivateIpAddresses",
			  "PrivateIpAddress", first, "Association",
			  public ? json_pack("{s:s}", "PublicIp", public) : NULL, "Attachment",
			  "InstanceId", "i-1", "DeviceIndex", device));
}

static void drop_interface(struct txn *t, int n)
{
	char id[40];

	snprintf(id, sizeof id, "eni-%08x", n);
	txn_delete(t, "network-interface", id);
}

static void a_subnet_keeps_five(void)
{
	is_int(address_count_free(subnet), 11, "of 16");
}

static void what_cannot_be_had_is_refused(void)
{
	static const char *const reserved[] = {"10.0.0.16", "10.0.0.17", "10.0.0.18", "10.0.0.19",
					       "10.0.0.31"},
				 *const outside[] = {"10.0.0.15", "10.0.0.32", "0.0.0.0"};
	char got[IP_TEXT_MAX] = "untouched";

	for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
		is_int(address_take(subnet, reserved[i], NULL, got), -EPERM, reserved[i]);
	for (size_t i = 0; i < sizeof outside / sizeof *outside; i++)
		is_int(address_take(subnet, outside[i], NULL, got), -ERANGE, outside[i]);
	is_int(address_take(subnet, "10.0.0", NULL, got), -EINVAL, "half an address");
	is_str(got, "untouched", "results are untouched on failure");
	is_int(address_take(subnet, "10.0.0.20", NULL, got), 0, "the first that can be had");
	is_int(address_take(subnet, "10.0.0.30", NULL, got), 0, "the last that can be had");
}

static void every_free_address_is_given_once(void)
{
	OWN(json_decref) json_t *taken = json_array();
	char got[IP_TEXT_MAX];
	int n = 0;

	while (address_take(subnet, NULL, taken, got) == 0) {
		ok(!jarray_has(taken, got), "new");
		is_int(address_take(subnet, got, NULL, got), 0, "and one that could be asked for");
		json_array_append_new(taken, json_string(got));
		n++;
	}
	is_int(n, 11, "as many as there are");
	is_int(address_take(subnet, NULL, taken, got), -ENOSPC, "then there is none");
}

static void interfaces_hold_their_addresses_until_they_go(void)
{
	OWN(txn_free) struct txn *t = txn_new(store);
	char got[IP_TEXT_MAX];

	put_interface(t, 1, SUBNET, "10.0.0.20", "198.18.0.1", 0);
	/* another VPC's subnet with the same block */
	put_interface(t, 2, "subnet-00000002", "10.0.0.21", NULL, 1);
	is_int(address_count_free(subnet), 11, "not before the commit");
	txn_commit(t);
	is_int(address_count_free(subnet), 10, "its own and not the other's");
	is_int(address_take(subnet, "10.0.0.20", NULL, got), -EADDRINUSE, "taken");
	is_int(address_take(subnet, "10.0.0.21", NULL, got), 0, "the other's is free here");
	ok(taken_public("198.18.0.1") && taken_mac("02:00:00:00:00:01"),
	   "public address and MAC are known");
	is_int(taken_interfaces("123456789012", "us-east-1"), 2, "counted by account and region");
	is_str(taken_device("i-1", 1), "eni-00000002", "and by device");
	put_interface(t, 1, SUBNET, "10.0.0.20", NULL, 0);
	txn_commit(t);
	ok(!taken_public("198.18.0.1"), "a public address is given back alone");
	is_int(address_take(subnet, "10.0.0.20", NULL, got), -EADDRINUSE, "the private one stays");
	drop_interface(t, 1);
	put_interface(t, 3, SUBNET, "10.0.0.22", NULL, 0);
	txn_commit(t);
	is_int(address_take(subnet, "10.0.0.20", NULL, got), 0, "then it is free again");
	is_str(taken_device("i-1", 0), "eni-00000003", "one commit may hand a place on");
}

static void the_order_within_a_commit_does_not_matter(void)
{
	OWN(txn_free) struct txn *t = txn_new(store);

	put_interface(t, 4, SUBNET, "10.0.0.23", NULL, 0);
	drop_interface(t, 3);
	txn_commit(t);
	is_str(taken_device("i-1", 0), "eni-00000004", "also when the new holder comes first");
}

static void a_start_finds_what_was_taken(void)
{
	taken_close();
	store_free(store);
	store = NULL;
	is_int(store_open(path, 1, NULL, &store), 0, "opened again");
	is_int(taken_open(store), 0, "gathered");
	is_int(address_count_free(subnet), 10, "as before");
	is_str(taken_device("i-1", 0), "eni-00000004", "devices too");
}

static void the_pool_gives_each_once(void)
{
	OWN(txn_free) struct txn *t = txn_new(store);
	struct cidr pool, one;
	char got[IP_TEXT_MAX];

	cidr_parse("198.18.0.0/30", &pool);
	cidr_parse("198.18.0.9/32", &one);
	is_int(address_take_from_pool(one, got), 0, "a pool of one address");
	is_str(got, "198.18.0.9", "has that one");
	put_interface(t, 5, SUBNET, "10.0.0.24", "198.18.0.1", 5);
	txn_put(t, "elastic-ip", "eipalloc-1", "123456789012", "us-east-1",
		json_pack("{s:s}", "PublicIp", "198.18.0.1"));
	txn_commit(t);
	is_int(address_take_from_pool(pool, got), 0, "two in a /30");
	is_str(got, "198.18.0.2", "the other one");
	drop_interface(t, 5);
	txn_commit(t);
	ok(taken_public("198.18.0.1"), "an elastic address stays taken without its interface");
	put_interface(t, 6, SUBNET, "10.0.0.25", "198.18.0.2", 6);
	txn_commit(t);
	is_int(address_take_from_pool(pool, got), -ENOSPC, "then there is none");
}

static void reserve_in(struct txn *t, const char *subnet_id, const char *id, const char *block,
		       const char *type)
{
	txn_put(t, "subnet-cidr-reservation", id, "123456789012", "us-east-1",
		json_pack("{s:s s:s s:s}", "SubnetId", subnet_id, "Cidr", block, "ReservationType",
			  type));
}

static void reserve(struct txn *t, const char *id, const char *block)
{
	reserve_in(t, SUBNET, id, block, "explicit");
}

/* .23 and .25 are in use. */
static void reservations_are_not_free(void)
{
	OWN(json_decref) json_t *also = json_array();
	OWN(txn_free) struct txn *t = txn_new(store);
	char got[IP_TEXT_MAX];

	is_int(address_count_free(subnet), 9, "before");
	reserve(t, "scr-1", "10.0.0.16/30");
	reserve(t, "scr-2", "fd00::/80");
	txn_commit(t);
	is_int(address_count_free(subnet), 9, "what nobody gets anyway, and IPv6, change nothing");
	reserve(t, "scr-3", "10.0.0.22/31");
	reserve(t, "scr-4", "10.0.0.28/30");
	txn_commit(t);
	is_int(address_count_free(subnet), 9 - 1 - 3, "one is in use, and one the last of all");
	while (address_take(subnet, NULL, also, got) == 0) {
		ok(strcmp(got, "10.0.0.22") != 0 && strcmp(got, "10.0.0.28") < 0, "of the rest");
		json_array_append_new(also, json_string(got));
	}
	is_int(json_array_size(also), 5, "all that are free are found");
	put_interface(t, 7, SUBNET, "10.0.0.29", NULL, 7);
	txn_commit(t);
	is_int(address_count_free(subnet), 5, "one taken by name was not free");
	txn_delete(t, "subnet-cidr-reservation", "scr-4");
	txn_commit(t);
	is_int(address_count_free(subnet), 7, "the others are again when the reservation goes");
}

static void put_prefix(struct txn *t, const char *id, const char *subnet_id, const char *prefix)
{
	txn_put(t, "network-interface", id, "123456789012", "us-east-1",
		json_pack("{s:s s:s s:[{s:s}]}", "NetworkInterfaceId", id, "SubnetId", subnet_id,
			  "Ipv4Prefixes", "Ipv4Prefix", prefix));
}

static void a_prefix_is_sixteen_addresses(void)
{
	OWN(json_decref)
	json_t *larger =
		json_pack("{s:s s:s}", "SubnetId", "subnet-00000003", "CidrBlock", "10.0.1.0/26");
	OWN(json_decref) json_t *one = json_pack("{s:i}", "Ipv4PrefixCount", 1);
	OWN(json_decref) json_t *also = json_pack("[s]", "10.0.1.33"), *texts = json_array();
	OWN(txn_free) struct txn *t = txn_new(store);
	char got[IP_TEXT_MAX];
	struct fault f = {0};

	put_prefix(t, "eni-000000a0", "subnet-00000003", "10.0.1.16/28");
	txn_commit(t);
	is_int(address_count_free(larger), 64 - 5 - 16, "of 64");
	is_int(address_take(larger, "10.0.1.16", NULL, got), -EADDRINUSE, "its first");
	is_int(address_take(larger, "10.0.1.31", NULL, got), -EADDRINUSE, "its last");
	is_int(address_take(larger, "10.0.1.32", NULL, got), 0, "the one behind it");
	reserve_in(t, "subnet-00000003", "scr-5", "10.0.1.16/29", "explicit");
	txn_commit(t);
	is_int(address_count_free(larger), 64 - 5 - 16, "half of it is reserved, and in use");
	reserve_in(t, "subnet-00000003", "scr-6", "10.0.1.32/28", "prefix");
	txn_commit(t);
	is_int(address_count_free(larger), 64 - 5 - 32, "what is reserved for prefixes");
	is_int(delegation_take(&delegation_ipv4, larger, one, also, texts, &f) < 0, 1,
	       "an address of the same request is in the last block");
	is_str(f.code, "InsufficientCidrBlocks", "so there is none");
	is_int(delegation_take(&delegation_ipv4, larger, one, NULL, texts, &f), 0, "without it");
	is_str(json_string_value(json_array_get(texts, 0)), "10.0.1.32/28", "the reserved one");
	txn_delete(t, "network-interface", "eni-000000a0");
	txn_commit(t);
	is_int(address_take(larger, "10.0.1.16", NULL, got), 0, "with its interface it goes");
}

static void names_follow_the_region(void)
{
	char name[ADDRESS_NAME_MAX];

	address_private_name("us-east-1", "172.31.0.5", name);
	is_str(name, "ip-172-31-0-5.ec2.internal", "private, first region");
	address_private_name("ap-northeast-2", "172.31.0.5", name);
	is_str(name, "ip-172-31-0-5.ap-northeast-2.compute.internal", "private, others");
	address_public_name("us-east-1", "198.18.0.5", name);
	is_str(name, "ec2-198-18-0-5.compute-1.amazonaws.com", "public, first region");
	address_public_name("ap-northeast-2", "198.18.0.5", name);
	is_str(name, "ec2-198-18-0-5.ap-northeast-2.compute.amazonaws.com", "public, others");
}

int main(void)
{
	char dir[] = "/tmp/netd-address-XXXXXX", command[64];

	if (!mkdtemp(dir))
		return 1;
	snprintf(path, sizeof path, "%s/state.db", dir);
	if (store_open(path, 1, NULL, &store) < 0 || taken_open(store) < 0)
		return 1;
	subnet = json_pack("{s:s s:s}", "SubnetId", SUBNET, "CidrBlock", "10.0.0.16/28");
	RUN(a_subnet_keeps_five);
	RUN(what_cannot_be_had_is_refused);
	RUN(every_free_address_is_given_once);
	RUN(interfaces_hold_their_addresses_until_they_go);
	RUN(the_order_within_a_commit_does_not_matter);
	RUN(a_start_finds_what_was_taken);
	RUN(the_pool_gives_each_once);
	RUN(reservations_are_not_free);
	RUN(a_prefix_is_sixteen_addresses);
	RUN(names_follow_the_region);
	taken_close();
	store_free(store);
	json_decref(subnet);
	snprintf(command, sizeof command, "rm -rf %s", dir);
	return system(command) != 0 || tests_done();
}
