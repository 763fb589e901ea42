/*
 * What is taken: addresses, MACs and device slots, as the committed documents of interfaces and
 * elastic addresses say. An index that follows every commit (store_watch), never a second truth:
 * it is made anew from the documents at each start. Within one handler, without a wait, what it
 * says stays true until the commit. Text of addresses is in canonical form, as documents have it.
 */
#pragma once

#include "store.h"

/* Once per process, before the first question. 0 or -errno. */
int taken_open(struct store *s);
void taken_close(void);

/* Private IPv4 addresses in the subnet, all those of prefixes among them, not counting those that
 * AWS reserves. */
uint64_t taken_count(const char *subnet_id);
/* The address of either family is an interface's, or of an interface's prefix. */
int taken_private(const char *subnet_id, const char *address);
/* Single addresses of both families, as keys of an object, NULL: none; borrowed until
 * the next commit. */
const json_t *taken_addresses(const char *subnet_id);
/* The same of interfaces' prefixes: blocks. */
const json_t *taken_prefixes(const char *subnet_id);
/* The blocks of its CIDR reservations, of both families: {block: type}, NULL: none; borrowed
 * until the next commit. */
const json_t *taken_reservations(const char *subnet_id);
int taken_public(const char *address);
int taken_mac(const char *mac);
/* The id of the interface at this device index of the instance, NULL if none; borrowed until
 * the next commit. */
const char *taken_device(const char *instance_id, int device_index);
/* Interfaces of this account in the region. */
uint64_t taken_interfaces(const char *account, const char *region);
