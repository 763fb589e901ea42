/* DHCPv6 and router advertisements: who is answered, with what, and who is met by silence. RFC
 * 8415, RFC 4861. */
#include "tap.h"

#include <arpa/inet.h>
#include <stdint.h>
#include "../../netd/dhcp6.h"
#include "../../netd/ra.h"

#define MAC                                                                                        \
	{                                                                                          \
		2, 0, 0, 0, 0, 1                                                                   \
	}
#define SUBNET                                                                                     \
	{                                                                                          \
		.address = {.s6_addr = {0xfd, 0x67, [7] = 1}}, .bits = 64                          \
	}

static struct plan_guest6 guests[] = {
	{.mac = MAC,
	 .leg = "leg1",
	 .address = {.s6_addr = {0xfd, 0x67, [7] = 1, [15] = 10}},
	 SUBNET},
	{.mac = MAC,
	 .leg = "leg1",
	 .address = {.s6_addr = {0xfd, 0x67, [7] = 1, [15] = 11}},
	 SUBNET},
	{.mac = {2, 0, 0, 0, 0, 2},
	 .leg = "leg1",
	 .address = {.s6_addr = {0xfd, 0x67, [7] = 1, [15] = 12}},
	 SUBNET},
};
static struct plan plan = {
	.guests6 = guests, .n_guests6 = 3, .has_dns = 1, .domain = "ec2.internal"};
static const uint8_t mac[6] = MAC, stranger[6] = {2, 0, 0, 0, 0, 9};

static uint8_t message[DHCP6_MESSAGE_MAX], answer[DHCP6_MESSAGE_MAX];
static size_t n_message, n_answer;

enum { SOLICIT = 1, ADVERTISE, REQUEST, CONFIRM, RENEW, REBIND, REPLY, RELEASE, INFORMATION = 11 };
enum { CLIENT = 1, SERVER, IA, ADDRESS = 5, STATUS = 13, RAPID, DNS = 23, DOMAIN };

static void option(uint16_t code, const void *value, size_t n)
{
	uint8_t *p = message + n_message;

	p[0] = (uint8_t)(code >> 8), p[1] = (uint8_t)code;
	p[2] = (uint8_t)(n >> 8), p[3] = (uint8_t)n;
	if (n)
		memcpy(p + 4, value, n);
	n_message += 4 + n;
}

static void begin(uint8_t type)
{
	memcpy(message, "\0abc", 4);
	message[0] = type;
	n_message = 4;
	option(CLIENT, "\0\3\0\1clientid", 12);
}

/* An association of the guest's, naming an address if `last` is not 0. */
static void association(uint8_t last)
{
	uint8_t ia[40] = {0, 0, 0, 7};

	ia[13] = ADDRESS;
	ia[15] = 24;
	ia[16] = 0xfd, ia[17] = 0x67, ia[23] = 1;
	ia[31] = last;
	option(IA, ia, last ? sizeof ia : 12);
}

static void server(void)
{
	uint8_t identifier[10] = {0, 3, 0, 1};

	memcpy(identifier + 4, plan_leg_mac, 6);
	option(SERVER, identifier, sizeof identifier);
}

static void ask(const char *leg, const uint8_t *from)
{
	n_answer = dhcp6_answer(&plan, leg, from, message, n_message, answer);
}

/* The n-th option of this code between `at` and `end`; its value, and its size in *ret_n. */
static const uint8_t *find(const uint8_t *at, const uint8_t *end, unsigned code, int nth,
			   size_t *ret_n)
{
	for (; end - at >= 4; at += 4 + *ret_n) {
		*ret_n = (size_t)at[2] << 8 | at[3];
		if ((unsigned)(at[0] << 8 | at[1]) == code && nth-- == 0)
			return at + 4;
	}
	return NULL;
}

static const uint8_t *said(unsigned code, size_t *ret_n)
{
	return find(answer + 4, answer + n_answer, code, 0, ret_n);
}

/* The last byte and the lifetime of the nth address given; -1 without. */
static int given(int nth, int *ret_lifetime)
{
	size_t n_ia = 0, n = 0;
	const uint8_t *ia = said(IA, &n_ia);
	const uint8_t *a = ia ? find(ia + 12, ia + n_ia, ADDRESS, nth, &n) : NULL;

	if (!a || n < 24)
		return -1;
	*ret_lifetime = a[22] << 8 | a[23];
	return a[15];
}

static void all_addresses_of_an_interface_are_given(void)
{
	int lifetime = 0;
	size_t n;

	begin(SOLICIT);
	association(0);
	ask("leg1", mac);
	is_int(answer[0], ADVERTISE, "an advertisement");
	ok(memcmp(answer + 1, "abc", 3) == 0, "of the same transaction");
	is_int(given(0, &lifetime), 10, "the first");
	is_int(lifetime, 3600, "for an hour");
	is_int(given(1, &lifetime), 11, "the second");
	is_int(given(2, &lifetime), -1, "and nobody else's");
	ok(said(CLIENT, &n) && n == 12, "the client's identifier comes back");
	ok(said(SERVER, &n) && n == 10, "the server's is said");
	ok(said(DNS, &n) && n == 16, "one resolver");
	ok(said(DOMAIN, &n) && memcmp(said(DOMAIN, &n), "\3ec2\10internal", 14) == 0, "the domain");
}

static void who_asks_for_haste_is_answered_at_once(void)
{
	size_t n;

	begin(SOLICIT);
	association(0);
	option(RAPID, NULL, 0);
	ask("leg1", mac);
	is_int(answer[0], REPLY, "a reply");
	ok(said(RAPID, &n) != NULL, "that says so");
}

static void only_the_server_that_is_meant_answers(void)
{
	begin(REQUEST);
	association(10);
	ask("leg1", mac);
	is_int(n_answer, 0, "a request without a server");
	begin(REQUEST);
	association(10);
	option(SERVER, "\0\3\0\1other!", 10);
	ask("leg1", mac);
	is_int(n_answer, 0, "another server");
	begin(REQUEST);
	association(10);
	server();
	ask("leg1", mac);
	is_int(answer[0], REPLY, "this one");
	begin(SOLICIT);
	association(0);
	server();
	ask("leg1", mac);
	is_int(n_answer, 0, "a solicitation names none");
}

static void an_address_that_is_no_longer_the_guests_ends(void)
{
	int lifetime = -1;

	begin(RENEW);
	association(77);
	server();
	ask("leg1", mac);
	is_int(answer[0], REPLY, "a reply");
	is_int(given(0, &lifetime), 10, "its own are given");
	is_int(given(2, &lifetime), 77, "the old one is named");
	is_int(lifetime, 0, "and is over");
}

static void a_guest_that_moved_is_told(void)
{
	size_t n;

	begin(CONFIRM);
	association(12);
	ask("leg1", mac);
	ok(said(STATUS, &n) && said(STATUS, &n)[1] == 4, "another guest's address: not on link");
	begin(CONFIRM);
	association(11);
	ask("leg1", mac);
	ok(said(STATUS, &n) && said(STATUS, &n)[1] == 0, "its own: success");
}

static void strangers_meet_silence(void)
{
	begin(SOLICIT);
	association(0);
	ask("leg1", stranger);
	is_int(n_answer, 0, "an unknown MAC");
	ask("leg2", mac);
	is_int(n_answer, 0, "another leg");
	begin(REPLY);
	ask("leg1", mac);
	is_int(n_answer, 0, "not a question");
	for (n_message = 0; n_message < 40; n_message++) {
		ask("leg1", mac);
		ok(n_answer == 0, "cut short");
	}
}

static void information_alone_has_no_address(void)
{
	size_t n;

	begin(INFORMATION);
	ask("leg1", mac);
	is_int(answer[0], REPLY, "a reply");
	ok(said(DNS, &n) && !said(IA, &n), "resolvers, no address");
}

static void addresses_that_do_not_fit_are_left_out(void)
{
	static struct plan_guest6 many[60];
	struct plan full = plan;
	int lifetime;

	for (size_t i = 0; i < 60; i++) {
		many[i] = guests[0];
		many[i].address.s6_addr[15] = (uint8_t)(i + 1);
	}
	full.guests6 = many;
	full.n_guests6 = 60;
	begin(SOLICIT);
	association(0);
	n_answer = dhcp6_answer(&full, "leg1", mac, message, n_message, answer);
	ok(n_answer > 0 && n_answer <= DHCP6_MESSAGE_MAX, "the answer fits");
	is_int(given(0, &lifetime), 1, "with as many as there is room for");
}

static void a_router_says_what_a_guest_must_know(void)
{
	uint8_t ra[RA_MESSAGE_MAX];
	size_t n = ra_write(&guests[0], ra);

	is_int(n, 16 + 8 + 8 + 32, "a header and three options");
	is_int(ra[0], 134, "an advertisement");
	is_int(ra[5], 0xc0, "addresses and all else by DHCPv6");
	is_int(ra[6] << 8 | ra[7], 9000, "its lifetime");
	ok(memcmp(ra + 18, plan_leg_mac, 6) == 0, "its MAC");
	is_int(ra[30] << 8 | ra[31], 9001, "the MTU");
	is_int(ra[34], 64, "the subnet");
	is_int(ra[35], 0x80, "is on-link, and nobody makes an address of it");
	ok(ra[48] == 0xfd && ra[55] == 1 && ra[63] == 0, "it is the guest's");
	ra[0] = 133;
	ok(ra_is_solicitation(ra, 8) && !ra_is_solicitation(ra, 7), "a solicitation is known");
	ra[1] = 1;
	ok(!ra_is_solicitation(ra, 8), "by type and code");
}

int main(void)
{
	RUN(all_addresses_of_an_interface_are_given);
	RUN(who_asks_for_haste_is_answered_at_once);
	RUN(only_the_server_that_is_meant_answers);
	RUN(an_address_that_is_no_longer_the_guests_ends);
	RUN(a_guest_that_moved_is_told);
	RUN(strangers_meet_silence);
	RUN(information_alone_has_no_address);
	RUN(addresses_that_do_not_fit_are_left_out);
	RUN(a_router_says_what_a_guest_must_know);
	return tests_done();
}
