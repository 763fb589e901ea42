/* Guests' sockets, spoken to by this process instead of by QEMU. */
#include <errno.h>
#include <poll.h>
#include <sys/stat.h>

#include "../../hvd/guest-port.h"
#include "../../hvd/guest.h"
#include "../../hvd/instance-rooms.h"
#include "hvd_call.h"

#define INSTANCE "i-0123456789abcdef0"

static char got[256 << 10];
static size_t n_got;
static int n_connected;

static void on_connected(void *userdata)
{
	(void)userdata;
	n_connected++;
}

static void on_data(void *userdata, const char *bytes, size_t n_bytes)
{
	(void)userdata;
	if (n_got + n_bytes > sizeof got)
		exit(1);
	memcpy(got + n_got, bytes, n_bytes);
	n_got += n_bytes;
}

static const struct guest_port_hooks hooks = {on_connected, on_data};

static int dial(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	guest_port_path(d, INSTANCE, a.sun_path);
	if (connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
		close(fd);
		return -errno;
	}
	return fd;
}

static struct guest_port *port_new(void)
{
	struct guest_port *p = NULL;

	n_got = 0;
	n_connected = 0;
	is_int(guest_port_new(d, INSTANCE, &hooks, NULL, &p), 0, "it listens");
	return p;
}

/* The loop runs until it is so, for a minute at most. */
#define await(what)                                                                                \
	do                                                                                         \
		for (int tries_ = 0; tries_ < 12000 && !(what); tries_++)                          \
			fiber_sleep(5000);                                                         \
	while (0)

static int has_ended(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return poll(&p, 1, 0) > 0 && p.revents & POLLHUP;
}

static void both_sides_speak(void)
{
	OWN(guest_port_free) struct guest_port *p = port_new();
	char text[8] = "";

	is_int(guest_port_write(p, "a\n", 2), -ENOTCONN, "nobody is there");
	OWN(fd_close) int fd = dial();
	await(guest_port_is_connected(p));
	is_int(n_connected, 1, "QEMU is there");
	is_int(write(fd, "hello\n", 6), 6, "the guest writes");
	await(n_got == 6);
	ok(n_got == 6 && memcmp(got, "hello\n", 6) == 0, "it is heard");
	is_int(guest_port_write(p, "ask\n", 4), 0, "it is asked");
	is_int(read(fd, text, sizeof text), 4, "and hears it");
}

static void it_comes_again_and_the_last_one_counts(void)
{
	OWN(guest_port_free) struct guest_port *p = port_new();
	OWN(fd_close) int first = dial();
	await(n_connected == 1);
	OWN(fd_close) int second = dial();
	await(n_connected == 2);
	ok(has_ended(first), "the first was cut");
	guest_port_cut(p);
	ok(has_ended(second) && !guest_port_is_connected(p), "so is the second when told");
	OWN(fd_close) int third = dial();
	await(n_connected == 3);
	own_fd_close(&third);
	third = -1;
	await(!guest_port_is_connected(p));
	ok(!guest_port_is_connected(p), "its end is seen");
}

static void a_guest_that_does_not_read_is_cut(void)
{
	OWN(guest_port_free) struct guest_port *p = port_new();
	OWN(fd_close) int fd = dial();
	char block[4096] = "";
	int r = 0;

	await(n_connected == 1);
	for (int i = 0; i < 4096 && r == 0; i++)
		r = guest_port_write(p, block, sizeof block);
	is_int(r, -EPIPE, "it is full at last");
	ok(!guest_port_is_connected(p), "and cut");
}

static void a_guest_that_talks_on_is_read_slowly(void)
{
	OWN(guest_port_free) struct guest_port *p = port_new();
	OWN(fd_close) int fd = dial();
	char block[4096] = "";
	size_t n_sent = 0;

	await(n_connected == 1);
	while (n_sent < sizeof got) {
		ssize_t n = write(fd, block, sizeof block);
		if (n > 0)
			n_sent += (size_t)n;
		else if (n_got < GUEST_PORT_RATE_BYTES)
			fiber_sleep(1000);
		else
			break;
	}
	await(n_got >= GUEST_PORT_RATE_BYTES);
	ok(n_sent > GUEST_PORT_RATE_BYTES && n_got < n_sent, "not all is read at once");
	size_t before = n_got;
	await(n_got > before);
	ok(n_got > before, "but it is read on");
}

static void strangers_are_kept_out(void)
{
	char path[GUEST_PORT_PATH_BYTES], folder[sizeof hvd_dir + 8];
	struct stat st;
	OWN(guest_port_free) struct guest_port *p = port_new();

	guest_port_path(d, INSTANCE, path);
	is_int(stat(path, &st), 0, "there is a socket");
	is_int(st.st_mode, S_IFSOCK | 0660, "of its owner and group alone");
	snprintf(folder, sizeof folder, "%s/agents", hvd_dir);
	is_int(stat(folder, &st), 0, "in a directory");
	is_int(st.st_mode, S_IFDIR | 0711, "that can be passed, not listed");
}

static void the_pid_file_tells_who_it_is(void)
{
	struct ucred me = {.pid = getpid(), .uid = geteuid()}, other = me;
	char path[128];

	other.uid++;
	snprintf(path, sizeof path, "%s/pid", hvd_dir);
	ok(guest_port_is_trusted(&me, path), "without one our own user's");
	ok(!guest_port_is_trusted(&other, path), "and nobody else's");

	FILE *f = fopen(path, "we");
	fprintf(f, "%d", (int)getpid());
	fclose(f);
	ok(guest_port_is_trusted(&other, path), "the named process, whatever its user");
	other.pid++;
	me.pid++;
	ok(!guest_port_is_trusted(&other, path), "no other process of that user");
	ok(!guest_port_is_trusted(&me, path), "not even of ours");
	me.pid = 0;
	is_int(truncate(path, 0), 0, "a file without a number");
	ok(!guest_port_is_trusted(&me, path), "names nobody");
	unlink(path);
}

static void a_new_hvd_takes_over(void)
{
	struct guest_port *p = port_new();
	char path[GUEST_PORT_PATH_BYTES];

	guest_port_path(d, INSTANCE, path);
	is_int(guest_ports_open(d), 0, "opened anew");
	is_int(access(path, F_OK), -1, "what a former one left is gone");
	OWN(guest_port_free) struct guest_port *next = port_new();
	OWN(fd_close) int fd = dial();
	await(guest_port_is_connected(next));
	ok(guest_port_is_connected(next) && !guest_port_is_connected(p),
	   "the same path, the new one");
	guest_port_free(p);
}

static void a_path_too_long_is_refused(void)
{
	struct daemon far = {0};

	memset(far.runtime_dir, 'x', 100);
	far.runtime_dir[0] = '/';
	is_int(guest_ports_open(&far), -ENAMETOOLONG, "it would not fit into an address");
}

/* ---- the agent ---- */

static int freeze_result;

static void says(int fd, const char *text)
{
	ok(write(fd, text, strlen(text)) == (ssize_t)strlen(text), "the agent speaks");
}

static void freeze_run(void *arg)
{
	(void)arg;
	freeze_result = guest_freeze(INSTANCE);
}

/* Asks for a freeze and answers it with `answer`, NULL: hangs up. What guest_freeze() says. */
static int frozen(int *fd, const char *answer)
{
	char text[64] = "";

	freeze_result = 1;
	fiber_spawn(freeze_run, NULL);
	await(read(*fd, text, sizeof text) > 0);
	is_str(text, "{\"freeze\": {}}\n", "the agent is asked");
	if (answer) {
		says(*fd, answer);
	} else {
		own_fd_close(fd);
		*fd = -1;
	}
	await(freeze_result != 1);
	return freeze_result;
}

static void the_agent_is_heard_and_obeys(void)
{
	struct live *l = live_get(INSTANCE);
	static char long_line[5000];

	l->guest = guest_new(INSTANCE);
	is_int(guest_listen(l->guest), 0, "it can be heard");
	is_int(guest_listen(l->guest), 0, "asked again it is as well");
	is_int(guest_freeze(INSTANCE), -ENOTCONN, "not yet");
	OWN(fd_close) int fd = dial();
	memset(long_line, 'x', sizeof long_line - 1);
	says(fd, long_line);
	says(fd, "\n{\"hello\": {}}\n{\"beat\": {\"uptime\": 3}}\n");
	await(guest_figures(l->guest));
	is_int(jint(guest_figures(l->guest), "uptime", 0), 3, "its figures are known");
	is_int(frozen(&fd, "{\"ok\": \"freeze\"}\n"), 0, "it holds still");
	is_int(frozen(&fd, "{\"error\": \"freeze\"}\n"), -EIO, "or it cannot");
	is_int(frozen(&fd, NULL), -ENOTCONN, "or it goes meanwhile");
	OWN(fd_close) int next = dial();
	says(next, "{\"hello\": {}}\n");
	await(guest_ask(l->guest, "thaw") == 0);
	guest_forget(l->guest);
	ok(has_ended(next) && !guest_figures(l->guest), "what was asked of a former life is lost");
	is_int(guest_ask(l->guest, "poweroff"), -ENOTCONN, "the next has to be heard first");
	live_close();
}

static void put_instance(void)
{
	OWN(txn_free) struct txn *t = txn_new(d->store);
	json_t *json = json_pack("{s:{s:i, s:s}, s:s, s:b}", "State", "Code", 16, "Name", "running",
				 "_SeenAlive", "2026-01-01T00:00:00.000Z", "_AgentHeard", 1);

	if (txn_put(t, INSTANCE_KIND, INSTANCE, "123456789012", "us-east-1", json) < 0 ||
	    txn_commit(t) < 0)
		exit(1);
}

/* hvd was killed, or the guest reset: a snapshot that is taken now is of a guest with an agent. */
static void an_agent_that_has_yet_to_speak_to_us_is_waited_for(void)
{
	struct live *l = live_get(INSTANCE);
	char text[64] = "";

	put_instance();
	l->guest = guest_new(INSTANCE);
	is_int(guest_listen(l->guest), 0, "it can be heard");
	is_int(guest_freeze(INSTANCE), -ENOTCONN, "one that did not speak for long will not");
	hvd_get()->listening_usec = now_usec();
	freeze_result = 1;
	fiber_spawn(freeze_run, NULL);
	fiber_sleep(0);
	is_int(freeze_result, 1, "a new hvd has a moment for it");
	OWN(fd_close) int fd = dial();
	says(fd, "{\"hello\": {}}\n");
	await(freeze_result != 1 || read(fd, text, sizeof text) > 0);
	is_str(text, "{\"freeze\": {}}\n", "the agent is asked");
	says(fd, "{\"ok\": \"freeze\"}\n");
	await(freeze_result != 1);
	is_int(freeze_result, 0, "and holds still");
	hvd_get()->listening_usec = 0;
	guest_forget(l->guest);
	freeze_result = 1;
	fiber_spawn(freeze_run, NULL);
	fiber_sleep(0);
	is_int(freeze_result, 1, "so has one whose guest was reset");
	OWN(fd_close) int next = dial();
	says(next, "{\"hello\": {}}\n");
	await(freeze_result != 1 || read(next, text, sizeof text) > 0);
	says(next, "{\"error\": \"freeze\"}\n");
	await(freeze_result != 1);
	is_int(freeze_result, -EIO, "which is asked likewise");
	live_close();
}

static void tests(void)
{
	snprintf(d->runtime_dir, sizeof d->runtime_dir, "%s", hvd_dir);
	if (guest_ports_open(d) < 0)
		exit(1);
	RUN(both_sides_speak);
	RUN(it_comes_again_and_the_last_one_counts);
	RUN(a_guest_that_does_not_read_is_cut);
	RUN(a_guest_that_talks_on_is_read_slowly);
	RUN(strangers_are_kept_out);
	RUN(the_pid_file_tells_who_it_is);
	RUN(a_new_hvd_takes_over);
	RUN(a_path_too_long_is_refused);
	RUN(the_agent_is_heard_and_obeys);
	RUN(an_agent_that_has_yet_to_speak_to_us_is_waited_for);
}

int main(void)
{
	return hvd_main(tests);
}
