/* Addresses and blocks: what a customer writes is read as AWS reads it, or not at all. */
#include "tap.h"

#include <errno.h>
#include "../../netd/cidr.h"

static const char *canonical(const char *text)
{
	static char out[CIDR_TEXT_MAX];
	struct cidr c;

	if (cidr_parse(text, &c) < 0)
		return NULL;
	cidr_format(cidr_canonical(c), out);
	return out;
}

static const char *canonical6(const char *text)
{
	static char out[CIDR6_TEXT_MAX];

	return cidr6_canonical(text, out) < 0 ? NULL : out;
}

static struct cidr block(const char *text)
{
	struct cidr c = {0};

	ok(cidr_parse(text, &c) == 0, text);
	return c;
}

static void an_address_is_four_numbers(void)
{
	static const char *const bad[] = {"",	       "1",	   "1.2.3",	"1.2.3.4.5",
					  "1.2.3.256", "01.2.3.4", "1.2.3.4 ",	" 1.2.3.4",
					  "1..2.3",    "1.2.3.-4", "0x1.2.3.4", "1.2.3.4/32",
					  "1000.2.3.4"};
	char text[IP_TEXT_MAX];
	uint32_t a = 0;

	is_int(ip_parse("172.31.0.5", &a), 0, "read");
	is_int(a, 0xac1f0005, "in host order");
	ip_format(a, text);
	is_str(text, "172.31.0.5", "and back");
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ok(ip_parse(bad[i], &a) < 0, bad[i]);
	ok(ip_parse(NULL, &a) < 0, "nothing");
}

static void a_block_has_a_mask(void)
{
	static const char *const bad[] = {"10.0.0.0",	 "10.0.0.0/",	"10.0.0.0/33",
					  "10.0.0.0/08", "10.0.0.0/8x", "10.0.0/8",
					  "10.0.0.0/-1", "/8",		"::/0"};

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		is_str(canonical(bad[i]), NULL, bad[i]);
	is_str(canonical("0.0.0.0/0"), "0.0.0.0/0", "everything");
	is_str(canonical("1.2.3.4/32"), "1.2.3.4/32", "one address");
}

static void host_bits_are_cleared(void)
{
	is_str(canonical("100.68.0.18/18"), "100.68.0.0/18", "AWS's own example");
	is_str(canonical("255.255.255.255/0"), "0.0.0.0/0", "all of them");
	is_str(canonical6("2001:DB8::1/32"), "2001:db8::/32", "IPv6");
	is_str(canonical6("2001:db8:ffff::/33"), "2001:db8:8000::/33", "not at a byte's edge");
	is_str(canonical6("::1/128"), "::1/128", "none to clear");
	is_str(canonical6("ffff::/0"), "::/0", "all of IPv6");
}

static void a_wrong_ipv6_block_is_refused(void)
{
	static const char *const bad[] = {
		"::",
		"::/129",
		"::/",
		"1.2.3.4/32",
		":::/1",
		"2001:db8::1%eth0/64",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/64"};

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		is_str(canonical6(bad[i]), NULL, bad[i]);
	is_str(canonical6(NULL), NULL, "nothing");
}

static void blocks_know_their_bounds(void)
{
	struct cidr c = block("172.31.16.0/20");

	is_int(cidr_first(c), 0xac1f1000, "first");
	is_int(cidr_last(c), 0xac1f1fff, "last");
	is_int(cidr_size(c), 4096, "size");
	is_int(cidr_size(block("0.0.0.0/0")), 1LL << 32, "the size of everything");
	ok(cidr_has(c, 0xac1f1fff) && !cidr_has(c, 0xac1f2000),
	   "has its last address and not the next");
	is_int(cidr_canonical(block("172.31.16.1/20")).address, 0xac1f1000, "without host bits");
}

static void overlap_is_mutual(void)
{
	struct cidr vpc = block("172.31.0.0/16"), in = block("172.31.240.0/20"),
		    out = block("172.30.0.0/16");

	ok(cidr_overlap(vpc, in) && cidr_overlap(in, vpc), "inside");
	ok(!cidr_overlap(vpc, out) && !cidr_overlap(out, vpc), "outside");
	ok(cidr_has_cidr(vpc, in) && !cidr_has_cidr(in, vpc), "only the larger has the smaller");
	ok(cidr_has_cidr(vpc, vpc), "a block has itself");
}

static void parts_follow_one_another(void)
{
	char text[CIDR_TEXT_MAX];

	cidr_format(cidr_part(block("172.31.0.0/16"), 20, 0), text);
	is_str(text, "172.31.0.0/20", "first");
	cidr_format(cidr_part(block("172.31.0.0/16"), 20, 15), text);
	is_str(text, "172.31.240.0/20", "last");
	cidr_format(cidr_part(block("0.0.0.0/0"), 0, 0), text);
	is_str(text, "0.0.0.0/0", "all of it");
}

static struct cidr6 block6(const char *text)
{
	struct cidr6 c = {0};

	ok(cidr6_parse(text, &c) == 0, text);
	return c;
}

static void ipv6_blocks_are_parted_and_compared(void)
{
	struct cidr6 vpc = block6("fd67:7572:6500:ab00::/56"), one;
	char text[CIDR6_TEXT_MAX];

	one = cidr6_part(vpc, 64, 255);
	cidr6_format(one, text);
	is_str(text, "fd67:7572:6500:abff::/64", "the last of its subnets");
	ok(cidr6_has_cidr(vpc, one) && !cidr6_has_cidr(one, vpc), "only the larger has the other");
	ok(cidr6_overlap(vpc, one) && cidr6_overlap(one, vpc), "they overlap both ways");
	ok(!cidr6_overlap(one, cidr6_part(vpc, 64, 254)), "neighbours do not");
	cidr6_format(cidr6_part(block6("fd00::/8"), 56, UINT64_MAX), text);
	is_str(text, "fdff:ffff:ffff:ff00::/56", "a part does not reach beyond its block");
}

static void an_address_of_either_family_keeps_its_text(void)
{
	static const char *const texts[] = {"10.0.0.1", "fd00:ec2::254", "::"};
	struct address a, b;
	char text[IP_ANY_TEXT_MAX];

	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		is_int(ip_any_parse(texts[i], &a), 0, texts[i]);
		ip_any_format(&a, text);
		is_str(text, texts[i], "and back");
	}
	is_int(ip_any_parse("fe80::1%eth0", &a), -EINVAL, "no scopes");
	is_int(ip_any_parse(NULL, &a), -EINVAL, "nothing");
	a = ip4(0xff000000);
	ok(ip_any_parse("::1", &b) == 0 && ip_compare(&a, &b) < 0, "IPv4 comes before IPv6");
	ok(ip_is(&a, &a) && !ip_is(&a, &b), "the same or not");
	a = (struct address){0};
	ip_any_format(&a, text);
	is_str(text, "", "none has no text");
}

int main(void)
{
	RUN(an_address_is_four_numbers);
	RUN(a_block_has_a_mask);
	RUN(host_bits_are_cleared);
	RUN(a_wrong_ipv6_block_is_refused);
	RUN(blocks_know_their_bounds);
	RUN(overlap_is_mutual);
	RUN(parts_follow_one_another);
	RUN(ipv6_blocks_are_parted_and_compared);
	RUN(an_address_of_either_family_keeps_its_text);
	return tests_done();
}
