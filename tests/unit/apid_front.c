/* A request's way through the front door, with daemons that are played here: routes, tags over
 * several owners, dry runs, envelopes. */
#include "tap.h"

#include <time.h>
#include <unistd.h>
#include "../../apid/front.h"
#include "../../lib/daemon.h"
#include "../../lib/fiber.h"
#include "../../lib/jsonx.h"

static char folder[] = "/tmp/apid-front-XXXXXX";
static struct apid apid;
static char key_id[64], secret[64];

/* ---- the daemons ---- */

struct played {
	const char *name;
	const char *actions, *prefixes; /* JSON lists */
	const char *missing;		/* this id does not exist */
	struct rpc_server *server;
	unsigned n_checks, n_tagged, n_calls, n_to_fail;
	char context[512];
};

static struct played hvd = {
	"hvd",
	"[\"ec2.DescribeInstances\",\"ec2.CreateTags\",\"ec2.DescribeTags\",\"ec2.RunInstances\"]",
	"[\"i\",\"ami\"]", "i-0000000000000000d"};
static struct played netd = {"netd",
			     "[\"ec2.DescribeVpcs\",\"ec2.CreateTags\",\"ec2.DescribeTags\"]",
			     "[\"vpc\"]", "vpc-0000000000000000d"};
static struct played stord = {
	"stord", "[\"ec2.DescribeVolumes\",\"ebs.GetSnapshotBlock\",\"ebs.PutSnapshotBlock\"]",
	"[\"vol\"]", ""};
static char stored[64]; /* a block */

static json_t *played_tags(const struct played *p)
{
	json_t *tags = json_array();

	for (int i = 0; i < 4; i++) {
		char id[40];

		snprintf(id, sizeof id, "%s-%d", strcmp(p->name, "hvd") == 0 ? "i" : "vpc", i);
		json_array_append_new(tags,
				      json_pack("{s:s, s:s, s:s, s:s}", "Key", "k", "ResourceId",
						id, "ResourceType", "x", "Value", "v"));
	}
	return tags;
}

static int serve(void *userdata, struct rpc_request *r, json_t **ret_reply, struct fault *f)
{
	struct played *p = userdata;

	if (strcmp(r->method, "gureum.Describe") == 0) {
		*ret_reply = json_pack("{s:o, s:o}", "Actions", json_loads(p->actions, 0, NULL),
				       "Prefixes", json_loads(p->prefixes, 0, NULL));
		return 0;
	}
	p->n_calls++;
	if (p->n_to_fail > 0 && p->n_to_fail--)
		return fault_set(f, FAULT_SERVICE_UNAVAILABLE, "died");
	snprintf(p->context, sizeof p->context, "%s %s %s", r->ctx.account, r->ctx.region,
		 r->ctx.principal);
	if (strcmp(r->method, "ec2.CreateTags") == 0) {
		if (jarray_has(json_object_get(r->parameters, "Resources"), p->missing))
			return fault_set_code(f, "InvalidX.NotFound", 400, "There is no %s",
					      p->missing);
		p->n_checks += jbool(r->parameters, "_Check", 0);
		p->n_tagged += !jbool(r->parameters, "_Check", 0);
		*ret_reply = json_object();
	} else if (strcmp(r->method, "ec2.DescribeTags") == 0) {
		*ret_reply = json_pack("{s:o}", "Tags", played_tags(p));
	} else if (strcmp(r->method, "ec2.DescribeVpcs") == 0) {
		*ret_reply = json_pack("{s:[{s:s, s:b, s:s}]}", "Vpcs", "VpcId", "vpc-1",
				       "IsDefault", 1, "_Ours", "hidden");
	} else if (strcmp(r->method, "ebs.PutSnapshotBlock") == 0) {
		int fd = fds_take(&r->in, 0);

		ok(fd >= 0, "the body came as a descriptor");
		ok(write(fd, "x", 1) < 0, "that nobody can change");
		(void)!pread(fd, stored, sizeof stored - 1, 0);
		close(fd);
		*ret_reply =
			json_pack("{s:O}", "Checksum", json_object_get(r->parameters, "Checksum"));
	} else if (strcmp(r->method, "ebs.GetSnapshotBlock") == 0) {
		FILE *file = tmpfile();

		if (strcmp(jstr_or(r->parameters, "BlockToken", ""), "AAAA") != 0) {
			fclose(file);
			return fault_set(f, FAULT_EBS_INVALID_BLOCK_TOKEN, "No such token");
		}
		fputs(stored, file);
		fflush(file);
		fds_add(&r->out, dup(fileno(file)));
		fclose(file);
		*ret_reply = json_pack("{s:i}", "DataLength", (int)strlen(stored));
	} else if (strcmp(r->method, "ec2.DescribeInstances") == 0) {
		*ret_reply = json_pack("{s:s}", "Reservations", "not a list");
	}
	return 0;
}

static void start_daemon(struct played *p)
{
	char path[128];

	snprintf(path, sizeof path, "%s/%s.sock", folder, p->name);
	(void)rpc_server_new(rpc_listen(path), serve, p, &p->server);
}

/* ---- a client ---- */

static char answer[65536], sent_headers[512];

struct sent {
	const char *method, *path, *query, *body, *type, *service;
	int is_too_large, is_unsigned, is_body_unsigned;
};

/* Signs and sends; the answer's status, its body is in `answer`. */
static int send_signed(const struct sent *s)
{
	const char *body = s->body ? s->body : "", *service = s->service ? s->service : "ec2";
	struct http_reply reply = {0};
	struct form form = {0};
	char timestamp[17], authorization[1024];
	struct aws_pair headers[] = {{"Host", "localhost"},
				     {"X-Amz-Date", timestamp},
				     {"Content-Type", s->type ? s->type : "text/plain"},
				     {"X-Amz-Data-Length", "5"},
				     {"X-Amz-Checksum", "c3Vt"},
				     {"X-Amz-Checksum-Algorithm", "SHA256"},
				     {"Authorization", authorization}};
	struct sigv4 claim = {.signed_headers = "host;x-amz-checksum;x-amz-checksum-algorithm;"
						"x-amz-data-length;x-amz-date",
			      .region = "us-east-1"};
	struct sigv4_request r = {.method = s->method ? s->method : "GET",
				  .path = s->path ? s->path : "/",
				  .query = &form,
				  .headers = headers,
				  .n_headers = s->is_unsigned ? 6 : 7};
	struct http_request q = {.method = r.method,
				 .path = r.path,
				 .query = s->query ? s->query : "",
				 .headers = headers,
				 .n_headers = r.n_headers,
				 .body = body,
				 .n_body = strlen(body),
				 .is_too_large = s->is_too_large,
				 .id = "5aaf0000-0000-4000-8000-000000000000"};

	sigv4_timestamp(time(NULL), timestamp);
	snprintf(claim.access_key, sizeof claim.access_key, "%s", key_id);
	snprintf(claim.timestamp, sizeof claim.timestamp, "%s", timestamp);
	snprintf(claim.date, sizeof claim.date, "%.8s", timestamp);
	snprintf(claim.service, sizeof claim.service, "%s", service);
	sigv4_sha256(body, strlen(body), r.body_sha256);
	if (s->is_body_unsigned)
		strcpy(r.body_sha256, "UNSIGNED-PAYLOAD");
	(void)form_parse(q.query, strlen(q.query), 20000, &form, NULL);
	(void)sigv4_sign(&r, &claim, secret, claim.signature);
	snprintf(authorization, sizeof authorization,
		 "AWS4-HMAC-SHA256 Credential=%s/%s/us-east-1/%s/aws4_request, SignedHeaders=%s, "
		 "Signature=%s",
		 key_id, claim.date, service, claim.signed_headers, claim.signature);
	form_clear(&form);
	front_handle(&apid, &q, &reply);
	snprintf(answer, sizeof answer, "%.*s", (int)reply.n_body, reply.body ? reply.body : "");
	if (reply.has_fd) {
		ssize_t n = pread(reply.fd, answer, sizeof answer - 1, 0);

		answer[n > 0 ? n : 0] = '\0';
	}
	char *dump = reply.headers ? json_dumps(reply.headers, JSON_SORT_KEYS) : NULL;

	snprintf(sent_headers, sizeof sent_headers, "%s", dump ? dump : "");
	free(dump);
	http_reply_clear(&reply);
	return reply.status;
}

static int get(const char *query)
{
	return send_signed(&(struct sent){.query = query});
}

static int get_from(const char *service, const char *query)
{
	return send_signed(&(struct sent){.service = service, .query = query});
}

#define has(text, name) ok(strstr(answer, text) != NULL, name)

/* ---- the promises ---- */

static void a_daemon_that_never_came_is_waited_for_then_said(void)
{
	is_int(get("Action=DescribeVolumes"), 503, "unavailable, not unsupported");
	has("<Code>ServiceUnavailable</Code>", "its code");
	is_int(send_signed(&(struct sent){.path = "/healthz", .is_unsigned = 1}), 200,
	       "health is told all the same");
	has("\"stord\":\"away\"", "and who is away");
	is_int(get("Action=DescribeVpcs"), 200, "others are not held up");
	start_daemon(&stord);
	is_int(get("Action=DescribeVolumes"), 200, "it came");
}

static void an_action_goes_to_its_owner(void)
{
	is_int(get("Action=DescribeVpcs&Version=2016-11-15"), 200, "answered");
	has("<vpcId>vpc-1</vpcId>", "in AWS's words");
	has("<requestId>5aaf0000-", "with the request id");
	ok(!strstr(answer, "hidden"), "ours stays ours");
	is_str(netd.context, "123456789012 us-east-1 arn:aws:iam::123456789012:root",
	       "the owner knows who asks");
	is_int(send_signed(&(struct sent){.method = "POST",
					  .body = "Action=DescribeVpcs",
					  .type = "application/x-www-form-urlencoded"}),
	       200, "by POST as well");
}

static void what_nobody_owns_is_told_apart(void)
{
	is_int(get("Action=DescribeLaunchTemplates"), 400, "AWS has it");
	has("<Code>UnsupportedOperation</Code>", "we do not");
	is_int(get("Action=MakeCoffee"), 400, "AWS lacks it");
	has("<Code>InvalidAction</Code>", "so do we");
	is_int(get("Version=2016-11-15"), 400, "none");
	has("<Code>MissingAction</Code>", "is missing");
	is_int(get("Action=DescribeVpnGateways"), 200, "what a box does not have");
	has("<vpnGatewaySet/>", "is empty");
	is_int(get_from("sts", "Action=GetSessionToken"), 400, "a service of ours");
	has("<ErrorResponse", "in its own envelope");
}

static void parameters_are_checked_before_anybody_is_asked(void)
{
	unsigned before = hvd.n_calls;

	is_int(get("Action=RunInstances&MinCount=1"), 400, "refused");
	has("<Code>MissingParameter</Code>", "one is missing");
	is_int(get("Action=RunInstances&MinCount=x&MaxCount=1"), 400, "refused");
	is_int(get("Action=RunInstances&MinCount=1&MaxCount=1&Colour=red"), 400, "refused");
	has("<Code>UnknownParameter</Code>", "one is unknown");
	is_int(get("Action=RunInstances&MinCount=1&MaxCount=1&ImageId=ami-1&DryRun=true"), 412,
	       "dry");
	has("<Code>DryRunOperation</Code>", "it would have");
	is_int(hvd.n_calls, before, "nobody was asked");
	is_int(get("Action=RunInstances&MinCount=1&MaxCount=1&ImageId=ami-1&DryRun=false"), 200,
	       "not dry");
	is_int(hvd.n_calls, before + 1, "asked");
}

static void a_reply_that_does_not_fit_is_our_own_fault(void)
{
	is_int(get("Action=DescribeInstances"), 500, "500");
	has("<Code>InternalError</Code>", "said in AWS's words");
}

static void what_can_be_asked_twice_is_asked_twice(void)
{
	netd.n_to_fail = 1;
	is_int(get("Action=DescribeVpcs"), 200, "a read");
	netd.n_to_fail = 2;
	is_int(get("Action=DescribeVpcs"), 503, "but not three times");
	hvd.n_to_fail = 1;
	is_int(get("Action=RunInstances&MinCount=1&MaxCount=1&ImageId=ami-1"), 503,
	       "not what makes things");
	hvd.n_to_fail = 1;
	is_int(get("Action=RunInstances&MinCount=1&MaxCount=1&ImageId=ami-1&ClientToken=t"), 200,
	       "unless its owner knows it again");
}

static void tags_go_to_the_owners_of_the_ids(void)
{
	is_int(get("Action=CreateTags&ResourceId.1=i-1&Tag.1.Key=a"), 200, "one owner");
	ok(hvd.n_checks == 0 && hvd.n_tagged == 1, "is not asked first");
	is_int(get("Action=CreateTags&ResourceId.1=i-1&ResourceId.2=vpc-1&Tag.1.Key=a"), 200,
	       "two owners");
	ok(hvd.n_checks == 1 && netd.n_checks == 1, "are asked first");
	ok(hvd.n_tagged == 2 && netd.n_tagged == 1, "then do it");
	is_int(get("Action=CreateTags&ResourceId.1=i-1&ResourceId.2=vpc-0000000000000000d&Tag.1."
		   "Key=a"),
	       400, "one does not exist");
	is_int(hvd.n_tagged, 2, "the other is left alone");
	is_int(get("Action=CreateTags&ResourceId.1=i-1&ResourceId.2=nothing-1&Tag.1.Key=a"), 400,
	       "nobody's id");
	has("<Code>InvalidID</Code>", "its code");
	is_int(hvd.n_tagged, 2, "the other is left alone");
}

static void tags_of_all_owners_are_one_list(void)
{
	char query[512], token[128] = "";

	is_int(get("Action=DescribeTags"), 200, "answered");
	has("<resourceId>i-0</resourceId>", "hvd's");
	has("<resourceId>vpc-3</resourceId>", "netd's");
	is_int(get("Action=DescribeTags&MaxResults=5"), 200, "a page");
	ok(strstr(answer, "vpc-0") && !strstr(answer, "vpc-1"), "of five");
	const char *at = strstr(answer, "<nextToken>");

	ok(at && sscanf(at, "<nextToken>%127[^<]", token) == 1, "and a token");
	snprintf(query, sizeof query, "Action=DescribeTags&MaxResults=5&NextToken=");
	for (const char *c = token; *c; c++)
		snprintf(query + strlen(query), sizeof query - strlen(query), "%%%02X",
			 (unsigned char)*c);
	is_int(get(query), 200, "the next page");
	ok(!strstr(answer, "vpc-0") && strstr(answer, "vpc-1") && strstr(answer, "vpc-3"),
	   "is the rest");
	is_int(get("Action=DescribeTags&Filter.1.Name=resource-id&Filter.1.Value.1=i-2"), 200,
	       "filtered");
	ok(strstr(answer, "i-2") && !strstr(answer, "i-1"), "by us as well");
	is_int(get("Action=DescribeTags&Filter.1.Name=colour&Filter.1.Value.1=red"), 400,
	       "an unknown filter");
}

static void refusals_come_in_the_envelope_of_the_service(void)
{
	is_int(send_signed(&(struct sent){.query = "Action=DescribeVpcs", .is_unsigned = 1}), 403,
	       "unsigned");
	has("<Code>MissingAuthenticationToken</Code>", "its code");
	is_int(send_signed(&(struct sent){.is_too_large = 1}), 413, "too large");
	has("<Code>RequestEntityTooLarge</Code>", "its code");
	is_int(get_from("s3", ""), 501, "no S3 yet");
	has("<Code>NotImplemented</Code>", "its code");
	ok(!strstr(answer, "<Response>"), "S3's envelope");
	is_int(send_signed(&(struct sent){
		       .method = "PUT", .path = "/b/k", .service = "s3", .is_too_large = 1}),
	       501, "not even for large ones");
	is_int(send_signed(&(struct sent){.method = "DELETE", .query = "Action=DescribeVpcs"}), 405,
	       "a method that means nothing here");
	ok(strstr(sent_headers, "\"GET, POST\""), "and which ones do");
	is_int(get("Action=%zz"), 400, "a broken query");
	has("<Code>MalformedQueryString</Code>", "its code");
}

static void what_cannot_be_believed_is_refused_in_the_words_of_its_service(void)
{
	static const char path[] = "/snapshots/snap-0a/blocks", sts[] = "Version=2011-06-15&A=b",
			  old[] = "Action=DescribeVpcs&SignatureVersion=2&Signature=x";
	static const struct {
		struct sent sent;
		int status;
		const char *begins;
	} rows[] = {
		{{.service = "ebs", .path = path, .query = "a=%zz"},
		 400,
		 "{\"__type\":\"MalformedQueryString\""},
		{{.service = "sts", .query = "a=%zz"}, 400, "<ErrorResponse xmlns=\"https://sts."},
		{{.is_unsigned = 1, .path = path},
		 403,
		 "{\"__type\":\"MissingAuthenticationTokenException\""},
		{{.is_unsigned = 1, .path = path, .is_too_large = 1},
		 413,
		 "{\"__type\":\"RequestEntityTooLargeException\""},
		{{.is_unsigned = 1, .query = "X-Amz-Credential=A%2F20200101%2Fr%2Frbin%2Faws4"},
		 403,
		 "{\"__type\":\"MissingAuthenticationTokenException\""},
		{{.is_unsigned = 1, .query = sts}, 403, "<ErrorResponse xmlns=\"https://sts."},
		{{.is_unsigned = 1, .body = sts}, 403, "<ErrorResponse xmlns=\"https://sts."},
		{{.is_unsigned = 1, .body = "MyVersion=2011-06-15"}, 403, "<?xml"},
		{{.service = "kms", .type = "application/x-amz-json-1.1"},
		 403,
		 "{\"__type\":\"InvalidSignatureException\""},
		{{.service = "kms"}, 403, "<?xml"},
		{{.service = "monitoring", .type = "application/x-amz-json-1.0", .body = "{}"},
		 400,
		 "{\"__type\":\"UnsupportedOperation"},
		{{.service = "lambda", .path = "/2015-03-31/functions/"},
		 403,
		 "{\"__type\":\"InvalidSignatureException\""},
		{{.is_unsigned = 1, .query = old}, 401, "<?xml"},
		{{.is_unsigned = 1, .body = old}, 401, "<?xml"},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		is_int(send_signed(&rows[i].sent), rows[i].status, rows[i].begins);
		is_int(strncmp(answer, rows[i].begins, strlen(rows[i].begins)), 0, answer);
		ok(!strchr("{", *answer) == !strstr(sent_headers, "x-amzn-ErrorType"),
		   "the header says it too, where it is read");
	}
}

static void a_path_is_an_action_and_a_stream_is_a_descriptor(void)
{
	static const char block[] = "/snapshots/snap-0a/blocks/3";
	struct sent put = {.service = "ebs", .method = "PUT", .path = block, .body = "12345"};

	is_int(send_signed(&put), 201, "put, with the model's status");
	is_str(stored, "12345", "all of it");
	is_str(sent_headers, "{\"x-amz-Checksum\": \"c3Vt\"}", "a member in a header");
	put.is_body_unsigned = 1;
	is_int(send_signed(&put), 201, "its body may be left to TLS");
	is_int(send_signed(
		       &(struct sent){.service = "ebs", .path = block, .query = "blockToken=AAAA"}),
	       200, "got");
	is_str(answer, "12345", "the same");
	is_int(send_signed(
		       &(struct sent){.service = "ebs", .path = block, .query = "blockToken=BBBB"}),
	       400, "a refusal");
	has("\"Reason\":\"INVALID_BLOCK_TOKEN\"", "with its reason");
	is_str(sent_headers, "{\"x-amzn-ErrorType\": \"ValidationException\"}", "and its type");
	is_int(send_signed(&(struct sent){.service = "ebs",
					  .path = block,
					  .query = "blockToken=AAAA",
					  .is_body_unsigned = 1}),
	       400, "another action's body is signed");
	is_int(send_signed(&(struct sent){.service = "ebs", .path = "/nothing"}), 404,
	       "a path that nobody has");
	has("UnknownOperationException", "is said");
	is_int(send_signed(&(struct sent){.service = "ebs", .path = "/snapshots/snap-0a/blocks"}),
	       400, "AWS has it");
	has("UnsupportedOperation", "we do not");
}

static void who_am_i(void)
{
	is_int(get_from("sts", "Action=GetCallerIdentity&Version=2011-06-15"), 200, "answered");
	has("<Arn>arn:aws:iam::123456789012:root</Arn>", "root");
	has("<Account>123456789012</Account>", "its account");
}

static void health_needs_no_signature_and_tells_no_secret(void)
{
	is_int(send_signed(&(struct sent){.path = "/healthz", .is_unsigned = 1}), 200, "answered");
	has("\"status\":\"ok\"", "all are well");
	ok(!strstr(answer, secret) && !strstr(answer, key_id), "no secret");
}

/* ---- */

static int start(void)
{
	static const char *const owners[] = {"hvd", "netd", "stord", NULL};
	static struct config *config;
	char path[128], error[512];
	struct daemon *d = daemon_get();

	if (!mkdtemp(folder))
		return -1;
	snprintf(d->runtime_dir, sizeof d->runtime_dir, "%s", folder);
	snprintf(path, sizeof path, "%s/state.db", folder);
	if (store_open(path, 1, NULL, &apid.store) < 0 ||
	    config_load("/nonexistent", &config, error) < 0 ||
	    credentials_open(apid.store, folder, "123456789012") < 0)
		return -1;
	d->store = apid.store;
	d->config = apid.config = config;
	store_each (apid.store, "access-key", doc) {
		snprintf(key_id, sizeof key_id, "%s", doc->id);
		snprintf(secret, sizeof secret, "%s", jstr(doc->json, "SecretAccessKey"));
	}
	start_daemon(&hvd);
	start_daemon(&netd);
	apid.routes = routes_new(owners);
	rpc_peer_set_wait(daemon_peer("netd"), 200000);
	return apid.routes ? 0 : -1;
}

static int is_over;

/* The routes go on asking their daemons when the test ends: fibers that are abandoned in a wait, as
 * at a daemon's end, run no owners. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}

static void run_all(void *arg)
{
	if (start() < 0)
		exit(1);
	RUN(a_daemon_that_never_came_is_waited_for_then_said);
	RUN(an_action_goes_to_its_owner);
	RUN(what_nobody_owns_is_told_apart);
	RUN(parameters_are_checked_before_anybody_is_asked);
	RUN(a_reply_that_does_not_fit_is_our_own_fault);
	RUN(what_can_be_asked_twice_is_asked_twice);
	RUN(tags_go_to_the_owners_of_the_ids);
	RUN(tags_of_all_owners_are_one_list);
	RUN(refusals_come_in_the_envelope_of_the_service);
	RUN(what_cannot_be_believed_is_refused_in_the_words_of_its_service);
	RUN(a_path_is_an_action_and_a_stream_is_a_descriptor);
	RUN(who_am_i);
	RUN(health_needs_no_signature_and_tells_no_secret);
	(void)arg;
	is_over = 1;
}

static void clean_up(void)
{
	static const char *const names[] = {"state.db",		"state.db-wal", "state.db-shm",
					    "root-credentials", "hvd.sock",	"netd.sock",
					    "stord.sock"};
	char path[128];

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(path, sizeof path, "%s/%s", folder, names[i]);
		(void)unlink(path);
	}
	(void)rmdir(folder);
}

int main(void)
{
	sd_event *loop = NULL;

	if (!freopen("/dev/null", "w", stderr) || sd_event_default(&loop) < 0 ||
	    fiber_start(loop, 1) < 0 || fiber_spawn(run_all, loop) < 0)
		return 1;
	while (!is_over && sd_event_run(loop, UINT64_MAX) >= 0)
		;
	routes_free(apid.routes);
	rpc_server_free(hvd.server);
	rpc_server_free(netd.server);
	rpc_server_free(stord.server);
	while (sd_event_run(loop, 20000) >
	       0) /* the connections see that their other ends are closed */
		;
	fiber_stop();
	sd_event_unref(loop);
	store_free(apid.store);
	clean_up();
	return tests_done();
}
