/* What the encoders of the XML and JSON protocols share. Only lib/aws includes this. */
#pragma once

#include "table.h"
#include "text.h"

/* One reply being written. */
struct encoder {
	struct text out;
	const struct aws_service *service;
	const struct aws_member *way[AWS_DEPTH_MAX * 2]; /* to the member being written, for the
							    message when it does not fit */
	unsigned depth;
};

/* -EPROTO, after keeping the way to the member for aws_encode_where(). */
int encode_refuse(const struct encoder *e);
/* Goes down to a member and up again. -EPROTO: deeper than any model's reply. */
int encode_enter(struct encoder *e, const struct aws_member *m);
void encode_leave(struct encoder *e);
/* A moment that a reply gives as string or number, in microseconds. 0 or -EPROTO. */
int encode_moment(const struct encoder *e, const json_t *value, int64_t *ret_usec);
/* A scalar as the text that stands between tags. 0 or -EPROTO. */
int encode_scalar(const struct encoder *e, const struct aws_member *m, const json_t *value,
		  char buffer[static 64], const char **ret_text, size_t *ret_bytes);

int encode_xml(struct encoder *e, const struct aws_action *a, const json_t *reply,
	       const char *request_id);
int encode_json(struct encoder *e, const struct aws_action *a, const json_t *reply);
