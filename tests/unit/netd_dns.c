/* DNS inside a VPC: what is known here, what is asked elsewhere, what is refused. */
#include "tap.h"

#include <arpa/inet.h>
#include <stdint.h>
#include "../../netd/dns.h"

static struct plan_guest guests[] = {
	{.address = 0x0a00010a,
	 .host_name = "ip-10-0-1-10",
	 .public_name = "ec2-198-18-0-5.compute-1.amazonaws.com"},
	{.address = 0x0a00010b, .host_name = "ip-10-0-1-11"},
};
static struct plan plan = {.guests = guests,
			   .n_guests = 2,
			   .zone = "ec2.internal",
			   .dns = 0x0a000002,
			   .has_dns = 1,
			   .has_names = 1};

enum { A = 1, PTR = 12, AAAA = 28, ANY = 255 };

static uint8_t question[512], *answer;
static size_t n_question, n_answer;

static enum dns_verdict ask(const char *name, int type)
{
	memcpy(question, "\x12\x34\x01\0\0\1\0\0\0\0\0\0", 12);
	n_question = 12;
	while (*name) {
		size_t n = strcspn(name, ".");

		question[n_question++] = (uint8_t)n;
		memcpy(question + n_question, name, n);
		n_question += n;
		name += n + (name[n] == '.');
	}
	memcpy(question + n_question, "\0\0\0\0\1", 5);
	question[n_question + 2] = (uint8_t)type;
	n_question += 5;
	free(answer);
	answer = NULL;
	n_answer = 0;
	return dns_answer(&plan, question, n_question, &answer, &n_answer);
}

/* "0 10.0.1.10": code and address; "3": code alone */
static const char *said(const char *name, int type)
{
	static char text[64];
	enum dns_verdict v = ask(name, type);

	if (v != DNS_ANSWER)
		return v == DNS_FORWARD ? "forward" : "drop";
	if (memcmp(answer, "\x12\x34", 2) != 0 || !(answer[2] & 0x80))
		return "not an answer";
	snprintf(text, sizeof text, "%d", answer[3] & 15);
	if (answer[7])
		snprintf(text, sizeof text, "%d %u.%u.%u.%u", answer[3] & 15, answer[n_answer - 4],
			 answer[n_answer - 3], answer[n_answer - 2], answer[n_answer - 1]);
	return text;
}

static void private_names_are_known_here(void)
{
	is_str(said("ip-10-0-1-10.ec2.internal", A), "0 10.0.1.10", "an address");
	is_str(said("IP-10-0-1-11.EC2.Internal", ANY), "0 10.0.1.11", "in any case");
	is_str(said("ip-10-0-1-10.ec2.internal", AAAA), "0", "no IPv6");
	is_str(said("ip-10-0-1-12.ec2.internal", A), "3", "nobody's");
	is_str(said("ec2.internal", A), "0", "the zone itself");
	is_str(said("instance-data.ec2.internal", A), "0 169.254.169.254", "instance metadata");
}

/* The bytes of an address at the end of the answer to AAAA. */
static const char *said6(const char *name)
{
	static char text[INET6_ADDRSTRLEN + 4];

	if (ask(name, AAAA) != DNS_ANSWER)
		return "elsewhere";
	if (!answer[7])
		snprintf(text, sizeof text, "%d", answer[3] & 15);
	else
		inet_ntop(AF_INET6, answer + n_answer - 16, text, sizeof text);
	return text;
}

static void ids_are_names_of_the_families_that_are_asked_for(void)
{
	static const char name[] = "i-0123.ec2.internal",
			  reverse[] = "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.0.0.0.0.0.0.0."
				      "0.d.F.ip6.ARPA";
	struct plan_guest *g = &guests[1];

	snprintf(g->instance, sizeof g->instance, "i-0123");
	is_str(said(name, A), "3", "neither: there is no such name");
	is_str(said(reverse, PTR), "3", "nor back");
	inet_pton(AF_INET6, "fd00:0:0:1::7", &g->address6);
	g->has_resource_record6 = 1;
	is_str(said(name, A), "0", "IPv6 alone: no address of IPv4");
	is_str(said6(name), "fd00:0:0:1::7", "but one of IPv6");
	ask(reverse, PTR);
	ok(n_answer > 20 && memmem(answer, n_answer, "\006i-0123\003ec2\010internal", 20),
	   "and the way back");
	is_str(said6("ip-10-0-1-11.ec2.internal"), "0", "the address's name has none");
	g->has_resource_record = 1;
	is_str(said(name, A), "0 10.0.1.11", "both: IPv4");
	is_str(said6(name), "fd00:0:0:1::7", "and IPv6");
	ask(name, ANY);
	is_int(answer[7], 2, "any: both");
	g->has_resource_record6 = 0;
	is_str(said6(name), "0", "IPv4 alone");
	is_str(said(reverse, PTR), "3", "no way back");
	is_str(said(reverse + 2, PTR), "forward", "not an address");
	is_str(said("8.8.8.8.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.8.4.0.6.8.4.1.0.0.2.ip6.arpa",
		    PTR),
	       "forward", "the world's");
	g->has_resource_record = 0;
	g->instance[0] = '\0';
}

static void public_names_lead_inside_when_they_are_ours(void)
{
	is_str(said("ec2-198-18-0-5.compute-1.amazonaws.com", A), "0 10.0.1.10", "ours");
	is_str(said("ec2-198-18-0-6.compute-1.amazonaws.com", A), "0 198.18.0.6", "another's");
	is_str(said("ec2-198-18-0-600.compute-1.amazonaws.com", A), "forward", "no address");
}

static void addresses_lead_back_to_names(void)
{
	ask("10.1.0.10.in-addr.arpa", PTR);
	ok(n_answer > 20 && memmem(answer, n_answer, "\014ip-10-0-1-10\003ec2\010internal", 26),
	   "a guest's");
	is_str(said("99.1.0.10.in-addr.arpa", PTR), "3", "a private one that nobody has");
	is_str(said("8.8.8.8.in-addr.arpa", PTR), "forward", "the world's");
	is_str(said("999.1.0.10.in-addr.arpa", PTR), "forward", "not an address");
}

static void all_else_is_asked_elsewhere(void)
{
	is_str(said("example.org", A), "forward", "a name");
	is_str(said("notec2.internal", A), "forward", "a name that only ends alike");
	is_str(said("", 2), "forward", "the root");
}

static void what_is_no_question_is_refused_or_dropped(void)
{
	ask("example.org", A);
	question[2] |= 0x80;
	is_int(dns_answer(&plan, question, n_question, &answer, &n_answer), DNS_DROP, "an answer");
	ask("example.org", A);
	question[2] |= 0x28; /* UPDATE */
	is_int(dns_answer(&plan, question, n_question, &answer, &n_answer), DNS_ANSWER,
	       "an update");
	is_int(answer[3] & 15, 4, "NOTIMP");
	is_str(said("ip-10-0-1-10.ec2.internal", 252), "5", "a zone transfer");
	ask("example.org", A);
	is_int(dns_answer(&plan, question, n_question - 3, &answer, &n_answer), DNS_ANSWER,
	       "cut short");
	is_int(answer[3] & 15, 1, "FORMERR");
	is_int(dns_answer(&plan, question, 11, &answer, &n_answer), DNS_DROP, "no header");
}

static void failing_keeps_the_question(void)
{
	size_t n;

	ask("example.org", A);
	n = dns_fail(question, n_question);
	is_int(n, n_question, "the same length");
	ok((question[2] & 0x80) && (question[3] & 15) == 2, "SERVFAIL");
}

int main(void)
{
	RUN(private_names_are_known_here);
	RUN(ids_are_names_of_the_families_that_are_asked_for);
	RUN(public_names_lead_inside_when_they_are_ours);
	RUN(addresses_lead_back_to_names);
	RUN(all_else_is_asked_elsewhere);
	RUN(what_is_no_question_is_refused_or_dropped);
	RUN(failing_keeps_the_question);
	return tests_done();
}
