/* DHCPv6, without I/O. */
#include "dhcp6.h"

#include <errno.h>
#include <string.h>

#define LEASE_SEC      3600
#define IDENTIFIER_MAX 130 /* RFC 8415, 11.1: a DUID has at most 128 bytes beside its type */

enum {
	SOLICIT = 1,
	ADVERTISE,
	REQUEST,
	CONFIRM,
	RENEW,
	REBIND,
	REPLY,
	RELEASE,
	DECLINE,
	INFORMATION_REQUEST = 11
};

/* RFC 8415, 21; RFC 3646 */
enum {
	OPTION_CLIENT = 1,
	OPTION_SERVER = 2,
	OPTION_IA_NA = 3,
	OPTION_ADDRESS = 5,
	OPTION_STATUS = 13,
	OPTION_RAPID = 14,
	OPTION_DNS = 23,
	OPTION_DOMAIN = 24
};
enum { STATUS_SUCCESS, STATUS_NO_ADDRESSES = 2, STATUS_NO_BINDING = 3, STATUS_NOT_ON_LINK = 4 };

struct part {
	const uint8_t *at;
	size_t n;
};

struct question {
	uint8_t type, transaction[3];
	struct part client, server, ia; /* NULL: not said. Of several IAs the first */
	int has_rapid;
};

struct writer {
	uint8_t *at, *end;
};

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(uint8_t *p, size_t v)
{
	p[0] = (uint8_t)(v >> 8), p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16), put16(p + 2, v & 0xffff);
}

/* ---- reading ---- */

/* The next option of the rest; 0, or -EINVAL when it is cut short. */
static int next_option(struct part *rest, uint16_t *ret_code, struct part *ret_value)
{
	size_t n;

	if (rest->n < 4)
		return -EINVAL;
	n = get16(rest->at + 2);
	if (rest->n - 4 < n)
		return -EINVAL;
	*ret_code = get16(rest->at);
	*ret_value = (struct part){rest->at + 4, n};
	rest->at += 4 + n;
	rest->n -= 4 + n;
	return 0;
}

static int read_question(const uint8_t *message, size_t n, struct question *q)
{
	struct part rest, value;
	uint16_t code;

	if (n < 4)
		return -EINVAL;
	*q = (struct question){.type = message[0]};
	memcpy(q->transaction, message + 1, 3);
	rest = (struct part){message + 4, n - 4};
	while (rest.n) {
		if (next_option(&rest, &code, &value) < 0)
			return -EINVAL;
		if (code == OPTION_CLIENT)
			q->client = value;
		else if (code == OPTION_SERVER)
			q->server = value;
		else if (code == OPTION_IA_NA && !q->ia.at)
			q->ia = value;
		else if (code == OPTION_RAPID)
			q->has_rapid = 1;
	}
	if (q->client.n > IDENTIFIER_MAX || (q->ia.at && q->ia.n < 12))
		return -EINVAL;
	return 0;
}

static const struct plan_guest6 *guest_next(const struct plan *p, const char *leg,
					    const uint8_t *mac, const struct plan_guest6 *after)
{
	for (size_t i = after ? (size_t)(after - p->guests6) + 1 : 0; i < p->n_guests6; i++)
		if (!p->guests6[i].bits && memcmp(p->guests6[i].mac, mac, 6) == 0 &&
		    strcmp(p->guests6[i].leg, leg) == 0)
			return &p->guests6[i];
	return NULL;
}

static int is_guests(const struct plan *p, const char *leg, const uint8_t *mac,
		     const uint8_t *address)
{
	for (const struct plan_guest6 *g = NULL; (g = guest_next(p, leg, mac, g));)
		if (memcmp(&g->address, address, 16) == 0)
			return 1;
	return 0;
}

/* Whether all addresses of the question's IA are the guest's own. */
static int is_on_link(const struct plan *p, const char *leg, const uint8_t *mac,
		      const struct question *q)
{
	struct part rest = {q->ia.at + 12, q->ia.n - 12}, value;
	uint16_t code;

	while (rest.n && next_option(&rest, &code, &value) == 0)
		if (code == OPTION_ADDRESS && value.n >= 24 && !is_guests(p, leg, mac, value.at))
			return 0;
	return 1;
}

/* ---- writing ---- */

static uint8_t *option(struct writer *w, uint16_t code, size_t n)
{
	uint8_t *at = w->at;

	if ((size_t)(w->end - w->at) < n + 4)
		return NULL;
	put16(at, code);
	put16(at + 2, n);
	w->at += n + 4;
	return at + 4;
}

static void option_bytes(struct writer *w, uint16_t code, const void *value, size_t n)
{
	uint8_t *at = option(w, code, n);

	if (at && n)
		memcpy(at, value, n);
}

static void status(struct writer *w, uint16_t code)
{
	uint8_t *at = option(w, OPTION_STATUS, 2);

	if (at)
		put16(at, code);
}

/* DUID-LL of the leg: the same in every subnet, like its MAC (RFC 8415, 11.4). */
static void server_identifier(uint8_t ret[static 10])
{
	put16(ret, 3);
	put16(ret + 2, 1);
	memcpy(ret + 4, plan_leg_mac, 6);
}

/* Renewed addresses that are no longer the guest's get no time to live. */
static void withdraw(struct writer *w, const struct plan *p, const char *leg, const uint8_t *mac,
		     const struct question *q)
{
	struct part rest = {q->ia.at + 12, q->ia.n - 12}, value;
	uint16_t code;
	uint8_t *at;

	while (rest.n && next_option(&rest, &code, &value) == 0) {
		if (code != OPTION_ADDRESS || value.n < 24 || is_guests(p, leg, mac, value.at))
			continue;
		at = option(w, OPTION_ADDRESS, 24);
		if (!at)
			return;
		memcpy(at, value.at, 16);
		memset(at + 16, 0, 8);
	}
}

static void association(struct writer *w, const struct plan *p, const char *leg, const uint8_t *mac,
			const struct question *q)
{
	uint8_t *head = option(w, OPTION_IA_NA, 12), *at;

	if (!head)
		return;
	memcpy(head, q->ia.at, 4); /* the guest's name for it */
	put32(head + 4, LEASE_SEC / 2);
	put32(head + 8, LEASE_SEC / 8 * 7);
	if (q->type == RELEASE || q->type == DECLINE)
		return; /* the address stays its interface's */
	for (const struct plan_guest6 *g = NULL; (g = guest_next(p, leg, mac, g));) {
		at = option(w, OPTION_ADDRESS, 24);
		if (!at)
			break;
		memcpy(at, &g->address, 16);
		put32(at + 16, LEASE_SEC);
		put32(at + 20, LEASE_SEC);
	}
	if (q->type == RENEW || q->type == REBIND)
		withdraw(w, p, leg, mac, q);
	put16(head - 2, (size_t)(w->at - head));
}

/* RFC 1035's form of a name; nothing when it is none. */
static void domain(struct writer *w, const char *name)
{
	uint8_t encoded[256];
	size_t n = 0;

	while (*name) {
		size_t label = strcspn(name, ".");

		if (label == 0 || label > 63 || n + label + 2 > sizeof encoded)
			return;
		encoded[n++] = (uint8_t)label;
		memcpy(encoded + n, name, label);
		n += label;
		name += label + (name[label] == '.');
	}
	if (!n)
		return;
	encoded[n++] = 0;
	option_bytes(w, OPTION_DOMAIN, encoded, n);
}

/* What to answer: ADVERTISE, REPLY, or 0 for silence. RFC 8415, 18.3. */
static uint8_t decide(const struct question *q, const uint8_t server[static 10])
{
	int is_ours = q->server.n == 10 && memcmp(q->server.at, server, 10) == 0;

	switch (q->type) {
	case SOLICIT:
		if (q->server.at || !q->client.at || !q->ia.at)
			return 0;
		return q->has_rapid ? REPLY : ADVERTISE;
	case REQUEST:
	case RENEW:
	case RELEASE:
	case DECLINE:
		return is_ours && q->client.at && q->ia.at ? REPLY : 0;
	case CONFIRM:
	case REBIND:
		return !q->server.at && q->client.at && q->ia.at ? REPLY : 0;
	case INFORMATION_REQUEST:
		return (!q->server.at || is_ours) && !q->ia.at ? REPLY : 0;
	default:
		return 0;
	}
}

size_t dhcp6_answer(const struct plan *plan, const char *leg, const uint8_t mac[static 6],
		    const uint8_t *message, size_t n_message,
		    uint8_t ret_answer[static DHCP6_MESSAGE_MAX])
{
	struct writer w = {ret_answer + 4, ret_answer + DHCP6_MESSAGE_MAX};
	uint8_t server[10], type;
	struct question q;

	server_identifier(server);
	if (!guest_next(plan, leg, mac, NULL) || read_question(message, n_message, &q) < 0)
		return 0;
	type = decide(&q, server);
	if (!type)
		return 0;
	ret_answer[0] = type;
	memcpy(ret_answer + 1, q.transaction, 3);
	if (q.client.at)
		option_bytes(&w, OPTION_CLIENT, q.client.at, q.client.n);
	option_bytes(&w, OPTION_SERVER, server, sizeof server);
	if (q.type == SOLICIT && q.has_rapid)
		(void)option(&w, OPTION_RAPID, 0);
	if (q.type == CONFIRM)
		status(&w, is_on_link(plan, leg, mac, &q) ? STATUS_SUCCESS : STATUS_NOT_ON_LINK);
	else if (q.ia.at)
		association(&w, plan, leg, mac, &q);
	if (q.type == RELEASE || q.type == DECLINE)
		status(&w, STATUS_SUCCESS);
	if (plan->has_dns)
		option_bytes(&w, OPTION_DNS, &address_dns6, sizeof address_dns6);
	domain(&w, plan->domain);
	return (size_t)(w.at - ret_answer);
}
