// The part that stays: one loop over the port, the power button and a timer.
#include "agent.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define BEAT_SECONDS 10
/* A host that died, or forgot: no guest stands still for longer than this. */
#define FREEZE_SECONDS_MAX 10
/* Devices appear shortly after their drivers: looked for quickly at first, then with each beat. */
#define LOOK_MSEC	  200
#define LOOKS		  20
#define THAW_LOOK_MSEC	  500
#define ANSWER_TRIES	  50
#define ANSWER_PAUSE_USEC 20000

struct agent {
	int epoll, timer, port, button;
	double started; /* uptime */
	int has_host;	/* somebody has opened the port on the host */
	unsigned n_looks;
	double thaw_at; /* uptime at which what is frozen thaws by itself; 0: nothing is */
	char line[AGENT_LINE_MAX]; /* of the host, as far as it has come */
	size_t n_line;
	int is_overlong; /* the line did not fit: skip to its end */
};

static int watch(struct agent *a, int fd, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.fd = fd};

	return epoll_ctl(a->epoll, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

static void look_for_devices(struct agent *a)
{
	/* Edge-triggered: a port without a host is "hung up" for as long as it lasts, and must not
	 * wake us all the time. */
	if (a->port < 0 && (a->port = port_open()) >= 0 &&
	    watch(a, a->port, EPOLLIN | EPOLLOUT | EPOLLET) < 0) {
		(void)close(a->port);
		a->port = -1;
	}
	/* Under systemd the button is logind's. */
	if (a->button < 0 && access("/run/systemd/system", F_OK) < 0 &&
	    (a->button = power_button_open()) >= 0 && watch(a, a->button, EPOLLIN) < 0) {
		(void)close(a->button);
		a->button = -1;
	}
}

static int set_timer(struct agent *a)
{
	int is_complete = a->port >= 0 && a->button >= 0;
	long msec = is_complete || a->n_looks >= LOOKS ? BEAT_SECONDS * 1000 : LOOK_MSEC;
	struct itimerspec t = {.it_value = {msec / 1000, msec % 1000 * 1000000}};

	return timerfd_settime(a->timer, 0, &t, NULL) < 0 ? -errno : 0;
}

static void answer(struct agent *a, const char *how, const char *what)
{
	char line[64];
	int n = snprintf(line, sizeof(line), "{\"%s\": \"%s\"}\n", how, what);

	/* A line can overtake the news that the host has opened the port: until then the port takes
	 * nothing. */
	for (int i = 0; i < ANSWER_TRIES && write(a->port, line, (size_t)n) < 0; i++)
		usleep(ANSWER_PAUSE_USEC);
}

static void obey(struct agent *a, enum command command)
{
	static const char *const names[] = {[COMMAND_POWEROFF] = "poweroff",
					    [COMMAND_REBOOT] = "reboot",
					    [COMMAND_FREEZE] = "freeze",
					    [COMMAND_THAW] = "thaw"};
	int r = 0;

	switch (command) {
	case COMMAND_NONE:
		return;
	case COMMAND_FREEZE:
		r = freeze();
		a->thaw_at = r == 0 ? uptime_seconds() + FREEZE_SECONDS_MAX : a->thaw_at;
		answer(a, r == 0 ? "ok" : "error", names[command]);
		return;
	case COMMAND_THAW:
		thaw();
		a->thaw_at = 0;
		answer(a, "ok", names[command]);
		return;
	default:
		/* Answered first: there is no later. Obeyed all the same if the host does not
		 * listen. */
		thaw();
		answer(a, "ok", names[command]);
		r = power_off(command == COMMAND_REBOOT);
	}
	if (r < 0)
		say("gureum-agent: %s: %s", names[command], strerror(-r));
}

static void take_bytes(struct agent *a, const char *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (bytes[i] == '\n') {
			enum command c =
				a->is_overlong ? COMMAND_NONE : line_command(a->line, a->n_line);

			a->n_line = 0;
			a->is_overlong = 0;
			obey(a, c);
		} else if (a->n_line == sizeof(a->line)) {
			a->is_overlong = 1;
		} else {
			a->line[a->n_line++] = bytes[i];
		}
	}
}

static void on_port(struct agent *a, uint32_t events)
{
	char bytes[1024];
	ssize_t n;

	while ((n = read(a->port, bytes, sizeof(bytes))) > 0)
		take_bytes(a, bytes, (size_t)n);
	if (events & EPOLLHUP) {
		a->has_host = 0;
		a->n_line = 0;
		a->is_overlong = 0;
	} else if (!a->has_host && beat_hello(a->port, a->started) == 0) {
		a->has_host = 1;
		(void)beat_send(a->port); /* the next one is due soon */
	}
}

static int on_timer(struct agent *a)
{
	uint64_t ticks;

	(void)!read(a->timer, &ticks, sizeof(ticks));
	if (a->port < 0 || a->button < 0) {
		a->n_looks++;
		look_for_devices(a);
	}
	/* The edge that told of a host can have come while the port was full: say hello late rather
	 * than never. */
	if (a->port >= 0 && !a->has_host && beat_hello(a->port, a->started) == 0)
		a->has_host = 1;
	if (a->port >= 0 && a->has_host)
		(void)beat_send(a->port); /* a lost beat is told by the next */
	return set_timer(a);
}

static void on_button(struct agent *a)
{
	int r;

	if (!power_button_pressed(a->button))
		return;
	r = power_off(0);
	if (r < 0)
		say("gureum-agent: power button: %s", strerror(-r));
}

int run_main(void)
{
	static struct agent agent = {.port = -1, .button = -1};
	struct agent *a = &agent;

	(void)signal(SIGPIPE, SIG_IGN); /* a valid signal number cannot fail */
	a->epoll = epoll_create1(EPOLL_CLOEXEC);
	a->timer = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	a->started = uptime_seconds();
	look_for_devices(a);
	if (a->epoll < 0 || a->timer < 0 || watch(a, a->timer, EPOLLIN) < 0 || set_timer(a) < 0) {
		say("gureum-agent: %s", strerror(errno));
		return 1;
	}
	for (;;) {
		struct epoll_event e;
		int n = epoll_wait(a->epoll, &e, 1, a->thaw_at > 0 ? THAW_LOOK_MSEC : -1);

		if (a->thaw_at > 0 && uptime_seconds() >= a->thaw_at) {
			thaw();
			a->thaw_at = 0;
		}
		if (n == 0 || (n < 0 && errno == EINTR))
			continue;
		if (n < 0)
			return 1;
		if (e.data.fd == a->timer) {
			if (on_timer(a) < 0)
				return 1;
		} else if (e.data.fd == a->port) {
			on_port(a, e.events);
		} else if (e.data.fd == a->button) {
			on_button(a);
		}
	}
}
