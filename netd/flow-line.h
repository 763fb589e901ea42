/*
 * Flow lines: what was counted of a flow, and the lines that flow logs get of it, in AWS's format.
 * Pure: no I/O, no clock. A flow between two interfaces of a VPC is four lines, one for each
 * interface and direction, as in AWS. Source: VPC user guide, "Flow log records", "Flow log
 * limitations" (what is not logged: DHCP, DNS, instance metadata, the router itself).
 */
#pragma once

#include <stddef.h>
#include "cidr.h"
#include "flow-rule.h"
#include "id.h"
#include "own.h"
#include "zones.h"

enum flow_field {
#define FIELD(name, text, version) FLOW_##name,
#include "flow-field-table.h"
#undef FIELD
	FLOW_FIELDS
};

#define FLOW_FORMAT_DEFAULT                                                                        \
	"${version} ${account-id} ${interface-id} ${srcaddr} ${dstaddr} ${srcport} ${dstport} "    \
	"${protocol} ${packets} ${bytes} ${start} ${end} ${action} ${log-status}"

/* A parsed LogFormat. */
struct flow_format {
	unsigned char fields[FLOW_FIELDS];
	size_t n;
	int version; /* the highest of its fields */
};
int flow_format_has(const struct flow_format *f, enum flow_field field);
/* "${a} ${b}": each field at most once. 0, or -EINVAL. */
int flow_format_parse(const char *text, struct flow_format *ret_format);

enum flow_verdict {
	FLOW_ACCEPT,
	FLOW_REJECT_OUT, /* by the source's groups or ACL */
	FLOW_REJECT_IN,	 /* by the destination's */
};

/* What was counted of a flow. [0]: as it came, [1]: its answers. */
struct flow_count {
	struct address source, destination; /* as our interfaces have them: before translation of
					       the source, after that of the destination */
	uint16_t source_port, destination_port;
	uint8_t protocol, verdict, tcp_flags[2];
	uint8_t is_translated; /* it passes the internet gateway */
	uint8_t icmp[2];       /* type and code of a rejected packet */
	int64_t first, last;   /* seconds since the epoch; 0: not known */
	uint64_t packets[2], bytes[2];
};

#define FLOW_LOGS_PER_INTERFACE 8 /* two for each of VPC, subnet and interface are possible */

struct flow_interface {
	char id[ID_MAX], subnet_id[ID_MAX], instance_id[ID_MAX], zone_id[ZONE_ID_MAX];
	struct address primary4, primary6;
	size_t logs[FLOW_LOGS_PER_INTERFACE], n_logs;	  /* indexes of struct flow_setup's */
	unsigned short groups[FLOW_GROUPS_PER_INTERFACE]; /* indexes of its rules' */
	size_t n_groups;
	size_t acl; /* its subnet's: index + 1 of the rules', 0: not known */
};
/* An address, or a prefix. */
struct flow_address {
	struct address address; /* the first */
	size_t interface;
	unsigned bits; /* 0: this one alone */
};
struct flow_log {
	char id[ID_MAX], account[16];
	unsigned verdicts; /* FLOW_LOG_… */
	struct flow_format format;
};
enum { FLOW_LOG_ACCEPT = 1, FLOW_LOG_REJECT = 2 };

/* What is to be logged of a VPC; made by the plan, shared by counting references (one thread). */
struct flow_setup {
	unsigned n_refs;
	char vpc_id[ID_MAX], region[32];
	struct flow_log *logs;
	size_t n_logs;
	struct flow_interface *interfaces;
	size_t n_interfaces;
	struct flow_address *addresses; /* sorted */
	size_t n_addresses;
	struct address *services; /* resolver and routers: not logged */
	size_t n_services;
	unsigned char *seen;	 /* per interface: see struct flow_sink */
	struct flow_rules rules; /* empty unless a log asks for them */
};
/* Both log the same, of the same interfaces. */
int flow_setup_is_same(const struct flow_setup *a, const struct flow_setup *b);
struct flow_setup *flow_setup_ref(struct flow_setup *s);
void flow_setup_unref(struct flow_setup *s);
OWN_DEFINE(struct flow_setup *, flow_setup_unref);
/* Sorts the addresses, after filling. */
void flow_setup_sort(struct flow_setup *s);

/* Where lines go. */
struct flow_sink {
	void (*line)(void *arg, size_t log, const char *text, size_t n_text); /* with its newline */
	void *arg;
	int64_t since, until; /* the window: nothing starts before it */
	unsigned char *seen;  /* per interface, a bit for each of its logs: had a line; NULL: nobody
				 asks */
};
/* The lines of one flow. */
void flow_lines(const struct flow_setup *s, const struct flow_count *c, struct flow_sink *sink);
/* NODATA for every interface and log that had no line in the window; SKIPDATA for all of them when
 * n_lost. */
void flow_lines_end(const struct flow_setup *s, uint64_t n_lost, struct flow_sink *sink);
