/*
 * The agent: what a guest of this cloud needs from inside. One static program on libc alone, a few verbs; the image's init
 * (busybox, systemd, a shell script) calls them, it never has to be process 1 itself.
 *
 *	gureum-agent setup	at each boot: waits for the metadata service; host name, SSH keys, size of the root file system
 *	gureum-agent user-data	runs the instance's script, once per instance
 *	gureum-agent run	stays: heartbeats and commands over virtio-serial, the power button
 *	gureum-agent metadata PATH	prints what the metadata service has at PATH
 *
 * Everything that comes from outside (metadata, the host's lines) is bounded here, and a line of it that is not
 * what it should be is left out, never half used. Files live under the root that GUREUM_ROOT names ("" normally): tests set it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define AGENT_BODY_MAX	(64u << 10) /* of one metadata answer; user-data is 16 KiB at most */
#define AGENT_TOKEN_MAX 512
#define AGENT_LINE_MAX	4096 /* of one line on the virtio-serial port */

/* ---- http.c: one request, one answer, then the connection is closed ---- */

struct http_reply {
	int status;
	size_t n;		       /* bytes in body */
	char body[AGENT_BODY_MAX + 1]; /* always ended by a NUL */
};
/* Sends "METHOD path" with `header` (a whole line without its end, or NULL) to `address`:port and
 * reads the answer within timeout_msec. 0 or -errno: -EMSGSIZE too long an answer, -EPROTO not
 * HTTP, -EINVAL a path or header with control characters. */
int http_request(const char *address, uint16_t port, const char *method, const char *path,
		 const char *header, unsigned timeout_msec, struct http_reply *ret_reply);
/* Splits a raw answer of n bytes into status and body. 0 or -EPROTO (not HTTP, or not the whole of
 * it), -EMSGSIZE. */
int http_parse(const char *raw, size_t n, struct http_reply *ret_reply);

/* ---- metadata.c: the instance metadata service, version 2 first, version 1 where there is no
 * version 2 ---- */

struct metadata {
	char address[64]; /* 169.254.169.254 unless GUREUM_METADATA says "address:port" */
	uint16_t port;
	int has_token;
	char token[AGENT_TOKEN_MAX];
};
/* Gets a token; without one the session goes on as version 1. 0, or -errno if nobody answers. */
int metadata_open(struct metadata *m);
/* metadata_open() again and again until it answers or `seconds` are over. */
int metadata_wait(struct metadata *m, unsigned seconds);
/* What stands at "/latest/<path>", asked for again for some seconds while nobody answers to the end.
 * 0; -ENOENT for 404; -EACCES for 401 and 403; -EPROTO for other statuses; -errno. */
int metadata_get(struct metadata *m, const char *path, struct http_reply *ret_reply);

/* ---- files.c ---- */

/* "<GUREUM_ROOT><path>" in a static ring of four buffers. */
const char *agent_path(const char *path);
/* Replaces `path` durably and at once: temporary file, fsync, rename, fsync of the directory. 0 or
 * -errno. */
int file_write(const char *path, const char *text, size_t n, unsigned mode);
/* The file's first bytes, ended by a NUL; more than `size - 1` bytes is -EFBIG. Bytes read or
 * -errno. */
long file_read(const char *path, char *ret_text, size_t size);
/* Makes the directory and its parents. 0 or -errno. */
int directory_make(const char *path, unsigned mode);
/* One line for the console and for whoever called us. */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
double uptime_seconds(void);

/* ---- line.c: one JSON object per line on the port ---- */

enum command { COMMAND_NONE, COMMAND_POWEROFF, COMMAND_REBOOT, COMMAND_FREEZE, COMMAND_THAW };
/* The command that a line carries: the first known member of the object. Anything else, and
 * anything that is not an object, is NONE. */
enum command line_command(const char *line, size_t n);
/* Writes `text` as a JSON string with its quotes; what does not fit is cut. Returns ret. */
char *line_quote(const char *text, char *ret, size_t size);

/* ---- verbs ---- */

int setup_main(void);
int user_data_main(void);
int run_main(void);
int metadata_main(const char *path);

/* setup.c, for tests: */
/* Letters, digits, '-' and '.' only, a label of 1..63 not beginning with '-', at most 253 in all.
 */
int hostname_is(const char *name);
/* A line of printable characters that begins with a known key type. */
int ssh_key_is(const char *line, size_t n);
/* Adds the keys that `known` (a file's text) lacks; returns the new text's length or -EFBIG. */
long ssh_keys_merge(const char *known, const char *const *keys, size_t n_keys, char *ret_text,
		    size_t size);

/* ---- beat.c ---- */

/* The virtio-serial port "io.gureum.agent.0", non-blocking; -ENOENT when the machine has none. */
int port_open(void);
/* Writes one line; a host that does not read loses it (0 or -errno). `started`: the agent's own
 * start, in seconds of uptime. */
int beat_hello(int fd, double started);
int beat_send(int fd);

/* ---- freeze.c ---- */

/* Flushes and freezes every file system that is on a disk. 0; -EBUSY: frozen already; -EOPNOTSUPP:
 * none could be. Whoever writes waits until thaw(). */
int freeze(void);
void thaw(void);
/* For tests: the line of mountinfo is of a writable file system on a disk; where it is mounted. */
int freeze_is_disk(const char *line, char *ret_point, size_t size);

/* ---- power.c ---- */

/* Opens the input device named "Power Button", non-blocking, or -errno. */
int power_button_open(void);
/* Reads what is there: 1 if the button went down. */
int power_button_pressed(int fd);
/* Ends the system in order. Returns only on failure (-errno), or 0 when somebody else (systemd) was
 * told to do it. */
int power_off(int is_reboot);
