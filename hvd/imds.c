/* IMDS's listeners: those of each VPC, opened by netd, and what each VPC's guests may see. */
#include "imds.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <openssl/rand.h>
#include "catalog.h"
#include "fiber.h"
#include "id.h"
#include "imds-http.h"
#include "instance.h"
#include "jsonx.h"
#include "log.h"
#include "zones.h"

#define RETRY_USEC	 (3 * 1000000ull)
#define REST_USEC	 200000ull /* without free descriptors, accepting rests */
#define FRESH_USEC	 (60 * 1000000ull)
#define ACCEPTED_AT_ONCE 32

enum { LISTENER_IPV4, LISTENER_IPV6, LISTENERS }; /* in netd's order */

struct vpc {
	struct vpc *next;
	char id[ID_MAX];
	struct context ctx;
	struct listener {
		struct vpc *vpc;
		int fd; /* -1: netd has not opened it yet, or the host has no IPv6 */
		sd_event_source *io, *rest;
	} listeners[LISTENERS];
	json_t *known; /* {address: instance id}, once found; checked before it is believed */
	json_t *row, *subnets; /* netd's, and since when */
	uint64_t fetched_usec;
};

static struct {
	struct daemon *daemon;
	struct vpc *vpcs;
	struct imds_key key;
	int is_retrying;
} imds;

static uint64_t now_usec(void)
{
	uint64_t usec = 0;

	(void)sd_event_now(imds.daemon->loop, CLOCK_MONOTONIC, &usec); /* fails only on no loop */
	return usec;
}

static struct vpc *vpc_find(const char *id)
{
	struct vpc *v = imds.vpcs;

	while (v && strcmp(v->id, id) != 0)
		v = v->next;
	return v;
}

static int is_open(const struct vpc *v)
{
	return v->listeners[LISTENER_IPV4].fd >= 0;
}

static void listener_close(struct listener *l)
{
	l->io = sd_event_source_disable_unref(l->io);
	l->rest = sd_event_source_disable_unref(l->rest);
	if (l->fd >= 0)
		(void)close(l->fd); /* nothing left to do about a failed close */
	l->fd = -1;
}

static void vpc_remove(struct vpc *v)
{
	for (struct vpc **at = &imds.vpcs; *at; at = &(*at)->next)
		if (*at == v) {
			*at = v->next;
			break;
		}
	for (size_t i = 0; i < LISTENERS; i++)
		listener_close(&v->listeners[i]);
	json_decref(v->known);
	json_decref(v->row);
	json_decref(v->subnets);
	free(v);
}

/* The guest behind an address. Among thousands of instances the search is long, and a guest can ask
 * often. */
static const struct doc *guest_find(struct vpc *v, const char *address)
{
	const struct store *s = imds.daemon->store;
	const char *id = jstr(v->known, address);
	const struct doc *d = id ? store_find(s, INSTANCE_KIND, id) : NULL;

	if (d && instance_has_address(d, v->id, address))
		return d;
	d = instance_by_address(s, v->id, address);
	if (!v->known)
		v->known = json_object();
	(void)jset(v->known, address, d ? d->id : NULL); /* else it is searched again */
	return d;
}

/* Whether the instance is served at the service's address of this one's family. Source: EC2 user
 * guide, "Instance metadata": IPv6 for instances of the Nitro system that have it enabled. */
static int is_served(const struct doc *d, const char *address)
{
	const char *word = jpath_str(d->json, "MetadataOptions.HttpProtocolIpv6");
	const struct instance_type *type = instance_type_find(jstr(d->json, "InstanceType"));

	return !strchr(address, ':') ||
	       (word && strcmp(word, "enabled") == 0 && (!type || type->is_nitro));
}

/* ---- accepting ---- */

static int on_rested(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct listener *l = userdata;

	(void)source, (void)usec;
	l->rest = sd_event_source_disable_unref(l->rest);
	return sd_event_source_set_enabled(l->io, SD_EVENT_ON);
}

/* Without descriptors the listener would wake us for ever. */
static void rest(struct listener *l)
{
	if (sd_event_add_time_relative(imds.daemon->loop, &l->rest, CLOCK_MONOTONIC, REST_USEC, 0,
				       on_rested, l) >= 0)
		(void)sd_event_source_set_enabled(l->io,
						  SD_EVENT_OFF); /* fails on no living source */
}

static int address_text(const struct sockaddr_storage *a, char ret_text[static INET6_ADDRSTRLEN])
{
	const void *bytes = a->ss_family == AF_INET
				    ? (const void *)&((const struct sockaddr_in *)a)->sin_addr
				    : (const void *)&((const struct sockaddr_in6 *)a)->sin6_addr;

	return inet_ntop(a->ss_family, bytes, ret_text, INET6_ADDRSTRLEN) ? 0 : -errno;
}

static int on_listener(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	struct listener *l = userdata;

	(void)source, (void)events;
	for (int i = 0; i < ACCEPTED_AT_ONCE; i++) {
		struct sockaddr_storage peer = {0};
		socklen_t n = sizeof peer;
		char address[INET6_ADDRSTRLEN];
		const struct doc *guest = NULL;
		int got = accept4(fd, (struct sockaddr *)&peer, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (got < 0 &&
		    (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM))
			rest(l);
		if (got < 0)
			return 0;
		if (address_text(&peer, address) == 0)
			guest = guest_find(l->vpc, address);
		/* Who is no instance has nothing to see. */
		if (!guest || !is_served(guest, address))
			(void)close(got);
		else
			(void)imds_http_add(got, l->vpc->id, address); /* over a limit: closed */
	}
	return 0;
}

/* Takes the descriptor over. */
static int listener_start(struct listener *l, int fd)
{
	OWN(fd_close) int own = fd;
	int r;

	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0 ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return -errno;
	r = sd_event_add_io(imds.daemon->loop, &l->io, fd, EPOLLIN, on_listener, l);
	if (r < 0)
		return r;
	l->fd = give(own);
	return 0;
}

/* (fiber) Gets the listeners. The VPC may be forgotten, or opened by another fiber, while netd
 * answers. */
static int vpc_open(const char *id)
{
	struct vpc *v = vpc_find(id);
	OWN(json_decref) json_t *ask = json_pack("{s:s}", "VpcId", id);
	OWN(json_decref) json_t *reply = NULL;
	OWN(fds_close) struct fds fds = {0};
	struct context ctx = v->ctx;
	int r = rpc_call(daemon_peer("netd"), &ctx, "gureum.OpenMetadata", ask, NULL, &reply, &fds,
			 NULL);

	if (r < 0)
		return r;
	v = vpc_find(id);
	if (!v || is_open(v))
		return 0;
	if (fds.n == 0)
		return -EBADMSG;
	/* IPv4's last: by it the VPC is served. */
	for (size_t i = LISTENERS; r == 0 && i-- > 0;) {
		int fd = fds_take(&fds, i);

		listener_close(&v->listeners[i]);
		if (fd >= 0)
			r = listener_start(&v->listeners[i], fd);
	}
	if (r < 0)
		return r;
	log_info("metadata is served", "VPC", id);
	return 0;
}

/* The first that is not open yet. */
static const char *next_closed(char ret_id[static ID_MAX])
{
	for (struct vpc *v = imds.vpcs; v; v = v->next)
		if (!is_open(v)) {
			snprintf(ret_id, ID_MAX, "%s", v->id);
			return ret_id;
		}
	return NULL;
}

static void retry_all(void *arg)
{
	char id[ID_MAX];

	(void)arg;
	while (next_closed(id) && fiber_sleep(RETRY_USEC) == 0)
		for (struct vpc *v = imds.vpcs; v; v = v ? v->next : NULL) {
			if (is_open(v))
				continue;
			snprintf(id, sizeof id, "%s", v->id);
			(void)vpc_open(id); /* tried again */
			v = vpc_find(id);
		}
	imds.is_retrying = 0;
}

static void retry_later(void)
{
	if (imds.is_retrying)
		return;
	imds.is_retrying = 1;
	if (fiber_spawn(retry_all, NULL) < 0)
		imds.is_retrying = 0; /* the next imds_serve() tries */
}

int imds_serve(struct daemon *d, const struct context *ctx, const char *vpc_id)
{
	struct vpc *v = vpc_find(vpc_id);
	int r;

	(void)d;
	if (v && is_open(v))
		return 0;
	if (!v) {
		v = calloc(1, sizeof *v);
		if (!v)
			return -ENOMEM;
		for (size_t i = 0; i < LISTENERS; i++)
			v->listeners[i] = (struct listener){.vpc = v, .fd = -1};
		snprintf(v->id, sizeof v->id, "%s", vpc_id);
		snprintf(v->ctx.account, sizeof v->ctx.account, "%s", ctx->account);
		snprintf(v->ctx.region, sizeof v->ctx.region, "%s", ctx->region);
		v->next = imds.vpcs;
		imds.vpcs = v;
	}
	r = vpc_open(vpc_id);
	if (r < 0)
		retry_later();
	return r;
}

static int has_instance(const struct store *s, const char *vpc_id)
{
	store_each (s, INSTANCE_KIND, i)
		if (instance_state_of(i->json) != INSTANCE_TERMINATED &&
		    strcmp(jstr_or(i->json, "VpcId", ""), vpc_id) == 0)
			return 1;
	return 0;
}

void imds_forget(struct daemon *d, const char *vpc_id)
{
	struct vpc *v = vpc_find(vpc_id);

	if (!v || has_instance(d->store, vpc_id))
		return;
	imds_http_drop(vpc_id);
	vpc_remove(v);
}

/* ---- answering ---- */

/* The VPC's rows, if they are fresh: networks grow. */
static void view_network(const struct vpc *v, struct imds_view *view)
{
	if (now_usec() > v->fetched_usec + FRESH_USEC)
		return;
	view->vpc = v->row;
	view->subnets = v->subnets;
}

static int answer(const char *vpc_id, const char *address, const struct imds_request *request,
		  struct imds_reply *ret_reply)
{
	struct vpc *v = vpc_find(vpc_id);
	const struct doc *instance = v ? guest_find(v, address) : NULL;
	struct imds_view view = {0};
	const struct instance_type *type;
	const char *zone;
	char id[ZONE_ID_MAX];
	int i;

	if (!instance || !is_served(instance, address))
		return -ENOENT;
	view = (struct imds_view){.instance = instance->json,
				  .account = instance->account,
				  .region = instance->region};
	zone = jpath_str(instance->json, "Placement.AvailabilityZone");
	i = zone_index(imds.daemon->config, instance->region, zone);
	if (i >= 0) {
		zone_id(instance->region, i, id);
		view.zone_id = id;
	}
	type = instance_type_find(jstr(instance->json, "InstanceType"));
	view.hypervisor = type && !type->is_nitro ? "xen" : "nitro";
	view_network(v, &view);
	return imds_answer(&imds.key, &view, request, time(NULL), ret_reply);
}

/* (fiber) Asks netd for the VPC and its subnets. */
static int refresh(const char *vpc_id)
{
	struct vpc *v = vpc_find(vpc_id);
	OWN(json_decref) json_t *ask_vpc = json_pack("{s:[s]}", "VpcIds", vpc_id);
	OWN(json_decref)
	json_t *ask_subnets =
		json_pack("{s:[{s:s, s:[s]}]}", "Filters", "Name", "vpc-id", "Values", vpc_id);
	OWN(json_decref) json_t *vpcs = NULL;
	OWN(json_decref) json_t *subnets = NULL;
	struct context ctx;
	json_t *row, *list;
	int r;

	if (!v)
		return -ENOENT;
	ctx = v->ctx;
	r = rpc_call(daemon_peer("netd"), &ctx, "ec2.DescribeVpcs", ask_vpc, NULL, &vpcs, NULL,
		     NULL);
	if (r == 0)
		r = rpc_call(daemon_peer("netd"), &ctx, "ec2.DescribeSubnets", ask_subnets, NULL,
			     &subnets, NULL, NULL);
	row = json_array_get(json_object_get(vpcs, "Vpcs"), 0);
	list = json_object_get(subnets, "Subnets");
	v = vpc_find(vpc_id);
	if (r < 0 || !v || !row || !list)
		return r < 0 ? r : -ENOENT;
	json_decref(v->row);
	json_decref(v->subnets);
	v->row = json_incref(row);
	v->subnets = json_incref(list);
	v->fetched_usec = now_usec();
	return 0;
}

/* ---- start and end ---- */

/* The key of tokens: the store's, made once. */
static int key_load(struct daemon *d)
{
	const struct doc *secret = store_find(d->store, "_secret", "imds");
	const char *hex = secret ? jstr(secret->json, "Key") : NULL;
	OWN(txn_free) struct txn *t = NULL;
	char text[2 * IMDS_KEY_BYTES + 1];
	int r;

	if (hex && strlen(hex) == 2 * IMDS_KEY_BYTES) {
		for (int i = 0; i < IMDS_KEY_BYTES; i++)
			if (sscanf(hex + 2 * i, "%2hhx", &imds.key.bytes[i]) != 1)
				return -EUCLEAN;
		return 0;
	}
	if (RAND_bytes(imds.key.bytes, sizeof imds.key.bytes) != 1)
		return -EIO;
	for (int i = 0; i < IMDS_KEY_BYTES; i++)
		snprintf(text + 2 * i, 3, "%02x", imds.key.bytes[i]);
	t = txn_new(d->store);
	r = t ? txn_put(t, "_secret", "imds", "", "", json_pack("{s:s}", "Key", text)) : -ENOMEM;
	return r == 0 ? txn_commit(t) : r;
}

/* (fiber) A listener wherever somebody lives. */
static void serve_all(void *arg)
{
	struct daemon *d = arg;
	OWN(json_decref) json_t *vpcs = json_object();
	const char *id;
	json_t *context;
	void *next;

	store_each (d->store, INSTANCE_KIND, i)
		if (instance_state_of(i->json) != INSTANCE_TERMINATED && jstr(i->json, "VpcId"))
			(void)json_object_set_new(
				vpcs, jstr(i->json, "VpcId"),
				json_pack("[s, s]", i->account, i->region)); /* else at its start */
	json_object_foreach_safe(vpcs, next, id, context)
	{
		struct context ctx = {0};
		int r;

		snprintf(ctx.account, sizeof ctx.account, "%s",
			 json_string_value(json_array_get(context, 0)));
		snprintf(ctx.region, sizeof ctx.region, "%s",
			 json_string_value(json_array_get(context, 1)));
		r = imds_serve(d, &ctx, id);
		if (r < 0)
			log_warning(r, "metadata is not served yet", "VPC", id);
	}
}

int imds_open(struct daemon *d)
{
	static const struct imds_http_calls calls = {.answer = answer, .refresh = refresh};
	int r;

	imds.daemon = d;
	r = key_load(d);
	if (r == 0)
		r = imds_http_start(&calls);
	return r == 0 ? fiber_spawn(serve_all, d) : r;
}

void imds_close(struct daemon *d)
{
	(void)d;
	imds_http_stop();
	while (imds.vpcs)
		vpc_remove(imds.vpcs);
}
