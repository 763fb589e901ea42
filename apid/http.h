/*
 * HTTP: the endpoint's connections, by libmicrohttpd on the daemon's own event loop. Knows nothing
 * of AWS.
 *
 * libmicrohttpd runs without threads: its epoll descriptor is one source of the loop. When a
 * request is complete, its connection is suspended and the handler runs as a fiber; when the
 * handler returns, the connection goes on with the answer. What is over a limit is told as early as
 * it can be known and will be read: header and query 64 KiB (431, by libmicrohttpd itself), a body
 * over body_max by its Content-Length before a byte of it is read if the client waits for leave
 * (Expect) or would send more than four times of that, else when it is through, and nothing of it is
 * kept; 503 while the bodies of all connections together
 * would pass 64 MiB.
 *
 * Time: a client that sends nothing for timeout_sec is cut off; so is one that dawdles: 2 ×
 * timeout_sec for all of a request's header, 4 × for its body, 10 × to take the answer.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include "aws/aws.h"
#include "id.h"
#include "own.h"

struct http;

/* Lives until the handler returns. */
struct http_request {
	const char *method;
	const char *path;  /* as received, still percent-encoded; begins with '/' or is whatever the
			      client sent */
	const char *query; /* the same, after the first '?'; "" if none */
	const struct aws_pair *headers; /* in order, duplicates kept */
	size_t n_headers;
	const char *body; /* NUL-terminated too */
	size_t n_body;
	int is_too_large;      /* the body was over the limit and is not here: to be refused */
	char id[ID_MAX];       /* goes out as x-amzn-RequestId */
	uint64_t started_usec; /* CLOCK_MONOTONIC, when its header was complete */
};

struct http_reply {
	int status;
	const char *content_type; /* static */
	char *body;		  /* malloced, taken over; NULL: empty */
	size_t n_body;
	json_t *headers; /* more of them: an object of texts, taken over; NULL: none */
	int has_fd;
	int fd; /* with has_fd, the body instead: n_body bytes of this descriptor from its
		 * beginning, taken over */
};
/* What a reply holds and nobody took. */
void http_reply_clear(struct http_reply *reply);

/* (fiber) Answers a request; leaving the reply untouched is a 500. */
typedef void (*http_handler)(void *userdata, const struct http_request *request,
			     struct http_reply *ret_reply);

struct http_options {
	int listen_fd;	     /* taken over when http_new succeeds */
	const char *tls_key; /* PEM text; NULL: no TLS */
	const char *tls_certificate;
	unsigned max_connections;
	unsigned timeout_sec;
	size_t body_max;
	http_handler handler;
	void *userdata;
};

/* Starts to serve on the fibers' loop. 0 or -errno. */
int http_new(const struct http_options *options, struct http **ret_http);
/* Ends all connections. Only when the loop has ended: handlers that wait are abandoned. */
void http_free(struct http *h);
OWN_DEFINE(struct http *, http_free);
