/*
 * What netd's API rooms share. Each room owns its kinds of documents and the actions on them; a
 * room that needs another's resource asks by the calls below. All of them only write into the
 * call's transaction: the kernel follows by kernel_touch() (see kernel.h).
 *
 * Private members, besides those that kernel.h tells of:
 *	vpc: _DefaultGroup, _DefaultAcl: ids of what was born with it and cannot be deleted
 *	security-group: _Rules: ids of its rules in order, so that nobody searches all rules. Who
 *		changes a rule replaces its group's document, too, be it with a copy: plans go by it
 *	network-interface: _PublicAtLaunch: it got its public address at launch, and gets a new one
 *		at each start; _IsReleased: its instance is stopped, and it has none. Tags are kept
 *		in "Tags" as everywhere and shown as AWS's TagSet.
 *	natgateway, and the elements of its interface's PrivateIpAddresses: see nat-gateway-address.h
 */
#pragma once

#include "action.h"
#include "cidr.h"
#include "daemon.h"
#include "id.h"
#include "jsonx.h"
#include "kernel.h"
#include "own.h"
#include "tags.h"

/* AWS's default quotas. Those of elastic addresses are settings: ElasticIps, NatGatewayElasticIps. */
enum {
	LIMIT_GROUPS_PER_REGION = 2500,
	LIMIT_RULES_PER_GROUP = 60, /* each way, IPv4 and IPv6 counted apart */
	LIMIT_GROUPS_PER_INTERFACE = 5,
	LIMIT_INTERFACES_PER_REGION = 20000, /* AWS: 5,000, which a region grows with its account */
	LIMIT_VPCS_PER_REGION = 5,
	LIMIT_CIDRS_PER_VPC = 5,	     /* of each family */
	LIMIT_DHCP_OPTIONS_PER_REGION = 500, /* ours: AWS names none */
	LIMIT_GATEWAYS_PER_REGION = 5,
	LIMIT_ENDPOINTS_PER_REGION = 20, /* of the type Gateway */
	LIMIT_PEERINGS_PER_VPC = 50,
	LIMIT_PEERING_REQUESTS = 25, /* that wait, of one VPC */
	LIMIT_SUBNETS_PER_VPC = 200,
	LIMIT_ROUTE_TABLES_PER_VPC = 200,
	LIMIT_ROUTES_PER_TABLE = 50,
	LIMIT_PREFIX_LISTS_PER_REGION = 100,
	LIMIT_ENTRIES_PER_PREFIX_LIST = 1000,
	LIMIT_ACLS_PER_VPC = 200,
	LIMIT_ENTRIES_PER_ACL = 20, /* each way, IPv4 and IPv6 counted apart */
	LIMIT_FLOW_LOGS_PER_RESOURCE = 2,
	LIMIT_ADDRESSES_PER_INTERFACE = 50,
	LIMIT_DESCRIPTION = 255, /* of an interface, bytes; ours: AWS names none */
	LIMIT_NAT_GATEWAYS_PER_ZONE = 5,
	LIMIT_ADDRESSES_PER_NAT_GATEWAY = 8, /* elastic ones: see NatGatewayElasticIps */
	LIMIT_RESERVATIONS_PER_SUBNET = 100, /* ours: AWS names none */
	LIMIT_ENDED_PEERINGS = 200,	     /* still shown, of a requester; ours */
};

/* A kind of document and how AWS speaks of it. */
struct kind {
	const char *name;   /* in the store; also AWS's resource type */
	const char *prefix; /* of its ids */
	const char *noun;   /* "vpc ID": The vpc ID 'vpc-…' does not exist */
	enum fault_kind malformed, not_found;
};
extern const struct kind kind_vpc, kind_subnet, kind_route_table, kind_internet_gateway,
	kind_network_acl, kind_dhcp_options, kind_security_group, kind_security_group_rule,
	kind_network_interface, kind_elastic_ip, kind_prefix_list, kind_vpc_endpoint,
	kind_vpc_peering_connection, kind_nat_gateway, kind_flow_log, kind_egress_only_gateway,
	kind_subnet_cidr_reservation;

/* The caller's document of this kind; NULL id: MissingParameter in the name of `parameter`. */
int kind_get(const struct call *c, const struct kind *k, const char *parameter, const char *id,
	     const struct doc **ret_doc, struct fault *f);
/* The same by a parameter that holds the id. */
int kind_get_parameter(const struct call *c, const struct kind *k, json_t *parameters,
		       const char *parameter, const struct doc **ret_doc, struct fault *f);
/* The tags that a new thing of the kind is to get; those of another kind are refused. A new
 * reference. */
int kind_tags(const struct kind *k, json_t *parameters, json_t **ret_tags, struct fault *f);
/* How many documents of the kind the caller has in the region. */
size_t kind_count(const struct call *c, const struct kind *k);
/* How many a VPC has. */
size_t kind_count_in_vpc(const struct call *c, const struct kind *k, const char *vpc_id);
/* The caller's document of the kind that has a row with this text in this member of its list, and
 * where; NULL: none has. */
const struct doc *kind_find_row(const struct call *c, const char *kind, const char *list,
				const char *member, const char *value, size_t *ret_at);
/* The same of the parameter AssociationId in a list "Associations": `member` holds it. */
int kind_find_association(const struct call *c, const struct kind *k, json_t *parameters,
			  const char *member, const struct doc **ret_doc, size_t *ret_at,
			  struct fault *f);
/* Replaces the document by one without this row. */
int kind_drop_row(const struct call *c, const struct doc *d, const char *list, size_t at);
/* The document belongs to the caller's account and region. */
int is_callers(const struct call *c, const struct doc *d);
/* The member has this text (never true for NULL). */
int jis(const json_t *object, const char *name, const char *text);
/* Puts a new document of the caller's. `json` is taken over. */
int put_new(const struct call *c, const struct kind *k, const char *id, json_t *json);
/* "arn:aws:ec2:us-east-1:123456789012:subnet/subnet-…" in the request's region (a new reference);
 * `account` is the owner's. */
json_t *arn_new(const struct call *c, const char *account, const char *type, const char *id);
/* A new reference to the tags, or an empty list: for json_pack's "o". */
json_t *tags_or_none(json_t *tags);
/* Makes what was written durable, then waits until packets of the VPC feel it. */
int call_apply(const struct call *c, const char *vpc_id);
/* {"Return": true}, what AWS answers where there is nothing to say. */
json_t *reply_true(void);

/* vpc.c: the default VPC of the caller's region, NULL if none. */
const struct doc *vpc_default(const struct call *c);
/* VpcId of the parameters, or the default VPC; VPCIdNotSpecified when there is none. */
int vpc_get_or_default(const struct call *c, json_t *parameters, const struct doc **ret_vpc,
		       struct fault *f);

/* What a new VPC is born with. */
struct vpc_birth {
	struct cidr cidr;
	int is_default;
	const char *tenancy;
	json_t *tags;			 /* borrowed; NULL: none */
	char ipv6_block[CIDR6_TEXT_MAX]; /* "": none */
	char vpc_id[ID_MAX], main_table_id[ID_MAX];
};
/* Puts the VPC, its main route table, default group and default ACL; the ids are filled. */
int vpc_make(const struct call *c, struct vpc_birth *b, struct fault *f);

/* subnet.c: puts a subnet and its ACL association. `vpc` as the transaction would leave it. */
struct subnet_birth {
	const char *vpc_id, *zone;
	const json_t *vpc;
	struct cidr cidr;
	char ipv6_block[CIDR6_TEXT_MAX]; /* "": none */
	int index, is_default;
	json_t *tags; /* borrowed; NULL: none */
	char subnet_id[ID_MAX];
};
int subnet_make(const struct call *c, struct subnet_birth *b, struct fault *f);
/* The default subnet of the zone (NULL: of the first zone that has one). */
int subnet_default(const struct call *c, const char *zone, const struct doc **ret_subnet,
		   struct fault *f);
const struct doc *subnet_next_in_vpc(const struct call *c, const char *vpc_id,
				     const struct doc *after);

/* route_table.c: puts a table with the local routes of the blocks ([{CidrBlock},
 * {Ipv6CidrBlock}]). */
int route_table_make(const struct call *c, const char *vpc_id, const json_t *blocks, int is_main,
		     json_t *tags, char ret_id[static ID_MAX]);
/* The member of a route that holds this destination: IPv4's or IPv6's. */
const char *route_member(const char *destination);
/* Appends a route to a table's JSON, which the caller puts. */
int route_append(json_t *table, const char *destination, const char *gateway_id,
		 const char *origin);
/* The state of routes through this gateway becomes `state` in every table of the VPC. */
int routes_mark(const struct call *c, const char *vpc_id, const char *gateway_id,
		const char *state);

int route_table_is_main(const json_t *table);
/* Takes the subnet out of the table that it is associated with, if any. */
int route_table_forget_subnet(const struct call *c, const char *subnet_id);

/* gateway.c: puts an internet gateway, attached if vpc_id. */
int gateway_make(const struct call *c, const char *vpc_id, json_t *tags,
		 char ret_id[static ID_MAX]);
/* The gateway attached to the VPC, NULL if none. */
const struct doc *gateway_of(const struct call *c, const char *vpc_id);

/* flow_log.c: drops the flow logs of a resource that is about to go. */
int flow_logs_drop(const struct call *c, const char *resource_id);

/* egress.c: the VPC's egress-only gateway, NULL if none. */
const struct doc *egress_gateway_of(const struct call *c, const char *vpc_id);

/* acl.c: puts the VPC's default ACL (`has_ipv6`: it lets IPv6 pass, too); appends an association to
 * it. */
int acl_make_default(const struct call *c, const char *vpc_id, int has_ipv6,
		     char ret_id[static ID_MAX]);
/* The VPC gets its first IPv6 block: its ACLs get the entry that denies the rest of IPv6, the
 * default one the one that lets all pass, if its number is free. */
int acls_add_ipv6(const struct call *c, const char *vpc_id);
int acl_associate(const struct call *c, const char *acl_id, const char *subnet_id);
/* Takes the subnet's association out of the ACL that has it. */
int acl_dissociate(const struct call *c, const char *subnet_id);

/* group.c: puts the VPC's default group with its rules. */
int group_make_default(const struct call *c, const char *vpc_id, int has_ipv6,
		       char ret_id[static ID_MAX], struct fault *f);
/* The VPC gets its first IPv6 block: its groups that let out all of IPv4 as they were born let out
 * all of IPv6, too. Source: VPC user guide, "Security group rules". */
int groups_add_ipv6(const struct call *c, const char *vpc_id);
/* Deletes a group and its rules. */
int group_drop(const struct call *c, const char *group_id);
/* The caller's group of this name in the VPC, NULL if none. */
const struct doc *group_by_name(const struct call *c, const char *vpc_id, const char *name);

/* attachment.c: the one interface of the caller's instance; an instance with several has to be
 * asked for by interface (InvalidInstanceID). */
int instance_interface(const struct call *c, const char *instance_id,
		       const struct doc **ret_interface, struct fault *f);
/* attachment.c: the public names of the VPC's interfaces follow its DNS attributes; `vpc` as it
 * will be. To be followed by a commit and refresh_start_all(). */
int interfaces_rename(const struct call *c, const json_t *vpc);

/* defaults.c: the caller's default VPC with subnets, gateway, routes. */
int default_vpc_make(const struct call *c, char ret_vpc_id[static ID_MAX], struct fault *f);
/* (at start) Every configured region has its default VPC, once; a zone added to the
 * configuration gets its default subnet. */
int defaults_open(struct daemon *d);
/* The region's DHCP options set that all VPCs start with, made if it is not there yet. */
int default_dhcp_options(const struct call *c, char ret_id[static ID_MAX]);

/* Every action: a row of action-table.h and a function of this form. */
#define ROW(service, action, handler, flags)                                                       \
	int handler(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f);
#include "action-table.h"
#undef ROW
