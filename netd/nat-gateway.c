/* NAT gateways, public and private. */
#include "nat-gateway.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "address.h"
#include "describe.h"
#include "elastic.h"
#include "fiber.h"
#include "interface.h"
#include "log.h"
#include "nat-gateway-address.h"
#include "route-target.h"

#define SHOWN_USEC     3600000000ll /* how long a deleted or failed one can be seen */
#define PAUSE_MIN_USEC 100000
#define PAUSE_MAX_USEC 30000000

static const struct filter nat_filters[] = {
	{"nat-gateway-id", "NatGatewayId"},
	{"state", "State"},
	{"subnet-id", "SubnetId"},
	{"vpc-id", "VpcId"},
	FILTER_TAGS,
	{NULL},
};

static int is_in(const struct doc *d, const char *state)
{
	return jis(d->json, "State", state);
}

static json_t *present(const struct call *c, const struct doc *d)
{
	OWN(json_decref) json_t *shown = json_deep_copy(d->json);

	(void)c;
	return shown && nat_addresses_present(d->json, nat_rows(shown)) == 0 ? give(shown) : NULL;
}

static const struct describe nat_gateways = {
	.kind = "natgateway",
	.result = "NatGateways",
	.ids = "NatGatewayIds",
	.prefix = "nat",
	.malformed = FAULT_NAT_GATEWAY_MALFORMED,
	.not_found = FAULT_NAT_GATEWAY_NOT_FOUND,
	.filters = nat_filters,
	.present = present,
};

int describe_nat_gateways(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	OWN(json_decref) json_t *asked = json_copy(parameters);
	json_t *filters = json_object_get(parameters, "Filter"); /* AWS's name, here only */

	if (!asked || (filters && json_object_set(asked, "Filters", filters) < 0))
		return -ENOMEM;
	return describe_run(c, &nat_gateways, asked, ret_reply, f);
}

int nat_gateway_is_there(const struct doc *nat)
{
	return is_in(nat, "pending") || is_in(nat, "available");
}

/* It, or one of its addresses. */
static int is_passing(const struct doc *d)
{
	return is_in(d, "pending") || is_in(d, "deleting") ||
	       (is_in(d, "available") && nat_addresses_pass(d->json));
}

/* ---- states that pass ---- */

static int64_t now_usec(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t); /* cannot fail for this clock */
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* When it is to be forgotten; INT64_MAX: not yet. */
static int64_t expiry(const struct doc *d)
{
	int64_t ended = jtime_parse(jstr_or(d->json, "DeleteTime", ""));

	if (!is_in(d, "deleted") && !is_in(d, "failed"))
		return INT64_MAX;
	return ended < 0 ? 0 : ended + SHOWN_USEC;
}

/* Forgets those whose time has come. When the next one's comes, INT64_MAX: there is none. */
static int64_t sweep(struct store *s)
{
	OWN(txn_free) struct txn *t = txn_new(s);
	int64_t now = now_usec(), next = INT64_MAX;
	int r = t ? 0 : -ENOMEM;

	store_each (s, kind_nat_gateway.name, d) {
		int64_t at = expiry(d);

		if (at > now)
			next = at < next ? at : next;
		else if (r == 0)
			r = txn_delete(t, d->kind, d->id);
	}
	if (r == 0)
		r = txn_commit(t);
	if (r < 0) {
		log_warning(r, "NAT gateways that are gone are still shown");
		return now + SHOWN_USEC;
	}
	return next;
}

/* One fiber for all: what ends later is never due before what ended earlier. */
static void run_sweeps(void *arg)
{
	static int is_running;
	struct store *s = arg;
	int64_t next;

	if (is_running)
		return;
	is_running = 1;
	while ((next = sweep(s)) != INT64_MAX) {
		int64_t now = now_usec();

		if (fiber_sleep(next > now ? (uint64_t)(next - now) : 1) < 0)
			break;
	}
	is_running = 0;
}

static void start_sweeps(struct store *s)
{
	if (fiber_spawn(run_sweeps, s) < 0)
		log_warning(-ENOMEM, "NAT gateways that are gone are still shown");
}

/* How long until there is something to be done. */
static uint64_t rest_of(const struct doc *d)
{
	return is_in(d, "available") ? nat_addresses_drain_usec(d->json) : 0;
}

/* Its own copy: the gateway may be gone when the fiber runs. */
struct follow {
	struct store *store;
	char id[ID_MAX];
};

static int fail(json_t *json, const char *code, const char *message)
{
	int r = jset(json, "State", "failed");

	if (r == 0)
		r = jset(json, "FailureCode", code);
	if (r == 0)
		r = jset(json, "FailureMessage", message);
	(void)json_object_del(json, "_FailureCode"); /* it may have failed by itself */
	(void)json_object_del(json, "_FailureMessage");
	return r < 0 ? r : jset_new(json, "DeleteTime", jtime_now());
}

/* The kernel is as it should be. */
static int advance(struct store *s, const struct doc *d)
{
	OWN(txn_free) struct txn *t = txn_new(s);
	OWN(json_decref) json_t *json = doc_edit(d);
	struct context ctx = {0};
	const struct call c = {.ctx = &ctx, .daemon = daemon_get(), .store = s, .txn = t};
	const char *code = jstr(d->json, "_FailureCode");
	int r;

	if (!t || !json)
		return -ENOMEM;
	snprintf(ctx.account, sizeof ctx.account, "%s", d->account);
	snprintf(ctx.region, sizeof ctx.region, "%s", d->region);
	if (is_in(d, "available"))
		r = nat_addresses_advance(&c, json);
	else if (is_in(d, "deleting"))
		r = jset(json, "State", "deleted");
	else if (code)
		r = fail(json, code, jstr_or(d->json, "_FailureMessage", ""));
	else
		r = jset(json, "State", "available");
	log_info("NAT gateway", "NAT_GATEWAY", d->id, "VPC", jstr_or(d->json, "VpcId", ""), "STATE",
		 jstr_or(json, "State", ""));
	if (is_in(d, "available"))
		kernel_touch(jstr_or(json, "VpcId", ""));
	if (r == 0)
		r = txn_replace(t, d, give(json));
	return r < 0 ? r : txn_commit(t);
}

int nat_gateway_wait(const json_t *nat)
{
	char vpc_id[ID_MAX], interface_id[ID_MAX];
	int r;

	snprintf(vpc_id, sizeof vpc_id, "%s", jstr_or(nat, "VpcId", ""));
	snprintf(interface_id, sizeof interface_id, "%s",
		 jstr_or(json_array_get(nat_rows(nat), 0), "NetworkInterfaceId", ""));
	r = kernel_sync(vpc_id, NULL);
	return r < 0 ? r : kernel_sync(interface_id, NULL);
}

/* A step of the gateway, if there is one to be done; `d` is of no more use. */
static int take_step(struct store *s, const struct doc *d)
{
	char id[ID_MAX];
	int r;

	snprintf(id, sizeof id, "%s", d->id);
	r = nat_gateway_wait(d->json);
	d = store_find(s, kind_nat_gateway.name, id);
	/* Meanwhile another address may have begun to go. */
	return r == 0 && d && is_passing(d) && rest_of(d) == 0 ? advance(s, d) : r;
}

/* However long that takes: who asks for the gateway sees that it is pending. What keeps the kernel
 * from following is logged by its room. */
static void run_follow(void *arg)
{
	OWN(free) struct follow *f = arg;
	uint64_t pause = PAUSE_MIN_USEC;
	int r = fiber_sleep(1); /* the request that made it commits first */

	while (r == 0) {
		const struct doc *d = store_find(f->store, kind_nat_gateway.name, f->id);

		if (!d || !is_passing(d))
			break;
		uint64_t rest = rest_of(d);

		r = rest ? fiber_sleep(rest) : take_step(f->store, d);
		if (r == 0)
			continue;
		r = fiber_sleep(pause);
		pause = pause * 2 < PAUSE_MAX_USEC ? pause * 2 : PAUSE_MAX_USEC;
	}
	start_sweeps(f->store);
}

void nat_gateway_follow(struct store *s, const char *id)
{
	struct follow *f = calloc(1, sizeof *f);

	if (f) {
		f->store = s;
		snprintf(f->id, sizeof f->id, "%s", id);
		if (fiber_spawn(run_follow, f) == 0)
			return;
		free(f);
	}
	log_warning(-ENOMEM, "the NAT gateway stays as it is until the next start", "NAT_GATEWAY",
		    id);
}

void nat_gateways_open(struct store *s)
{
	store_each (s, kind_nat_gateway.name, d)
		if (is_passing(d))
			nat_gateway_follow(s, d->id);
	start_sweeps(s);
}

/* ---- CreateNatGateway ---- */

static const struct nat_parameters secondary_parameters = {
	"SecondaryAllocationIds", "SecondaryPrivateIpAddresses", "SecondaryPrivateIpAddressCount"};

struct nat_birth {
	const struct doc *subnet, *vpc, *elastic; /* elastic: NULL for a private one */
	struct nat_wanted secondary;		  /* its places are the caller's */
	json_t *tags;				  /* the caller's */
	int is_private;
	char id[ID_MAX];
};

static size_t count_in_zone(const struct call *c, const char *zone)
{
	size_t n = 0;

	store_each (c->store, kind_nat_gateway.name, d) {
		const struct doc *subnet =
			store_find(c->store, "subnet", jstr_or(d->json, "SubnetId", ""));

		if (is_callers(c, d) && subnet && jis(subnet->json, "AvailabilityZone", zone))
			n += nat_gateway_is_there(d) || is_in(d, "deleting");
	}
	return n;
}

static int elastics_get(const struct call *c, json_t *parameters, struct nat_birth *b,
			struct fault *f)
{
	int r;

	if (b->is_private && jstr(parameters, "AllocationId"))
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "AllocationId cannot be specified for a private NAT gateway");
	r = b->is_private ? 0
			  : nat_elastic_get(c, "AllocationId", jstr(parameters, "AllocationId"),
					    &b->elastic, f);
	if (r == 0)
		r = nat_wanted_read(c, parameters, &secondary_parameters, b->is_private, 1,
				    &b->secondary, f);
	for (size_t i = 0; r == 0 && i < b->secondary.n_elastics; i++)
		if (b->secondary.elastics[i] == b->elastic)
			r = fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				      "The allocation ID '%s' is specified twice", b->elastic->id);
	return r;
}

static int birth_read(const struct call *c, json_t *parameters, struct nat_birth *b,
		      struct fault *f)
{
	int r = kind_get_parameter(c, &kind_subnet, parameters, "SubnetId", &b->subnet, f);

	b->is_private = strcmp(jstr_or(parameters, "ConnectivityType", "public"), "private") == 0;
	if (r == 0)
		r = kind_get(c, &kind_vpc, "VpcId", jstr(b->subnet->json, "VpcId"), &b->vpc, f);
	if (r == 0)
		r = elastics_get(c, parameters, b, f);
	if (r == 0)
		r = kind_tags(&kind_nat_gateway, parameters, &b->tags, f);
	if (r < 0)
		return r;
	if (count_in_zone(c, jstr_or(b->subnet->json, "AvailabilityZone", "")) >=
	    LIMIT_NAT_GATEWAYS_PER_ZONE)
		return fault_set(f, FAULT_NAT_GATEWAY_LIMIT_EXCEEDED,
				 "The maximum number of NAT gateways in the Availability Zone has "
				 "been reached.");
	id_new("nat", b->id);
	return 0;
}

/* Its interface, with the elastic addresses on it; and how the gateway's document shows both. */
static int interface_make(const struct call *c, const struct nat_birth *b, const char *private_ip,
			  json_t *rows, struct fault *f)
{
	char description[80];
	struct node_birth n = {.subnet = b->subnet,
			       .vpc = b->vpc,
			       .node = "nat",
			       .type = "nat_gateway",
			       .description = description,
			       .owner = "NatGatewayId",
			       .owner_id = b->id,
			       .private_ip = private_ip,
			       .secondary = b->secondary.places};
	const json_t *address;
	size_t i;
	int r;

	snprintf(description, sizeof description, "Interface for NAT Gateway %s", b->id);
	r = interface_make_node(c, &n, f);
	if (r < 0)
		return r;
	/* Its own reference: with each elastic address the document is another. */
	OWN(json_decref)
	json_t *addresses = json_incref(
		json_object_get(txn_look(c->txn, kind_network_interface.name, n.interface_id),
				"PrivateIpAddresses"));

	json_array_foreach (addresses, i, address)
		if (r == 0)
			r = nat_address_join(
				c,
				i == 0			       ? b->elastic
				: i <= b->secondary.n_elastics ? b->secondary.elastics[i - 1]
							       : NULL,
				n.interface_id, jstr(address, "PrivateIpAddress"), i == 0, rows);
	return r;
}

static json_t *nat_json(const struct nat_birth *b)
{
	return json_pack("{s:s s:s s:s s:s s:s s:o s:[] s:o}", "NatGatewayId", b->id, "SubnetId",
			 b->subnet->id, "VpcId", b->vpc->id, "State", "pending", "ConnectivityType",
			 b->is_private ? "private" : "public", "CreateTime", jtime_now(),
			 "NatGatewayAddresses", "Tags", tags_or_none(b->tags));
}

/* AWS makes one that is going to fail, too, and says why in its document. */
static int without_gateway(const struct nat_birth *b, json_t *json)
{
	char message[128];
	int r = jset(json, "_FailureCode", "Gateway.NotAttached");

	snprintf(message, sizeof message, "Network %s has no Internet gateway attached",
		 b->vpc->id);
	if (r == 0)
		r = jset(json, "_FailureMessage", message);
	for (size_t i = 0; i <= b->secondary.n_elastics; i++)
		if (json_array_append_new(
			    nat_rows(json),
			    json_pack("{s:s s:b}", "AllocationId",
				      (i ? b->secondary.elastics[i - 1] : b->elastic)->id,
				      "IsPrimary", i == 0)) < 0)
			r = -ENOMEM;
	return r;
}

int create_nat_gateway(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	struct nat_birth b = {0};
	int r = birth_read(c, parameters, &b, f);
	OWN(json_decref) json_t *tags = b.tags;
	OWN(json_decref) json_t *places = b.secondary.places;

	if (r < 0)
		return r;
	OWN(json_decref) json_t *json = nat_json(&b);

	if (!b.is_private && !gateway_of(c, b.vpc->id))
		r = without_gateway(&b, json);
	else
		r = interface_make(c, &b, jstr(parameters, "PrivateIpAddress"), nat_rows(json), f);
	if (r == 0)
		r = put_new(c, &kind_nat_gateway, b.id, json_incref(json));
	if (r < 0)
		return r;
	const struct doc made = {.json = json};

	*ret_reply = json_pack("{s:o s:s*}", "NatGateway", present(c, &made), "ClientToken",
			       jstr(parameters, "ClientToken"));
	if (!*ret_reply)
		return -ENOMEM;
	kernel_touch(b.vpc->id);
	nat_gateway_follow(c->store, b.id);
	return 0;
}

/* ---- DeleteNatGateway ---- */

/* Its interface goes, its elastic addresses stay with their owner, routes lead nowhere. */
static int unmake(const struct call *c, const struct doc *nat)
{
	json_t *address = json_array_get(nat_rows(nat->json), 0);
	const struct doc *interface = store_get(c->store, c->ctx, "network-interface",
						jstr_or(address, "NetworkInterfaceId", ""));
	int r = routes_mark_target(c, jstr_or(nat->json, "VpcId", ""), "NatGatewayId", nat->id,
				   "blackhole");

	if (r == 0 && interface)
		r = elastic_orphan(c, interface->json, NULL);
	if (r == 0 && interface)
		r = txn_delete(c->txn, interface->kind, interface->id);
	return r;
}

int delete_nat_gateway(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *nat;
	int r = kind_get_parameter(c, &kind_nat_gateway, parameters, "NatGatewayId", &nat, f);

	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:s}", "NatGatewayId", nat->id);
	if (!*ret_reply)
		return -ENOMEM;
	if (!nat_gateway_is_there(nat))
		return 0;
	OWN(json_decref) json_t *json = doc_edit(nat);

	r = unmake(c, nat);
	if (r == 0)
		r = jset(json, "State", "deleting");
	if (r == 0)
		r = jset_new(json, "DeleteTime", jtime_now());
	if (r == 0)
		r = txn_replace(c->txn, nat, give(json));
	if (r < 0)
		return r;
	kernel_touch(jstr_or(nat->json, "VpcId", ""));
	nat_gateway_follow(c->store, nat->id);
	return 0;
}
