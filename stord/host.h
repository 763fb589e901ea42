/*
 * The host of a volume's guest: hvd, asked. It may take a call and be silent; what a customer waits
 * for must not be silent with it, so a call has Storage.GuestTimeoutSec. Who is not answered does
 * not know: nothing is taken back, and the call is made again until it is answered. hvd does not
 * begin a call whose caller has given up, so none comes late.
 */
#pragma once

#include "daemon.h"

/* (fiber) rpc_call() to hvd within the time. */
int host_ask(const struct context *ctx, const char *method, json_t *parameters, json_t **ret_reply,
	     struct fault *f);
/* (fiber) The same for a guest's jobs, which may take hours: as long as hvd lives. No customer's
 * request waits for one. */
int host_ask_job(const struct context *ctx, const char *method, json_t *parameters,
		 json_t **ret_reply, struct fault *f);
/* How long that is, in microseconds. */
uint64_t host_timeout_usec(void);
