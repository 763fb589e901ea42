/* A guest's DNS question, and what is made of it when no upstream answers. */
#include <assert.h>
#include <string.h>
#include "../../netd/dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	static struct plan_guest guest = {.address = 0x0a00010a,
					  .host_name = "ip-10-0-1-10",
					  .public_name = "ec2-1-2-3-4.compute-1.amazonaws.com"};
	static struct plan plan = {.guests = &guest,
				   .n_guests = 1,
				   .zone = "ec2.internal",
				   .dns = 0x0a000002,
				   .has_dns = 1};
	OWN(free) uint8_t *answer = NULL, *copy = malloc(n_bytes + 1);
	size_t n_answer = 0;

	memcpy(copy, data, n_bytes);
	if (dns_answer(&plan, data, n_bytes, &answer, &n_answer) == DNS_FORWARD)
		assert(dns_fail(copy, n_bytes) <= n_bytes);
	return 0;
}
