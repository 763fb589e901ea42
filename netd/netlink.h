/*
 * Netlink: one socket per namespace and protocol, requests answered before the call returns. The
 * socket stays in the namespace in which it was opened, so a thread need not enter it again.
 */
#pragma once

#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include "cidr.h"
#include "own.h"

OWN_DEFINE(struct nl_sock *, nl_socket_free);
OWN_DEFINE(struct nl_msg *, nlmsg_free);

/* A socket of NETLINK_ROUTE or NETLINK_NETFILTER in the thread's present namespace. 0 or -errno. */
int netlink_open(int protocol, struct nl_sock **ret_socket);
/* The same, subscribed to the groups (ended by 0), not blocking: for the event loop. */
int netlink_subscribe(int protocol, const int *groups, struct nl_sock **ret_socket);

/* A request with a header of `n` bytes. NULL out of memory. */
struct nl_msg *netlink_message(int type, int flags, const void *header, size_t n);

/* Sends and waits for the acknowledgement. Takes `m` over (NULL: -ENOMEM). 0 or the kernel's
 * -errno. */
int netlink_request(struct nl_sock *s, struct nl_msg *m);
/* A request that is answered by one message, given to each() (may be NULL), which returns 0 or
 * -errno. */
int netlink_get(struct nl_sock *s, struct nl_msg *m, int (*each)(struct nlmsghdr *h, void *arg),
		void *arg);
/* A request for all there is. A dump that was disturbed by a change is asked again, up to 5 times:
 * `reset` (may be NULL) then forgets what came. */
int netlink_dump(struct nl_sock *s, struct nl_msg *m, int (*each)(struct nlmsghdr *h, void *arg),
		 void (*reset)(void *arg), void *arg);

/* These messages of nftables as one transaction, by a socket of its own in the thread's present
 * namespace; -ERESTART when nftables is not at this generation (0: any). 0 or the kernel's -errno of
 * the first that it refused. The messages stay the caller's. */
int netlink_batch(uint32_t generation, struct nl_msg *const *messages, size_t n);

/* An attribute that holds an address of the family. 0, or -EINVAL. */
int netlink_address(const struct nlattr *a, uint8_t family, struct address *ret_ip);
/* The address of either family of which there are two attributes, one of them NULL. 0, or -EINVAL. */
int netlink_address_of(const struct nlattr *four, const struct nlattr *six, struct address *ret_ip);
