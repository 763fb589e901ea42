/* Metadata: listeners in the VPC's namespace. */
#include "metadata.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include "plan.h"

#define METADATA_BACKLOG 128

static int bind_metadata(int fd, int family)
{
	const struct sockaddr_in v4 = {
		.sin_family = AF_INET, .sin_port = htons(80), .sin_addr = {htonl(ADDRESS_IMDS)}};
	const struct sockaddr_in6 v6 = {
		.sin6_family = AF_INET6, .sin6_port = htons(80), .sin6_addr = address_imds6};
	const struct sockaddr *address =
		family == AF_INET6 ? (const struct sockaddr *)&v6 : (const struct sockaddr *)&v4;
	const int one = 1;

	/* FREEBIND (IPv4's option is for both): the address comes with the first pass, IPv6's with
	 * the VPC's first block. */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
	    setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &one, sizeof one) < 0 ||
	    bind(fd, address, family == AF_INET6 ? sizeof v6 : sizeof v4) < 0 ||
	    listen(fd, METADATA_BACKLOG) < 0)
		return -errno;
	return 0;
}

int metadata_listen(const struct netns *n, int family)
{
	OWN(fd_close) int fd = netns_socket(n, family, SOCK_STREAM, 0);
	int r = fd < 0 ? fd : bind_metadata(fd, family);

	return r < 0 ? r : give(fd);
}
