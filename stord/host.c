/* hvd, asked with a measure of patience. */
#include "host.h"

#define SEC_USEC 1000000ull

uint64_t host_timeout_usec(void)
{
	return (uint64_t)config_integer(daemon_get()->config, "Storage", "GuestTimeoutSec") *
	       SEC_USEC;
}

static int ask(uint64_t answer_usec, const struct context *ctx, const char *method,
	       json_t *parameters, json_t **ret_reply, struct fault *f)
{
	return rpc_call_within(daemon_peer("hvd"), answer_usec, ctx, method, parameters, NULL,
			       ret_reply, NULL, f);
}

int host_ask(const struct context *ctx, const char *method, json_t *parameters, json_t **ret_reply,
	     struct fault *f)
{
	return ask(host_timeout_usec(), ctx, method, parameters, ret_reply, f);
}

int host_ask_job(const struct context *ctx, const char *method, json_t *parameters,
		 json_t **ret_reply, struct fault *f)
{
	return ask(RPC_FOREVER, ctx, method, parameters, ret_reply, f);
}
