// The agent's readers of strangers' text: the host's lines, HTTP answers, host names, keys.
#include "tap.h"
#include "../../agent/agent.h"

#include <errno.h>

static enum command command(const char *line)
{
	return line_command(line, strlen(line));
}

static void a_command_is_a_member_of_an_object(void)
{
	is_int(command("{\"poweroff\": {}}"), COMMAND_POWEROFF, "power off");
	is_int(command(" { \"reboot\" : { } } "), COMMAND_REBOOT, "reboot, with spaces");
	is_int(command("{\"other\": [1, {\"a\": \"}\"}], \"reboot\": {}}"), COMMAND_REBOOT,
	       "after an unknown member");
	is_int(command("{\"freeze\": {}}"), COMMAND_FREEZE, "freeze");
	is_int(command("{\"thaw\": {}}"), COMMAND_THAW, "thaw");
	is_int(command("{\"reboot\": {}, \"poweroff\": {}}"), COMMAND_REBOOT, "the first of two");
}

static void only_disks_are_frozen(void)
{
	static const struct {
		const char *line, *point; /* NULL: it is left alone */
	} mounts[] = {
		{"20 1 254:0 / / rw,noatime shared:1 - ext4 /dev/vda rw", "/"},
		{"21 20 254:17 / /data rw - xfs /dev/vdb1 rw,attr2", "/data"},
		{"22 20 254:17 / /ro ro - ext4 /dev/vdb1 ro", NULL},
		{"23 20 0:21 / /proc rw,nosuid - proc proc rw", NULL},
		{"24 20 0:22 / /tmp rw - tmpfs tmpfs rw", NULL},
		{"25 20 0:23 / /odd\\040name rw - ext4 /dev/vdc rw", NULL},
		{"26 20 0:23 / /x rw", NULL},
		{"", NULL},
	};
	char point[64];

	for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
		int is = freeze_is_disk(mounts[i].line, point, sizeof(point));

		ok(is == (mounts[i].point != NULL), mounts[i].line);
		if (is && mounts[i].point)
			is_str(point, mounts[i].point, "its place");
	}
}

static void what_is_not_a_whole_object_commands_nothing(void)
{
	static const char *const lines[] = {
		"",
		"{",
		"{}",
		"poweroff",
		"\"poweroff\"",
		"[\"poweroff\"]",
		"{\"poweroff\"}",
		"{\"poweroff\": {}",
		"{\"poweroff\": {",
		"{\"x\": {\"poweroff\": {}}}",
		"{\"x\": \"poweroff",
		"{\"x\\",
		"{\"poweroff\\\"\": 1}",
		"{\"x\": ]}",
		"null",
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		is_int(command(lines[i]), COMMAND_NONE, lines[i]);
}

static void any_cut_of_a_line_is_harmless(void)
{
	static const char line[] =
		"{\"a\": [\"\\\\\\\"\", {\"b\": null}], \"poweroff\": {\"c\": [[]]}}";
	size_t commands = 0;

	for (size_t n = 0; n < strlen(line); n++) {
		char *copy =
			malloc(n ? n : 1); /* exactly so long: a sanitizer sees a step too far */

		memcpy(copy, line, n);
		commands += line_command(copy, n) != COMMAND_NONE;
		free(copy);
	}
	is_int(commands, 0, "no prefix is a command");
	is_int(command(line), COMMAND_POWEROFF, "the whole is");
}

static void a_quoted_name_is_json(void)
{
	char text[64], small[16];

	is_str(line_quote("ip-10-0-0-1", text, sizeof(text)), "\"ip-10-0-0-1\"", "plain");
	is_str(line_quote("a\"\\\n\xff", text, sizeof(text)), "\"a\\\"\\\\\\u000a\\u00ff\"",
	       "escaped");
	is_str(line_quote("abcdefghijklmnop", small, sizeof(small)), "\"abcdefg\"",
	       "cut where it does not fit");
}

static struct http_reply reply;

static int parse(const char *raw)
{
	return http_parse(raw, strlen(raw), &reply);
}

static void an_answer_has_a_status_and_a_body(void)
{
	is_int(parse("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"), 0, "taken");
	is_int(reply.status, 200, "status");
	is_str(reply.body, "hi", "body");
	is_int(parse("HTTP/1.0 404 Not Found\r\n\r\n"), 0, "an empty body");
	is_int(reply.status, 404, "its status");
	is_int(reply.n, 0, "no bytes");
}

static void an_answer_that_was_cut_off_is_none(void)
{
	is_int(parse("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi"), -EPROTO, "in its body");
	is_int(parse("HTTP/1.1 200 OK\r\ncontent-length:9999999999999999999\r\n\r\n"), -EPROTO,
	       "before it");
	is_int(parse("HTTP/1.1 200 OK\r\nX-Content-Length: 9\r\n\r\nhi"), 0,
	       "another header says nothing");
	is_int(parse("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), 0, "nothing is whole");
}

static void what_is_not_http_is_refused(void)
{
	is_int(parse(""), -EPROTO, "nothing");
	is_int(parse("HTTP/1.1 200 OK\r\n"), -EPROTO, "no end of the head");
	is_int(parse("HTTP/2 200\r\n\r\n"), -EPROTO, "another version");
	is_int(parse("HTTP/1.1 2x0 OK\r\n\r\n"), -EPROTO, "no number");
	is_int(parse("\r\n\r\n"), -EPROTO, "only an end");
}

static void an_answer_is_bounded(void)
{
	size_t n = AGENT_BODY_MAX + 64;
	char *raw = malloc(n);

	memset(raw, 'x', n);
	memcpy(raw, "HTTP/1.1 200 OK\r\n\r\n", 19);
	is_int(http_parse(raw, 19 + AGENT_BODY_MAX, &reply), 0, "as long as may be");
	is_int(http_parse(raw, 19 + AGENT_BODY_MAX + 1, &reply), -EMSGSIZE, "one byte more");
	free(raw);
}

static void a_request_cannot_be_split(void)
{
	is_int(http_request("127.0.0.1", 1, "GET", "/a\r\nX: y", NULL, 100, &reply), -EINVAL,
	       "path");
	is_int(http_request("127.0.0.1", 1, "GET", "/a b", NULL, 100, &reply), -EINVAL, "space");
	is_int(http_request("127.0.0.1", 1, "GET", "/", "A: b\nC: d", 100, &reply), -EINVAL,
	       "header");
	is_int(http_request("nowhere", 1, "GET", "/", NULL, 100, &reply), -EINVAL, "address");
}

static void a_host_name_is_labels(void)
{
	ok(hostname_is("ip-172-31-0-1.ec2.internal"), "AWS's form");
	ok(hostname_is("a"), "one letter");
	ok(!hostname_is(""), "nothing");
	ok(!hostname_is("-a"), "begins with a dash");
	ok(!hostname_is("a..b"), "an empty label");
	ok(!hostname_is("a."), "ends with a dot");
	ok(!hostname_is("a b"), "a space");
	ok(!hostname_is("a\nb"), "a line end");
	ok(!hostname_is("../etc"), "a path");
	ok(!hostname_is("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
	   "64 characters");
}

static void only_a_key_is_a_key(void)
{
	ok(ssh_key_is("ssh-ed25519 AAAA me", 19), "ed25519");
	ok(ssh_key_is("ssh-rsa AAAA", 12), "RSA");
	ok(!ssh_key_is("ssh-rsa AAAA\nssh-rsa BBBB", 25), "two lines");
	ok(!ssh_key_is("<html>", 6), "a page");
	ok(!ssh_key_is("command=\"x\" ssh-rsa AAAA", 24), "options");
	ok(!ssh_key_is("", 0), "nothing");
}

static void keys_are_added_once(void)
{
	const char *const keys[] = {"ssh-rsa A", "ssh-rsa B"};
	char text[64], tight[12];

	is_int(ssh_keys_merge("", keys, 2, text, sizeof(text)), 20, "to nothing");
	is_str(text, "ssh-rsa A\nssh-rsa B\n", "both");
	is_int(ssh_keys_merge("ssh-rsa B\nmine", keys, 2, text, sizeof(text)), 25,
	       "to what is there");
	is_str(text, "ssh-rsa B\nmine\nssh-rsa A\n", "the new one, at the end");
	is_int(ssh_keys_merge("", keys, 2, tight, sizeof(tight)), -EFBIG, "too much");
}

int main(void)
{
	RUN(a_command_is_a_member_of_an_object);
	RUN(only_disks_are_frozen);
	RUN(what_is_not_a_whole_object_commands_nothing);
	RUN(any_cut_of_a_line_is_harmless);
	RUN(a_quoted_name_is_json);
	RUN(an_answer_has_a_status_and_a_body);
	RUN(an_answer_that_was_cut_off_is_none);
	RUN(what_is_not_http_is_refused);
	RUN(an_answer_is_bounded);
	RUN(a_request_cannot_be_split);
	RUN(a_host_name_is_labels);
	RUN(only_a_key_is_a_key);
	RUN(keys_are_added_once);
	return tests_done();
}
