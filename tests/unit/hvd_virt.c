/* A libvirtd that takes connections and says nothing: this process. */
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "../../hvd/virt.h"
#include "hvd_call.h"

/* No memory to wait with: at how many asks, and at how many of them the loop had had no turn. */
static int is_starved, n_asked, n_without_turn, has_turned = 1;

int sd_event_add_io(sd_event *e, sd_event_source **ret, int fd, uint32_t events,
		    sd_event_io_handler_t callback, void *userdata)
{
	static typeof(sd_event_add_io) *real;

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "sd_event_add_io");
	if (gettid() != getpid() || !is_starved || !fiber_self()) /* libvirt's own have some */
		return real(e, ret, fd, events, callback, userdata);
	n_asked++;
	n_without_turn += !has_turned;
	has_turned = 0;
	if (n_without_turn > 2) /* it would go on for ever */
		is_starved = 0;
	return -ENOMEM;
}

static struct virt *virt;
static int listening = -1;

static void on_connected(void *userdata)
{
	(void)userdata;
	exit(1); /* nobody has answered */
}

static void on_event(void *userdata, const char *name, enum virt_event event)
{
	(void)userdata, (void)name, (void)event;
}

static const struct virt_hooks hooks = {on_connected, on_event};

static void libvirtd_begin(char ret_uri[static 256])
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	snprintf(a.sun_path, sizeof a.sun_path, "%s/libvirt-sock", hvd_dir);
	listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (bind(listening, (struct sockaddr *)&a, sizeof a) < 0 || listen(listening, 8) < 0)
		exit(1);
	snprintf(ret_uri, 256, "qemu+unix:///system?socket=%s", a.sun_path);
}

#define MINUTE 60000000ull

/* The next connection; its client has spoken. -1: none. */
static int taken(void)
{
	if (fiber_wait_fd(listening, POLLIN, MINUTE) < 0)
		return -1;
	int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	return fiber_wait_fd(fd, POLLIN, MINUTE) < 0 ? -1 : fd;
}

/* Everything that was said has been read, and then there is an end. */
static int has_ended(int fd)
{
	char bytes[4096];
	ssize_t n;

	while ((n = read(fd, bytes, sizeof bytes)) != 0)
		if (n < 0 && (errno != EAGAIN || fiber_wait_fd(fd, POLLIN, MINUTE) < 0))
			return 0;
	return 1;
}

static void a_libvirtd_that_says_nothing_is_given_up_and_asked_anew(void)
{
	OWN(fd_close) int first = taken();
	ok(first >= 0, "it is asked");
	ok(has_ended(first), "and given up");
	OWN(fd_close) int second = taken();
	ok(second >= 0, "and asked anew");
	ok(!virt_is_connected(virt), "and nobody takes that for a connection");
	is_int(virt_is_active(virt, "i-0123456789abcdef0"), -ENOTCONN, "calls fail at once");
	ok(has_ended(second), "this one is given up too");
}

static void who_has_no_memory_to_wait_with_asks_after_a_pause(void)
{
	is_starved = 1;
	for (; is_starved && n_asked < 3; has_turned = 1)
		(void)fiber_sleep(1000);
	is_starved = 0;
	is_int(n_without_turn, 0, "the loop has its turn before the next");
}

static void the_end_does_not_wait_for_it(void)
{
	OWN(fd_close) int fd = taken();

	ok(fd >= 0, "it is asked once more");
	virt_free(virt);
	ok(has_ended(fd), "and hears no more");
}

static void tests(void)
{
	char uri[256];

	libvirtd_begin(uri);
	if (virt_new(d->loop, uri, 1000000, &hooks, NULL, &virt) < 0)
		exit(1);
	RUN(a_libvirtd_that_says_nothing_is_given_up_and_asked_anew);
	RUN(who_has_no_memory_to_wait_with_asks_after_a_pause);
	RUN(the_end_does_not_wait_for_it);
}

int main(void)
{
	return hvd_main(tests);
}
