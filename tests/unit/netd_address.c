/* Who has which address: none is given twice, reserved ones never. */
#include "tap.h"

#include <errno.h>
#include <unistd.h>

#include "jsonx.h"
#include "../../netd/address.h"

static struct store *store;
static json_t *subnet;

static void add_interface(int n, const char *subnet_id, const char *first, const char *second)
{
	OWN(txn_free) struct txn *t = txn_new(store);
	char id[40];

	snprintf(id, sizeof id, "eni-%08x", n);
	txn_put(t, "network-interface", id, "123456789012", "us-east-1",
		json_pack("{s:s s:s s:[{s:s} {s:s*}]}", "NetworkInterfaceId", id, "SubnetId", subnet_id,
			  "PrivateIpAddresses", "PrivateIpAddress", first, "PrivateIpAddress", second));
	txn_commit(t);
}

static void make_store(const char *dir)
{
	char path[128];

	snprintf(path, sizeof path, "%s/state.db", dir);
	if (store_open(path, 1, NULL, &store) < 0)
		exit(1);
	subnet = json_pack("{s:s s:s}", "SubnetId", "subnet-00000001", "CidrBlock", "10.0.0.16/28");
}

static void a_subnet_keeps_five(void)
{
	is_int(address_count_free(store, subnet), 11, "of 16");
}

static void reserved_and_foreign_addresses_are_refused(void)
{
	static const uint32_t bad[] = {0x0a000010, 0x0a000011, 0x0a000012, 0x0a000013, 0x0a00001f, 0x0a00000f, 0x0a000020, 0};
	OWN(address_set_clear) struct address_set set = {0};

	is_int(address_set_load(store, subnet, &set), 0, "loaded");
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		is_int(address_set_take_this(&set, bad[i]), -ERANGE, "refused");
	is_int(address_set_take_this(&set, 0x0a000014), 0, "the first that can be had");
	is_int(address_set_take_this(&set, 0x0a000014), -EADDRINUSE, "not again");
	is_int(address_set_take_this(&set, 0x0a00001e), 0, "the last that can be had");
}

static void every_free_address_is_given_once(void)
{
	OWN(address_set_clear) struct address_set set = {0};
	uint32_t address, seen = 0;
	int n = 0;

	address_set_load(store, subnet, &set);
	while (address_set_take(&set, &address) == 0) {
		uint32_t bit = 1u << (address - 0x0a000010);

		ok(!(seen & bit), "new");
		seen |= bit;
		n++;
	}
	is_int(n, 11, "as many as there are");
	is_int(seen, 0x7ff0, "and none that is reserved");
	is_int(address_set_take(&set, &address), -ENOSPC, "then there is none");
}

static void interfaces_hold_all_their_addresses(void)
{
	OWN(address_set_clear) struct address_set set = {0};

	add_interface(1, "subnet-00000001", "10.0.0.20", "10.0.0.21");
	add_interface(2, "subnet-00000002", "10.0.0.22", NULL); /* another VPC's subnet with the same block */
	is_int(address_count_free(store, subnet), 9, "first and second, not the other subnet's");
	address_set_load(store, subnet, &set);
	is_int(address_set_take_this(&set, 0x0a000015), -EADDRINUSE, "the second is taken");
	is_int(address_set_take_this(&set, 0x0a000016), 0, "the other subnet's is free here");
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
	make_store(dir);
	RUN(a_subnet_keeps_five);
	RUN(reserved_and_foreign_addresses_are_refused);
	RUN(every_free_address_is_given_once);
	RUN(interfaces_hold_all_their_addresses);
	RUN(names_follow_the_region);
	store_free(store);
	json_decref(subnet);
	snprintf(command, sizeof command, "rm -rf %s", dir);
	return system(command) != 0 || tests_done();
}
