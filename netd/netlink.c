/* Netlink: requests and dumps on libnl's sockets, with the kernel's errno. */
#include "netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>
#include "step.h"

#define DUMP_TRIES 100 /* others' changes in between: rather late than failed */

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

/* ---- transactions of nftables ---- */

static struct nl_msg *batch_edge(int type, uint32_t generation)
{
	const struct nfgenmsg h = {.nfgen_family = AF_UNSPEC,
				   .version = NFNETLINK_V0,
				   .res_id = htons(NFNL_SUBSYS_NFTABLES)};
	OWN(nlmsg_free) struct nl_msg *m = netlink_message(type, 0, &h, sizeof h);

	if (!m || (generation && nla_put_u32(m, NFNL_BATCH_GENID, htonl(generation)) < 0))
		return NULL;
	return give(m);
}

/* The kernel takes a transaction as one piece. */
static int join(struct nl_sock *s, FILE *out, struct nl_msg *m)
{
	if (!m)
		return -ENOMEM;
	nl_complete_msg(s, m);
	return fwrite(nlmsg_hdr(m), NLMSG_ALIGN(nlmsg_hdr(m)->nlmsg_len), 1, out) == 1 ? 0
										       : -ENOMEM;
}

static int join_all(struct nl_sock *s, uint32_t generation, struct nl_msg *const *messages,
		    size_t n, char **ret_text, size_t *ret_bytes)
{
	OWN(nlmsg_free) struct nl_msg *begin = batch_edge(NFNL_MSG_BATCH_BEGIN, generation);
	OWN(nlmsg_free) struct nl_msg *end = batch_edge(NFNL_MSG_BATCH_END, 0);
	FILE *out = open_memstream(ret_text, ret_bytes);
	int r;

	if (!out)
		return -ENOMEM;
	r = join(s, out, begin);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = join(s, out, messages[i]);
	if (r == 0)
		r = join(s, out, end);
	if (fclose(out) != 0)
		r = -ENOMEM;
	return r;
}

static int on_any(struct nl_msg *m, void *arg)
{
	(void)m, (void)arg;
	return NL_OK;
}

/* A refusal may name any of the messages: their numbers are not looked at. */
static int take_answer(struct nl_sock *s)
{
	struct answer a = {0};
	struct nl_cb *cb = nl_cb_alloc(NL_CB_DEFAULT);
	int r;

	if (!cb)
		return -ENOMEM;
	(void)nl_cb_set(cb, NL_CB_SEQ_CHECK, NL_CB_CUSTOM, on_any, NULL); /* a good kind */
	(void)nl_cb_err(cb, NL_CB_CUSTOM, on_error, &a);
	r = nl_recvmsgs(s, cb);
	nl_cb_put(cb);
	return a.error < 0 ? a.error : r < 0 ? -EIO : 0;
}

int netlink_batch(uint32_t generation, struct nl_msg *const *messages, size_t n)
{
	OWN(nl_socket_free) struct nl_sock *s = NULL;
	OWN(free) char *text = NULL;
	size_t n_bytes;
	int r = netlink_open(NETLINK_NETFILTER, &s);

	if (r < 0 || n == 0)
		return r;
	nlmsg_hdr(messages[n - 1])->nlmsg_flags |= NLM_F_ACK;
	r = join_all(s, generation, messages, n, &text, &n_bytes);
	if (r < 0)
		return r;
	step("a transaction of nftables");
	if (nl_sendto(s, text, n_bytes) < 0)
		return -EIO;
	r = take_answer(s);
	step("what follows a transaction of nftables");
	return r;
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
