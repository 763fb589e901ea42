// Power: the button that the host presses, and an orderly end where no service manager does it.
#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROCESSES_MAX 4096
#define MOUNTS_MAX    256
#define GRACE_SECONDS 5.0
#define POLL_USEC     20000

int power_button_open(void)
{
	DIR *d = opendir("/dev/input");
	int found = -ENOENT;
	struct dirent *e;

	while (d && found == -ENOENT && (e = readdir(d))) {
		char name[64] = "";
		int fd;

		if (strncmp(e->d_name, "event", 5) != 0)
			continue;
		fd = openat(dirfd(d), e->d_name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (ioctl(fd, EVIOCGNAME(sizeof(name) - 1), name) > 0 &&
		    strcmp(name, "Power Button") == 0)
			found = fd;
		else
			(void)close(fd); /* another device */
	}
	if (d)
		(void)closedir(d); /* only read */
	return found;
}

int power_button_pressed(int fd)
{
	struct input_event events[16];
	int pressed = 0;
	ssize_t n;

	while ((n = read(fd, events, sizeof(events))) > 0)
		for (size_t i = 0; i < (size_t)n / sizeof(events[0]); i++)
			if (events[i].type == EV_KEY && events[i].code == KEY_POWER &&
			    events[i].value == 1)
				pressed = 1;
	return pressed;
}

/* A process that can be asked to end: not a thread of the kernel and not a corpse (both have no
 * command line). */
static int is_process(pid_t pid)
{
	char path[32], c;
	int fd;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, &c, 1);
	(void)close(fd); /* only read */
	return n == 1;
}

static size_t list_processes(pid_t *ret_pids, size_t max)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	size_t n = 0;

	while (d && n < max && (e = readdir(d))) {
		pid_t pid = (pid_t)atoi(e->d_name);

		if (pid > 1 && pid != getpid() && is_process(pid))
			ret_pids[n++] = pid;
	}
	if (d)
		(void)closedir(d); /* only read */
	return n;
}

/* Asks all processes to end and waits for those that were there; what init starts anew meanwhile is
 * nobody's work yet. */
static void end_processes(void)
{
	static pid_t pids[PROCESSES_MAX];
	size_t n = list_processes(pids, PROCESSES_MAX);
	double until = uptime_seconds() + GRACE_SECONDS;

	(void)kill(-1, SIGTERM); /* -1 spares process 1 and us; nobody there is fine */
	(void)kill(-1, SIGCONT);
	while (n > 0 && uptime_seconds() < until) {
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		while (n > 0 && !is_process(pids[n - 1]))
			n--;
		if (n > 0)
			usleep(POLL_USEC);
	}
	(void)kill(-1, SIGKILL);
}

/* Every file system on a disk becomes read-only, the last mounted first. */
static void close_disks(void)
{
	static char text[64u << 10];
	char *rows[MOUNTS_MAX], *rest = text, *row;
	size_t n = 0;

	sync();
	if (file_read("/proc/mounts", text, sizeof(text)) < 0)
		return; /* all is on the disks already; the journals do the rest */
	while (n < MOUNTS_MAX && (row = strsep(&rest, "\n")))
		if (strncmp(row, "/dev/", 5) == 0)
			rows[n++] = row;
	while (n > 0) {
		char *place = strchr(rows[--n], ' ');
		char *end = place ? strchr(place + 1, ' ') : NULL;

		if (!end)
			continue;
		*end = '\0';
		(void)mount(NULL, place + 1, NULL, MS_REMOUNT | MS_RDONLY,
			    NULL); /* a busy one was synced */
	}
}

/* Tells systemd; its own order of ending things is the right one there. */
static int tell_systemd(const char *verb)
{
	int status;
	pid_t child = fork();

	if (child < 0)
		return -errno;
	if (child == 0) {
		execlp("systemctl", "systemctl", "--no-block", verb, (char *)NULL);
		_exit(127);
	}
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return status == 0 ? 0 : -EIO;
}

int power_off(int is_reboot)
{
	if (access("/run/systemd/system", F_OK) == 0)
		return tell_systemd(is_reboot ? "reboot" : "poweroff");
	say("gureum-agent: %s", is_reboot ? "rebooting" : "powering off");
	end_processes();
	close_disks();
	(void)reboot(is_reboot ? RB_AUTOBOOT : RB_POWER_OFF); /* does not come back when it works */
	return -errno;
}
