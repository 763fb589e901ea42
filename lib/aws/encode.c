/* Replies and errors by the protocol of their service. */
#include "encode.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>
#include "../own.h"

static _Thread_local char refused_where[256];

const char *aws_encode_where(void)
{
	return refused_where;
}

int encode_refuse(const struct encoder *e)
{
	size_t at = 0;

	refused_where[0] = '\0';
	for (unsigned i = 0; i < e->depth && at < sizeof refused_where; i++)
		at += snprintf(refused_where + at, sizeof refused_where - at, "%s%s", i ? "." : "",
			       aws_text(e->way[i]->name));
	return -EPROTO;
}

int encode_enter(struct encoder *e, const struct aws_member *m)
{
	if (e->depth == sizeof e->way / sizeof *e->way)
		return encode_refuse(e);
	e->way[e->depth++] = m;
	return 0;
}

void encode_leave(struct encoder *e)
{
	e->depth--;
}

int encode_moment(const struct encoder *e, const json_t *value, int64_t *ret_usec)
{
	if (json_is_number(value)) {
		double seconds = json_number_value(value);

		if (!(seconds >= -62135596800.0 && seconds <= 253402300799.0))
			return encode_refuse(e);
		*ret_usec = json_is_integer(value) ? json_integer_value(value) * 1000000
						   : (int64_t)(seconds * 1000000 + 0.5);
		return 0;
	}
	if (!json_is_string(value) || aws_time_parse(json_string_value(value), ret_usec) < 0)
		return encode_refuse(e);
	return 0;
}

static int print_moment(const struct encoder *e, const struct aws_member *m, int64_t usec,
			char buffer[static 64])
{
	int64_t fraction = (usec % 1000000 + 1000000) % 1000000;
	time_t seconds = (usec - fraction) / 1000000;
	struct tm tm;
	size_t n;

	if (!gmtime_r(&seconds, &tm))
		return encode_refuse(e);
	if (m->timestamp == AWS_TIME_UNIX) {
		snprintf(buffer, 64, "%lld", (long long)seconds);
		return 0;
	}
	if (m->timestamp == AWS_TIME_RFC822) {
		strftime(buffer, 64, "%a, %d %b %Y %H:%M:%S GMT", &tm);
		return 0;
	}
	n = strftime(buffer, 64, "%Y-%m-%dT%H:%M:%S", &tm);
	/* EC2 and S3 always show milliseconds; STS and IAM, which have none, show none. */
	if (e->service->protocol != AWS_QUERY || fraction >= 1000)
		n += snprintf(buffer + n, 64 - n, ".%03d", (int)(fraction / 1000));
	strcpy(buffer + n, "Z");
	return 0;
}

/* The shortest decimal that reads back as the same number. */
static void print_double(double number, char buffer[static 64])
{
	for (int digits = 15; digits <= 17; digits++) {
		snprintf(buffer, 64, "%.*g", digits, number);
		if (strtod(buffer, NULL) == number)
			break;
	}
	if (!strpbrk(buffer, ".e"))
		strcat(buffer, ".0");
}

int encode_scalar(const struct encoder *e, const struct aws_member *m, const json_t *value,
		  char buffer[static 64], const char **ret_text, size_t *ret_bytes)
{
	int64_t usec;
	int r = 0;

	*ret_text = buffer;
	switch (aws_shape_of(m)->type) {
	case AWS_STRING:
	case AWS_BLOB:
		*ret_text = json_string_value(value);
		*ret_bytes = json_string_length(value);
		return *ret_text ? 0 : encode_refuse(e);
	case AWS_INTEGER:
	case AWS_LONG:
		if (!json_is_integer(value))
			return encode_refuse(e);
		snprintf(buffer, 64, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		break;
	case AWS_DOUBLE:
		if (!json_is_number(value))
			return encode_refuse(e);
		print_double(json_number_value(value), buffer);
		break;
	case AWS_BOOLEAN:
		if (!json_is_boolean(value))
			return encode_refuse(e);
		strcpy(buffer, json_is_true(value) ? "true" : "false");
		break;
	default:
		r = encode_moment(e, value, &usec);
		if (r == 0)
			r = print_moment(e, m, usec, buffer);
	}
	*ret_bytes = r == 0 ? strlen(buffer) : 0;
	return r;
}

int aws_encode(const struct aws_action *a, const json_t *reply, const char *request_id,
	       char **ret_body, size_t *ret_bytes)
{
	struct encoder e = {.service = aws_service_of(a)};
	int r;

	if (reply && !json_is_object(reply))
		return encode_refuse(&e);
	if (e.service->protocol == AWS_JSON || e.service->protocol == AWS_REST_JSON)
		r = encode_json(&e, a, reply);
	else
		r = encode_xml(&e, a, reply, request_id);
	if (r == 0)
		r = text_take(&e.out, ret_body, ret_bytes);
	text_free(&e.out);
	return r;
}

static void error_query(struct text *t, const struct aws_service *s, const struct fault *f,
			const char *request_id)
{
	text_add(t, "<ErrorResponse xmlns=\"");
	text_add(t, aws_text(s->namespace));
	text_add(t, "\"><Error>");
	text_element(t, "Type", f->status >= 500 ? "Receiver" : "Sender");
	text_element(t, "Code", f->code);
	text_element(t, "Message", f->message);
	text_close(t, "Error");
	text_element(t, "RequestId", request_id);
	text_close(t, "ErrorResponse");
}

static void error_ec2(struct text *t, const struct fault *f, const char *request_id)
{
	text_add(t, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error>");
	text_element(t, "Code", f->code);
	text_element(t, "Message", f->message);
	text_add(t, "</Error></Errors>");
	text_element(t, "RequestID", request_id);
	text_close(t, "Response");
}

static void error_s3(struct text *t, const struct fault *f, const char *request_id)
{
	text_add(t, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>");
	text_element(t, "Code", f->code);
	text_element(t, "Message", f->message);
	text_element(t, "RequestId", request_id);
	text_element(t, "HostId", request_id);
	text_close(t, "Error");
}

/* What any service may say, in EC2's and the Query services' words and in those of the JSON ones.
 * Source: the models' shapes of errors, and what their services answer to a request that is not
 * signed well. */
static const struct {
	const char *query, *json;
} common[] = {
	{"IncompleteSignature", "IncompleteSignatureException"},
	{"InternalError", "InternalServerException"},
	{"InvalidAction", "UnknownOperationException"},
	{"MissingAction", "UnknownOperationException"},
	{"MissingAuthenticationToken", "MissingAuthenticationTokenException"},
	{"RequestEntityTooLarge", "RequestEntityTooLargeException"},
	{"ServiceUnavailable", "ServiceUnavailableException"},
	{"SignatureDoesNotMatch", "InvalidSignatureException"},
	{"Throttling", "ThrottlingException"},
};

void aws_error_type(const struct fault *f, char ret_type[static 80])
{
	for (size_t i = 0; i < sizeof common / sizeof *common; i++)
		if (strcmp(f->code, common[i].query) == 0) {
			strcpy(ret_type, common[i].json);
			return;
		}
	snprintf(ret_type, 80, "%.*s", (int)strcspn(f->code, ":"), f->code);
}

/* The message under both of its names: models of rest-json services write one or the other. */
static void error_json(struct text *t, const struct aws_service *s, const struct fault *f)
{
	const char *reason = strchr(f->code, ':');
	char type[80];

	aws_error_type(f, type);
	OWN(json_decref)
	json_t *error = json_pack("{s:s, s:s, s:s*, s:s*}", "__type", type, "message", f->message,
				  "Message", s->protocol == AWS_REST_JSON ? f->message : NULL,
				  "Reason", reason ? reason + 1 : NULL);
	OWN(free) char *dump = error ? json_dumps(error, JSON_COMPACT) : NULL;

	if (dump)
		text_add(t, dump);
	else /* a message that is not UTF-8 */
		text_add(t, "{\"__type\":\"InternalError\"}");
}

int aws_encode_error(const struct aws_service *s, const struct fault *f, const char *request_id,
		     char **ret_body, size_t *ret_bytes)
{
	OWN(text_free) struct text t = {0};

	switch (s ? s->protocol : AWS_EC2) {
	case AWS_EC2:
		error_ec2(&t, f, request_id);
		break;
	case AWS_QUERY:
		error_query(&t, s, f, request_id);
		break;
	case AWS_REST_XML:
		error_s3(&t, f, request_id);
		break;
	default:
		error_json(&t, s, f);
	}
	return text_take(&t, ret_body, ret_bytes);
}

const char *aws_content_type(const struct aws_service *s)
{
	switch (s ? s->protocol : AWS_EC2) {
	case AWS_QUERY:
		return "text/xml";
	case AWS_REST_XML:
		return "application/xml";
	case AWS_REST_JSON:
		return "application/json";
	case AWS_JSON:
		return strcmp(aws_text(s->json_version), "1.0") == 0 ? "application/x-amz-json-1.0"
								     : "application/x-amz-json-1.1";
	default:
		return "text/xml;charset=UTF-8";
	}
}
