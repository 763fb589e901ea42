/* Flow lines: formats, and what a flow's count says to each log. */
#include "flow-line.h"
#include "delegation.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	int version;
} fields[FLOW_FIELDS] = {
#define FIELD(name, text, version) [FLOW_##name] = {text, version},
#include "flow-field-table.h"
#undef FIELD
};

/* ---- formats ---- */

static int field_find(const char *name, size_t n)
{
	for (int i = 0; i < FLOW_FIELDS; i++)
		if (strlen(fields[i].name) == n && memcmp(fields[i].name, name, n) == 0)
			return i;
	return -EINVAL;
}

int flow_format_has(const struct flow_format *f, enum flow_field field)
{
	return memchr(f->fields, (int)field, f->n) != NULL;
}

int flow_format_parse(const char *text, struct flow_format *ret_format)
{
	struct flow_format f = {.version = 2};

	while (*text) {
		const char *end = strncmp(text, "${", 2) == 0 ? strchr(text, '}') : NULL;
		int field = end ? field_find(text + 2, (size_t)(end - text - 2)) : -EINVAL;

		if (field < 0 || flow_format_has(&f, (enum flow_field)field))
			return -EINVAL;
		f.fields[f.n++] = (unsigned char)field;
		if (fields[field].version > f.version)
			f.version = fields[field].version;
		text = end + 1;
		if (*text == ' ' && text[1])
			text++;
		else if (*text)
			return -EINVAL;
	}
	if (f.n == 0)
		return -EINVAL;
	*ret_format = f;
	return 0;
}

/* ---- what is to be logged ---- */

struct flow_setup *flow_setup_ref(struct flow_setup *s)
{
	if (s)
		s->n_refs++;
	return s;
}

void flow_setup_unref(struct flow_setup *s)
{
	if (!s || --s->n_refs)
		return;
	free(s->logs);
	free(s->interfaces);
	free(s->addresses);
	free(s->services);
	free(s->seen);
	flow_rules_clear(&s->rules);
	free(s);
}

static int by_address(const void *va, const void *vb)
{
	const struct flow_address *a = va, *b = vb;
	int order = ip_compare(&a->address, &b->address);

	return order ? order : (a->bits > b->bits) - (a->bits < b->bits);
}

void flow_setup_sort(struct flow_setup *s)
{
	if (s->n_addresses)
		qsort(s->addresses, s->n_addresses, sizeof *s->addresses, by_address);
}

int flow_setup_is_same(const struct flow_setup *a, const struct flow_setup *b)
{
	return a->n_logs == b->n_logs && a->n_interfaces == b->n_interfaces &&
	       a->n_addresses == b->n_addresses && a->n_services == b->n_services &&
	       memcmp(a->logs, b->logs, a->n_logs * sizeof *a->logs) == 0 &&
	       memcmp(a->interfaces, b->interfaces, a->n_interfaces * sizeof *a->interfaces) == 0 &&
	       memcmp(a->addresses, b->addresses, a->n_addresses * sizeof *a->addresses) == 0 &&
	       memcmp(a->services, b->services, a->n_services * sizeof *a->services) == 0 &&
	       flow_rules_are_same(&a->rules, &b->rules);
}

static const struct flow_address *address_find(const struct flow_setup *s,
					       const struct flow_address *key)
{
	return s->n_addresses ? bsearch(key, s->addresses, s->n_addresses, sizeof *s->addresses,
					by_address)
			      : NULL;
}

/* The prefix that has the address. */
static const struct flow_address *prefix_find(const struct flow_setup *s, struct address address)
{
	struct flow_address key = {.address = address, .bits = DELEGATION_BITS4};

	if (address.family == AF_INET6) {
		key.bits = DELEGATION_BITS6;
		memset(key.address.bytes + DELEGATION_BITS6 / 8, 0, 16 - DELEGATION_BITS6 / 8);
	} else {
		key.address.bytes[3] &= (uint8_t) ~(DELEGATION_SIZE4 - 1);
	}
	return address_find(s, &key);
}

static const struct flow_interface *interface_of(const struct flow_setup *s,
						 const struct address *address)
{
	const struct flow_address key = {.address = *address}, *found = address_find(s, &key);

	if (!found)
		found = prefix_find(s, *address);
	return found ? &s->interfaces[found->interface] : NULL;
}

static int is_service(const struct flow_setup *s, const struct address *a)
{
	static const uint8_t link_local[] = {169, 254}, amazon[] = {0xfd, 0, 0x0e, 0xc2},
			     link_local6[] = {0xfe, 0x80};

	if (a->family == AF_INET && memcmp(a->bytes, link_local, sizeof link_local) == 0)
		return 1;
	if (a->family == AF_INET6 && (memcmp(a->bytes, amazon, sizeof amazon) == 0 ||
				      memcmp(a->bytes, link_local6, sizeof link_local6) == 0))
		return 1;
	for (size_t i = 0; i < s->n_services; i++)
		if (ip_is(&s->services[i], a))
			return 1;
	return 0;
}

/* ---- one line ---- */

struct values {
	char at[FLOW_FIELDS][IP_ANY_TEXT_MAX + 2];
};

static void __attribute__((format(printf, 3, 4)))
set(struct values *v, enum flow_field field, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(v->at[field], sizeof v->at[field], format, args); /* ids and numbers fit */
	va_end(args);
}

/* What does not depend on the flow. */
static void set_place(struct values *v, const struct flow_setup *s, const struct flow_interface *i,
		      const struct flow_sink *sink)
{
	for (size_t f = 0; f < FLOW_FIELDS; f++)
		set(v, (enum flow_field)f, "-");
	set(v, FLOW_INTERFACE_ID, "%s", i->id);
	set(v, FLOW_VPC_ID, "%s", s->vpc_id);
	set(v, FLOW_SUBNET_ID, "%s", i->subnet_id);
	if (i->instance_id[0])
		set(v, FLOW_INSTANCE_ID, "%s", i->instance_id);
	set(v, FLOW_REGION, "%s", s->region);
	set(v, FLOW_AZ_ID, "%s", i->zone_id);
	set(v, FLOW_START, "%" PRId64, sink->since);
	set(v, FLOW_END, "%" PRId64, sink->until);
}

static void emit(struct values *v, const struct flow_setup *s, const struct flow_interface *i,
		 size_t slot, struct flow_sink *sink)
{
	const struct flow_log *log = &s->logs[i->logs[slot]];
	char text[FLOW_FIELDS * (IP_ANY_TEXT_MAX + 2) + 1];
	size_t n = 0;

	set(v, FLOW_VERSION, "%d", log->format.version);
	set(v, FLOW_ACCOUNT_ID, "%s", log->account);
	for (size_t f = 0; f < log->format.n; f++) {
		const char *value = v->at[log->format.fields[f]];
		size_t n_value = strlen(value);

		memcpy(text + n, value, n_value);
		n += n_value;
		text[n++] = f + 1 < log->format.n ? ' ' : '\n';
	}
	sink->line(sink->arg, i->logs[slot], text, n);
	if (sink->seen)
		sink->seen[i - s->interfaces] |= (unsigned char)(1u << slot);
}

static void emit_to_all(struct values *v, const struct flow_setup *s,
			const struct flow_interface *i, unsigned verdict, struct flow_sink *sink)
{
	for (size_t slot = 0; slot < i->n_logs; slot++)
		if (s->logs[i->logs[slot]].verdicts & verdict)
			emit(v, s, i, slot, sink);
}

/* An interface's secondary addresses are shown as its primary one; what was on the wire is
 * pkt-…addr. */
static void set_address(struct values *v, enum flow_field field, const struct flow_interface *own,
			const struct address *address)
{
	const struct address *primary = !own			      ? address
					: address->family == AF_INET6 ? &own->primary6
								      : &own->primary4;

	if (!primary->family) /* it has prefixes alone */
		primary = address;
	char text[IP_ANY_TEXT_MAX];

	ip_any_format(primary, text);
	set(v, field, "%s", text);
	ip_any_format(address, text);
	set(v, field == FLOW_SRCADDR ? FLOW_PKT_SRCADDR : FLOW_PKT_DSTADDR, "%s", text);
}

/* A flow that began within the window did so by SYN and SYN-ACK. */
static unsigned tcp_flags(const struct flow_count *c, int way, int64_t since)
{
	int is_begun = c->verdict == FLOW_ACCEPT && c->first && c->first >= since;

	return c->tcp_flags[way] | (is_begun ? (way ? 18u : 2u) : 0u);
}

/* One of the flow's two ways (0: as it came, 1: answers), as seen by one of its interfaces. */
struct view {
	const struct flow_interface *own, *other; /* NULL: not of this VPC */
	int way;
	int is_source; /* what goes this way leaves `own` */
	int is_rejected;
};

static void set_denial(struct values *v, const struct flow_setup *s, const struct flow_count *c,
		       const struct view *w)
{
	const struct flow_entry *e = NULL;

	if (w->own->acl && !(w->other && strcmp(w->own->subnet_id, w->other->subnet_id) == 0))
		e = flow_acl_find(&s->rules, w->own->acl - 1, c, w->is_source);
	if (e)
		set(v, FLOW_RULE_ID, "%s/%d-%s", s->rules.acls[w->own->acl - 1].id, e->number,
		    e->is_egress ? "egress" : "ingress");
}

static void set_rule(struct values *v, const struct flow_setup *s, const struct flow_count *c,
		     const struct view *w)
{
	/* Its own end is where the flow began, whichever way this line looks at. */
	int is_egress = w->is_source != w->way;
	const struct flow_rule *r;

	if (w->is_rejected) {
		set_denial(v, s, c, w);
		return;
	}
	r = flow_rules_find(&s->rules, w->own->groups, w->own->n_groups, c, is_egress);
	if (r)
		set(v, FLOW_RULE_ID, "%s", r->id);
}

static void view_emit(const struct flow_setup *s, const struct flow_count *c, const struct view *w,
		      struct flow_sink *sink)
{
	const struct address *from = w->way ? &c->destination : &c->source,
			     *to = w->way ? &c->source : &c->destination;
	int has_ports = c->protocol == IPPROTO_TCP || c->protocol == IPPROTO_UDP;
	unsigned ports[2] = {has_ports ? c->source_port : 0, has_ports ? c->destination_port : 0};
	struct values v;

	if (!c->packets[w->way])
		return;
	set_place(&v, s, w->own, sink);
	set_address(&v, FLOW_SRCADDR, w->is_source ? w->own : NULL, from);
	set_address(&v, FLOW_DSTADDR, w->is_source ? NULL : w->own, to);
	set(&v, FLOW_SRCPORT, "%u", ports[w->way]);
	set(&v, FLOW_DSTPORT, "%u", ports[!w->way]);
	set(&v, FLOW_PROTOCOL, "%u", c->protocol);
	set(&v, FLOW_PACKETS, "%" PRIu64, c->packets[w->way]);
	set(&v, FLOW_BYTES, "%" PRIu64, c->bytes[w->way]);
	if (c->first > sink->since)
		set(&v, FLOW_START, "%" PRId64, c->first);
	if (c->last)
		set(&v, FLOW_END, "%" PRId64, c->last);
	set(&v, FLOW_ACTION, "%s", w->is_rejected ? "REJECT" : "ACCEPT");
	set(&v, FLOW_LOG_STATUS, "OK");
	set(&v, FLOW_TYPE, "%s", from->family == AF_INET6 ? "IPv6" : "IPv4");
	if (c->protocol == IPPROTO_TCP)
		set(&v, FLOW_TCP_FLAGS, "%u", tcp_flags(c, w->way, sink->since));
	set(&v, FLOW_FLOW_DIRECTION, "%s", w->is_source ? "egress" : "ingress");
	if (w->is_source && !w->is_rejected && (w->other || c->is_translated))
		set(&v, FLOW_TRAFFIC_PATH, "%d", w->other ? 1 : 8);
	if (s->rules.n_groups || s->rules.n_acls)
		set_rule(&v, s, c, w);
	emit_to_all(&v, s, w->own, w->is_rejected ? FLOW_LOG_REJECT : FLOW_LOG_ACCEPT, sink);
}

void flow_lines(const struct flow_setup *s, const struct flow_count *c, struct flow_sink *sink)
{
	const struct flow_interface *source = interface_of(s, &c->source),
				    *destination = interface_of(s, &c->destination);

	if (is_service(s, &c->source) || is_service(s, &c->destination))
		return;
	for (int way = 0; way < 2; way++) {
		struct view out = {source, destination, way, !way, c->verdict == FLOW_REJECT_OUT},
			    in = {destination, source, way, way, c->verdict == FLOW_REJECT_IN};

		if (source)
			view_emit(s, c, &out, sink);
		if (destination && c->verdict != FLOW_REJECT_OUT) /* it never came so far */
			view_emit(s, c, &in, sink);
	}
}

void flow_lines_end(const struct flow_setup *s, uint64_t n_lost, struct flow_sink *sink)
{
	for (size_t n = 0; n < s->n_interfaces; n++) {
		const struct flow_interface *i = &s->interfaces[n];
		struct values v;

		set_place(&v, s, i, sink);
		set(&v, FLOW_LOG_STATUS, "%s", n_lost ? "SKIPDATA" : "NODATA");
		for (size_t slot = 0; slot < i->n_logs; slot++)
			if (n_lost || !(sink->seen[n] & 1u << slot))
				emit(&v, s, i, slot, sink);
	}
}
