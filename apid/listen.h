/*
 * Listen: "127.0.0.1:4566", "[::]:443", "localhost:4566" to a listening TCP socket. Port 0 lets the
 * kernel choose.
 */
#pragma once

#include <stddef.h>

/* Splits "host:port". 0, or -EINVAL: not of that form. */
int listen_split(const char *text, char *ret_host, size_t n_host, char *ret_port, size_t n_port);
/* The descriptor, or -errno (-EINVAL, -EADDRNOTAVAIL: no such host here, -EADDRINUSE …). */
int listen_open(const char *text);
/* Where a socket listens, as text: "127.0.0.1:4566". */
void listen_name(int fd, char *ret_text, size_t n);
