/* Envelope: guesses of the service, by what text of a request can be found without reading it. */
#include "envelope.h"

#include <string.h>
#include <strings.h>

static const char *header(const struct http_request *q, const char *name)
{
	for (size_t i = 0; i < q->n_headers; i++)
		if (strcasecmp(q->headers[i].name, name) == 0)
			return q->headers[i].value;
	return NULL;
}

/* What stands behind "NAME=" in urlencoded text, up to the text's end; NULL: it is not there. */
static const char *behind(const char *text, size_t n_bytes, const char *name)
{
	size_t n = strlen(name);
	for (const char *at = text, *end = text + n_bytes;
	     (at = memmem(at, (size_t)(end - at), name, n)); at += n)
		if ((at == text || at[-1] == '&') && end - at > (ptrdiff_t)n && at[n] == '=')
			return at + n + 1;
	return NULL;
}

/* In the query, or in what a form's body would be: both end with a NUL. */
static const char *parameter(const struct http_request *q, const char *name)
{
	const char *value = behind(q->query, strlen(q->query), name);
	return value || strcmp(q->path, "/") != 0 ? value : behind(q->body, q->n_body, name);
}

/* "AKID/20150830/us-east-1/ec2/…", its slashes as they are or encoded. */
static const struct aws_service *by_scope(const char *scope)
{
	char name[32];
	for (int i = 0; scope && i < 3; i++) {
		scope += strcspn(scope, "/% ,&");
		size_t n = *scope == '/' ? 1 : strncasecmp(scope, "%2f", 3) == 0 ? 3 : 0;
		scope = n ? scope + n : NULL;
	}
	size_t n = scope ? strcspn(scope, "/% ,&") : 0;
	if (n == 0 || n >= sizeof(name))
		return NULL;
	memcpy(name, scope, n);
	name[n] = '\0';
	return aws_service_find(name);
}

static const struct aws_service *by_protocol(enum aws_protocol protocol)
{
	for (const struct aws_service *s = aws_service_next(NULL); s; s = aws_service_next(s))
		if (aws_service_protocol(s) == protocol)
			return s;
	return NULL;
}

/* A JSON client of a service that this cloud lacks can at least read why. */
static const struct aws_service *by_json(const struct http_request *q)
{
	static const char json[] = "application/x-amz-json";
	const char *type = header(q, "content-type");
	if (!header(q, "x-amz-target") && !(type && strncasecmp(type, json, strlen(json)) == 0))
		return NULL;
	const struct aws_service *s = by_protocol(AWS_JSON);
	return s ? s : by_protocol(AWS_REST_JSON);
}

/* Not S3's: every path is one of its own. */
static const struct aws_service *by_path(const struct http_request *q)
{
	struct aws_rest rest = {.method = q->method, .path = q->path};
	for (const struct aws_service *s = aws_service_next(NULL); s; s = aws_service_next(s))
		if (aws_service_protocol(s) == AWS_REST_JSON && aws_action_route(s, &rest))
			return s;
	return NULL;
}

static const struct aws_service *by_version(const char *version)
{
	for (const struct aws_service *s = aws_service_next(NULL); version && s;
	     s = aws_service_next(s))
		if (aws_service_protocol(s) == AWS_QUERY &&
		    strncmp(version, aws_service_version(s), strlen(aws_service_version(s))) == 0)
			return s;
	return NULL;
}

int envelope_is_json_to_query(const struct http_request *q, const struct aws_service *s)
{
	return aws_service_protocol(s) == AWS_QUERY && by_json(q);
}

const struct aws_service *envelope_service(const struct http_request *q)
{
	static const char credential[] = "Credential=";
	const char *authorization = header(q, "authorization");
	const char *claim = authorization ? strstr(authorization, credential) : NULL;
	const char *scope = claim ? claim + strlen(credential)
				  : behind(q->query, strlen(q->query), "X-Amz-Credential");
	const struct aws_service *s = by_scope(scope);
	if (!s || envelope_is_json_to_query(q, s))
		s = by_json(q);
	if (!s)
		s = by_path(q);
	/* Most services that have paths and that this cloud lacks speak JSON. */
	if (!s && scope && strcmp(q->path, "/") != 0)
		s = by_protocol(AWS_REST_JSON);
	return s ? s : by_version(parameter(q, "Version"));
}

int envelope_is_signed_before_v4(const struct http_request *q)
{
	const char *authorization = header(q, "authorization");
	return (authorization && strncmp(authorization, "AWS ", 4) == 0) ||
	       parameter(q, "SignatureVersion") != NULL;
}
