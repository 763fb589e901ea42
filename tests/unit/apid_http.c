/* Connections: limits are told early, slow ones are cut off, waiting handlers hold nobody up. The
 * clients are a thread of their own. */
#include "tap.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include "../../apid/http.h"
#include "../../apid/listen.h"
#include "../../lib/fiber.h"

#define CONNECTIONS_MAX 100
#define BODY_MAX	4096

static uint16_t port, hasty_port; /* the hasty server gives up soon who is slow */
static int done_fd;
static unsigned n_handled;

/* Answers with what it was asked; "/slow" takes its time. */
static void handle(void *userdata, const struct http_request *r, struct http_reply *reply)
{
	(void)userdata;
	n_handled++;
	if (strcmp(r->path, "/slow") == 0)
		(void)fiber_sleep(100000);
	reply->status = r->is_too_large ? 413 : 200;
	reply->content_type = "text/plain";
	if (asprintf(&reply->body, "%s %s?%s %zu %s", r->method, r->path, r->query, r->n_body,
		     r->body) < 0)
		reply->body = NULL;
	reply->n_body = reply->body ? strlen(reply->body) : 0;
}

static int client(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons(port),
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval limit = {.tv_sec = 60};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	if (connect(fd, (struct sockaddr *)&a, sizeof a) < 0)
		exit(1);
	return fd;
}

static void send_text(int fd, const char *text, size_t n)
{
	while (n > 0) {
		ssize_t sent = send(fd, text, n, MSG_NOSIGNAL);

		if (sent <= 0)
			return; /* the server had enough: what it answered counts */
		text += sent;
		n -= (size_t)sent;
	}
}

/* Reads until the server closes; -1 when it did not within the limit. */
static int read_all(int fd, char *ret_text, size_t n)
{
	size_t at = 0;
	ssize_t got;

	while (at < n - 1 && (got = recv(fd, ret_text + at, n - 1 - at, 0)) > 0)
		at += (size_t)got;
	ret_text[at] = '\0';
	return got == 0 || errno == ECONNRESET ? 0 : -1;
}

/* One connection: what is said, and the answer up to the close. */
static int talk(const char *text, size_t n, char *ret_answer, size_t n_answer)
{
	int fd = client(), r;

	send_text(fd, text, n);
	r = read_all(fd, ret_answer, n_answer);
	close(fd);
	return r;
}

static int status_of(const char *text, size_t n)
{
	char answer[65536];
	int status = 0;

	if (talk(text, n, answer, sizeof answer) < 0)
		return -1;
	return sscanf(answer, "HTTP/1.1 %d", &status) == 1 ? status : 0;
}

#define POST	"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
#define TEXT(t) t, strlen(t)

static void a_request_is_handed_on_as_it_came(void)
{
	char answer[4096];

	(void)talk(TEXT("GET /a%20b?x=1%2b&y HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
		   answer, sizeof answer);
	ok(strstr(answer, "\r\n\r\nGET /a%20b?x=1%2b&y 0 "), "path and query still encoded");
	ok(strstr(answer, "x-amzn-RequestId: "), "with its request id");
	(void)talk(TEXT(POST "Content-Length: 5\r\n\r\nhello"), answer, sizeof answer);
	ok(strstr(answer, "POST /? 5 hello"), "a body");
	(void)talk(TEXT(POST "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"),
		   answer, sizeof answer);
	ok(strstr(answer, "POST /? 5 hello"), "in chunks");
}

static void a_connection_is_used_again(void)
{
	char answer[4096];
	const char *at = answer;
	int n = 0;

	(void)talk(TEXT("GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
			"GET /3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
		   answer, sizeof answer);
	while ((at = strstr(at, "HTTP/1.1 200")))
		n++, at++;
	is_int(n, 3, "three answers");
	ok(strstr(answer, "/1?") < strstr(answer, "/slow?") &&
		   strstr(answer, "/slow?") < strstr(answer, "/3?"),
	   "in order");
}

static void too_large_is_told_where_it_will_be_read(void)
{
	char big[BODY_MAX + 200];
	size_t n = (size_t)snprintf(big, sizeof big, POST "Content-Length: 4097\r\n\r\n");

	memset(big + n, 'x', 4097);
	is_int(status_of(big, n + 4097), 413, "by its Content-Length, when it is through");
	is_int(status_of(TEXT(POST "Content-Length: 16385\r\n\r\n")), 413,
	       "a far larger one at once");
	n = (size_t)snprintf(big, sizeof big, POST "Transfer-Encoding: chunked\r\n\r\n1001\r\n");
	is_int(status_of(TEXT(POST "Expect: 100-continue\r\nContent-Length: 99999999999\r\n\r\n")),
	       413, "without 100 Continue");
	memset(big + n, 'x', 0x1001);
	n += 0x1001;
	n += (size_t)snprintf(big + n, sizeof big - n, "\r\n0\r\n\r\n");
	is_int(status_of(big, n), 413, "in chunks, when it is over");
}

static void a_body_without_end_is_cut_off(void)
{
	char answer[4096], chunk[1024 + 16];
	size_t n = (size_t)snprintf(chunk, sizeof chunk, "400\r\n");
	int fd = client();

	memset(chunk + n, 'x', 1024);
	memcpy(chunk + n + 1024, "\r\n", 2);
	send_text(fd, TEXT(POST "Transfer-Encoding: chunked\r\n\r\n"));
	for (int i = 0; i < 64; i++)
		send_text(fd, chunk, n + 1026);
	is_int(read_all(fd, answer, sizeof answer), 0, "closed");
	close(fd);
}

static void a_long_header_is_refused(void)
{
	size_t n = 70000;
	char *text = malloc(n + 100);
	int at = sprintf(text, "GET / HTTP/1.1\r\nHost: x\r\nX: ");

	memset(text + at, 'y', n);
	sprintf(text + at + n, "\r\n\r\n");
	is_int(status_of(text, strlen(text)), 431, "a header");
	at = sprintf(text, "GET /");
	memset(text + at, 'y', n);
	sprintf(text + at + n, " HTTP/1.1\r\n\r\n");
	is_int(status_of(text, strlen(text)), 414, "a path");
	free(text);
}

static void two_lengths_are_no_request(void)
{
	unsigned before = n_handled;

	is_int(status_of(TEXT(POST "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab")), 400,
	       "two of them");
	is_int(status_of(TEXT(POST
			      "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")),
	       400, "a length and chunks");
	is_int(n_handled, before, "nobody was asked");
}

static void a_waiting_handler_holds_nobody_up(void)
{
	int slow[8];
	char answer[4096];

	for (size_t i = 0; i < 8; i++) {
		slow[i] = client();
		send_text(slow[i],
			  TEXT("GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
	}
	is_int(status_of(TEXT("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")), 200,
	       "one that does not wait");
	close(slow[0]); /* and one client goes away before its answer */
	for (size_t i = 1; i < 8; i++) {
		(void)read_all(slow[i], answer, sizeof answer);
		ok(strstr(answer, "200 OK") != NULL, "one that does");
		close(slow[i]);
	}
}

/* Sends a byte now and then: never idle for long, never done. */
static int drips_for_ever(const char *begin)
{
	int fd = client(), n = 0;
	char answer[4096];

	send_text(fd, begin, strlen(begin));
	while (n < 200 && send(fd, "a", 1, MSG_NOSIGNAL) == 1) {
		usleep(100000);
		n++;
	}
	(void)read_all(fd, answer, sizeof answer);
	close(fd);
	return n == 200;
}

static void slow_clients_are_cut_off(void)
{
	char answer[4096];

	is_int(talk("", 0, answer, sizeof answer), 0, "who says nothing");
	is_int(talk(TEXT("GET / HT"), answer, sizeof answer), 0, "who stops in the middle");
	ok(!drips_for_ever("GET / HTTP/1.1\r\nX: "), "who drips a header");
	ok(!drips_for_ever("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"),
	   "who drips a body");
}

/* More than there are places for: all that had one are given up in the same moment, and then the
 * server listens again, with nothing left to wake it. */
static void a_crowd_that_says_nothing_keeps_nobody_out(void)
{
	int fd[CONNECTIONS_MAX];
	char answer[64];
	size_t n = 0;

	for (size_t i = 0; i < CONNECTIONS_MAX; i++)
		fd[i] = client();
	for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
		n += read_all(fd[i], answer, sizeof answer) == 0;
		close(fd[i]);
	}
	is_int(n, CONNECTIONS_MAX, "they are given up");
	is_int(status_of(TEXT("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")), 200,
	       "the next one is served");
}

static void *clients(void *arg)
{
	(void)arg;
	RUN(a_request_is_handed_on_as_it_came);
	RUN(a_connection_is_used_again);
	RUN(too_large_is_told_where_it_will_be_read);
	RUN(a_body_without_end_is_cut_off);
	RUN(a_long_header_is_refused);
	RUN(two_lengths_are_no_request);
	RUN(a_waiting_handler_holds_nobody_up);
	port = hasty_port;
	RUN(slow_clients_are_cut_off);
	RUN(a_crowd_that_says_nothing_keeps_nobody_out);
	(void)eventfd_write(done_fd, 1);
	return NULL;
}

static int on_done(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	(void)source, (void)fd, (void)events;
	return sd_event_exit(userdata, 0);
}

static void addresses_are_split(void)
{
	static const struct {
		const char *text, *host, *port;
	} rows[] = {{"127.0.0.1:4566", "127.0.0.1", "4566"},
		    {"[::1]:443", "::1", "443"},
		    {"localhost:0", "localhost", "0"},
		    {":80", "", "80"},
		    {"::1:80", NULL, NULL},
		    {"host", NULL, NULL},
		    {"host:", NULL, NULL},
		    {"host:http", NULL, NULL},
		    {"host:65536", NULL, NULL}};
	char host[64], name[8];

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		int r = listen_split(rows[i].text, host, sizeof host, name, sizeof name);

		ok(rows[i].host
			   ? r == 0 && !strcmp(host, rows[i].host) && !strcmp(name, rows[i].port)
			   : r < 0,
		   rows[i].text);
	}
}

static struct http *serve(unsigned timeout_sec, uint16_t *ret_port)
{
	struct http_options options = {.listen_fd = listen_open("127.0.0.1:0"),
				       .max_connections = CONNECTIONS_MAX,
				       .timeout_sec = timeout_sec,
				       .body_max = BODY_MAX,
				       .handler = handle};
	struct http *http = NULL;
	char text[64];

	listen_name(options.listen_fd, text, sizeof text);
	*ret_port = (uint16_t)atoi(strrchr(text, ':') + 1);
	ok(http_new(&options, &http) == 0, "a server starts");
	return http;
}

int main(void)
{
	sd_event *loop = NULL;
	struct http *http, *hasty;
	pthread_t thread;

	RUN(addresses_are_split);
	done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (sd_event_default(&loop) < 0 || fiber_start(loop, 1) < 0)
		return 1;
	http = serve(60, &port);
	hasty = serve(1, &hasty_port);
	(void)sd_event_add_io(loop, NULL, done_fd, EPOLLIN, on_done, loop);
	if (pthread_create(&thread, NULL, clients, NULL) != 0)
		return 1;
	(void)sd_event_loop(loop);
	pthread_join(thread, NULL);
	http_free(http);
	http_free(hasty);
	fiber_stop();
	sd_event_unref(loop);
	return tests_done();
}
