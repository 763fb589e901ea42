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

/* AWS tells of each address how far it is, too: of the one there is, as far as the gateway. */
static json_t *present(const struct call *c, const struct doc *d)
{
	OWN(json_decref) json_t *shown = json_deep_copy(d->json);
	json_t *address = json_array_get(json_object_get(shown, "NatGatewayAddresses"), 0);
	int is_public = jis(d->json, "ConnectivityType", "public");
	int r = !shown ? -ENOMEM
		       : jset(address, "Status",
			      is_in(d, "failed")     ? "failed"
			      : !is_in(d, "pending") ? "succeeded"
			      : is_public	     ? "associating"
						     : "assigning");

	(void)c;
	if (r == 0)
		r = jset(address, "FailureMessage", jstr(d->json, "FailureMessage"));
	return r == 0 ? give(shown) : NULL;
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
	const char *code = jstr(d->json, "_FailureCode");
	int r;

	if (!t || !json)
		return -ENOMEM;
	if (is_in(d, "deleting"))
		r = jset(json, "State", "deleted");
	else if (code)
		r = fail(json, code, jstr_or(d->json, "_FailureMessage", ""));
	else
		r = jset(json, "State", "available");
	log_info("NAT gateway", "NAT_GATEWAY", d->id, "VPC", jstr_or(d->json, "VpcId", ""), "STATE",
		 jstr_or(json, "State", ""));
	if (r == 0)
		r = txn_replace(t, d, give(json));
	return r < 0 ? r : txn_commit(t);
}

/* Waits until the kernel follows the gateway's documents. */
static int wait_for_kernel(const struct doc *d)
{
	json_t *address = json_array_get(json_object_get(d->json, "NatGatewayAddresses"), 0);
	char vpc_id[ID_MAX], interface_id[ID_MAX];
	int r;

	snprintf(vpc_id, sizeof vpc_id, "%s", jstr_or(d->json, "VpcId", ""));
	snprintf(interface_id, sizeof interface_id, "%s",
		 jstr_or(address, "NetworkInterfaceId", ""));
	r = kernel_sync(vpc_id, NULL);
	return r < 0 ? r : kernel_sync(interface_id, NULL);
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

		if (!d || (!is_in(d, "pending") && !is_in(d, "deleting")))
			break;
		r = wait_for_kernel(d);
		d = store_find(f->store, kind_nat_gateway.name, f->id);
		if (r == 0 && d && (is_in(d, "pending") || is_in(d, "deleting")))
			r = advance(f->store, d);
		if (r < 0)
			r = fiber_sleep(pause);
		pause = pause * 2 < PAUSE_MAX_USEC ? pause * 2 : PAUSE_MAX_USEC;
	}
	start_sweeps(f->store);
}

static void start_follow(struct store *s, const char *id)
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
		if (is_in(d, "pending") || is_in(d, "deleting"))
			start_follow(s, d->id);
	start_sweeps(s);
}

/* ---- CreateNatGateway ---- */

struct nat_birth {
	const struct doc *subnet, *vpc, *elastic; /* elastic: NULL for a private one */
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

static int elastic_check(const struct call *c, json_t *parameters, struct nat_birth *b,
			 struct fault *f)
{
	int r;

	if (b->is_private && jstr(parameters, "AllocationId"))
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "AllocationId cannot be specified for a private NAT gateway");
	if (b->is_private)
		return 0;
	r = kind_get_parameter(c, &kind_elastic_ip, parameters, "AllocationId", &b->elastic, f);
	if (r < 0)
		return r;
	if (jstr(b->elastic->json, "AssociationId"))
		return fault_set(f, FAULT_RESOURCE_ALREADY_ASSOCIATED,
				 "Elastic IP address [%s] is already associated", b->elastic->id);
	return 0;
}

static int birth_read(const struct call *c, json_t *parameters, struct nat_birth *b,
		      struct fault *f)
{
	int r = kind_get_parameter(c, &kind_subnet, parameters, "SubnetId", &b->subnet, f);

	b->is_private = strcmp(jstr_or(parameters, "ConnectivityType", "public"), "private") == 0;
	if (r == 0)
		r = kind_get(c, &kind_vpc, "VpcId", jstr(b->subnet->json, "VpcId"), &b->vpc, f);
	if (r == 0)
		r = elastic_check(c, parameters, b, f);
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

/* Its interface, with the elastic address on it; and how the gateway's document shows both. */
static int interface_make(const struct call *c, const struct nat_birth *b, const char *private_ip,
			  json_t **ret_address, struct fault *f)
{
	char description[80];
	struct node_birth n = {.subnet = b->subnet,
			       .vpc = b->vpc,
			       .node = "nat",
			       .type = "nat_gateway",
			       .description = description,
			       .owner = "NatGatewayId",
			       .owner_id = b->id,
			       .private_ip = private_ip};
	struct moved m = {0};
	int r;

	snprintf(description, sizeof description, "Interface for NAT Gateway %s", b->id);
	r = interface_make_node(c, &n, f);
	if (r == 0 && b->elastic)
		r = elastic_join(c, b->elastic, n.interface_id, n.address, &m);
	if (r < 0)
		return r;
	const json_t *elastic =
		b->elastic ? txn_look(c->txn, b->elastic->kind, b->elastic->id) : NULL;

	*ret_address = json_pack("{s:s* s:s* s:b s:s s:s s:s*}", "AllocationId",
				 b->elastic ? b->elastic->id : NULL, "AssociationId",
				 jstr(elastic, "AssociationId"), "IsPrimary", 1,
				 "NetworkInterfaceId", n.interface_id, "PrivateIp", n.address,
				 "PublicIp", jstr(elastic, "PublicIp"));
	return *ret_address ? 0 : -ENOMEM;
}

static json_t *nat_json(const struct nat_birth *b)
{
	return json_pack("{s:s s:s s:s s:s s:s s:o s:[] s:o}", "NatGatewayId", b->id, "SubnetId",
			 b->subnet->id, "VpcId", b->vpc->id, "State", "pending", "ConnectivityType",
			 b->is_private ? "private" : "public", "CreateTime", jtime_now(),
			 "NatGatewayAddresses", "Tags", tags_or_none(b->tags));
}

/* AWS makes one that is going to fail, too, and says why in its document. */
static int without_gateway(const struct nat_birth *b, json_t *json, json_t **ret_address)
{
	char message[128];
	int r = jset(json, "_FailureCode", "Gateway.NotAttached");

	snprintf(message, sizeof message, "Network %s has no Internet gateway attached",
		 b->vpc->id);
	if (r == 0)
		r = jset(json, "_FailureMessage", message);
	*ret_address = json_pack("{s:s s:b}", "AllocationId", b->elastic->id, "IsPrimary", 1);
	return r;
}

int create_nat_gateway(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	struct nat_birth b = {0};
	json_t *address = NULL;
	int r = birth_read(c, parameters, &b, f);
	OWN(json_decref) json_t *tags = b.tags;

	if (r < 0)
		return r;
	OWN(json_decref) json_t *json = nat_json(&b);

	if (!b.is_private && !gateway_of(c, b.vpc->id))
		r = without_gateway(&b, json, &address);
	else
		r = interface_make(c, &b, jstr(parameters, "PrivateIpAddress"), &address, f);
	if (r == 0 && json_array_append_new(json_object_get(json, "NatGatewayAddresses"), address))
		r = -ENOMEM;
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
	start_follow(c->store, b.id);
	return 0;
}

/* ---- DeleteNatGateway ---- */

/* Its interface goes, its elastic address stays with its owner, routes lead nowhere. */
static int unmake(const struct call *c, const struct doc *nat)
{
	json_t *address = json_array_get(json_object_get(nat->json, "NatGatewayAddresses"), 0);
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
	start_follow(c->store, nat->id);
	return 0;
}
