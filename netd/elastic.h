/*
 * Elastic addresses: what the rooms elastic*.c and nat*.c share about kind "elastic-ip", and what
 * becomes of an elastic address when its interface changes.
 *
 * An association stands in two documents, changed together: the elastic address has AssociationId,
 * NetworkInterfaceId, NetworkInterfaceOwnerId and PrivateIpAddress; the interface has Association
 * {PublicIp, PublicDnsName, IpOwnerId, AllocationId, AssociationId} at that private address, and,
 * if it is the primary one, at itself. Which instance that is, only the interface knows.
 */
#pragma once

#include "netd.h"

/* The interfaces that a call's transaction changed. */
struct moved {
	char interface_ids[LIMIT_ADDRESSES_PER_INTERFACE + 2][ID_MAX];
	size_t n;
};

/* The transaction changed this one, too. */
void moved_note(struct moved *m, const char *interface_id);

/* The caller's elastic address of this public address, NULL if none. */
const struct doc *elastic_by_address(const struct call *c, const char *public_ip);
/* Puts the elastic address on this private address of the interface, in the transaction. What was
 * there before gives way: another elastic address leaves, an address given at launch goes back to
 * the pool. So does the place where the elastic address was. */
int elastic_join(const struct call *c, const struct doc *elastic, const char *interface_id,
		 const char *private_ip, struct moved *m);
/* Takes it off, in the transaction. An interface that got an address at launch gets a new one, as
 * long as the pool has any (VPC user guide: "Public IPv4 addresses"). Nothing to do: 0. */
int elastic_part(const struct call *c, const struct doc *elastic, struct moved *m);
/* The interface goes, or this private address of it (NULL: all of them): its elastic addresses
 * stay with their owner. The interface's document is not touched. */
int elastic_orphan(const struct call *c, const json_t *interface, const char *private_ip);
/* The private address, with what is associated, went to another interface. */
int elastic_follow(const struct call *c, const json_t *private_address, const char *interface_id);

/* Commits; packets feel it when this returns; hvd hears of it. 0 or -errno. */
int moved_commit(const struct call *c, const struct moved *m);
