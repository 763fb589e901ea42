/*
 * One request of a guest to one answer: versions 1 and 2, tokens, methods, errors. No sockets; all
 * that comes in is a stranger's. Source: EC2 user guide, "Use IMDSv2", "Instance metadata options".
 */
#pragma once

#include "imds-token.h"
#include "imds-tree.h"
#include "own.h"

struct imds_request {
	const char *method, *path;
	const char *token; /* X-aws-ec2-metadata-token, NULL: absent */
	const char *ttl;   /* X-aws-ec2-metadata-token-ttl-seconds, NULL: absent */
	int is_forwarded;  /* has an X-Forwarded-For */
};

struct imds_reply {
	int status;
	const char *content_type;
	char *body; /* malloced */
	size_t n_body;
	int64_t token_ttl_sec; /* > 0: told in a header */
	int hop_limit;	       /* > 0: the answer may travel no further */
};
void imds_reply_clear(struct imds_reply *r);
static inline void own_imds_reply_clear(struct imds_reply *r)
{
	imds_reply_clear(r);
}

/* Always an answer, unless -EAGAIN: the view lacks vpc or subnets; -ENOMEM. */
int imds_answer(const struct imds_key *key, const struct imds_view *view,
		const struct imds_request *request, int64_t now_sec, struct imds_reply *ret_reply);
/* An error's page as the service shows it. 0 or -ENOMEM. */
int imds_error(int status, struct imds_reply *ret_reply);
