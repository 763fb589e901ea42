/*
 * An exchange is one request and its answer. It is held by libmicrohttpd from the request line on
 * until it reports completion, and by the fiber while its handler runs. libmicrohttpd calls
 * exchange_on_request() several times for it: once with the header, once for each piece of the body,
 * once at the end, and once more after the connection was resumed; the exchange's phase says where it
 * is.
 */
#include "http-exchange.h"

#include <errno.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include "fiber.h"

#define DISCARD_FACTOR                                                                             \
	4 /* a body may go so far over the limit and still be told in the end; else it is cut off */

#define BODIES_MAX (64u << 20) /* what strangers may make us hold */

/* The one place where a body's room changes: all of them together stay below BODIES_MAX. 0, -EBUSY
 * (the others hold too much) or -ENOMEM. */
static int set_room(struct exchange *x, size_t n_room)
{
	struct http *h = x->http;
	size_t others = h->bodies_bytes - x->n_room;
	if (n_room > 0 && others + n_room > BODIES_MAX)
		return -EBUSY;
	char *body = n_room ? realloc(x->body, n_room) : NULL;
	if (n_room && !body)
		return -ENOMEM;
	if (!n_room)
		free(x->body);
	x->body = body;
	x->n_room = n_room;
	h->bodies_bytes = others + n_room;
	return 0;
}

void exchange_free(struct exchange *x)
{
	if (x->previous)
		x->previous->next = x->next;
	else
		x->http->first = x->next;
	if (x->next)
		x->next->previous = x->previous;
	(void)set_room(x, 0); /* giving back cannot fail */
	free(x->headers);
	free(x->uri);
	http_reply_clear(&x->reply);
	free(x);
}

static void exchange_unref(struct exchange *x)
{
	if (--x->n_refs == 0)
		exchange_free(x);
}

static struct exchange *exchange_new(struct http *h, struct MHD_Connection *connection,
				     const char *uri)
{
	struct exchange *x = calloc(1, sizeof(*x));
	if (!x)
		return NULL;
	*x = (struct exchange){.http = h,
			       .connection = connection,
			       .uri = strdup(uri),
			       .n_refs = 1,
			       .next = h->first};
	if (x->next)
		x->next->previous = x;
	h->first = x;
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	x->deadline = info ? info->socket_context : NULL;
	return x;
}

static void give_time(struct exchange *x, unsigned factor)
{
	if (x->deadline)
		deadline_set(x->deadline,
			     factor ? factor * x->http->options.timeout_sec * SECOND : UINT64_MAX);
}

/* ---- the answer ---- */

void http_reply_clear(struct http_reply *reply)
{
	free(reply->body);
	reply->body = NULL;
	json_decref(reply->headers);
	reply->headers = NULL;
	if (reply->has_fd)
		close(reply->fd);
	reply->has_fd = 0;
}

/* The body goes over to libmicrohttpd, also when this fails later. */
static struct MHD_Response *response_new(struct http_reply *reply)
{
	struct MHD_Response *response =
		reply->has_fd
			? MHD_create_response_from_fd64(reply->n_body, reply->fd)
			: MHD_create_response_from_buffer(
				  reply->n_body, reply->body ? reply->body : (char *)"",
				  reply->body ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT);
	if (response) {
		reply->body = NULL;
		reply->has_fd = 0;
	}
	return response;
}

static enum MHD_Result add_headers(struct MHD_Response *response, const struct exchange *x)
{
	const char *name;
	json_t *value;
	enum MHD_Result r = MHD_add_response_header(response, "x-amzn-RequestId", x->request.id);
	if (r == MHD_YES && x->reply.content_type)
		r = MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
					    x->reply.content_type);
	if (r == MHD_YES)
		r = MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL,
					    "no-cache, no-store");
	json_object_foreach (x->reply.headers, name, value)
		if (r == MHD_YES)
			r = MHD_add_response_header(response, name, json_string_value(value));
	return r;
}

static enum MHD_Result answer(struct exchange *x)
{
	struct http_reply *reply = &x->reply;
	if (reply->status == 0)
		reply->status = 500;
	struct MHD_Response *response = response_new(reply);
	if (!response)
		return MHD_NO;
	enum MHD_Result r = add_headers(response, x);
	if (r == MHD_YES)
		r = MHD_queue_response(x->connection, (unsigned)reply->status, response);
	MHD_destroy_response(response);
	give_time(x, 10);
	return r;
}

/* libmicrohttpd without threads does not notice by itself: it is to be run soon. */
static void resume(struct exchange *x)
{
	x->is_suspended = 0;
	MHD_resume_connection(x->connection);
	(void)sd_event_source_set_time_relative(x->http->timer,
						0); /* neither fails on a living source */
	(void)sd_event_source_set_enabled(x->http->timer, SD_EVENT_ONESHOT);
}

static void run_handler(void *arg)
{
	struct exchange *x = arg;
	x->http->options.handler(x->http->options.userdata, &x->request, &x->reply);
	x->phase = PHASE_DONE;
	if (x->is_suspended)
		resume(x);
	exchange_unref(x);
}

static enum MHD_Result run(struct exchange *x)
{
	x->phase = PHASE_RUNNING;
	x->request.body = x->body ? x->body : "";
	x->request.n_body = x->n_body;
	give_time(x, 0);
	x->n_refs++;
	if (fiber_spawn(run_handler, x) < 0) {
		exchange_unref(x);
		return MHD_NO;
	}
	if (x->phase == PHASE_DONE)
		return answer(x);
	MHD_suspend_connection(x->connection);
	x->is_suspended = 1;
	return MHD_YES;
}

/* ---- the request ---- */

static enum MHD_Result take_header(void *userdata, enum MHD_ValueKind kind, const char *name,
				   size_t n_name, const char *value, size_t n_value)
{
	struct exchange *x = userdata;
	(void)kind;
	if (!value)
		value = "";
	x->has_nul |= strlen(name) != n_name || strlen(value) != n_value;
	x->headers[x->request.n_headers++] = (struct aws_pair){name, value};
	return MHD_YES;
}

/* Said twice, or in two ways, the length of a body is whatever the reader likes (RFC 9112, 6.3):
 * such a request is none. */
static int is_ambiguous(const struct exchange *x)
{
	int n_lengths = 0, n_codings = 0;
	for (size_t i = 0; i < x->request.n_headers; i++) {
		n_lengths += strcasecmp(x->headers[i].name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0;
		n_codings += strcasecmp(x->headers[i].name, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0;
	}
	return x->has_nul || n_lengths + n_codings > 1;
}

static enum MHD_Result refuse(struct exchange *x, int status)
{
	x->reply.status = status;
	x->phase = PHASE_DONE;
	return answer(x);
}

/* Most clients look for the answer when they have sent everything: to close on them before loses it
 * to a reset of the connection. */
static int reads_first(const struct exchange *x, unsigned long long n_length)
{
	const char *expect =
		MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_EXPECT);
	return !expect && n_length <= x->http->options.body_max * DISCARD_FACTOR;
}

static enum MHD_Result begin(struct exchange *x, const char *method)
{
	struct http_request *r = &x->request;
	char *question = x->uri ? strchr(x->uri, '?') : NULL;
	int n = MHD_get_connection_values(x->connection, MHD_HEADER_KIND, NULL, NULL);
	x->headers = calloc(n > 0 ? (size_t)n : 1, sizeof(*x->headers));
	if (!x->uri || !x->headers)
		return MHD_NO;
	id_uuid(r->id);
	r->started_usec = deadline_now();
	r->method = method;
	r->path = x->uri;
	r->query = question ? question + 1 : "";
	if (question)
		*question = '\0';
	(void)MHD_get_connection_values_n(x->connection, MHD_HEADER_KIND, take_header, x);
	r->headers = x->headers;
	x->phase = PHASE_BODY;
	give_time(x, 4);
	if (is_ambiguous(x))
		return refuse(x, 400);
	const char *length = MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND,
							 MHD_HTTP_HEADER_CONTENT_LENGTH);
	unsigned long long n_length =
		length ? strtoull(length, NULL, 10) : 0; /* its form was checked by libmicrohttpd */
	if (n_length > x->http->options.body_max) {
		r->is_too_large = 1;
		return reads_first(x, n_length) ? MHD_YES : run(x);
	}
	if (n_length > 0) {
		int error = set_room(x, (size_t)n_length + 1);
		return error == 0 ? MHD_YES : error == -EBUSY ? refuse(x, 503) : MHD_NO;
	}
	return MHD_YES;
}

static int make_room(struct exchange *x, size_t n)
{
	if (x->n_body + n + 1 <= x->n_room)
		return 0;
	size_t n_room = x->n_room ? x->n_room * 2 : 4096;
	while (n_room < x->n_body + n + 1)
		n_room *= 2;
	return set_room(x, n_room);
}

static enum MHD_Result take_body(struct exchange *x, const char *data, size_t *n)
{
	size_t body_max = x->http->options.body_max;
	x->n_came += *n;
	if (x->n_came > body_max * DISCARD_FACTOR)
		return MHD_NO;
	if (x->request.is_too_large || x->n_came > body_max) {
		x->request.is_too_large = 1;
		(void)set_room(x, 0); /* giving back cannot fail */
		x->n_body = 0;
	} else {
		if (make_room(x, *n) < 0)
			return MHD_NO;
		memcpy(x->body + x->n_body, data, *n);
		x->n_body += *n;
		x->body[x->n_body] = '\0';
	}
	*n = 0;
	return MHD_YES;
}

enum MHD_Result exchange_on_request(void *userdata, struct MHD_Connection *connection,
				    const char *url, const char *method, const char *version,
				    const char *data, size_t *n_data, void **state)
{
	struct exchange *x = *state;
	(void)userdata, (void)connection, (void)url, (void)version;
	if (!x)
		return MHD_NO;
	switch (x->phase) {
	case PHASE_NEW:
		return begin(x, method);
	case PHASE_BODY:
		return *n_data ? take_body(x, data, n_data) : run(x);
	case PHASE_RUNNING:
		return MHD_YES;
	case PHASE_DONE:
		return answer(x);
	}
	return MHD_NO;
}

void *exchange_on_uri(void *userdata, const char *uri, struct MHD_Connection *connection)
{
	return exchange_new(userdata, connection, uri);
}

void exchange_on_completed(void *userdata, struct MHD_Connection *connection, void **state,
			   enum MHD_RequestTerminationCode code)
{
	struct exchange *x = *state;
	(void)userdata, (void)connection, (void)code;
	*state = NULL;
	if (!x)
		return;
	give_time(x, 2);
	exchange_unref(x);
}
