/* RPC: calls, faults, descriptors, and everything that must be refused. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "fiber.h"
#include "rpc.h"
#include "tap.h"

static char path[] = "/tmp/gureum-rpc-XXXXXX/s";
static int is_over, n_begun, is_abandoned = -1;
static struct context ctx = {"123456789012", "us-east-1", "arn:x", "r-1"};

static int handler(void *userdata, struct rpc_request *r, json_t **ret_reply, struct fault *f)
{
	(void)userdata;
	if (!strcmp(r->method, "t.Echo")) {
		*ret_reply = json_pack("{s:O, s:s, s:i}", "got", r->parameters, "region",
				       r->ctx.region, "fds", (int)r->in.n);
		return 0;
	}
	if (!strcmp(r->method, "t.Open"))
		return fds_add(&r->out, open("/dev/null", O_RDONLY | O_CLOEXEC));
	if (!strcmp(r->method, "t.Count"))
		return n_begun++, 0;
	if (!strcmp(r->method, "t.Silent")) {
		is_abandoned = rpc_request_is_abandoned(r);
		while (!rpc_request_is_abandoned(r))
			(void)fiber_sleep(2000);
		return is_abandoned = 1, 0;
	}
	if (!strcmp(r->method, "t.Sleep"))
		return fiber_sleep(2000);
	if (!strcmp(r->method, "t.Odd"))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE, "'%.4s' is odd", "구름");
	if (!strcmp(r->method, "t.Big")) {
		OWN(free) char *text = malloc(RPC_MESSAGE_MAX);

		*ret_reply = json_object();
		return text ? json_object_set_new(
				      *ret_reply, "x",
				      json_stringn_nocheck(memset(text, 'x', RPC_MESSAGE_MAX),
							   RPC_MESSAGE_MAX))
			    : -ENOMEM;
	}
	return fault_set(f, FAULT_INVALID_VPC_ID_NOT_FOUND, "no %s", "such");
}

static void a_call_brings_the_reply(struct rpc_peer *p)
{
	OWN(json_decref) json_t *parameters = json_pack("{s:s}", "Name", "구름"), *reply = NULL;
	struct fault f = {0};

	is_int(rpc_call(p, &ctx, "t.Echo", parameters, NULL, &reply, NULL, &f), 0, "answered");
	is_str(json_string_value(json_object_get(json_object_get(reply, "got"), "Name")), "구름",
	       "parameters arrive");
	is_str(json_string_value(json_object_get(reply, "region")), "us-east-1",
	       "so does the context");
}

/* JSON cannot hold what is not UTF-8: the connection would end, and the customer be told that the
 * service is unavailable. */
static void a_sentence_with_half_a_character_arrives(struct rpc_peer *p)
{
	OWN(json_decref) json_t *none = json_object(), *reply = NULL;
	struct fault f = {0};

	ok(rpc_call(p, &ctx, "t.Odd", none, NULL, &reply, NULL, &f) < 0, "refused");
	is_str(f.code, "InvalidParameterValue", "as what it is");
	is_str(f.message, "'구?' is odd", "with the sentence");
}

static void a_fault_keeps_code_and_status(struct rpc_peer *p)
{
	OWN(json_decref) json_t *none = json_object(), *reply = NULL;
	struct fault f = {0};

	ok(rpc_call(p, &ctx, "t.Refuse", none, NULL, &reply, NULL, &f) < 0, "refused");
	is_str(f.code, "InvalidVpcID.NotFound", "code");
	is_int(f.status, 400, "status");
	is_str(f.message, "no such", "message");
	ok(!reply, "the result is untouched");
}

static void descriptors_travel_both_ways(struct rpc_peer *p)
{
	OWN(json_decref) json_t *none = json_object(), *reply = NULL, *opened = NULL;
	OWN(fds_close) struct fds back = {.n = 0}, out = {.n = 0};
	struct fault f = {0};
	struct stat st;

	ok(fds_add(&out, open("/dev/zero", O_RDONLY | O_CLOEXEC)) == 0, "one to send");
	is_int(rpc_call(p, &ctx, "t.Echo", none, &out, &reply, NULL, &f), 0, "sent");
	is_int((int)json_integer_value(json_object_get(reply, "fds")), 1, "arrived");
	is_int(rpc_call(p, &ctx, "t.Open", none, NULL, &opened, &back, &f), 0, "asked for one");
	ok(back.n == 1 && fstat(back.fd[0], &st) == 0 && S_ISCHR(st.st_mode), "it is open here");
}

static void a_reply_too_large_is_a_fault(struct rpc_peer *p)
{
	OWN(json_decref) json_t *none = json_object(), *reply = NULL;
	struct fault f = {0};

	ok(rpc_call(p, &ctx, "t.Big", none, NULL, &reply, NULL, &f) < 0, "refused");
	is_str(f.code, "InternalError", "by code");
	is_int(rpc_call(p, &ctx, "t.Echo", none, NULL, &reply, NULL, &f), 0,
	       "the next call is fine");
}

static void nobody_there_is_service_unavailable(void)
{
	OWN(rpc_peer_free) struct rpc_peer *p = rpc_peer_new("/nonexistent/socket");
	OWN(json_decref) json_t *none = json_object(), *reply = NULL;
	struct fault f = {0};

	rpc_peer_set_wait(p, 0);
	ok(rpc_call(p, &ctx, "t.Echo", none, NULL, &reply, NULL, &f) < 0, "refused");
	is_str(f.code, "ServiceUnavailable", "by code");
}

static void a_silent_peer_is_service_unavailable(struct rpc_peer *p)
{
	OWN(json_decref) json_t *none = json_object(), *reply = NULL;
	struct fault f = {0};

	/* Longer, where the other end was too slow to begin in time. */
	for (uint64_t usec = 50000; is_abandoned != 0 && usec < 60000000; usec *= 4)
		ok(rpc_call_within(p, usec, &ctx, "t.Silent", none, NULL, &reply, NULL, &f) < 0,
		   "refused");
	is_str(f.code, "ServiceUnavailable", "by code");
	is_int(is_abandoned, 0, "the handler was waited for when it began");
	for (int i = 0; !is_abandoned && i < 60000; i++)
		(void)fiber_sleep(1000);
	is_int(is_abandoned, 1, "and knows that it is not any more");
	is_int(rpc_call_within(p, RPC_FOREVER, &ctx, "t.Sleep", none, NULL, &reply, NULL, &f), 0,
	       "the next call is fine");
}

/* Raw: sent, and closed before the server has looked. */
static void what_nobody_waits_for_is_not_begun(struct rpc_peer *p)
{
	static const char call[] = "{\"method\":\"t.Count\"}";
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	OWN(json_decref) json_t *none = json_object();
	struct fault f = {0};

	(void)snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
	for (int is_closed = 1; is_closed >= 0; is_closed--) {
		OWN(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		OWN(json_decref) json_t *reply = NULL;

		ok(connect(fd, (struct sockaddr *)&a, sizeof a) == 0 &&
			   send(fd, call, sizeof call, 0) == sizeof call,
		   "sent");
		if (is_closed)
			(void)close(give(fd));
		else
			(void)shutdown(fd, SHUT_WR);
		is_int(rpc_call(p, &ctx, "t.Sleep", none, NULL, &reply, NULL, &f), 0, "looked");
		(void)fiber_sleep(20000);
		for (int i = 0; !is_closed && !n_begun && i < 60000; i++)
			(void)fiber_sleep(1000);
		is_int(n_begun, !is_closed,
		       is_closed ? "the caller has gone: not begun"
				 : "it only has no more to say: begun");
	}
}

/* Sends raw bytes and returns what comes back until the server closes (or answers once). */
static void raw(const char *bytes, size_t n, char *answer, size_t room)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	OWN(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t got = 0;

	(void)snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
	answer[0] = '\0';
	if (connect(fd, (struct sockaddr *)&a, sizeof a) < 0 ||
	    send(fd, bytes, n, MSG_NOSIGNAL) < 0)
		return;
	(void)shutdown(fd, SHUT_WR);
	(void)fcntl(fd, F_SETFL, O_NONBLOCK);
	while (got < room - 1) {
		ssize_t k;

		if (fiber_wait_fd(fd, 1, 5000000) < 0)
			break;
		k = read(fd, answer + got, room - 1 - got);
		if (k <= 0)
			break;
		got += (size_t)k;
	}
	answer[got] = '\0';
}

/* A call whose parameters nest so that the whole has `depth` levels; the brackets in the string are
 * none of them. */
static void nested(unsigned depth, char *answer, size_t room)
{
	char text[8192];
	int n = snprintf(text, sizeof text, "{\"method\":\"t.Echo\",\"parameters\":{\"[[\\\"{\":");

	memset(text + n, '[', depth - 2);
	memset(text + n + depth - 2, ']', depth - 2);
	n += 2 * ((int)depth - 2);
	n += snprintf(text + n, sizeof text - (size_t)n, "}}");
	raw(text, (size_t)n + 1, answer, room);
}

static void what_is_not_a_call_is_refused(void)
{
	static const char *const wrong[] = {
		"nonsense",
		"[]",
		"{\"method\":1}",
		"{\"method\":\"t.Echo\",\"parameters\":[]}",
		"{\"method\":\"t.Echo\",\"context\":3}",
		"{\"method\":\"t.Echo\",\"context\":{\"account\":7}}",
		"{\"method\":\"t.Echo\",\"context\":{\"account\":\"12345678901234567890\"}}",
		"{\"method\":\"a\",\"method\":\"b\"}",
		"{\"parameters\":{}}"};
	char answer[4096];

	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		raw(wrong[i], strlen(wrong[i]) + 1, answer, sizeof answer);
		ok(strstr(answer, "InvalidParameter") != NULL, wrong[i]);
	}
	nested(64, answer, sizeof answer);
	ok(strstr(answer, "[[[") != NULL, "64 levels of nesting are taken");
	nested(65, answer, sizeof answer);
	ok(strstr(answer, "InvalidParameter") != NULL, "65 are refused");
	nested(2000, answer, sizeof answer);
	ok(strstr(answer, "InvalidParameter") != NULL,
	   "and so are as many as would overflow a fiber's stack");
	raw("{\"method\":\"t.Ec", 14, answer, sizeof answer);
	is_str(answer, "", "a call cut off gets no answer");
}

static void everything(void *arg)
{
	struct rpc_peer *p = rpc_peer_new(path);

	(void)arg;
	a_call_brings_the_reply(p);
	a_sentence_with_half_a_character_arrives(p);
	a_fault_keeps_code_and_status(p);
	descriptors_travel_both_ways(p);
	a_reply_too_large_is_a_fault(p);
	nobody_there_is_service_unavailable();
	a_silent_peer_is_service_unavailable(p);
	what_nobody_waits_for_is_not_begun(p);
	what_is_not_a_call_is_refused();
	rpc_peer_free(p);
	is_over = 1;
}

int main(void)
{
	sd_event *loop = NULL;
	struct rpc_server *server = NULL;
	int fd;

	*strrchr(path, '/') = '\0';
	if (!mkdtemp(path))
		return 1;
	path[strlen(path)] = '/';
	if (sd_event_new(&loop) < 0 || fiber_start(loop, 1) < 0)
		return 1;
	fd = rpc_listen(path);
	ok(fd >= 0, "listening");
	is_int(rpc_listen(path), -EADDRINUSE, "a served socket is not taken away");
	ok(rpc_server_new(fd, handler, NULL, &server) == 0, "serving");
	(void)fiber_spawn(everything, NULL);
	while (!is_over)
		(void)sd_event_run(loop, UINT64_MAX);
	rpc_server_free(server);
	while (sd_event_run(loop, 20000) >
	       0) /* the connections see that their other ends are closed */
		;
	fiber_stop();
	sd_event_unref(loop);
	(void)unlink(path);
	*strrchr(path, '/') = '\0';
	(void)rmdir(path);
	return tests_done();
}
