/*
 * The codec behind a pipe, for tests/codec/test_roundtrip.py: one JSON object per line in, one out.
 *
 *	{"do": "query", "service": "ec2", "action": "RunInstances", "pairs": [["ImageId", "ami-1"],
 *…]}  → {"parameters": {…}}
 *	{"do": "json", "service": …, "action": …, "body": "…"} → {"parameters": {…}}
 *	{"do": "xml", "service": …, "action": …, "body": "…"} → {"parameters": {…}}
 *	{"do": "rest", "service": …, "method": "GET", "path": "/a%2Fb", "query": [[…]], "headers":
 * [[…]], "body": "…"} → {"action": …, "parameters": {…}}
 *	{"do": "headers", "service": …, "action": …, "reply": {…}} → {"headers": {…}, "status": 201}
 *	{"do": "encode", "service": …, "action": …, "reply": {…}} → {"body": "…"}
 *	{"do": "error", "service": …, "code": …, "status": 400, "message": …} → {"body": "…"}
 *
 * A refusal is {"fault": code, "message": …}, a reply that does not fit {"where": …}.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "aws/aws.h"
#include "jsonx.h"
#include "own.h"

static const char request_id[] = "59dbff89-35bd-4eac-99ed-be587EXAMPLE";

static json_t *answer(int r, json_t *parameters, const struct fault *f)
{
	if (r < 0)
		return json_pack("{s:s, s:s, s:i}", "fault", f->code, "message", f->message,
				 "errno", -r);
	return json_pack("{s:o}", "parameters", parameters);
}

/* Malloced. */
static struct aws_pair *pairs_of(const json_t *list, size_t *ret_n)
{
	*ret_n = json_array_size(list);
	struct aws_pair *pairs = calloc(*ret_n + 1, sizeof *pairs);

	for (size_t i = 0; pairs && i < *ret_n; i++) {
		const json_t *pair = json_array_get(list, i);

		pairs[i] = (struct aws_pair){json_string_value(json_array_get(pair, 0)),
					     json_string_value(json_array_get(pair, 1))};
	}
	return pairs;
}

static json_t *do_query(const struct aws_action *a, const json_t *command)
{
	size_t n;
	OWN(free) struct aws_pair *pairs = pairs_of(json_object_get(command, "pairs"), &n);
	json_t *parameters = NULL;
	struct fault f = {0};
	int r = aws_decode_query(a, pairs, n, &parameters, &f);

	return answer(r, parameters, &f);
}

static json_t *do_body(const struct aws_action *a, const json_t *command, int is_xml)
{
	const char *body = jstr(command, "body");
	json_t *parameters = NULL;
	struct fault f = {0};
	int r = is_xml ? aws_decode_xml(a, body, strlen(body), &parameters, &f)
		       : aws_decode_json(a, body, strlen(body), &parameters, &f);

	return answer(r, parameters, &f);
}

static json_t *do_rest(const struct aws_service *s, const json_t *command)
{
	struct aws_rest rest = {.method = jstr(command, "method"),
				.path = jstr(command, "path"),
				.body = jstr(command, "body")};
	OWN(free)
	struct aws_pair *query = pairs_of(json_object_get(command, "query"), &rest.n_query);
	OWN(free)
	struct aws_pair *headers = pairs_of(json_object_get(command, "headers"), &rest.n_headers);
	json_t *parameters = NULL;
	struct fault f = {0};

	rest.query = query;
	rest.headers = headers;
	rest.n_body = strlen(rest.body);
	const struct aws_action *a = aws_action_route(s, &rest);

	if (!a)
		return json_pack("{s:n}", "action");
	int r = aws_decode_rest(a, &rest, &parameters, &f);
	json_t *result = answer(r, parameters, &f);

	json_object_set_new(result, "action", json_string(aws_action_name(a)));
	return result;
}

static json_t *do_headers(const struct aws_action *a, const json_t *command)
{
	json_t *headers = NULL;
	int r = aws_encode_headers(a, json_object_get(command, "reply"), &headers);

	if (r < 0)
		return json_pack("{s:s, s:i}", "where", aws_encode_where(), "errno", -r);
	return json_pack("{s:o, s:i}", "headers", headers, "status", aws_action_status(a));
}

static json_t *do_encode(const struct aws_action *a, const json_t *command)
{
	OWN(free) char *body = NULL;
	size_t n_bytes;
	int r = aws_encode(a, json_object_get(command, "reply"), request_id, &body, &n_bytes);

	if (r < 0)
		return json_pack("{s:s, s:i}", "where", aws_encode_where(), "errno", -r);
	return json_pack("{s:s#}", "body", body, (int)n_bytes);
}

static json_t *do_error(const struct aws_service *s, const json_t *command)
{
	OWN(free) char *body = NULL;
	size_t n_bytes;
	struct fault f = {.status = (int)jint(command, "status", 400)};

	snprintf(f.code, sizeof f.code, "%s", jstr_or(command, "code", ""));
	snprintf(f.message, sizeof f.message, "%s", jstr_or(command, "message", ""));
	if (aws_encode_error(s, &f, request_id, &body, &n_bytes) < 0)
		return NULL;
	char type[80];

	aws_error_type(&f, type);
	return json_pack("{s:s#, s:s}", "body", body, (int)n_bytes, "type", type);
}

static json_t *run(const json_t *command)
{
	const char *verb = jstr_or(command, "do", "");
	const struct aws_service *s = aws_service_find(jstr_or(command, "service", ""));
	const struct aws_action *a = s ? aws_action_find(s, jstr_or(command, "action", "")) : NULL;

	if (strcmp(verb, "error") == 0)
		return do_error(s, command);
	if (strcmp(verb, "rest") == 0 && s)
		return do_rest(s, command);
	if (!a)
		return json_pack("{s:s, s:s}", "fault", "InvalidAction", "message", "");
	if (strcmp(verb, "query") == 0)
		return do_query(a, command);
	if (strcmp(verb, "json") == 0 || strcmp(verb, "xml") == 0)
		return do_body(a, command, strcmp(verb, "xml") == 0);
	if (strcmp(verb, "headers") == 0)
		return do_headers(a, command);
	return do_encode(a, command);
}

int main(void)
{
	char *line = NULL;
	size_t room = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while (getline(&line, &room, stdin) > 0) {
		OWN(json_decref) json_t *command = json_loads(line, 0, NULL);
		OWN(json_decref) json_t *result = command ? run(command) : NULL;

		if (!result)
			return 1;
		json_dumpf(result, stdout, JSON_COMPACT);
		putchar('\n');
	}
	free(line);
	return 0;
}
