/* IMDS: the real engine on a real socket that a test's netd opens. */
#include "hvd_call.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
#include "../../hvd/imds.h"
#include "../../hvd/imds-guest.h"
#include "../../hvd/imds-http.h"
#include "hvd_imds.h"

static uint16_t port;
static int netd_is_away, n_opened, n_described, has_ipv6;

/* The address and the port, in the address's family. */
static socklen_t at(const char *address, uint16_t port_number, struct sockaddr_storage *ret_at)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)ret_at;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret_at;

	*ret_at = (struct sockaddr_storage){.ss_family = AF_INET};
	if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
		v4->sin_port = htons(port_number);
		return sizeof *v4;
	}
	ret_at->ss_family = AF_INET6;
	inet_pton(AF_INET6, address, &v6->sin6_addr);
	v6->sin6_port = htons(port_number);
	return sizeof *v6;
}

/* -errno. Both families have the same place for their port. */
static int listener(const char *address)
{
	struct sockaddr_storage a;
	socklen_t n = at(address, port, &a);
	int fd = socket(a.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (a.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&a, n) < 0 || listen(fd, 64) < 0 ||
	    getsockname(fd, (struct sockaddr *)&a, &n) < 0) {
		int error = errno;

		close(fd);
		return -error;
	}
	port = ntohs(((struct sockaddr_in *)&a)->sin_port);
	return fd;
}

/* Listeners of both families at one port: what is free in the one may be somebody's in the other.
 * Where this machine has no ::1 the second hears nobody. */
static void listeners(int ret_fds[static 2])
{
	for (int i = 0; i < 100; i++, port = 0) {
		ret_fds[0] = listener("0.0.0.0");
		ret_fds[1] = ret_fds[0] < 0 ? ret_fds[0] : listener("::1");
		has_ipv6 = ret_fds[1] != -EADDRNOTAVAIL;
		if (!has_ipv6)
			ret_fds[1] = listener("::");
		if (ret_fds[1] >= 0)
			return;
		if (ret_fds[0] >= 0)
			close(ret_fds[0]);
	}
	exit(1);
}

static int netd(void *userdata, struct rpc_request *r, json_t **ret_reply, struct fault *f)
{
	(void)userdata;
	if (netd_is_away)
		return fault_set(f, FAULT_SERVICE_UNAVAILABLE, "as told");
	if (strcmp(r->method, "gureum.OpenMetadata") == 0) {
		int fds[2];

		n_opened++;
		listeners(fds);
		if (fds_add(&r->out, fds[0]) < 0)
			exit(1);
		return fds_add(&r->out, fds[1]);
	}
	n_described++;
	fiber_sleep(20000);
	*ret_reply = strcmp(r->method, "ec2.DescribeVpcs") == 0
			     ? json_pack("{s:[O]}", "Vpcs", vpc)
			     : json_pack("{s:O}", "Subnets", subnets);
	return 0;
}

struct client {
	const char *from, *text;
	int n_silent;  /* so many connections that say nothing first */
	int hop_limit; /* of the last packet of the answer, over IPv6 */
	char got[131072];
};

static int dial(const char *from)
{
	struct sockaddr_storage me, to;
	socklen_t n = at(from, 0, &me);
	int fd = socket(me.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	at(me.ss_family == AF_INET6 ? "::1" : "127.0.0.1", port, &to);
	if (me.ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&me, n) < 0 || connect(fd, (struct sockaddr *)&to, n) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* Of the last packet of a TCP connection, 0: not known. */
static int hop_limit_of(int fd)
{
	char room[CMSG_SPACE(sizeof(int)) * 4];
	struct msghdr m = {.msg_control = room, .msg_controllen = sizeof room};
	socklen_t n = sizeof room;
	int limit = 0;

	if (getsockopt(fd, IPPROTO_IPV6, IPV6_2292PKTOPTIONS, room, &n) < 0)
		return 0;
	m.msg_controllen = n;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
		if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_HOPLIMIT)
			memcpy(&limit, CMSG_DATA(c), sizeof limit);
	return limit;
}

/* On a worker, as a guest: sends the text, reads to the end. */
static int talk(void *arg)
{
	struct client *c = arg;
	int silent[64], fd;
	size_t n = 0;
	ssize_t got;

	for (int i = 0; i < c->n_silent; i++)
		silent[i] = dial(c->from);
	if (c->n_silent)
		usleep(100000);
	fd = dial(c->from);
	if (fd >= 0 && send(fd, c->text, strlen(c->text), MSG_NOSIGNAL) >= 0)
		while (n < sizeof c->got - 1 &&
		       (got = read(fd, c->got + n, sizeof c->got - 1 - n)) > 0)
			n += (size_t)got;
	c->got[n] = '\0';
	c->hop_limit = strchr(c->from, ':') ? hop_limit_of(fd) : 0;
	if (fd >= 0)
		close(fd);
	for (int i = 0; i < c->n_silent; i++)
		close(silent[i]);
	return 0;
}

static struct client c;

static const char *http_from(const char *from, const char *text, int n_silent)
{
	c = (struct client){.from = from, .text = text, .n_silent = n_silent};
	fiber_work(talk, &c);
	return c.got;
}

static const char *get(const char *path)
{
	char text[512];

	snprintf(text, sizeof text,
		 "GET %s HTTP/1.1\r\nHost: 169.254.169.254\r\nConnection: close\r\n\r\n", path);
	return http_from("127.0.0.1", text, 0);
}

static const char *body(const char *answer)
{
	const char *at = strstr(answer, "\r\n\r\n");

	return at ? at + 4 : "(no answer)";
}

static void add_instance(void)
{
	OWN(txn_free) struct txn *t = txn_new(d->store);

	txn_put(t, "instance", "i-00000000000000001", "123456789012", "us-east-1",
		json_incref(instance));
	txn_commit(t);
}

static void guests_are_served(void)
{
	struct context ctx = {.account = "123456789012", .region = "us-east-1"};

	is_int(imds_serve(d, &ctx, VPC), 0, "served");
	is_int(imds_serve(d, &ctx, VPC), 0, "again");
	is_int(n_opened, 1, "opened once");
	is_str(body(get("/latest/meta-data/instance-id")), "i-00000000000000001", "id");
	is_str(body(get("/latest/meta-data/placement/availability-zone-id")), "use1-az2", "zone");
	ok(strstr(get("/latest/meta-data/instance-id"), "Server: EC2ws\r\n"), "who serves");
	ok(strncmp(get("/latest/meta-data/none"), "HTTP/1.1 404 Not Found\r\n", 24) == 0, "404");
	is_str(http_from("127.0.0.7", "GET /latest/ HTTP/1.0\r\n\r\n", 0), "",
	       "a stranger gets nothing");
	is_str(body(get("/latest/meta-data/network/interfaces/macs/02:00:00:00:00:01/"
			"vpc-ipv4-cidr-block")),
	       "127.0.0.0/8", "netd is asked");
	is_int(n_described, 2, "once");
	is_str(body(get("/latest/meta-data/network/interfaces/macs/02%3A00:00:00:00:01/"
			"subnet-ipv4-cidr-block")),
	       "127.0.0.0/24", "and remembered");
	is_int(n_described, 2, "not again");
}

static void tokens_work_over_the_wire(void)
{
	const char *put = http_from("127.0.0.1",
				    "PUT /latest/api/token HTTP/1.1\r\nHost: "
				    "x\r\nX-aws-ec2-metadata-token-ttl-seconds: 100\r\n"
				    "Connection: close\r\n\r\n",
				    0);
	char text[512];

	ok(strstr(put, "X-Aws-Ec2-Metadata-Token-Ttl-Seconds: 100\r\n"), "told how long");
	snprintf(text, sizeof text,
		 "GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: "
		 "x\r\nX-aws-ec2-metadata-token: %s\r\nConnection: close\r\n\r\n",
		 body(put));
	is_str(body(http_from("127.0.0.1", text, 0)), "i-00000000000000001", "good");
	ok(strstr(http_from("127.0.0.1",
			    "PUT /latest/api/token HTTP/1.1\r\nHost: "
			    "x\r\nX-aws-ec2-metadata-token-ttl-seconds: 100\r\n"
			    "X-Forwarded-For: 1.2.3.4\r\nConnection: close\r\n\r\n",
			    0),
		  " 403 "),
	   "not for proxies");
	ok(strstr(http_from("127.0.0.1",
			    "PUT /latest/api/token HTTP/1.1\r\nHost: "
			    "x\r\nX-aws-ec2-metadata-token-ttl-seconds: 9\r\nContent-Length: 0\r\n"
			    "Connection: close\r\n\r\n",
			    0),
		  " 200 "),
	   "an empty body is fine");
}

static void set_option(const char *name, const char *value)
{
	json_object_set_new(json_object_get(instance, "MetadataOptions"), name, json_string(value));
}

/* What is in the store is this very object. */
static void ipv6_is_served_where_it_is_enabled(void)
{
	static const char ask[] = "GET /latest/meta-data/instance-id HTTP/1.0\r\n\r\n",
			  put[] = "PUT /latest/api/token HTTP/1.0\r\n"
				  "X-aws-ec2-metadata-token-ttl-seconds: 100\r\n\r\n",
			  put_and_get[] = "PUT /latest/api/token HTTP/1.1\r\nHost: x\r\n"
					  "X-aws-ec2-metadata-token-ttl-seconds: 100\r\n\r\n"
					  "GET /latest/meta-data/instance-id HTTP/1.0\r\n\r\n";

	json_t *eni = json_array_get(json_object_get(instance, "NetworkInterfaces"), 0);

	if (!has_ipv6) {
		skip("this machine has no ::1");
		return;
	}
	json_object_set_new(eni, "Ipv6Addresses", json_pack("[{s:s}]", "Ipv6Address", "::1"));
	is_str(http_from("::1", ask, 0), "", "nothing is said where nobody asked for it");
	set_option("HttpProtocolIpv6", "enabled");
	is_str(body(http_from("::1", ask, 0)), "i-00000000000000001", "enabled");
	is_int(c.hop_limit, 64, "from anywhere");
	ok(strstr(http_from("::1", put, 0), "X-Aws-Ec2-Metadata-Token-Ttl-Seconds: 100\r\n"),
	   "a token, too");
	is_int(c.hop_limit, 2, "which travels no further than it may");
	ok(strstr(http_from("::1", put_and_get, 0), "i-00000000000000001"),
	   "and an answer after it");
	is_int(c.hop_limit, 2, "does not take it along when it is sent again");
	set_option("HttpEndpoint", "disabled");
	ok(strstr(http_from("::1", ask, 0), " 403 "), "without an endpoint it is forbidden");
	set_option("HttpEndpoint", "enabled");
	json_object_set_new(instance, "InstanceType", json_string("t2.micro"));
	is_str(http_from("::1", ask, 0), "", "nothing is said to types before Nitro");
	json_object_set_new(instance, "InstanceType", json_string("t3.micro"));
	set_option("HttpProtocolIpv6", "disabled");
	is_str(http_from("::1", ask, 0), "", "disabled again");
}

/* So many requests on one connection; the last one closes it. */
static const char *many(int n)
{
	static char text[65536];
	size_t at = 0;

	for (int i = 1; i <= n; i++)
		at += (size_t)snprintf(text + at, sizeof text - at,
				       "GET /latest/meta-data/ami-id HTTP/1.1\r\nHost: x\r\n%s\r\n",
				       i == n ? "Connection: close\r\n" : "");
	return text;
}

static int count(const char *text, const char *what)
{
	int n = 0;

	while ((text = strstr(text, what))) {
		n++;
		text += strlen(what);
	}
	return n;
}

static void hostile_guests_meet_limits(void)
{
	static char big[20000];
	int n;

	ok(strstr(http_from("127.0.0.1", "nonsense\r\n\r\n", 0), " 200 ") == NULL, "nonsense");
	n = snprintf(big, sizeof big, "GET /latest/ HTTP/1.1\r\nHost: x\r\nX-Long: ");
	memset(big + n, 'a', sizeof big - (size_t)n - 1);
	ok(!strstr(http_from("127.0.0.1", big, 0), " 200 "), "headers of 20 kB");
	n = snprintf(big, sizeof big,
		     "POST /latest/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
	memset(big + n, 'a', sizeof big - (size_t)n - 1);
	ok(!strstr(http_from("127.0.0.1", big, 0), " 200 "), "a body");
	is_str(http_from("127.0.0.1", "GET /latest/ HTTP/1.0\r\n\r\n", 20), "",
	       "the 21st connection");
	is_int(count(http_from("127.0.0.1", many(IMDS_GUEST_BURST + 20), 0), "HTTP/1.1 200"),
	       IMDS_GUEST_BURST + 20, "pipelined requests");
	for (int i = 0; i < 6000 && imds_http_count() > 0; i++)
		fiber_sleep(10000);
	is_int(imds_http_count(), 0, "none is left");
	fiber_sleep(100000); /* the guest has debts after that */
	is_str(body(get("/latest/meta-data/instance-id")), "i-00000000000000001", "still served");
}

static void a_guest_in_a_hurry_waits(void)
{
	struct imds_guest *g = imds_guest_enter("vpc-x", "10.0.0.1", 1000000),
			  *more[IMDS_GUEST_CONNECTIONS_MAX] = {g};
	uint64_t delay = 0;
	int n = 0, i;

	ok(g, "comes in");
	while (imds_guest_delay_usec(g, 1000000) == 0 && n < 10000)
		n++;
	is_int(n, IMDS_GUEST_BURST - 1, "a burst");
	for (i = 0; i < 100; i++)
		delay = imds_guest_delay_usec(g, 1000000);
	is_int(delay, 101 * 1000000 / IMDS_GUEST_RATE, "then as the rate says");
	ok(!imds_guest_enter("vpc-x", "10.0.0.1", 1000000), "no new connection while in debt");
	struct imds_guest *other = imds_guest_enter("vpc-y", "10.0.0.1", 1000000);

	ok(other && other != g, "the same address elsewhere is another guest");
	is_int(imds_guest_delay_usec(g, 100000000), 0, "time heals");
	for (i = 1; i < IMDS_GUEST_CONNECTIONS_MAX; i++)
		more[i] = imds_guest_enter("vpc-x", "10.0.0.1", 100000000);
	ok(more[i - 1] == g, "sixteen connections");
	ok(!imds_guest_enter("vpc-x", "10.0.0.1", 100000000), "not seventeen");
	for (i = 0; i < IMDS_GUEST_CONNECTIONS_MAX; i++)
		imds_guest_leave(more[i]);
	imds_guest_leave(other);
	is_int(imds_guest_sweep(100000000), 1, "debts are remembered without connections");
	is_int(imds_guest_sweep(1000000000), 0, "and forgotten when paid");
}

/* Of a copy: what is in the store does not change. */
static void change_state(const char *name)
{
	json_t *copy = json_deep_copy(instance);

	json_decref(instance);
	instance = copy;
	json_object_set_new(instance, "State", json_pack("{s:s}", "Name", name));
}

static void an_absent_netd_is_waited_for(void)
{
	struct context ctx = {.account = "123456789012", .region = "us-east-1"};

	change_state("terminated");
	imds_forget(d, VPC);
	is_str(body(get("/latest/meta-data/instance-id")), "i-00000000000000001",
	       "an instance lives: kept");
	add_instance();
	imds_forget(d, VPC);
	is_str(get("/latest/"), "", "the last is gone: closed");
	change_state("running");
	add_instance();
	netd_is_away = 1;
	ok(imds_serve(d, &ctx, VPC) < 0, "netd is away");
	netd_is_away = 0;
	for (int i = 0; i < 6000 && n_opened < 2; i++)
		fiber_sleep(10000);
	is_str(body(get("/latest/meta-data/instance-id")), "i-00000000000000001", "and back");
}

static void a_restart_keeps_tokens(void)
{
	const char *put = http_from("127.0.0.1",
				    "PUT /latest/api/token HTTP/1.1\r\nHost: "
				    "x\r\nX-aws-ec2-metadata-token-ttl-seconds: 100\r\n"
				    "Connection: close\r\n\r\n",
				    0);
	char text[512];

	snprintf(text, sizeof text,
		 "GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: "
		 "x\r\nX-aws-ec2-metadata-token: %s\r\nConnection: close\r\n\r\n",
		 body(put));
	imds_close(d);
	is_int(imds_open(d), 0, "opened again");
	for (int i = 0; i < 6000 && n_opened < 3; i++)
		fiber_sleep(10000);
	fiber_sleep(50000);
	is_str(body(http_from("127.0.0.1", text, 0)), "i-00000000000000001",
	       "its VPC is served, the old token is good");
	imds_close(d);
}

/* While the first instance's volumes are still being deleted. */
static void an_address_is_of_who_has_it_now(void)
{
	OWN(txn_free) struct txn *t = txn_new(d->store);
	json_t *next = json_deep_copy(instance);

	is_str(body(get("/latest/meta-data/instance-id")), "i-00000000000000001", "the first");
	json_object_set_new(next, "InstanceId", json_string("i-00000000000000002"));
	json_object_set_new(instance, "State", json_pack("{s:s}", "Name", "shutting-down"));
	txn_put(t, "instance", "i-00000000000000002", "123456789012", "us-east-1", next);
	is_int(txn_commit(t), 0, "the next has its address");
	is_str(body(get("/latest/meta-data/instance-id")), "i-00000000000000002",
	       "and does not see the first one's secrets");
	json_object_set_new(instance, "State", json_pack("{s:s}", "Name", "running"));
	txn_delete(t, "instance", "i-00000000000000002");
	is_int(txn_commit(t), 0, "gone");
}

static void tests(void)
{
	struct rpc_server *server = hvd_peer_start("netd", netd);

	make_view();
	RUN(a_guest_in_a_hurry_waits);
	if (imds_open(d) < 0)
		exit(1);
	add_instance();
	RUN(guests_are_served);
	RUN(tokens_work_over_the_wire);
	RUN(an_address_is_of_who_has_it_now);
	RUN(ipv6_is_served_where_it_is_enabled);
	RUN(hostile_guests_meet_limits);
	RUN(an_absent_netd_is_waited_for);
	RUN(a_restart_keeps_tokens);
	rpc_server_free(server);
	drop_view();
}

int main(void)
{
	return hvd_main(tests);
}
