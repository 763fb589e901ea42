/* Metadata: a listener in the VPC's namespace. */
#include "metadata.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include "plan.h"

#define METADATA_BACKLOG 128

static int bind_metadata(int fd)
{
	const struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_port = htons(80), .sin_addr = {htonl(ADDRESS_IMDS)}};
	const int one = 1;

	/* FREEBIND: the address comes with the first pass. */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
	    setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &one, sizeof one) < 0 ||
	    bind(fd, (const struct sockaddr *)&address, sizeof address) < 0 ||
	    listen(fd, METADATA_BACKLOG) < 0)
		return -errno;
	return 0;
}

int metadata_listen(const struct netns *n)
{
	OWN(fd_close) int fd = netns_socket(n, AF_INET, SOCK_STREAM, 0);
	int r = fd < 0 ? fd : bind_metadata(fd);

	return r < 0 ? r : give(fd);
}
