/* The parts of http.c: not for other rooms. */
#pragma once

#include <microhttpd.h>
#include <systemd/sd-event.h>
#include "deadline.h"
#include "http.h"

#define SECOND 1000000ull

enum phase { PHASE_NEW, PHASE_BODY, PHASE_RUNNING, PHASE_DONE };

struct exchange {
	struct exchange *previous, *next;
	struct http *http;
	struct MHD_Connection *connection;
	struct deadline *deadline;
	struct http_request request;
	struct http_reply reply;
	struct aws_pair *headers;
	char *uri, *body;
	size_t n_body, n_room, n_came;
	enum phase phase;
	int is_suspended, has_nul;
	unsigned n_refs;
};

struct http {
	struct http_options options;
	struct MHD_Daemon *mhd;
	sd_event_source *io, *timer;
	struct deadlines deadlines;
	struct exchange *first;
	int has_closed;	     /* a connection, since the last turn began */
	size_t bodies_bytes; /* of all exchanges, held before anybody's signature is known */
};

/* libmicrohttpd's callbacks, as its manual has them; userdata is the struct http. A request line has
 * come: a new exchange, NULL without memory. */
void *exchange_on_uri(void *userdata, const char *uri, struct MHD_Connection *connection);
enum MHD_Result exchange_on_request(void *userdata, struct MHD_Connection *connection,
				    const char *url, const char *method, const char *version,
				    const char *data, size_t *n_data, void **state);
void exchange_on_completed(void *userdata, struct MHD_Connection *connection, void **state,
			   enum MHD_RequestTerminationCode code);
/* Whoever holds it: for the end of all. */
void exchange_free(struct exchange *x);
