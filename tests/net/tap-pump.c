/*
 * tap-pump TAP NETNS MAC MTU: a stand-in for a guest. It opens the persistent tap as QEMU would,
 * makes a tap "eth0" with the guest's MAC in the network namespace, and carries frames between the
 * two until it is killed.
 */
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static void check(int r, const char *what)
{
	if (r < 0) {
		perror(what);
		exit(1);
	}
}

static int open_tap(const char *name)
{
	struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	check(fd, "/dev/net/tun");
	snprintf(request.ifr_name, sizeof request.ifr_name, "%.15s", name);
	check(ioctl(fd, TUNSETIFF, &request), name);
	/* What QEMU asks of a tap once a guest's virtio-net driver is there: large segments pass whole. */
	check(ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN),
	      "offloads");
	return fd;
}

static void set_up(const char *mac, int mtu)
{
	struct ifreq request = {.ifr_name = "eth0", .ifr_hwaddr = {.sa_family = ARPHRD_ETHER}};
	unsigned char *b = (unsigned char *)request.ifr_hwaddr.sa_data;
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (sscanf(mac, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &b[0], &b[1], &b[2], &b[3], &b[4],
		   &b[5]) != 6)
		exit(2);
	check(ioctl(s, SIOCSIFHWADDR, &request), "MAC");
	request.ifr_mtu = mtu;
	check(ioctl(s, SIOCSIFMTU, &request), "MTU");
	request.ifr_flags = IFF_UP | IFF_RUNNING;
	check(ioctl(s, SIOCSIFFLAGS, &request), "up");
	(void)close(s);
}

int main(int argc, char **argv)
{
	static char frame[70000];
	struct pollfd ends[2];
	char path[256];
	int ns;

	if (argc != 5)
		return 2;
	ends[0] = (struct pollfd){open_tap(argv[1]), POLLIN, 0};
	snprintf(path, sizeof path, "/run/netns/%s", argv[2]);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	check(ns, path);
	check(setns(ns, CLONE_NEWNET), "setns");
	ends[1] = (struct pollfd){open_tap("eth0"), POLLIN, 0};
	set_up(argv[3], atoi(argv[4]));
	puts("ready");
	(void)fflush(stdout);
	for (;;) {
		check(poll(ends, 2, -1), "poll");
		for (int i = 0; i < 2; i++) {
			ssize_t n = ends[i].revents ? read(ends[i].fd, frame, sizeof frame) : 0;

			if (n < 0 || ends[i].revents & (POLLERR | POLLHUP))
				return 0; /* the tap is gone, as when its interface was deleted */
			if (n > 0 && write(ends[!i].fd, frame, (size_t)n) < 0)
				continue; /* a link that is down drops frames */
		}
	}
}
