/*
 * DNS upstream: a VPC's questions that are not its own, asked of the host's resolvers from the host's
 * namespace, each from a socket (and so a port) of its own. All calls are for fibers, and wait.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#define DNS_PORT    53
#define DNS_UDP_MAX 4096 /* bytes of a message over UDP, as EDNS allows */

/* Of an address of IPv4 or IPv6. */
socklen_t dns_length_of(const struct sockaddr_storage *a);

/* Asks `upstream` (an address; "": those of resolv.conf, one after another). An answer has the
 * question's id and repeats it: with the random port and a random id, what a forger would have to
 * guess; the id is the caller's to choose. The answer's length, into DNS_UDP_MAX bytes (a longer one
 * is marked as cut short), or -errno of the last that was asked. */
ssize_t dns_ask_udp(const char *upstream, const uint8_t *question, size_t n, uint8_t *ret_answer);
/* The same over TCP: 0 with a malloced answer, or -errno. */
int dns_ask_tcp(const char *upstream, uint8_t *question, size_t n, uint8_t **ret_answer,
		size_t *ret_n);

/* One message of a stream: a length and so many bytes (RFC 1035, 4.2.2). The whole of it has ten
 * seconds. 0 or -errno; *ret_message is malloced. */
int dns_stream_read(int fd, uint8_t **ret_message, size_t *ret_n);
int dns_stream_write(int fd, uint8_t *message, size_t n);
