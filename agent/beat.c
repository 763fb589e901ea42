// Heartbeats: the virtio-serial port to the host, and what is said on it.
#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#define PORT_NAME "io.gureum.agent.0"

int port_open(void)
{
	DIR *d = opendir("/sys/class/virtio-ports");
	int fd = -ENOENT;
	struct dirent *e;

	/* By the name in sysfs: /dev/virtio-ports/ exists only where udev runs. */
	while (d && fd == -ENOENT && (e = readdir(d))) {
		char path[320], name[64];

		(void)snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name",
			       e->d_name); /* d_name is 255 at most */
		if (e->d_name[0] == '.' || file_read(path, name, sizeof(name)) <= 0)
			continue;
		name[strcspn(name, "\n")] = '\0';
		if (strcmp(name, PORT_NAME) != 0)
			continue;
		(void)snprintf(path, sizeof(path), "/dev/%s", e->d_name);
		fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
		if (fd < 0)
			fd = -errno;
	}
	if (d)
		(void)closedir(d); /* only read */
	return fd;
}

static int send_line(int fd, const char *line, int n)
{
	/* The port takes a whole line or none. With nobody reading on the host it says EAGAIN: an
	 * old figure is of no use later. */
	return write(fd, line, (size_t)n) < 0 ? -errno : 0;
}

int beat_hello(int fd, double started)
{
	struct utsname u;
	char name[sizeof(u.nodename) * 6 + 3], line[768];
	int n;

	if (uname(&u) < 0)
		return -errno;
	n = snprintf(line, sizeof(line),
		     "{\"hello\": {\"version\": \"" GUREUM_VERSION
		     "\", \"hostname\": %s, \"boot\": \"%.2f\"}}\n",
		     line_quote(u.nodename, name, sizeof(name)), started);
	return send_line(fd, line, n);
}

/* The figure of one row of /proc/meminfo in bytes, 0 if it is not there. */
static unsigned long long memory_bytes(const char *meminfo, const char *row)
{
	const char *at = strstr(meminfo, row);

	return at ? strtoull(at + strlen(row), NULL, 10) * 1024 : 0;
}

int beat_send(int fd)
{
	static char meminfo[8192];
	double load[3] = {0};
	struct statvfs disk = {0};
	char line[512];
	int n;

	if (file_read("/proc/meminfo", meminfo, sizeof(meminfo)) < 0)
		meminfo[0] = '\0'; /* zeroes then: being alive is the message */
	(void)getloadavg(load, 3);
	(void)statvfs("/", &disk);
	n = snprintf(line, sizeof(line),
		     "{\"beat\": {\"uptime\": %.2f, \"load\": [%.2f, %.2f, %.2f], \"mem_total\": "
		     "%llu, \"mem_free\": %llu, "
		     "\"mem_available\": %llu, \"disk_total\": %llu, \"disk_free\": %llu}}\n",
		     uptime_seconds(), load[0], load[1], load[2],
		     memory_bytes(meminfo, "MemTotal:"), memory_bytes(meminfo, "MemFree:"),
		     memory_bytes(meminfo, "MemAvailable:"),
		     (unsigned long long)disk.f_blocks * disk.f_frsize,
		     (unsigned long long)disk.f_bavail * disk.f_frsize);
	return send_line(fd, line, n);
}
