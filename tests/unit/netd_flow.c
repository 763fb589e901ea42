/* Flow logs' lines: formats, who gets which line of a flow, what is never logged; the table of what
 * is rejected; files that are full. */
#include "tap.h"

#include <sys/stat.h>
#include <unistd.h>
#include "../../netd/flow-file.h"
#include "../../netd/flow-line.h"
#include "../../netd/flow-table.h"

static char lines[8192];

static void collect(void *arg, size_t log, const char *text, size_t n_text)
{
	size_t n = strlen(lines);

	(void)arg;
	snprintf(lines + n, sizeof lines - n, "%zu %.*s", log, (int)n_text, text);
}

static struct address ip(const char *text)
{
	struct address a = {0};

	(void)ip_any_parse(text, &a); /* the tests' own words */
	return a;
}

/* Two interfaces, 10.0.0.10 (also .11) and 10.0.0.20; log 0 is the VPC's, log 1 the first
 * interface's rejections in a format of its own. */
static struct flow_setup *setup(void)
{
	struct flow_setup *s = calloc(1, sizeof *s);

	*s = (struct flow_setup){.n_refs = 1,
				 .vpc_id = "vpc-1",
				 .region = "us-east-1",
				 .n_logs = 2,
				 .n_interfaces = 2};
	s->logs = calloc(2, sizeof *s->logs);
	s->interfaces = calloc(2, sizeof *s->interfaces);
	s->addresses = calloc(3, sizeof *s->addresses);
	s->services = calloc(1, sizeof *s->services);
	s->seen = calloc(2, 1);
	s->logs[0] = (struct flow_log){
		"fl-0", "123456789012", FLOW_LOG_ACCEPT | FLOW_LOG_REJECT, {.n = 0}};
	s->logs[1] = (struct flow_log){"fl-1", "123456789012", FLOW_LOG_REJECT, {.n = 0}};
	(void)flow_format_parse("${interface-id} ${srcaddr} ${dstaddr} ${srcport} ${dstport} "
				"${packets} ${action} ${flow-direction}",
				&s->logs[0].format);
	(void)flow_format_parse(
		"${version} ${dstaddr} ${pkt-dstaddr} ${az-id} ${tcp-flags} ${log-status}",
		&s->logs[1].format);
	s->interfaces[0] = (struct flow_interface){"eni-a",	    "subnet-1", "i-a",	"use1-az1",
						   ip("10.0.0.10"), {0},	{0, 1}, 2};
	s->interfaces[1] = (struct flow_interface){"eni-b",	    "subnet-1", "",  "use1-az1",
						   ip("10.0.0.20"), {0},	{0}, 1};
	s->addresses[s->n_addresses++] = (struct flow_address){ip("10.0.0.20"), 1};
	s->addresses[s->n_addresses++] = (struct flow_address){ip("10.0.0.11"), 0};
	s->addresses[s->n_addresses++] = (struct flow_address){ip("10.0.0.10"), 0};
	s->services[s->n_services++] = ip("10.0.0.2");
	flow_setup_sort(s);
	return s;
}

static const char *say(const struct flow_setup *s, const struct flow_count *c)
{
	struct flow_sink sink = {collect, NULL, 100, 160, s->seen};

	lines[0] = '\0';
	flow_lines(s, c, &sink);
	return lines;
}

static void a_flow_between_two_interfaces_is_four_lines(void)
{
	OWN(flow_setup_unref) struct flow_setup *s = setup();
	struct flow_count c = {.source = ip("10.0.0.10"),
			       .destination = ip("10.0.0.20"),
			       .source_port = 1000,
			       .destination_port = 80,
			       .protocol = 6};

	c.packets[0] = 5, c.packets[1] = 4;
	is_str(say(s, &c),
	       "0 eni-a 10.0.0.10 10.0.0.20 1000 80 5 ACCEPT egress\n0 eni-b 10.0.0.10 10.0.0.20 "
	       "1000 80 5 ACCEPT ingress\n"
	       "0 eni-a 10.0.0.20 10.0.0.10 80 1000 4 ACCEPT ingress\n0 eni-b 10.0.0.20 10.0.0.10 "
	       "80 1000 4 ACCEPT egress\n",
	       "both ways, seen by both");
	c.packets[1] = 0;
	c.verdict = FLOW_REJECT_IN;
	is_str(say(s, &c),
	       "0 eni-a 10.0.0.10 10.0.0.20 1000 80 5 ACCEPT egress\n0 eni-b 10.0.0.10 10.0.0.20 "
	       "1000 80 5 REJECT ingress\n",
	       "what the destination rejects has left the source");
	c.verdict = FLOW_REJECT_OUT;
	is_str(say(s, &c),
	       "0 eni-a 10.0.0.10 10.0.0.20 1000 80 5 REJECT egress\n1 4 10.0.0.20 10.0.0.20 "
	       "use1-az1 0 OK\n",
	       "what the source rejects never arrives");
}

static void a_secondary_address_is_shown_as_the_primary_one(void)
{
	OWN(flow_setup_unref) struct flow_setup *s = setup();
	struct flow_count c = {.source = ip("192.0.2.1"),
			       .destination = ip("10.0.0.11"),
			       .protocol = 6,
			       .verdict = FLOW_REJECT_IN,
			       .tcp_flags = {2}};

	c.packets[0] = 1;
	is_str(say(s, &c),
	       "0 eni-a 192.0.2.1 10.0.0.10 0 0 1 REJECT ingress\n1 4 10.0.0.10 10.0.0.11 use1-az1 "
	       "2 OK\n",
	       "but not in pkt-dstaddr");
}

static void an_address_of_a_prefix_is_its_interfaces(void)
{
	OWN(flow_setup_unref) struct flow_setup *s = setup();
	struct flow_count c = {.source = ip("192.0.2.1"), .protocol = 6, .packets = {1}};

	s->addresses = realloc(s->addresses, 5 * sizeof *s->addresses);
	s->addresses[s->n_addresses++] = (struct flow_address){ip("10.0.0.32"), 1, 28};
	s->addresses[s->n_addresses++] = (struct flow_address){ip("fd00:0:0:0:1::"), 1, 80};
	flow_setup_sort(s);
	c.destination = ip("10.0.0.47");
	is_str(say(s, &c), "0 eni-b 192.0.2.1 10.0.0.20 0 0 1 ACCEPT ingress\n", "IPv4");
	c.source = ip("2001:db8::1");
	c.destination = ip("fd00:0:0:0:1:2:3:4");
	is_str(say(s, &c), "0 eni-b 2001:db8::1 fd00::1:2:3:4 0 0 1 ACCEPT ingress\n",
	       "IPv6, where it has no address that could be shown instead");
	c.source = ip("10.0.0.48");
	c.destination = ip("192.0.2.1");
	is_str(say(s, &c), "", "what is beside it is nobody's");
}

static void what_serves_a_vpc_is_not_logged(void)
{
	OWN(flow_setup_unref) struct flow_setup *s = setup();
	static const char *const services[] = {"10.0.0.2", "169.254.169.254", "fd00:ec2::254",
					       "fe80::1"};
	struct flow_count c = {.source = ip("10.0.0.10"), .protocol = 17, .packets = {1, 1}};

	for (size_t i = 0; i < sizeof services / sizeof *services; i++) {
		c.destination = ip(services[i]);
		is_str(say(s, &c), "", services[i]);
	}
}

static void a_window_says_who_had_nothing_and_what_was_lost(void)
{
	OWN(flow_setup_unref) struct flow_setup *s = setup();
	struct flow_sink sink = {collect, NULL, 100, 160, s->seen};
	struct flow_count c = {.source = ip("192.0.2.1"),
			       .destination = ip("10.0.0.20"),
			       .protocol = 1,
			       .packets = {1, 0}};

	(void)say(s, &c);
	lines[0] = '\0';
	flow_lines_end(s, 0, &sink);
	is_str(lines, "0 eni-a - - - - - - -\n1 4 - - use1-az1 - NODATA\n", "only those");
	(void)flow_format_parse("${interface-id} ${start} ${end} ${log-status}",
				&s->logs[0].format);
	lines[0] = '\0';
	flow_lines_end(s, 3, &sink);
	ok(strstr(lines, "0 eni-b 100 160 SKIPDATA\n") != NULL, "all are told of losses");
}

static void formats_are_aws_fields_each_once(void)
{
	static const char *const bad[] = {"",	       "version",     "${version}${start}",
					  "${versio}", "${version} ", "${version} ${version}",
					  "${version"};
	struct flow_format f;

	is_int(flow_format_parse(FLOW_FORMAT_DEFAULT, &f), 0, "the default");
	is_int(f.version, 2, "is version 2");
	is_int((long)f.n, 14, "of fourteen fields");
	is_int(flow_format_parse("${bytes} ${flow-direction} ${vpc-id}", &f), 0, "an own one");
	is_int(f.version, 5, "has its newest field's version");
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		is_int(flow_format_parse(bad[i], &f), -22, bad[i]);
}

static void the_table_adds_up_and_has_an_end(void)
{
	struct flow_table t = {0};
	struct flow_count c = {.source = ip("192.0.2.1"),
			       .destination = ip("10.0.0.10"),
			       .protocol = 17,
			       .verdict = FLOW_REJECT_IN};
	int r = 0;

	c.packets[0] = 1;
	for (int i = 0; i < 3; i++)
		r |= flow_table_add(&t, &c);
	is_int(r, 0, "added");
	is_int((long)t.n, 1, "one flow");
	is_int((long)t.rows[0].packets[0], 3, "of three packets");
	for (unsigned i = 1; i < FLOW_TABLE_MAX; i++) {
		c.source_port = (uint16_t)i;
		r |= flow_table_add(&t, &c);
	}
	is_int(r, 0, "to the last row");
	c.destination_port = 1;
	is_int(flow_table_add(&t, &c), -28, "and no further");
	c.destination_port = 0;
	is_int(flow_table_add(&t, &c), 0, "but what is known still counts");
	flow_table_free(&t);
}

static long size_of(const char *directory, const char *name)
{
	char path[1024];
	struct stat s;

	snprintf(path, sizeof path, "%s/%s", directory, name);
	return stat(path, &s) == 0 ? (long)s.st_size : -1;
}

static int is_kept(const char *id, void *arg)
{
	return strcmp(id, arg) == 0;
}

static void files_are_bounded_and_the_oldest_goes(void)
{
	char directory[] = "/tmp/gureum-flow-XXXXXX", path[512];
	struct flow_file f;
	int r = 0;

	ok(mkdtemp(directory) != NULL, "a directory");
	for (int i = 0; i < 3; i++) {
		flow_file_open(&f, directory, "fl-1", 40);
		for (int line = 0; line < 5; line++)
			flow_file_write(&f, "12345678\n", 9);
		r |= flow_file_close(&f);
	}
	is_int(r, 0, "written");
	is_int(size_of(directory, "fl-1.log"), 9, "one line a part");
	is_int(size_of(directory, "fl-1.log.3"), 9, "four parts");
	is_int(size_of(directory, "fl-1.log.4"), -1, "and no more");
	for (int i = 0; i < FLOW_FILE_ORPHANS + 5; i++) {
		snprintf(path, sizeof path, "fl-old%d", i);
		flow_file_open(&f, directory, path, 40);
		(void)flow_file_close(&f); /* empty */
	}
	flow_file_clean(directory, is_kept, "fl-1");
	for (int i = r = 0; i < FLOW_FILE_ORPHANS + 5; i++) {
		snprintf(path, sizeof path, "fl-old%d.log", i);
		r += size_of(directory, path) >= 0;
	}
	is_int(r, FLOW_FILE_ORPHANS, "of deleted logs the newest stay");
	is_int(size_of(directory, "fl-1.log"), 9, "and what is in use");
	snprintf(path, sizeof path, "rm -r %s", directory);
	is_int(system(path), 0, "gone");
}

/* One group: HTTP from 10.0.0.0/8 by sgr-1, pings from anywhere by sgr-2, all of IPv6 by sgr-3,
 * everything out by sgr-4. */
static struct flow_net nets[] = {{.bits = 8}, {.bits = 0}, {.bits = 0}};
static struct flow_rule rules[] = {{"sgr-1", 0, 6, 80, 90, 0, 1},
				   {"sgr-2", 0, 1, 8, -1, 1, 1},
				   {"sgr-3", 0, -1, -1, -1, 2, 1},
				   {"sgr-4", 1, -1, -1, -1, 1, 2}};
static struct flow_group the_group[] = {{"sg-1", 0, 4}};

static const char *rule_of(const char *from, const char *to, int protocol, int port, int is_egress)
{
	static const unsigned short groups[] = {0};
	const struct flow_rules all = {nets, rules, the_group, 3, 4, 1, NULL, NULL, 0, 0};
	struct flow_count c = {.source = ip(from),
			       .destination = ip(to),
			       .protocol = (uint8_t)protocol,
			       .destination_port = (uint16_t)port};
	const struct flow_rule *r = flow_rules_find(&all, groups, 1, &c, is_egress);

	return r ? r->id : "-";
}

static void the_rule_that_fits_is_found(void)
{
	nets[0].address = ip("10.0.0.0");
	nets[1].address = ip("0.0.0.0");
	nets[2].address = ip("::");
	is_str(rule_of("10.1.2.3", "10.0.0.10", 6, 80, 0), "sgr-1", "by block and first port");
	is_str(rule_of("10.1.2.3", "10.0.0.10", 6, 90, 0), "sgr-1", "and last port");
	is_str(rule_of("10.1.2.3", "10.0.0.10", 6, 91, 0), "-", "not past it");
	is_str(rule_of("11.1.2.3", "10.0.0.10", 6, 80, 0), "-", "nor from elsewhere");
	is_str(rule_of("192.0.2.1", "10.0.0.10", 1, 0, 0), "sgr-2", "an echo by its type");
	is_str(rule_of("fd00::1", "fd00::2", 17, 53, 0), "sgr-3", "the other family");
	is_str(rule_of("10.0.0.10", "192.0.2.1", 17, 53, 1), "sgr-4", "out by a rule for out");
}

/* Web from anywhere but 10.66.0.0/16, echoes' answers, nothing out but port 53. */
static struct flow_entry entries[] = {
	{90, 0, 0, -1, -1, -1, {.bits = 16}},	{100, 0, 1, 6, 80, 80, {.bits = 0}},
	{100, 1, 1, 17, 53, 53, {.bits = 0}},	{110, 0, 1, 1, 0, -1, {.bits = 0}},
	{120, 0, 1, 58, 129, 0, {.bits = 0}},	{32767, 0, 0, -1, -1, -1, {.bits = 0}},
	{32767, 1, 0, -1, -1, -1, {.bits = 0}}, {32768, 0, 0, -1, -1, -1, {.bits = 0}}};
static struct flow_acl the_acl[] = {{"acl-1", 0, 8}};

static int entry_of(const char *from, const char *to, int protocol, int port, int is_egress)
{
	const struct flow_rules all = {
		.entries = entries, .acls = the_acl, .n_entries = 8, .n_acls = 1};
	struct flow_count c = {.source = ip(from),
			       .destination = ip(to),
			       .protocol = (uint8_t)protocol,
			       .destination_port = (uint16_t)port,
			       .icmp = {(uint8_t)port}};
	const struct flow_entry *e = flow_acl_find(&all, 0, &c, is_egress);

	return e ? e->number : 0;
}

static void the_entry_that_denies_is_found(void)
{
	for (size_t i = 0; i < 8; i++)
		entries[i].net.address = ip(i == 4 || i == 7 ? "::"
					    : i == 0	     ? "10.66.0.0"
							     : "0.0.0.0");
	is_int(entry_of("10.66.1.1", "10.0.0.10", 6, 80, 0), 90, "the lowest number counts");
	is_int(entry_of("10.1.1.1", "10.0.0.10", 6, 80, 0), 0, "what is allowed is not denied");
	is_int(entry_of("10.1.1.1", "10.0.0.10", 6, 81, 0), 32767, "the rest is, by the last");
	is_int(entry_of("10.0.0.10", "10.1.1.1", 6, 80, 1), 32767, "each way has its own");
	is_int(entry_of("10.0.0.10", "10.1.1.1", 17, 53, 1), 0, "and its own ports");
	is_int(entry_of("10.1.1.1", "10.0.0.10", 1, 0, 0), 0, "a type of ICMP");
	is_int(entry_of("10.1.1.1", "10.0.0.10", 1, 8, 0), 32767, "is not another");
	is_int(entry_of("fd00::1", "fd00::2", 58, 129, 0), 0,
	       "nor is it IPv6's, which has its own");
	is_int(entry_of("fd00::1", "fd00::2", 6, 80, 0), 32768, "and another last");
}

int main(void)
{
	RUN(a_flow_between_two_interfaces_is_four_lines);
	RUN(a_secondary_address_is_shown_as_the_primary_one);
	RUN(an_address_of_a_prefix_is_its_interfaces);
	RUN(what_serves_a_vpc_is_not_logged);
	RUN(a_window_says_who_had_nothing_and_what_was_lost);
	RUN(formats_are_aws_fields_each_once);
	RUN(the_table_adds_up_and_has_an_end);
	RUN(the_rule_that_fits_is_found);
	RUN(the_entry_that_denies_is_found);
	RUN(files_are_bounded_and_the_oldest_goes);
	return tests_done();
}
