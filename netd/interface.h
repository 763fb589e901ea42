/*
 * Network interfaces: what the rooms interface*.c and attachment.c share about kind
 * "network-interface".
 */
#pragma once

#include "netd.h"

/* The interface as DescribeNetworkInterfaces shows it: Tags as TagSet (a new reference). */
json_t *interface_present(const struct call *c, const struct doc *d);
json_t *interface_shown(const json_t *json);

/* Group ids of a request as an interface keeps them, [{GroupId, GroupName}], checked to be the
 * caller's and of the VPC; none given: the VPC's default group. `is_launch`: AWS words a group
 * of another VPC differently for instances. */
int interface_groups(const struct call *c, const json_t *vpc, json_t *group_ids, int is_launch,
		     json_t **ret_groups, struct fault *f);

/* What address_take() refused, in AWS's words; other errors as they are. */
int interface_address_fault(int r, const char *wanted, const char *subnet_id, struct fault *f);
/* An element of PrivateIpAddresses (a new reference). */
json_t *interface_address(const struct call *c, const char *address, int is_primary);

/* An interface that netd makes for something of its own, and that lives in a namespace (see node in
 * plan-internal.h): attached from birth, without groups and without a check of addresses. The
 * customer sees it, and cannot change it. */
struct node_birth {
	const struct doc *subnet, *vpc;
	const char *node; /* its kind: "nat" */
	const char *type; /* InterfaceType */
	const char *description;
	const char *owner,
		*owner_id;	   /* member of its Attachment that says whose it is, and the id */
	const char *private_ip;	   /* NULL: any */
	json_t *secondary;	   /* [{PrivateIpAddress}], without the member: any; NULL: none */
	char interface_id[ID_MAX]; /* out */
	char address[IP_TEXT_MAX]; /* out */
};
int interface_make_node(const struct call *c, struct node_birth *b, struct fault *f);
/* 0, or OperationNotPermitted: the interface is one of those. */
int interface_is_customers(const struct doc *interface, struct fault *f);
/* The interface that a request's NetworkInterfaceId names, which is the customer's to change: 0 or
 * as kind_get_parameter() and the above. */
int interface_get_customers(const struct call *c, json_t *parameters,
			    const struct doc **ret_interface, struct fault *f);

/* Gives the interface's primary address a public one; `json` is the caller's editable copy. */
int interface_set_public(const struct call *c, const json_t *vpc, json_t *json,
			 const char *address);
/* Takes it away. */
void interface_clear_public(json_t *json);
/* The same for one of its private addresses (an element of `json`'s list) and an elastic address's
 * document. Nothing there: nothing done. */
int interface_set_association(const struct call *c, const json_t *vpc, json_t *json,
			      json_t *private, const json_t *elastic);
void interface_clear_association(json_t *json, json_t *private);

/* _AddressLimit, how many private addresses of each family the instance's type allows an interface,
 * is kept with the attachment; absent: AWS's highest. A prefix counts as one.
 * PrivateIpAddressLimitExceeded when `json` would have more with `n` of IPv4 and `n6` of IPv6
 * added. */
int attachment_set_limit(json_t *attachment, json_t *parameters);
int interface_limit_check(const json_t *attachment, const json_t *json, size_t n, size_t n6,
			  struct fault *f);
/* {AttachmentId, InstanceId, …}: a new attachment as of now. */
json_t *attachment_json(const struct call *c, const char *instance_id, int device_index,
			int is_deleted_with_instance);

/* interface-name.c: the interface, attached at its birth, gets the names that its instance is
 * launched with: _PrivateDnsNameOptions {HostnameType, EnableResourceNameDnsARecord,
 * EnableResourceNameDnsAAAARecord} and PrivateDnsName. 0 or -ENOMEM. */
int interface_name_at_launch(const struct call *c, json_t *parameters, const json_t *subnet,
			     json_t *json);
