/* The rules of the metadata service: who gets which answer. */
#include "imds-answer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "jsonx.h"

#define TOKEN_PATH    "/latest/api/token"
#define HOP_LIMIT_MAX 64

static const struct {
	int status;
	const char *words;
} errors[] = {
	{400, "Bad Request"},
	{401, "Unauthorized"},
	{403, "Forbidden"},
	{404, "Not Found"},
	{405, "Method Not Allowed"},
	{413, "Request Entity Too Large"},
	{500, "Internal Server Error"},
	{503, "Service Unavailable"},
};

void imds_reply_clear(struct imds_reply *r)
{
	free(r->body);
	*r = (struct imds_reply){0};
}

int imds_error(int status, struct imds_reply *ret_reply)
{
	const char *words = "Error";
	struct imds_reply reply = {.status = status, .content_type = "text/html"};
	int n;

	for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
		if (errors[i].status == status)
			words = errors[i].words;
	n = asprintf(&reply.body,
		     "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n"
		     "<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Transitional//EN\"\n"
		     "\t\"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd\">\n"
		     "<html xmlns=\"http://www.w3.org/1999/xhtml\" xml:lang=\"en\" lang=\"en\">\n"
		     " <head>\n  <title>%d - %s</title>\n </head>\n <body>\n  <h1>%d - %s</h1>\n "
		     "</body>\n</html>\n",
		     status, words, status, words);
	if (n < 0)
		return -ENOMEM;
	reply.n_body = (size_t)n;
	*ret_reply = reply;
	return 0;
}

/* 1 … 21600, nothing else around it; -EINVAL. */
static int64_t ttl_parse(const char *text)
{
	int64_t ttl = 0;

	if (!text || !*text || strlen(text) > 5 || strspn(text, "0123456789") != strlen(text))
		return -EINVAL;
	ttl = atoll(text);
	return ttl >= 1 && ttl <= IMDS_TTL_MAX_SEC ? ttl : -EINVAL;
}

static int option_is(const struct imds_view *view, const char *name, const char *value)
{
	return strcmp(jstr_or(json_object_get(view->instance, "MetadataOptions"), name, ""),
		      value) == 0;
}

/* PUT /latest/api/token. What went through a proxy is refused: an open proxy in the guest must not
 * hand tokens to the world. */
static int answer_token(const struct imds_key *key, const struct imds_view *view,
			const struct imds_request *q, int64_t now_sec, struct imds_reply *ret_reply)
{
	int64_t ttl = ttl_parse(q->ttl),
		hops = jint(json_object_get(view->instance, "MetadataOptions"),
			    "HttpPutResponseHopLimit", 1);
	struct imds_reply reply = {
		.status = 200, .content_type = "text/plain", .token_ttl_sec = ttl};

	if (q->is_forwarded)
		return imds_error(403, ret_reply);
	if (ttl < 0)
		return imds_error(400, ret_reply);
	reply.body = malloc(IMDS_TOKEN_CHARS + 1);
	if (!reply.body)
		return -ENOMEM;
	if (imds_token_make(key, jstr_or(view->instance, "InstanceId", ""), ttl, now_sec,
			    reply.body) < 0) {
		free(reply.body);
		return imds_error(500, ret_reply);
	}
	reply.n_body = IMDS_TOKEN_CHARS;
	reply.hop_limit = hops < 1 ? 1 : hops > HOP_LIMIT_MAX ? HOP_LIMIT_MAX : (int)hops;
	*ret_reply = reply;
	return 0;
}

static int answer_get(const struct imds_key *key, const struct imds_view *view,
		      const struct imds_request *q, int64_t now_sec, struct imds_reply *ret_reply)
{
	struct imds_leaf leaf = {0};
	int64_t left = 0;
	int r;

	if (q->token) {
		left = imds_token_check(key, jstr_or(view->instance, "InstanceId", ""), q->token,
					now_sec);
		if (left < 0)
			return imds_error(401, ret_reply);
	} else if (option_is(view, "HttpTokens", "required")) {
		return imds_error(401, ret_reply);
	}
	r = imds_resolve(view, q->path, &leaf);
	if (r == -ENOENT)
		return imds_error(404, ret_reply);
	if (r < 0)
		return r;
	*ret_reply = (struct imds_reply){
		.status = 200,
		.content_type = leaf.kind == IMDS_BYTES ? "application/octet-stream" : "text/plain",
		.body = leaf.body,
		.n_body = leaf.n_body,
		.token_ttl_sec = left};
	return 0;
}

int imds_answer(const struct imds_key *key, const struct imds_view *view,
		const struct imds_request *request, int64_t now_sec, struct imds_reply *ret_reply)
{
	int is_get = strcmp(request->method, "GET") == 0 || strcmp(request->method, "HEAD") == 0;
	int is_token = strcmp(request->path, TOKEN_PATH) == 0;

	if (option_is(view, "HttpEndpoint", "disabled"))
		return imds_error(403, ret_reply);
	if (is_token && strcmp(request->method, "PUT") == 0)
		return answer_token(key, view, request, now_sec, ret_reply);
	if (is_token || !is_get)
		return imds_error(405, ret_reply);
	return answer_get(key, view, request, now_sec, ret_reply);
}
