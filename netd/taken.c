/* The index of what is taken. */
#include "taken.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "delegation.h"
#include "jsonx.h"

/* Things are counted under a text, a letter for what it is and then its name. An address that
 * is both an elastic one and an interface's is counted twice, and so stays taken until both are
 * gone. */
static struct {
	struct store *store;
	json_t *counts;	      /* text → how often */
	json_t *addresses;    /* subnet id → address → how often */
	json_t *prefixes;     /* subnet id → block → how often */
	json_t *devices;      /* "i-…/0" → interface id */
	json_t *reservations; /* subnet id → block → type */
	int is_stale; /* memory ran out while following a commit: made anew when next asked */
} t;

#define KEY_MAX 200

static void count(json_t *counts, const char *key, int by)
{
	json_int_t n = json_integer_value(json_object_get(counts, key)) + by;

	if (n <= 0)
		(void)json_object_del(counts, key); /* fails only when it is not there */
	else if (json_object_set_new(counts, key, json_integer(n)) < 0)
		t.is_stale = 1;
}

/* Of `all`, by subnet. */
static json_t *of_subnet(json_t *all, const char *subnet_id)
{
	if (!json_object_get(all, subnet_id) &&
	    json_object_set_new(all, subnet_id, json_object()) < 0)
		t.is_stale = 1;
	return json_object_get(all, subnet_id);
}

static void count_of_subnet(json_t *all, const char *subnet_id, const char *text, int by)
{
	json_t *counts = of_subnet(all, subnet_id);

	count(counts, text, by);
	if (!json_object_size(counts))
		(void)json_object_del(all, subnet_id);
}

__attribute__((format(printf, 2, 3))) static void count_format(int by, const char *format, ...)
{
	char key[KEY_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(key, sizeof key, format, args);
	va_end(args);
	count(t.counts, key, by);
}

static void device_key(const char *instance_id, int device_index, char ret_key[static KEY_MAX])
{
	snprintf(ret_key, KEY_MAX, "%s/%d", instance_id, device_index);
}

static void count_device(const struct doc *d, int by)
{
	const json_t *a = json_object_get(d->json, "Attachment");
	char key[KEY_MAX];

	if (!jstr(a, "InstanceId"))
		return;
	device_key(jstr_or(a, "InstanceId", ""), (int)jint(a, "DeviceIndex", -1), key);
	if (by > 0 && json_object_set_new(t.devices, key, json_string(d->id)) < 0)
		t.is_stale = 1;
	/* Another interface may have got the place in the same commit. */
	else if (by < 0 && strcmp(jstr_or(t.devices, key, ""), d->id) == 0)
		(void)json_object_del(t.devices, key);
}

static void count_prefixes(const struct doc *d, const struct delegation *of, int by)
{
	const char *subnet_id = jstr_or(d->json, "SubnetId", "");
	json_t *prefix;
	size_t i;

	json_array_foreach (json_object_get(d->json, of->list), i, prefix) {
		count_of_subnet(t.prefixes, subnet_id, jstr_or(prefix, of->element, ""), by);
		if (of->family == AF_INET)
			count_format(by * DELEGATION_SIZE4, "s %s", subnet_id);
	}
}

static void count_interface(const struct doc *d, int by)
{
	const char *subnet_id = jstr_or(d->json, "SubnetId", "");
	json_t *list = json_object_get(d->json, "PrivateIpAddresses"), *a;
	size_t i;

	json_array_foreach (list, i, a) {
		const char *public = jpath_str(a, "Association.PublicIp");

		count_of_subnet(t.addresses, subnet_id, jstr_or(a, "PrivateIpAddress", ""), by);
		count_format(by, "s %s", subnet_id);
		if (public)
			count_format(by, "p %s", public);
	}
	json_array_foreach (json_object_get(d->json, "Ipv6Addresses"), i, a)
		count_of_subnet(t.addresses, subnet_id, jstr_or(a, "Ipv6Address", ""), by);
	count_prefixes(d, &delegation_ipv4, by);
	count_prefixes(d, &delegation_ipv6, by);
	count_format(by, "m %s", jstr_or(d->json, "MacAddress", ""));
	count_format(by, "n %s %s", d->account, d->region);
	count_device(d, by);
}

static void on_interface(void *userdata, const struct doc *before, const struct doc *after)
{
	(void)userdata;
	if (before)
		count_interface(before, -1);
	if (after)
		count_interface(after, 1);
}

static void on_elastic(void *userdata, const struct doc *before, const struct doc *after)
{
	(void)userdata;
	if (before)
		count_format(-1, "p %s", jstr_or(before->json, "PublicIp", ""));
	if (after)
		count_format(1, "p %s", jstr_or(after->json, "PublicIp", ""));
}

static void on_reservation(void *userdata, const struct doc *before, const struct doc *after)
{
	(void)userdata;
	if (before)
		(void)json_object_del(
			of_subnet(t.reservations, jstr_or(before->json, "SubnetId", "")),
			jstr_or(before->json, "Cidr", "")); /* it is there */
	if (after &&
	    json_object_set_new(of_subnet(t.reservations, jstr_or(after->json, "SubnetId", "")),
				jstr_or(after->json, "Cidr", ""),
				json_string(jstr_or(after->json, "ReservationType", ""))) < 0)
		t.is_stale = 1;
}

static int make(void)
{
	taken_close();
	t.is_stale = 0;
	t.counts = json_object();
	t.addresses = json_object();
	t.prefixes = json_object();
	t.devices = json_object();
	t.reservations = json_object();
	if (!t.counts || !t.addresses || !t.prefixes || !t.devices || !t.reservations)
		return -ENOMEM;
	store_each (t.store, "network-interface", d)
		on_interface(NULL, NULL, d);
	store_each (t.store, "elastic-ip", d)
		on_elastic(NULL, NULL, d);
	store_each (t.store, "subnet-cidr-reservation", d)
		on_reservation(NULL, NULL, d);
	return t.is_stale ? -ENOMEM : 0;
}

int taken_open(struct store *s)
{
	t.store = s;
	int r = make();

	if (r == 0)
		r = store_watch(s, "network-interface", on_interface, NULL);
	if (r == 0)
		r = store_watch(s, "elastic-ip", on_elastic, NULL);
	return r < 0 ? r : store_watch(s, "subnet-cidr-reservation", on_reservation, NULL);
}

void taken_close(void)
{
	json_decref(t.counts);
	json_decref(t.addresses);
	json_decref(t.prefixes);
	json_decref(t.devices);
	json_decref(t.reservations);
	t.counts = t.addresses = t.prefixes = t.devices = t.reservations = NULL;
}

/* Without memory for the index everything is taken: an address refused is better than one given
 * twice. */
static int is_there(void)
{
	if (t.is_stale && make() < 0)
		t.is_stale = 1;
	return !t.is_stale;
}

__attribute__((format(printf, 1, 2))) static uint64_t counted(const char *format, ...)
{
	char key[KEY_MAX];
	va_list args;

	if (!is_there())
		return UINT32_MAX;
	va_start(args, format);
	vsnprintf(key, sizeof key, format, args);
	va_end(args);
	return (uint64_t)json_integer_value(json_object_get(t.counts, key));
}

uint64_t taken_count(const char *subnet_id)
{
	return counted("s %s", subnet_id);
}

int taken_private(const char *subnet_id, const char *address)
{
	char prefix[CIDR6_TEXT_MAX];

	if (!is_there() || json_object_get(json_object_get(t.addresses, subnet_id), address))
		return 1;
	const json_t *prefixes = json_object_get(t.prefixes, subnet_id);

	return prefixes && delegation_of(address, prefix) == 0 && json_object_get(prefixes, prefix);
}

const json_t *taken_addresses(const char *subnet_id)
{
	return is_there() ? json_object_get(t.addresses, subnet_id) : NULL;
}

const json_t *taken_prefixes(const char *subnet_id)
{
	return is_there() ? json_object_get(t.prefixes, subnet_id) : NULL;
}

const json_t *taken_reservations(const char *subnet_id)
{
	return is_there() ? json_object_get(t.reservations, subnet_id) : NULL;
}

int taken_public(const char *address)
{
	return counted("p %s", address) > 0;
}

int taken_mac(const char *mac)
{
	return counted("m %s", mac) > 0;
}

const char *taken_device(const char *instance_id, int device_index)
{
	char key[KEY_MAX];

	device_key(instance_id, device_index, key);
	return jstr(t.devices, key);
}

uint64_t taken_interfaces(const char *account, const char *region)
{
	return counted("n %s %s", account, region);
}
