/* DHCP: who is answered, with what, and who is met by silence. RFC 2131. */
#include "tap.h"

#include <stdint.h>
#include "../../netd/dhcp.h"

static struct plan_guest guest = {
	.mac = {2, 0, 0, 0, 0, 1},
	.leg = "leg1",
	.address = 0x0a00010a,
	.gateway = 0x0a000101,
	.plen = 24,
	.is_primary = 1,
	.host_name = "ip-10-0-1-10",
};
static struct plan plan = {.guests = &guest,
			   .n_guests = 1,
			   .domain = "ec2.internal",
			   .dns_servers = {0x0a000002},
			   .n_dns_servers = 1};

static uint8_t message[DHCP_MESSAGE_MAX], answer[DHCP_MESSAGE_MAX];
static size_t n_message, n_answer;
static uint32_t destination;

static void option(uint8_t code, uint8_t n, const void *value)
{
	message[n_message++] = code;
	message[n_message++] = n;
	memcpy(message + n_message, value, n);
	n_message += n;
}

static void begin(uint8_t type)
{
	static const uint8_t cookie[] = {99, 130, 83, 99};

	memset(message, 0, sizeof message);
	message[0] = message[1] = 1;
	message[2] = 6;
	memcpy(message + 4, "\x12\x34\x56\x78", 4);
	memcpy(message + 28, guest.mac, 6);
	memcpy(message + 236, cookie, sizeof cookie);
	n_message = 240;
	option(53, 1, &type);
}

static void ask(const char *leg)
{
	const struct plan_guest *g;

	message[n_message++] = 255;
	n_answer = dhcp_answer(&plan, leg, message, n_message, answer, &destination, &g);
}

/* The option's value in the answer, NULL without it. */
static const uint8_t *find(uint8_t code)
{
	for (size_t i = 240; i + 1 < n_answer && answer[i] != 255; i += 2u + answer[i + 1])
		if (answer[i] == code)
			return answer + i + 2;
	return NULL;
}

static uint32_t number(const uint8_t *p)
{
	return p ? (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3] : 0;
}

static void a_discover_gets_an_offer(void)
{
	begin(1);
	ask("leg1");
	ok(n_answer >= 300, "as long as BOOTP's");
	is_int(answer[0], 2, "a reply");
	ok(memcmp(answer + 4, "\x12\x34\x56\x78", 4) == 0, "the same transaction");
	is_int(find(53)[0], 2, "OFFER");
	is_int(number(answer + 16), guest.address, "its address");
	is_int(number(find(1)), 0xffffff00, "mask");
	is_int(number(find(3)), guest.gateway, "router");
	is_int(number(find(54)), guest.gateway, "server");
	is_int(number(find(6)), 0x0a000002, "resolver");
	is_int(number(find(51)), 3600, "lease");
	is_int(find(26)[0] << 8 | find(26)[1], 9001, "MTU");
	ok(memcmp(find(12), "ip-10-0-1-10", 12) == 0 && memcmp(find(15), "ec2.internal", 12) == 0,
	   "names");
	is_int(destination, guest.address, "to its address");
}

static void a_client_that_cannot_take_unicast_yet_is_answered_by_broadcast(void)
{
	begin(1);
	message[10] = 0x80;
	ask("leg1");
	is_int(destination, 0xffffffff, "to all, as IP goes");
}

static void its_own_address_is_acknowledged_and_another_refused(void)
{
	begin(3);
	option(50, 4, "\x0a\x00\x01\x0a");
	ask("leg1");
	is_int(find(53)[0], 5, "ACK");
	begin(3);
	option(50, 4, "\x0a\x00\x01\x63");
	ask("leg1");
	is_int(find(53)[0], 6, "NAK");
	ok(!find(51) && number(answer + 16) == 0, "without a lease");
	is_int(destination, 0xffffffff, "to all, as IP goes");
	begin(3);
	memcpy(message + 12, "\x0a\x00\x01\x0a", 4);
	ask("leg1");
	is_int(find(53)[0], 5, "a renewal");
	is_int(destination, guest.address, "to where it is");
}

static void an_inform_gets_the_options_without_a_lease(void)
{
	begin(8);
	memcpy(message + 12, "\x0a\x00\x01\x0a", 4);
	ask("leg1");
	is_int(find(53)[0], 5, "ACK");
	ok(!find(51) && number(answer + 16) == 0 && find(3), "options only");
}

static void others_are_met_by_silence(void)
{
	begin(1);
	ask("leg2");
	is_int(n_answer, 0, "from another subnet");
	begin(1);
	message[33] ^= 1;
	ask("leg1");
	is_int(n_answer, 0, "an unknown MAC");
	begin(3);
	option(54, 4, "\x0a\x00\x01\x63");
	option(50, 4, "\x0a\x00\x01\x0a");
	ask("leg1");
	is_int(n_answer, 0, "meant for another server");
	begin(3);
	ask("leg1");
	is_int(n_answer, 0, "asks for nothing");
	begin(1);
	message[24] = 10;
	ask("leg1");
	is_int(n_answer, 0, "by a relay");
	begin(7);
	ask("leg1");
	is_int(n_answer, 0, "a release");
	begin(2);
	ask("leg1");
	is_int(n_answer, 0, "an offer");
}

static void what_is_cut_short_is_dropped(void)
{
	int n_answered = 0;

	begin(3);
	option(50, 4, "\x0a\x00\x01\x0a");
	for (size_t n = 0; n < n_message; n++) {
		const struct plan_guest *g;

		n_answered += dhcp_answer(&plan, "leg1", message, n, answer, &destination, &g) > 0;
	}
	is_int(n_answered, 0, "at every length");
}

int main(void)
{
	RUN(a_discover_gets_an_offer);
	RUN(a_client_that_cannot_take_unicast_yet_is_answered_by_broadcast);
	RUN(its_own_address_is_acknowledged_and_another_refused);
	RUN(an_inform_gets_the_options_without_a_lease);
	RUN(others_are_met_by_silence);
	RUN(what_is_cut_short_is_dropped);
	return tests_done();
}
