/* Netlink: requests and dumps on libnl's sockets, with the kernel's errno. */
#include "netlink.h"

#include <errno.h>
#include <string.h>
#include "step.h"

#define DUMP_TRIES 5

struct answer {
	int (*each)(struct nlmsghdr *h, void *arg);
	void *arg;
	int error;
	int is_disturbed;
};

static int open_socket(int protocol, struct nl_sock **ret_socket)
{
	OWN(nl_socket_free) struct nl_sock *s = nl_socket_alloc();
	int r;

	if (!s)
		return -ENOMEM;
	r = nl_connect(s, protocol);
	if (r < 0)
		return r == -NLE_NOMEM ? -ENOMEM : -EIO;
	*ret_socket = give(s);
	return 0;
}

int netlink_open(int protocol, struct nl_sock **ret_socket)
{
	OWN(nl_socket_free) struct nl_sock *s = NULL;
	int r = open_socket(protocol, &s);

	if (r < 0)
		return r;
	nl_socket_disable_auto_ack(
		s); /* a second answer to a question would be taken for the next one's */
	/* Best effort: without it dumps only take more rounds. */
	(void)nl_socket_set_buffer_size(s, 1 << 20, 0);
	(void)nl_socket_set_msg_buf_size(s, 1 << 16);
	*ret_socket = give(s);
	return 0;
}

int netlink_subscribe(int protocol, const int *groups, struct nl_sock **ret_socket)
{
	OWN(nl_socket_free) struct nl_sock *s = NULL;
	int r = open_socket(protocol, &s);

	if (r < 0)
		return r;
	for (; *groups; groups++)
		if (nl_socket_add_membership(s, *groups) < 0)
			return -EIO;
	if (nl_socket_set_nonblocking(s) < 0)
		return -EIO;
	*ret_socket = give(s);
	return 0;
}

struct nl_msg *netlink_message(int type, int flags, const void *header, size_t n)
{
	OWN(nlmsg_free) struct nl_msg *m = nlmsg_alloc_simple(type, NLM_F_REQUEST | flags);

	if (!m || nlmsg_append(m, (void *)header, n, NLMSG_ALIGNTO) < 0)
		return NULL;
	return give(m);
}

static int on_valid(struct nl_msg *m, void *arg)
{
	struct answer *a = arg;

	if (a->each && a->error == 0)
		a->error = a->each(nlmsg_hdr(m), a->arg);
	return NL_OK;
}

static int on_error(struct sockaddr_nl *who, struct nlmsgerr *e, void *arg)
{
	struct answer *a = arg;

	(void)who;
	a->error = e->error;
	return NL_STOP;
}

static int on_disturbed(struct nl_msg *m, void *arg)
{
	struct answer *a = arg;

	(void)m;
	a->is_disturbed = 1;
	return NL_OK;
}

static int ask(struct nl_sock *s, struct nl_msg *m, struct answer *a)
{
	struct nl_cb *cb = nl_cb_alloc(NL_CB_DEFAULT);
	int r;

	if (!cb)
		return -ENOMEM;
	(void)nl_cb_set(cb, NL_CB_VALID, NL_CB_CUSTOM, on_valid, a); /* fails only for a bad kind */
	(void)nl_cb_set(cb, NL_CB_DUMP_INTR, NL_CB_CUSTOM, on_disturbed, a);
	(void)nl_cb_err(cb, NL_CB_CUSTOM, on_error, a);
	a->error = a->is_disturbed = 0;
	r = nl_send_auto(s, m);
	if (r >= 0)
		r = nl_recvmsgs(s, cb);
	nl_cb_put(cb);
	if (a->error < 0)
		return a->error;
	return r < 0 ? (r == -NLE_NOMEM ? -ENOMEM : -EIO) : 0;
}

int netlink_request(struct nl_sock *s, struct nl_msg *m)
{
	OWN(nlmsg_free) struct nl_msg *mine = m;
	struct answer a = {0};

	if (!mine)
		return -ENOMEM;
	nlmsg_hdr(mine)->nlmsg_flags |= NLM_F_ACK;
	step("a netlink request");
	return ask(s, mine, &a);
}

int netlink_get(struct nl_sock *s, struct nl_msg *m, int (*each)(struct nlmsghdr *h, void *arg),
		void *arg)
{
	OWN(nlmsg_free) struct nl_msg *mine = m;
	struct answer a = {.each = each, .arg = arg};

	return mine ? ask(s, mine, &a) : -ENOMEM;
}

int netlink_dump(struct nl_sock *s, struct nl_msg *m, int (*each)(struct nlmsghdr *h, void *arg),
		 void (*reset)(void *arg), void *arg)
{
	OWN(nlmsg_free) struct nl_msg *mine = m;
	struct answer a = {.each = each, .arg = arg};
	int r = -ENOMEM;

	for (int i = 0; mine && i < DUMP_TRIES; i++) {
		if (i > 0 && reset)
			reset(arg);
		nlmsg_hdr(mine)->nlmsg_seq = NL_AUTO_SEQ;
		nlmsg_hdr(mine)->nlmsg_flags |= NLM_F_DUMP;
		r = ask(s, mine, &a);
		if (r < 0 || !a.is_disturbed)
			return r;
	}
	return mine ? -EAGAIN : r;
}

int netlink_address(const struct nlattr *a, uint8_t family, struct address *ret_ip)
{
	if (!a || (family != AF_INET && family != AF_INET6) || nla_len(a) != ip_size(family))
		return -EINVAL;
	*ret_ip = (struct address){.family = family};
	memcpy(ret_ip->bytes, nla_data(a), (size_t)ip_size(family));
	return 0;
}

int netlink_address_of(const struct nlattr *four, const struct nlattr *six, struct address *ret_ip)
{
	return four ? netlink_address(four, AF_INET, ret_ip)
		    : netlink_address(six, AF_INET6, ret_ip);
}
