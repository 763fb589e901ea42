/* A guest's DHCP datagram. */
#include <assert.h>
#include "../../netd/dhcp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	static struct plan_guest guest = {.leg = "leg",
					  .address = 0x0a00010a,
					  .gateway = 0x0a000101,
					  .plen = 24,
					  .is_primary = 1,
					  .host_name = "ip-10-0-1-10"};
	static struct plan plan = {.guests = &guest,
				   .n_guests = 1,
				   .domain = "ec2.internal",
				   .dns_servers = {0x0a000002},
				   .n_dns_servers = 1};
	uint8_t answer[DHCP_MESSAGE_MAX];
	const struct plan_guest *to;
	uint32_t destination;

	/* The guest's MAC is 0, so that inputs get past the first look. */
	assert(dhcp_answer(&plan, "leg", data, n_bytes, answer, &destination, &to) <=
	       DHCP_MESSAGE_MAX - 28);
	return 0;
}
