/*
 * Front: believe, decode, route, encode, one step a function. A step that refuses fills the fault,
 * and the rest is skipped.
 *
 * An API version is not asked for: members only ever were added, and a client of any version finds
 * those that it knows.
 */
#include "front.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "deadline.h"
#include "envelope.h"
#include "jsonx.h"
#include "local.h"
#include "log.h"

/* Whoever waited longer than this for an answer has waited for an owner that is not there. */
#define REPEAT_WITHIN_USEC 2000000

/* One request on its way. */
struct visit {
	struct apid *apid;
	const struct http_request *request;
	struct form query, body;
	struct aws_pair *pairs; /* of both */
	size_t n_pairs;
	struct sigv4_request to_check;
	struct sigv4 claim;
	const struct aws_service *service; /* NULL until the scope named one that we know */
	const struct aws_action *action;
	struct identity who;
	struct context ctx;
	char method[160]; /* "ec2.RunInstances", "" until known */
	struct fds came;  /* with the reply: the body, where that is a stream */
};

static void own_visit_clear(struct visit *v)
{
	form_clear(&v->query);
	form_clear(&v->body);
	free(v->pairs);
	fds_close(&v->came);
}

/* ---- believe ---- */

static int is_rest(const struct visit *v)
{
	return v->service && (aws_service_protocol(v->service) == AWS_REST_XML ||
			      aws_service_protocol(v->service) == AWS_REST_JSON);
}

static struct aws_rest rest_of(const struct visit *v)
{
	const struct http_request *q = v->request;
	return (struct aws_rest){.method = q->method,
				 .path = q->path,
				 .query = v->query.pair,
				 .n_query = v->query.n,
				 .headers = q->headers,
				 .n_headers = q->n_headers,
				 .body = q->body,
				 .n_body = q->n_body};
}

/* Nothing in it claims to be somebody's. */
static int refuse_unsigned(const struct visit *v, struct fault *f)
{
	const struct aws_service *s = envelope_service(v->request);
	if (v->request->is_too_large)
		return fault_set(f, FAULT_REQUEST_ENTITY_TOO_LARGE,
				 "The request is larger than %u bytes", FRONT_BODY_MAX);
	if (envelope_is_signed_before_v4(v->request) && (!s || aws_service_protocol(s) == AWS_EC2))
		return fault_set(f, FAULT_AUTH_FAILURE,
				 "AWS was not able to validate the provided access credentials: "
				 "they must be used by Signature Version 4");
	return fault_set(f, FAULT_MISSING_AUTHENTICATION_TOKEN,
			 "Request is missing Authentication Token");
}

/* Reads the claim, and by its scope finds the service in whose words everything else is said. */
static int find_service(struct visit *v, struct fault *f)
{
	const struct http_request *q = v->request;
	int r = form_parse(q->query, strlen(q->query), FRONT_PARAMETERS_MAX, &v->query, f);
	if (r < 0)
		return r;
	v->to_check = (struct sigv4_request){.method = q->method,
					     .path = q->path,
					     .query = &v->query,
					     .headers = q->headers,
					     .n_headers = q->n_headers};
	r = sigv4_parse(&v->to_check, &v->claim, f);
	if (r == -ENODATA)
		return refuse_unsigned(v, f);
	if (r < 0)
		return r;
	const struct aws_service *s = aws_service_find(v->claim.service);
	if (s && envelope_is_json_to_query(q, s))
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
				 "This cloud is asked for %s in the Query protocol, not in JSON",
				 aws_service_prefix(s));
	v->service = s;
	return 0;
}

static int check_form(struct visit *v, struct fault *f)
{
	const struct http_request *q = v->request;
	if (v->service && aws_service_protocol(v->service) == AWS_REST_XML)
		return fault_set(f, FAULT_NOT_IMPLEMENTED, "This cloud has no %s yet",
				 aws_service_prefix(v->service));
	if (q->is_too_large)
		return fault_set(f, FAULT_REQUEST_ENTITY_TOO_LARGE,
				 "The request is larger than %u bytes", FRONT_BODY_MAX);
	if (is_rest(v)) {
		struct aws_rest rest = rest_of(v);
		v->action = aws_action_route(v->service, &rest);
		v->to_check.may_be_unsigned = v->action && aws_action_may_be_unsigned(v->action);
		return 0;
	}
	if (strcmp(q->method, "POST") != 0 && strcmp(q->method, "GET") != 0)
		return fault_set(f, FAULT_METHOD_NOT_ALLOWED,
				 "The method %.16s is not allowed against this resource",
				 q->method);
	return 0;
}

static int believe(struct visit *v, struct fault *f)
{
	int r = find_service(v, f);
	if (r == 0)
		r = check_form(v, f);
	if (r < 0)
		return r;
	sigv4_sha256(v->request->body, v->request->n_body, v->to_check.body_sha256);
	r = auth_check(v->apid->config, v->apid->store, v->service, &v->to_check, &v->claim,
		       time(NULL), &v->who, f);
	if (r < 0)
		return r;
	snprintf(v->ctx.account, sizeof(v->ctx.account), "%s", v->who.account);
	snprintf(v->ctx.principal, sizeof(v->ctx.principal), "%s", v->who.principal);
	snprintf(v->ctx.region, sizeof(v->ctx.region), "%.31s", v->claim.region);
	snprintf(v->ctx.request, sizeof(v->ctx.request), "%s", v->request->id);
	return 0;
}

/* ---- decode ---- */

static int has_form_body(const struct visit *v)
{
	static const char form[] = "application/x-www-form-urlencoded";
	const char *type = sigv4_header(&v->to_check, "content-type");
	return v->request->n_body > 0 && (!type || strncasecmp(type, form, strlen(form)) == 0);
}

/* Query and body together, as AWS takes them. */
static int read_pairs(struct visit *v, struct fault *f)
{
	if (has_form_body(v)) {
		int r = form_parse(v->request->body, v->request->n_body, FRONT_PARAMETERS_MAX,
				   &v->body, f);
		if (r < 0)
			return r;
	}
	v->n_pairs = v->query.n + v->body.n;
	if (v->n_pairs > FRONT_PARAMETERS_MAX)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "The request has more than %d parameters", FRONT_PARAMETERS_MAX);
	v->pairs = calloc(v->n_pairs + 1, sizeof(*v->pairs));
	if (!v->pairs)
		return -ENOMEM;
	for (size_t i = 0; i < v->query.n; i++)
		v->pairs[i] = v->query.pair[i];
	for (size_t i = 0; i < v->body.n; i++)
		v->pairs[v->query.n + i] = v->body.pair[i];
	return 0;
}

/* Query: the parameter Action. JSON: the header X-Amz-Target, "Service_20150830.Action". */
static const char *action_name(const struct visit *v)
{
	if (aws_service_protocol(v->service) == AWS_JSON) {
		const char *target = sigv4_header(&v->to_check, "x-amz-target");
		const char *dot = target ? strrchr(target, '.') : NULL;
		return dot ? dot + 1 : NULL;
	}
	for (size_t i = 0; i < v->n_pairs; i++)
		if (strcmp(v->pairs[i].name, "Action") == 0)
			return v->pairs[i].value;
	return NULL;
}

static int find_action(struct visit *v, struct fault *f)
{
	const char *name = action_name(v);
	if (!name || !*name)
		return fault_set(f, FAULT_MISSING_ACTION,
				 "The request is missing an action or a required parameter.");
	v->action = aws_action_find(v->service, name);
	if (!v->action)
		return fault_set(f, FAULT_INVALID_ACTION,
				 "The action %.128s is not valid for this web service.", name);
	snprintf(v->method, sizeof(v->method), "%s.%s", aws_service_prefix(v->service),
		 aws_action_name(v->action));
	return 0;
}

/* Method and path said it before the signature was looked at. */
static int decode_rest(struct visit *v, json_t **ret_parameters, struct fault *f)
{
	struct aws_rest rest = rest_of(v);
	if (!v->action)
		return fault_set(f, FAULT_UNKNOWN_OPERATION, "%s has no operation %.16s %.128s",
				 aws_service_prefix(v->service), rest.method, rest.path);
	snprintf(v->method, sizeof(v->method), "%s.%s", aws_service_prefix(v->service),
		 aws_action_name(v->action));
	return aws_decode_rest(v->action, &rest, ret_parameters, f);
}

static int decode(struct visit *v, json_t **ret_parameters, struct fault *f)
{
	if (is_rest(v))
		return decode_rest(v, ret_parameters, f);
	int r = read_pairs(v, f);
	if (r == 0)
		r = find_action(v, f);
	if (r < 0)
		return r;
	if (aws_service_protocol(v->service) == AWS_JSON)
		return aws_decode_json(v->action, v->request->body, v->request->n_body,
				       ret_parameters, f);
	return aws_decode_query(v->action, v->pairs, v->n_pairs, ret_parameters, f);
}

/* ---- do ---- */

/* Whether it would have been done: after all that can be said without doing it, and never asked of
 * the owner. */
static int check_dry_run(const struct visit *v, json_t *parameters, struct fault *f)
{
	if (!aws_action_takes(v->action, "DryRun"))
		return 0;
	if (jbool(parameters, "DryRun", 0))
		return fault_set(f, FAULT_DRY_RUN_OPERATION,
				 "Request would have succeeded, but DryRun flag is set.");
	(void)json_object_del(
		parameters,
		"DryRun"); /* so that owners and ClientTokens see one spelling of false */
	return 0;
}

/* Asking twice does what asking once does: it only reads, or its owner knows it by its token. */
static int is_repeatable(const struct visit *v, const json_t *parameters)
{
	static const char *const reads[] = {"Describe", "Get", "List"};
	const char *name = aws_action_name(v->action);
	for (size_t i = 0; i < sizeof(reads) / sizeof(*reads); i++)
		if (strncmp(name, reads[i], strlen(reads[i])) == 0)
			return 1;
	return jstr(parameters, "ClientToken") != NULL || strcmp(v->request->method, "PUT") == 0;
}

/* A stream goes beside the parameters, as a file in memory that nobody can change any more. */
static int pass_stream(const struct visit *v, struct fds *fds)
{
	const struct http_request *q = v->request;
	OWN(fd_close) int fd = -1;
	if (!aws_action_streams_in(v->action))
		return 0;
	fd = memfd_create("body", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	for (size_t at = 0; at < q->n_body;) {
		ssize_t n = write(fd, q->body + at, q->n_body - at);
		if (n < 0)
			return -errno;
		at += (size_t)n;
	}
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
		return -errno;
	int r = fds_add(fds, fd);
	if (r == 0)
		(void)give(fd);
	return r;
}

/* An owner that dies with the question in its hands comes back at once: customers need not notice.
 */
static int ask_owner(struct visit *v, size_t owner, json_t *parameters, json_t **ret_reply,
		     struct fault *f)
{
	struct rpc_peer *peer = route_peer(v->apid->routes, owner);
	OWN(fds_close) struct fds out = {.n = 0};
	uint64_t start = deadline_now();
	int r = pass_stream(v, &out);
	if (r == 0)
		r = rpc_call(peer, &v->ctx, v->method, parameters, &out, ret_reply, &v->came, f);
	if (r == 0 || !fault_is(f, FAULT_SERVICE_UNAVAILABLE) || !is_repeatable(v, parameters) ||
	    deadline_now() - start > REPEAT_WITHIN_USEC)
		return r;
	*f = (struct fault){0};
	return rpc_call(peer, &v->ctx, v->method, parameters, &out, ret_reply, &v->came, f);
}

static int act(struct visit *v, json_t **ret_reply, struct fault *f)
{
	OWN(json_decref) json_t *parameters = NULL;
	struct routes *routes = v->apid->routes;
	int r = decode(v, &parameters, f);
	if (r < 0)
		return r;
	local_action local = local_find(v->method);
	int owner = local		    ? 0
		    : local_owns(v->method) ? route_lacks(v->method, f)
					    : route_find(routes, v->method, f);
	if (owner < 0)
		return owner;
	r = check_dry_run(v, parameters, f);
	if (r < 0)
		return r;
	if (!local)
		return ask_owner(v, (size_t)owner, parameters, ret_reply, f);
	struct local_call c = {
		.apid = v->apid, .who = &v->who, .ctx = &v->ctx, .method = v->method};
	return local(&c, parameters, ret_reply, f);
}

/* ---- answer ---- */

/* The body that came as a descriptor, all of it. */
static int put_stream(struct visit *v, struct http_reply *ret_reply)
{
	struct stat st;
	OWN(fd_close) int fd = fds_take(&v->came, 0);
	if (fd < 0)
		return -EPROTO;
	if (fstat(fd, &st) < 0)
		return -errno;
	ret_reply->n_body = (size_t)st.st_size;
	ret_reply->has_fd = 1;
	ret_reply->fd = give(fd);
	ret_reply->content_type = "application/octet-stream";
	return 0;
}

static int put_reply(struct visit *v, const json_t *reply, struct http_reply *ret_reply,
		     struct fault *f)
{
	int r = 0;
	ret_reply->content_type = aws_content_type(v->service);
	if (is_rest(v))
		r = aws_encode_headers(v->action, reply, &ret_reply->headers);
	if (r == 0 && aws_action_streams_out(v->action))
		r = put_stream(v, ret_reply);
	else if (r == 0)
		r = aws_encode(v->action, reply, v->request->id, &ret_reply->body,
			       &ret_reply->n_body);
	if (r < 0) {
		log_error(r, "a reply does not fit the model", "REQUEST_ID", v->request->id,
			  "ACTION", v->method, "MEMBER", r == -EPROTO ? aws_encode_where() : "");
		return fault_set(f, FAULT_INTERNAL_ERROR, "An internal error has occurred");
	}
	ret_reply->status = aws_action_status(v->action);
	return 0;
}

static void put_fault(const struct visit *v, struct fault *f, struct http_reply *ret_reply)
{
	const struct aws_service *s = v->service ? v->service : envelope_service(v->request);
	if (!fault_is_set(f))
		(void)fault_set(f, FAULT_INTERNAL_ERROR,
				"An internal error has occurred"); /* it is told, not returned */
	http_reply_clear(ret_reply);
	char type[80] = "";
	if (s && aws_service_protocol(s) == AWS_REST_JSON)
		aws_error_type(f, type);
	ret_reply->headers =
		json_pack("{s:s*, s:s*}", "x-amzn-ErrorType", *type ? type : NULL, "Allow",
			  fault_is(f, FAULT_METHOD_NOT_ALLOWED) ? "GET, POST" : NULL);
	ret_reply->status = f->status;
	ret_reply->content_type = aws_content_type(s);
	/* Without memory for a body the status still says it. */
	(void)aws_encode_error(s, f, v->request->id, &ret_reply->body, &ret_reply->n_body);
}

static void log_visit(const struct visit *v, const struct fault *f, int status)
{
	char status_text[12], usec[24];
	snprintf(status_text, sizeof(status_text), "%d", status);
	snprintf(usec, sizeof(usec), "%" PRIu64, deadline_now() - v->request->started_usec);
	log_info("request", "REQUEST_ID", v->request->id, "ACTION", v->method[0] ? v->method : "-",
		 "REGION", v->ctx.region[0] ? v->ctx.region : "-", "STATUS", status_text, "CODE",
		 f->code[0] ? f->code : "-", "USEC", usec);
}

/* Who answers and who does not: for load balancers, monitoring and the impatient. */
static void answer_health(struct apid *apid, struct http_reply *ret_reply)
{
	OWN(json_decref) json_t *daemons = routes_health(apid->routes);
	const char *name;
	json_t *state;
	int is_ok = daemons != NULL;
	json_object_foreach (daemons, name, state)
		is_ok &= strcmp(json_string_value(state), "ok") == 0;
	OWN(json_decref)
	json_t *body = json_pack("{s:s, s:s, s:O?}", "status", is_ok ? "ok" : "degraded", "version",
				 GUREUM_VERSION, "daemons", daemons);
	ret_reply->body = body ? json_dumps(body, JSON_COMPACT) : NULL;
	ret_reply->n_body = ret_reply->body ? strlen(ret_reply->body) : 0;
	ret_reply->content_type = "application/json";
	ret_reply->status = ret_reply->body ? 200 : 500;
}

void front_handle(void *apid, const struct http_request *request, struct http_reply *ret_reply)
{
	__attribute__((cleanup(own_visit_clear))) struct visit v = {.apid = apid,
								    .request = request};
	OWN(json_decref) json_t *reply = NULL;
	struct fault f = {0};
	if (strcmp(request->path, "/healthz") == 0 &&
	    (strcmp(request->method, "GET") == 0 || strcmp(request->method, "HEAD") == 0)) {
		answer_health(apid, ret_reply);
		return;
	}
	int r = believe(&v, &f);
	if (r == 0)
		r = act(&v, &reply, &f);
	if (r == 0)
		r = put_reply(&v, reply, ret_reply, &f);
	if (r < 0)
		put_fault(&v, &f, ret_reply);
	log_visit(&v, &f, ret_reply->status);
}
