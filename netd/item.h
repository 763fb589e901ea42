/*
 * Items: what netd wants in the kernel, and what it finds there, in one form. An item is one link,
 * address, route, rule, neighbour, bridge entry, sysctl, set or set member; a plan is a sorted list
 * of them. The documents give the wanted list, dumps give the actual one, items_compare() gives
 * what is to be done. Because both sides are values of one type, a second pass after any crash
 * starts from nothing but the kernel itself.
 *
 * Fields that a kind does not use are zero, so that values compare by memory.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include "cidr.h"
#include "own.h"

/* In the order of making; unmaking goes backwards. */
enum item_kind {
	ITEM_SET,    /* name; text: "bitmap:ip,mac" or "hash:ip" (address: AF_INET6 alone for IPv6);
			via/type: range of a bitmap, prefix and length */
	ITEM_MEMBER, /* name of the set, address; plen of a block (0: the address alone); mac if the
			set has them */
	ITEM_BRIDGE, /* name; text: alias, mac, mtu */
	ITEM_VETH,   /* name; link: master ("": none), text: alias, mtu, flags. Its other end: a LEG
			in the router's namespace */
	ITEM_TAP,    /* name; link: master, text: alias, mtu, flags */
	ITEM_FDB,    /* name of the port, mac: static bridge entry */
	ITEM_PEERING, /* name; text: alias and the VPC at the other end, mac, mtu: a veth end inside
			 a router's namespace, the other of the same name in another's */
	ITEM_LEG,     /* name; mac, mtu: a veth end inside a router's namespace */
	ITEM_SYSCTL,  /* name: path below /proc/sys/net, text: value */
	ITEM_UP,      /* name: a link that is up */
	ITEM_ADDRESS, /* name of the link, address, plen */
	ITEM_NEIGHBOUR, /* name of the link, address; mac: permanent entry */
	ITEM_PROXY,	/* name of the link, address: neighbour discovery is answered for it */
	ITEM_ROUTE,	/* table, address (all zero but its family: everything), plen, metric; type,
			   link, via (onlink) */
	ITEM_RULE,	/* name: incoming link, table, metric: priority; address: only its family */
	ITEM_KINDS
};

enum item_flags {
	ITEM_GUEST_PORT = 1,  /* bridge port: isolated, locked, no learning, no flooding */
	ITEM_ROUTER_PORT = 2, /* bridge port: no learning, no flooding but broadcasts */
	ITEM_OWNED = 4,	      /* tap: persistent, root's only */
	ITEM_MULTICAST = 8,   /* router's port: multicasts come to it, too (neighbour discovery) */
};

struct item {
	enum item_kind kind;
	/* which */
	uint32_t table, plen, metric;
	struct address address;
	char name[56];
	/* how */
	struct address via;
	uint32_t mtu, flags, type;
	uint8_t mac[6];
	char link[18];
	char text[32];
};

struct items {
	struct item *at;
	size_t n, n_room;
	int error; /* -ENOMEM sticks: checked once, after filling */
};
void items_free(struct items *s);
static inline void own_items_free(struct items *s)
{
	items_free(s);
}
/* A new, zeroed item of the kind, valid until the next call; a scratch one when out of memory (see
 * items.error). */
struct item *items_add(struct items *s, enum item_kind kind, const char *name);
/* Room for so many more, at once. 0 or -ENOMEM (which sticks). */
int items_reserve(struct items *s, size_t n);
void items_copy(struct items *s, const struct item *i);
/* Sorts and drops what is there twice. Returns s->error. */
int items_sort(struct items *s);
/* The list (sorted or not) has an item of this kind and name. */
int items_has(const struct items *s, enum item_kind kind, const char *name);

struct change {
	const struct item *was;	 /* NULL: not there yet */
	const struct item *will; /* NULL: to be removed. Both: there, but not as it should be */
};
struct changes {
	struct change *at;
	size_t n;
};
void changes_free(struct changes *c);
static inline void own_changes_free(struct changes *c)
{
	changes_free(c);
}
/* The link, or the set of IPv4, of this name in a sorted list, or NULL. */
struct item *items_find(const struct items *s, enum item_kind kind, const char *name);
/* The sorted list has this very item. */
int items_have(const struct items *s, const struct item *i);
/* Takes an item of the list out. */
void items_remove(struct items *s, struct item *i);
/* The part of a sorted list with kinds from..to; borrowed, not to be freed. */
struct items items_slice(const struct items *s, enum item_kind from, enum item_kind to);
/* The part of a sorted list with this kind and name; borrowed, likewise. */
struct items items_named(const struct items *s, enum item_kind kind, const char *name);
/* What leads from one sorted list to the other, in order of kinds. 0 or -ENOMEM. */
int items_compare(const struct items *wanted, const struct items *actual,
		  struct changes *ret_changes);

/* The name of a veth's end in the router's namespace: its own name, so that people see what belongs
 * together; but gateways are always "igw" and "eigw", and behind a guest's port it is "eth0", as in a
 * guest. */
const char *item_veth_peer(const struct item *veth);

/* One line for people and golden tests, without a newline. */
void item_print(const struct item *i, FILE *out);
