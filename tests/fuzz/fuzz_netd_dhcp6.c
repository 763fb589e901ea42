/* A guest's DHCPv6 datagram, and its router solicitation. */
#include <assert.h>
#include "../../netd/dhcp6.h"
#include "../../netd/ra.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	static const uint8_t mac[6];
	static struct plan_guest6 guest = {
		.leg = "leg", .address = {.s6_addr = {0xfd, [15] = 10}}, .subnet = {.bits = 64}};
	static struct plan plan = {
		.guests6 = &guest, .n_guests6 = 1, .has_dns = 1, .domain = "ec2.internal"};
	uint8_t answer[DHCP6_MESSAGE_MAX];

	assert(dhcp6_answer(&plan, "leg", mac, data, n_bytes, answer) <= DHCP6_MESSAGE_MAX);
	(void)ra_is_solicitation(data, n_bytes); /* reads what it must, and no more */
	return 0;
}
