/*
 * The HTTP side of IMDS: one libmicrohttpd engine on the daemon's loop for the connections of all
 * VPCs. Connections are accepted elsewhere and given in, each with its VPC and peer; what is
 * answered is decided elsewhere too. Here are the limits: connections in all and per guest, header
 * sizes, bodies, time.
 */
#pragma once

#include "imds-answer.h"

struct imds_http_calls {
	/* The answer for the guest at this address of this VPC. 0; -EAGAIN: call refresh first;
	 * anything else ends the connection. */
	int (*answer)(const char *vpc_id, const char *address, const struct imds_request *request,
		      struct imds_reply *ret_reply);
	/* (fiber) Gets what `answer` lacked. */
	int (*refresh)(const char *vpc_id);
};

/* Once per process. 0 or -errno. */
int imds_http_start(const struct imds_http_calls *calls);
void imds_http_stop(void);

/* Serves a connection (taken over, also on failure). 0, or -EBUSY: over a limit. */
int imds_http_add(int fd, const char *vpc_id, const char *address);
/* Ends the connections of a VPC. */
void imds_http_drop(const char *vpc_id);
/* How many there are. */
size_t imds_http_count(void);
