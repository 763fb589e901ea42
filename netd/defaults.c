/* Defaults: what an account finds in each region before it made anything: a VPC in which
 * instances can be launched at once. Source: Amazon VPC user guide, "Default VPCs". */
#include "netd.h"
#include "prefix-list.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "zones.h"

#define DEFAULT_VPC_CIDR    "172.31.0.0/16"
#define DEFAULT_SUBNET_BITS 20

/* Which zones have got their default subnet once: what a customer deletes stays deleted over
 * restarts. A document of the daemon's per region: {"Zones": ["us-east-1a", …]}. */
#define KIND_SEEN "region-defaults"

int default_dhcp_options(const struct call *c, char ret_id[static ID_MAX])
{
	char domain[80] = "ec2.internal";

	store_each (c->store, "dhcp-options", d)
		if (is_callers(c, d) && jbool(d->json, "_Default", 0)) {
			snprintf(ret_id, ID_MAX, "%s", d->id);
			return 0;
		}
	if (strcmp(c->ctx->region, "us-east-1") != 0)
		snprintf(domain, sizeof domain, "%s.compute.internal", c->ctx->region);
	id_new("dopt", ret_id);
	return put_new(c, &kind_dhcp_options, ret_id,
		       json_pack("{s:s s:s s:[] s:[{s:s s:[{s:s}]} {s:s s:[{s:s}]}] s:b}",
				 "DhcpOptionsId", ret_id, "OwnerId", c->ctx->account, "Tags",
				 "DhcpConfigurations", "Key", "domain-name", "Values", "Value",
				 domain, "Key", "domain-name-servers", "Values", "Value",
				 "AmazonProvidedDNS", "_Default", 1));
}

static int default_subnets_make(const struct call *c, const struct vpc_birth *vpc, struct fault *f)
{
	int r = 0, n = zone_count(c->daemon->config);

	for (int i = 0; r == 0 && i < n; i++) {
		char zone[ZONE_NAME_MAX];
		struct subnet_birth b = {
			.vpc_id = vpc->vpc_id,
			.vpc = txn_look(c->txn, "vpc", vpc->vpc_id),
			.zone = zone,
			.cidr = cidr_part(vpc->cidr, DEFAULT_SUBNET_BITS, (uint32_t)i),
			.index = i,
			.is_default = 1,
		};

		zone_name(c->ctx->region, i, zone);
		r = subnet_make(c, &b, f);
	}
	return r;
}

int default_vpc_make(const struct call *c, char ret_vpc_id[static ID_MAX], struct fault *f)
{
	struct vpc_birth b = {.is_default = 1, .tenancy = "default"};
	char gateway_id[ID_MAX];
	int r = cidr_parse(DEFAULT_VPC_CIDR, &b.cidr);

	if (r == 0)
		r = vpc_make(c, &b, f);
	if (r == 0)
		r = gateway_make(c, b.vpc_id, NULL, gateway_id);
	if (r == 0)
		r = default_subnets_make(c, &b, f);
	if (r < 0)
		return r;
	OWN(json_decref)
	json_t *table = json_deep_copy(txn_look(c->txn, "route-table", b.main_table_id));

	r = route_append(table, "0.0.0.0/0", gateway_id, "CreateRoute");
	if (r == 0)
		r = put_new(c, &kind_route_table, b.main_table_id, give(table));
	if (r == 0)
		snprintf(ret_vpc_id, ID_MAX, "%s", b.vpc_id);
	return r;
}

/* Zones of the region that have not been seen before; `seen` learns them. */
static json_t *zones_new(const struct call *c, json_t *seen)
{
	OWN(json_decref) json_t *zones = json_array();
	json_t *old = json_object_get(seen, "Zones");

	for (int i = 0; i < zone_count(c->daemon->config); i++) {
		char zone[ZONE_NAME_MAX];

		zone_name(c->ctx->region, i, zone);
		if (!jarray_has(old, zone) &&
		    (json_array_append_new(zones, json_string(zone)) < 0 ||
		     json_array_append_new(old, json_string(zone)) < 0))
			return NULL;
	}
	return give(zones);
}

static int subnets_add(struct call *c, const json_t *zones, struct fault *f)
{
	size_t i;
	json_t *zone;

	/* One at a time: each needs to see the blocks and indexes of those before. */
	json_array_foreach (zones, i, zone) {
		OWN(json_decref) json_t *parameters = json_pack("{s:O}", "AvailabilityZone", zone);
		OWN(json_decref) json_t *reply = NULL;
		int r = create_default_subnet(c, parameters, &reply, f);

		if (r < 0 && !fault_is(f, FAULT_DEFAULT_SUBNET_ALREADY_EXISTS))
			return r;
		r = txn_commit(c->txn);
		if (r < 0)
			return r;
	}
	return 0;
}

static int region_open(struct call *c, struct fault *f)
{
	char id[64], vpc_id[ID_MAX];
	int r = 0;

	snprintf(id, sizeof id, "%s/%s", c->ctx->account, c->ctx->region);
	const struct doc *d = store_find(c->store, KIND_SEEN, id);
	OWN(json_decref) json_t *seen = d ? doc_edit(d) : json_pack("{s:[]}", "Zones");
	OWN(json_decref) json_t *zones = zones_new(c, seen);

	if (!zones)
		return -ENOMEM;
	if (json_array_size(zones) == 0)
		return 0;
	if (!d)
		r = default_vpc_make(c, vpc_id, f);
	else if (vpc_default(c))
		r = subnets_add(c, zones, f);
	if (r == 0)
		r = txn_put(c->txn, KIND_SEEN, id, "", c->ctx->region, give(seen));
	if (r == 0)
		r = txn_commit(c->txn);
	return r;
}

int defaults_open(struct daemon *d)
{
	for (const char *const *region = config_list(d->config, "Cloud", "Regions"); *region;
	     region++) {
		OWN(txn_free) struct txn *txn = txn_new(d->store);
		struct context ctx = {0};
		struct call c = {.ctx = &ctx, .daemon = d, .store = d->store, .txn = txn};
		struct fault f = {0};

		snprintf(ctx.account, sizeof ctx.account, "%s",
			 config_string(d->config, "Cloud", "Account"));
		snprintf(ctx.region, sizeof ctx.region, "%s", *region);
		int r = txn ? region_open(&c, &f) : -ENOMEM;

		if (r == 0)
			r = prefix_lists_open(&c);
		if (r == 0)
			r = txn_commit(txn);

		if (r < 0) {
			log_error(r, "the region's default network could not be made", "REGION",
				  *region, "REASON", f.message);
			return r;
		}
	}
	return 0;
}
