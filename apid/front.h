/*
 * Front: a request's way from bytes to an answer. Its order is a promise: nothing of the body is
 * read before the signature holds, nothing is done before the parameters fit the model, and
 * every refusal leaves in the envelope of the service that was asked.
 */
#pragma once

#include "apid.h"

#define FRONT_BODY_MAX	     (1u << 20)
#define FRONT_PARAMETERS_MAX 10000

/* (fiber) The http_handler; userdata is the struct apid. */
void front_handle(void *apid, const struct http_request *request, struct http_reply *ret_reply);
