/* DNS inside a VPC: what the plan knows, without I/O. */
#include "dns.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <ldns/ldns.h>
#include <string.h>
#include <strings.h>
#include "cidr.h"

#define TTL	    60
#define HEADER_SIZE 12
#define UDP_SIZE    1232 /* what we say that we take (DNS flag day 2020) */

static inline void own_pkt_free(ldns_pkt **p)
{
	ldns_pkt_free(*p);
}

static inline void own_buffer_free(ldns_buffer **b)
{
	ldns_buffer_free(*b);
}

/* What is known of one name: a code, and at most one record's data of each family. */
struct knowledge {
	ldns_pkt_rcode code;
	struct {
		ldns_rr_type type; /* 0: none */
		char data[256];
	} records[2];
};

static int is_private(uint32_t a)
{
	return a >> 24 == 10 || a >> 20 == (172u << 4 | 1) || a >> 16 == (192u << 8 | 168);
}

static int is_name(const char *name, const char *host, size_t n_host)
{
	return strlen(name) == n_host && strncasecmp(name, host, n_host) == 0;
}

static void know_address(struct knowledge *k, uint32_t address)
{
	k->records[0].type = LDNS_RR_TYPE_A;
	ip_format(address, k->records[0].data);
}

static void know_pointer(struct knowledge *k, const char *host, const char *zone)
{
	k->records[0].type = LDNS_RR_TYPE_PTR;
	snprintf(k->records[0].data, sizeof k->records[0].data, "%s.%s.", host, zone);
}

/* By address, or by instance where that is asked for; in each family where that is. 0 or -ENOENT. */
static int know_guest(const struct plan *p, const char *host, size_t n_host, struct knowledge *k)
{
	for (size_t i = 0; i < p->n_guests; i++) {
		const struct plan_guest *g = &p->guests[i];
		int is_host = is_name(g->host_name, host, n_host),
		    is_instance = is_name(g->instance, host, n_host);

		if (is_host || (is_instance && g->has_resource_record))
			know_address(k, g->address);
		if (is_instance && g->has_resource_record6) {
			k->records[1].type = LDNS_RR_TYPE_AAAA;
			inet_ntop(AF_INET6, &g->address6, k->records[1].data, INET6_ADDRSTRLEN);
		}
		if (k->records[0].type || k->records[1].type)
			return 0;
	}
	return -ENOENT;
}

/* "ip-10-0-1-10.ec2.internal" */
static int know_private(const struct plan *p, const char *name, struct knowledge *k)
{
	size_t n = strlen(name), n_zone = strlen(p->zone), n_host;

	if (n < n_zone || strcasecmp(name + n - n_zone, p->zone) != 0 ||
	    (n > n_zone && name[n - n_zone - 1] != '.'))
		return 0;
	if (n == n_zone)
		return 1;
	n_host = n - n_zone - 1;
	if (p->has_names && know_guest(p, name, n_host, k) == 0)
		return 1;
	if (n_host == strlen("instance-data") && strncasecmp(name, "instance-data", n_host) == 0)
		know_address(k, ADDRESS_IMDS);
	else
		k->code = LDNS_RCODE_NXDOMAIN;
	return 1;
}

/* "10.1.0.10.in-addr.arpa" */
static int know_reverse(const struct plan *p, const char *name, struct knowledge *k)
{
	unsigned b[4];
	uint32_t address;
	int n = 0;

	if (sscanf(name, "%3u.%3u.%3u.%3u.%n", &b[3], &b[2], &b[1], &b[0], &n) != 4 || n == 0 ||
	    strcasecmp(name + n, "in-addr.arpa") != 0 || b[0] > 255 || b[1] > 255 || b[2] > 255 ||
	    b[3] > 255)
		return 0;
	address = b[0] << 24 | b[1] << 16 | b[2] << 8 | b[3];
	for (size_t i = 0; i < p->n_guests; i++)
		if (p->guests[i].address == address && p->has_names) {
			know_pointer(k,
				     p->guests[i].is_resource_named &&
						     p->guests[i].has_resource_record
					     ? p->guests[i].instance
					     : p->guests[i].host_name,
				     p->zone);
			return 1;
		} else if (p->guests[i].public_address == address && p->guests[i].ptr_record[0]) {
			snprintf(k->records[0].data, sizeof k->records[0].data, "%s",
				 p->guests[i].ptr_record);
			k->records[0].type = LDNS_RR_TYPE_PTR;
			return 1;
		}
	k->code = LDNS_RCODE_NXDOMAIN;
	return is_private(address); /* nobody outside knows of those (RFC 6303) */
}

/* "a.0.….0.d.f.ip6.arpa": 32 digits, the last one first. 0 or -EINVAL. */
static int reverse6_parse(const char *name, struct in6_addr *ret_address)
{
	static const char digits[] = "0123456789abcdef";
	struct in6_addr a = {0};

	for (int i = 31; i >= 0; i--, name += 2) {
		const char *digit =
			name[0] ? strchr(digits, tolower((unsigned char)name[0])) : NULL;

		if (!digit || name[1] != '.')
			return -EINVAL;
		a.s6_addr[i / 2] |= (uint8_t)((digit - digits) << (i % 2 ? 0 : 4));
	}
	if (strcasecmp(name, "ip6.arpa") != 0)
		return -EINVAL;
	*ret_address = a;
	return 0;
}

/* Addresses of IPv6 have names of instances alone. */
static int know_reverse6(const struct plan *p, const char *name, struct knowledge *k)
{
	struct in6_addr address;

	if (reverse6_parse(name, &address) < 0)
		return 0;
	for (size_t i = 0; p->has_names && i < p->n_guests; i++)
		if (p->guests[i].has_resource_record6 &&
		    memcmp(&p->guests[i].address6, &address, sizeof address) == 0) {
			know_pointer(k, p->guests[i].instance, p->zone);
			return 1;
		}
	k->code = LDNS_RCODE_NXDOMAIN;
	/* Unique local and link-local: nobody outside knows of those (RFC 6303). */
	return (address.s6_addr[0] & 0xfe) == 0xfc || IN6_IS_ADDR_LINKLOCAL(&address);
}

/* "ec2-198-18-0-5.compute-1.amazonaws.com": the private address for those of this VPC and of peers
 * that allow it, else the
 * address that the name spells. */
static int know_public(const struct plan *p, const char *name, struct knowledge *k)
{
	const char *peer_name;
	json_t *value;
	uint32_t address;
	unsigned b[4];
	int n = 0;

	for (size_t i = 0; i < p->n_guests; i++)
		if (p->guests[i].public_name[0] &&
		    strcasecmp(p->guests[i].public_name, name) == 0) {
			know_address(k, p->guests[i].address);
			return 1;
		}
	json_object_foreach (p->peer_names, peer_name, value)
		if (strcasecmp(peer_name, name) == 0 &&
		    ip_parse(json_string_value(value), &address) == 0) {
			know_address(k, address);
			return 1;
		}
	if (sscanf(name, "ec2-%3u-%3u-%3u-%3u.%n", &b[0], &b[1], &b[2], &b[3], &n) != 4 || n == 0 ||
	    b[0] > 255 || b[1] > 255 || b[2] > 255 || b[3] > 255)
		return 0;
	n = (int)(strlen(name) - strlen(".amazonaws.com"));
	if (n <= 0 || strcasecmp(name + n, ".amazonaws.com") != 0 || !strstr(name, ".compute"))
		return 0;
	know_address(k, b[0] << 24 | b[1] << 16 | b[2] << 8 | b[3]);
	return 1;
}

/* ---- the message ---- */

static ldns_rr *record(const ldns_rr *question, ldns_rr_type type, const char *text)
{
	ldns_rr *rr = ldns_rr_new_frm_type(type);
	ldns_rdf *data = ldns_rdf_new_frm_str(type == LDNS_RR_TYPE_A	  ? LDNS_RDF_TYPE_A
					      : type == LDNS_RR_TYPE_AAAA ? LDNS_RDF_TYPE_AAAA
									  : LDNS_RDF_TYPE_DNAME,
					      text);

	if (!rr || !data) {
		ldns_rr_free(rr);
		ldns_rdf_deep_free(data);
		return NULL;
	}
	ldns_rr_set_owner(rr, ldns_rdf_clone(ldns_rr_owner(question)));
	ldns_rr_set_ttl(rr, TTL);
	ldns_rr_set_class(rr, LDNS_RR_CLASS_IN);
	(void)ldns_rr_set_rdf(rr, data, 0); /* a fresh record of the type has this place */
	return rr;
}

static enum dns_verdict finish(const ldns_pkt *question, const ldns_rr *asked,
			       const struct knowledge *k, uint8_t **ret_answer, size_t *ret_n)
{
	OWN(pkt_free) ldns_pkt *answer = ldns_pkt_new();

	if (!answer)
		return DNS_DROP;
	ldns_pkt_set_id(answer, ldns_pkt_id(question));
	ldns_pkt_set_qr(answer, 1);
	ldns_pkt_set_opcode(answer, ldns_pkt_get_opcode(question));
	ldns_pkt_set_rd(answer, ldns_pkt_rd(question));
	ldns_pkt_set_ra(answer, 1);
	ldns_pkt_set_rcode(answer, k->code);
	if (ldns_pkt_edns(question))
		ldns_pkt_set_edns_udp_size(answer, UDP_SIZE);
	if (asked)
		ldns_pkt_push_rr(answer, LDNS_SECTION_QUESTION, ldns_rr_clone(asked));
	for (size_t i = 0; asked && i < sizeof k->records / sizeof *k->records; i++) {
		ldns_rr_type type = k->records[i].type, want = ldns_rr_get_type(asked);
		ldns_rr *rr = NULL;

		if (type && (want == type || want == LDNS_RR_TYPE_ANY))
			rr = record(asked, type, k->records[i].data);
		if (rr)
			ldns_pkt_push_rr(answer, LDNS_SECTION_ANSWER, rr);
	}
	return ldns_pkt2wire(ret_answer, answer, ret_n) == LDNS_STATUS_OK ? DNS_ANSWER : DNS_DROP;
}

/* The name as text without the last dot; "" when it does not fit, and then it is none of ours. */
static void name_of(const ldns_rr *question, char name[static 256])
{
	OWN(buffer_free) ldns_buffer *b = ldns_buffer_new(256);
	size_t n;

	name[0] = '\0';
	if (!b || ldns_rdf2buffer_str_dname(b, ldns_rr_owner(question)) != LDNS_STATUS_OK)
		return;
	n = ldns_buffer_position(b);
	if (n > 255)
		return;
	memcpy(name, ldns_buffer_begin(b), n);
	name[n] = '\0';
	if (n && name[n - 1] == '.')
		name[n - 1] = '\0';
}

static enum dns_verdict answer_question(const struct plan *plan, const ldns_pkt *question,
					uint8_t **ret_answer, size_t *ret_n)
{
	const ldns_rr *asked = ldns_rr_list_rr(ldns_pkt_question(question), 0);
	struct knowledge k = {.code = LDNS_RCODE_NOERROR};
	char name[256];

	if (ldns_pkt_get_opcode(question) != LDNS_PACKET_QUERY)
		k.code = LDNS_RCODE_NOTIMPL;
	else if (ldns_pkt_qdcount(question) != 1 || !asked)
		k.code = LDNS_RCODE_FORMERR;
	else if (ldns_rr_get_class(asked) != LDNS_RR_CLASS_IN ||
		 ldns_rr_get_type(asked) == LDNS_RR_TYPE_AXFR ||
		 ldns_rr_get_type(asked) == LDNS_RR_TYPE_IXFR)
		k.code = LDNS_RCODE_REFUSED;
	if (k.code != LDNS_RCODE_NOERROR)
		return finish(question, asked, &k, ret_answer, ret_n);
	name_of(asked, name);
	if (know_private(plan, name, &k) || know_public(plan, name, &k) ||
	    know_reverse(plan, name, &k) || know_reverse6(plan, name, &k))
		return finish(question, asked, &k, ret_answer, ret_n);
	return DNS_FORWARD;
}

enum dns_verdict dns_answer(const struct plan *plan, const uint8_t *message, size_t n_message,
			    uint8_t **ret_answer, size_t *ret_n)
{
	OWN(pkt_free) ldns_pkt *question = NULL;
	uint8_t *answer;

	if (n_message < HEADER_SIZE || n_message > UINT16_MAX || message[2] & 0x80)
		return DNS_DROP;
	if (ldns_wire2pkt(&question, message, n_message) == LDNS_STATUS_OK)
		return answer_question(plan, question, ret_answer, ret_n);
	answer = calloc(1, HEADER_SIZE);
	if (!answer)
		return DNS_DROP;
	memcpy(answer, message, 2);
	answer[2] = 0x80 | (message[2] & 0x79); /* QR, and its opcode and RD */
	answer[3] = 0x80 | LDNS_RCODE_FORMERR;	/* RA */
	*ret_answer = answer;
	*ret_n = HEADER_SIZE;
	return DNS_ANSWER;
}

/* Leaves header and question of a message whose question is one, at the start and without
 * compression. Its length. */
static size_t keep_question(uint8_t *message, size_t n_message)
{
	size_t n = HEADER_SIZE;

	while (n < n_message && message[n])
		n += 1u + message[n];
	n += 5; /* the root, type, class */
	memset(message + 6, 0, 6);
	return n < n_message ? n : n_message;
}

/* Only for what dns_answer() gave back as DNS_FORWARD. */
size_t dns_fail(uint8_t *message, size_t n_message)
{
	message[2] |= 0x80;
	message[3] = 0x80 | LDNS_RCODE_SERVFAIL;
	return keep_question(message, n_message);
}

size_t dns_truncate(uint8_t *message, size_t n_message)
{
	message[2] |= 2; /* TC */
	return keep_question(message, n_message);
}
