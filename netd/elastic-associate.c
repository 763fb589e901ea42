/* Elastic addresses at interfaces: to put them there, move them, take them off. */
#include "elastic.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "address.h"
#include "interface.h"
#include "refresh.h"

void moved_note(struct moved *m, const char *interface_id)
{
	for (size_t i = 0; i < m->n; i++)
		if (strcmp(m->interface_ids[i], interface_id) == 0)
			return;
	if (m->n < sizeof m->interface_ids / sizeof *m->interface_ids)
		snprintf(m->interface_ids[m->n++], ID_MAX, "%s", interface_id);
}

/* A changeable copy of what the transaction would leave. */
static json_t *edit(const struct call *c, const struct doc *d)
{
	return json_deep_copy(txn_look(c->txn, d->kind, d->id));
}

static json_t *private_find(const json_t *interface, const char *private_ip)
{
	json_t *a;
	size_t i;

	json_array_foreach (json_object_get(interface, "PrivateIpAddresses"), i, a)
		if (jis(a, "PrivateIpAddress", private_ip))
			return a;
	return NULL;
}

const struct doc *elastic_by_address(const struct call *c, const char *public_ip)
{
	store_each (c->store, kind_elastic_ip.name, d)
		if (is_callers(c, d) && jis(d->json, "PublicIp", public_ip))
			return d;
	return NULL;
}

static int elastic_clear(const struct call *c, const struct doc *elastic)
{
	static const char *const members[] = {"AssociationId", "NetworkInterfaceId",
					      "NetworkInterfaceOwnerId", "PrivateIpAddress"};
	OWN(json_decref) json_t *json = edit(c, elastic);

	for (size_t i = 0; i < sizeof members / sizeof *members; i++)
		(void)json_object_del(json, members[i]); /* it may not be there */
	return txn_replace(c->txn, elastic, give(json));
}

static int has_elastic(const json_t *interface)
{
	const json_t *a;
	size_t i;

	json_array_foreach (json_object_get(interface, "PrivateIpAddresses"), i, a)
		if (jpath_str(a, "Association.AllocationId"))
			return 1;
	return 0;
}

static int is_only_interface(const struct call *c, const json_t *interface)
{
	const char *instance_id = jpath_str(interface, "Attachment.InstanceId");

	store_each (c->store, "network-interface", d)
		if (!jis(d->json, "NetworkInterfaceId", jstr(interface, "NetworkInterfaceId")) &&
		    jis(json_object_get(d->json, "Attachment"), "InstanceId", instance_id))
			return 0;
	return 1;
}

/* `json` lost its elastic address; while its instance is stopped it has no other, either. */
static int launch_address_return(const struct call *c, json_t *json)
{
	char address[IP_TEXT_MAX];
	const struct doc *vpc;

	if (!jbool(json, "_PublicAtLaunch", 0) || jbool(json, "_IsReleased", 0) ||
	    !json_object_get(json, "Attachment") || json_object_get(json, "Association") ||
	    has_elastic(json) || !is_only_interface(c, json))
		return 0;
	vpc = store_get(c->store, c->ctx, "vpc", jstr(json, "VpcId"));
	if (!vpc || address_take_public(c, address, NULL) < 0)
		return 0;
	return interface_set_public(c, vpc->json, json, address);
}

/* Both documents let go of one another; the interface's changed copy is `json`. */
static int let_go(const struct call *c, const struct doc *elastic, json_t *json)
{
	json_t *private = private_find(
		json, jstr(txn_look(c->txn, elastic->kind, elastic->id), "PrivateIpAddress"));

	if (private && jis(json_object_get(private, "Association"), "AllocationId", elastic->id))
		interface_clear_association(json, private);
	return elastic_clear(c, elastic);
}

int elastic_part(const struct call *c, const struct doc *elastic, struct moved *m)
{
	const struct doc *interface = store_get(c->store, c->ctx, "network-interface",
						jstr_or(elastic->json, "NetworkInterfaceId", ""));

	if (!interface)
		return elastic_clear(c, elastic);
	OWN(json_decref) json_t *json = edit(c, interface);
	int r = json ? let_go(c, elastic, json) : -ENOMEM;

	if (r == 0)
		r = launch_address_return(c, json);
	if (r == 0)
		r = refresh_mark(json);
	if (r == 0)
		r = txn_replace(c->txn, interface, give(json));
	moved_note(m, interface->id);
	return r;
}

static int elastic_set(const struct call *c, const struct doc *elastic, const char *interface_id,
		       const char *private_ip)
{
	OWN(json_decref) json_t *json = edit(c, elastic);
	char association_id[ID_MAX];
	int r = 0;

	id_new("eipassoc", association_id);
	const struct {
		const char *member, *value;
	} members[] = {{"AssociationId", association_id},
		       {"NetworkInterfaceId", interface_id},
		       {"NetworkInterfaceOwnerId", c->ctx->account},
		       {"PrivateIpAddress", private_ip}};

	for (size_t i = 0; r == 0 && i < sizeof members / sizeof *members; i++)
		r = jset(json, members[i].member, members[i].value);
	return r < 0 ? r : txn_replace(c->txn, elastic, give(json));
}

/* Whatever public address the private one has, it loses. */
static int make_room(const struct call *c, json_t *json, json_t *private)
{
	const struct doc *other =
		store_get(c->store, c->ctx, kind_elastic_ip.name,
			  jstr_or(json_object_get(private, "Association"), "AllocationId", ""));

	if (other)
		return let_go(c, other, json);
	interface_clear_association(json, private);
	return 0;
}

int elastic_join(const struct call *c, const struct doc *elastic, const char *interface_id,
		 const char *private_ip, struct moved *m)
{
	int r = jstr(elastic->json, "NetworkInterfaceId") ? elastic_part(c, elastic, m) : 0;
	const struct doc *vpc, *interface = NULL;

	if (r < 0)
		return r;
	OWN(json_decref)
	json_t *json = json_deep_copy(txn_look(c->txn, "network-interface", interface_id));
	json_t *private = private_find(json, private_ip);

	interface = store_get(c->store, c->ctx, "network-interface", interface_id);
	vpc = store_get(c->store, c->ctx, "vpc", jstr_or(json, "VpcId", ""));
	if (!private || !vpc)
		return -ENOENT;
	r = make_room(c, json, private);
	if (r == 0)
		r = elastic_set(c, elastic, interface_id, private_ip);
	if (r == 0)
		r = interface_set_association(c, vpc->json, json, private,
					      txn_look(c->txn, elastic->kind, elastic->id));
	if (r == 0)
		r = refresh_mark(json);
	if (r == 0 && interface)
		r = txn_replace(c->txn, interface, give(json));
	else if (r == 0)
		r = put_new(c, &kind_network_interface, interface_id, give(json));
	moved_note(m, interface_id);
	return r;
}

int elastic_orphan(const struct call *c, const json_t *interface, const char *private_ip)
{
	const json_t *a;
	size_t i;
	int r = 0;

	json_array_foreach (json_object_get(interface, "PrivateIpAddresses"), i, a) {
		const char *id = jpath_str(a, "Association.AllocationId");
		const struct doc *elastic =
			id ? store_get(c->store, c->ctx, kind_elastic_ip.name, id) : NULL;

		if (r == 0 && elastic && (!private_ip || jis(a, "PrivateIpAddress", private_ip)))
			r = elastic_clear(c, elastic);
	}
	return r;
}

int elastic_follow(const struct call *c, const json_t *private_address, const char *interface_id)
{
	const char *id = jpath_str(private_address, "Association.AllocationId");
	const struct doc *elastic =
		id ? store_get(c->store, c->ctx, kind_elastic_ip.name, id) : NULL;

	if (!elastic)
		return 0;
	OWN(json_decref) json_t *json = edit(c, elastic);
	int r = jset(json, "NetworkInterfaceId", interface_id);

	return r < 0 ? r : txn_replace(c->txn, elastic, give(json));
}

int moved_commit(const struct call *c, const struct moved *m)
{
	int r = txn_commit(c->txn);

	if (r < 0)
		return r;
	for (size_t i = 0; i < m->n; i++) {
		const struct doc *d =
			store_find(c->store, "network-interface", m->interface_ids[i]);

		if (d)
			kernel_touch(jstr_or(d->json, "VpcId", ""));
		refresh_start(c->store, m->interface_ids[i]);
	}
	/* The change is durable: the kernel room logs a failure and tries again. */
	for (size_t i = 0; i < m->n; i++) {
		const struct doc *d =
			store_find(c->store, "network-interface", m->interface_ids[i]);
		char vpc_id[ID_MAX];

		if (!d || !json_object_get(d->json, "Attachment"))
			continue;
		snprintf(vpc_id, sizeof vpc_id, "%s", jstr_or(d->json, "VpcId", ""));
		(void)kernel_sync(vpc_id, NULL);
	}
	return 0;
}

/* ---- AssociateAddress ---- */

/* The elastic address that AllocationId or PublicIp names. */
static int elastic_get(const struct call *c, json_t *parameters, const struct doc **ret_elastic,
		       struct fault *f)
{
	const char *id = jstr(parameters, "AllocationId"), *address = jstr(parameters, "PublicIp");

	if (id && address)
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "You may specify public IP or allocation id, but not both in the "
				 "same call");
	if (!id && !address)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "Either public IP or allocation id must be specified");
	if (id)
		return kind_get(c, &kind_elastic_ip, "AllocationId", id, ret_elastic, f);
	*ret_elastic = elastic_by_address(c, address);
	if (!*ret_elastic)
		return fault_set(f, FAULT_AUTH_FAILURE,
				 "The address '%.64s' does not belong to you.", address);
	return 0;
}

/* Where to: the interface, and which of its private addresses. */
static int place_get(const struct call *c, json_t *parameters, const struct doc **ret_interface,
		     const char **ret_private, struct fault *f)
{
	const char *instance_id = jstr(parameters, "InstanceId"),
		   *interface_id = jstr(parameters, "NetworkInterfaceId"),
		   *private = jstr(parameters, "PrivateIpAddress");
	const struct doc *d = NULL;
	int r;

	if (instance_id && interface_id)
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "You may specify instance id or network interface id, but not "
				 "both in the same call");
	if (!instance_id && !interface_id)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "Either instance ID or network interface id must be specified");
	r = instance_id ? instance_interface(c, instance_id, &d, f)
			: kind_get(c, &kind_network_interface, "NetworkInterfaceId", interface_id,
				   &d, f);
	if (r < 0)
		return r;
	if (jbool(d->json, "RequesterManaged", 0))
		return fault_set(f, FAULT_AUTH_FAILURE,
				 "You do not have permission to access the specified resource.");
	if (private && !private_find(d->json, private))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "The private IP address %.64s is not assigned to interface %s",
				 private, d->id);
	if (!gateway_of(c, jstr(d->json, "VpcId")))
		return fault_set(f, FAULT_GATEWAY_NOT_ATTACHED,
				 "Network %s is not attached to any internet gateway",
				 jstr_or(d->json, "VpcId", ""));
	*ret_interface = d;
	*ret_private = private ? private : jstr(d->json, "PrivateIpAddress");
	return 0;
}

/* What AllowReassociation=false forbids; an address that serves a NAT gateway never moves. */
static int may_move(const struct call *c, const struct doc *elastic, const struct doc *interface,
		    const char *private, int is_allowed, struct fault *f)
{
	const char *association_id = jstr(elastic->json, "AssociationId");
	const struct doc *old = store_get(c->store, c->ctx, "network-interface",
					  jstr_or(elastic->json, "NetworkInterfaceId", ""));
	const char *other =
		jpath_str(private_find(interface->json, private), "Association.AllocationId");

	if (old && jbool(old->json, "RequesterManaged", 0))
		return fault_set(f, FAULT_AUTH_FAILURE,
				 "You do not have permission to access the specified resource.");
	if (association_id && !is_allowed)
		return fault_set(f, FAULT_RESOURCE_ALREADY_ASSOCIATED,
				 "resource %s is already associated with associate-id %s",
				 elastic->id, association_id);
	if (other && !is_allowed)
		return fault_set(f, FAULT_RESOURCE_ALREADY_ASSOCIATED,
				 "resource %s is already associated with address %s", interface->id,
				 other);
	return 0;
}

int associate_address(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *elastic = NULL, *interface = NULL;
	const char *private = NULL, *was;
	struct moved m = {0};
	int r = elastic_get(c, parameters, &elastic, f);

	if (r == 0)
		r = place_get(c, parameters, &interface, &private, f);
	if (r < 0)
		return r;
	was = jstr(elastic->json, "AssociationId");
	if (was && jis(elastic->json, "NetworkInterfaceId", interface->id) &&
	    jis(elastic->json, "PrivateIpAddress", private)) {
		*ret_reply = json_pack("{s:s}", "AssociationId", was);
		return *ret_reply ? 0 : -ENOMEM;
	}
	r = may_move(c, elastic, interface, private, jbool(parameters, "AllowReassociation", 1), f);
	if (r == 0)
		r = elastic_join(c, elastic, interface->id, private, &m);
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:s*}", "AssociationId",
			       jstr(txn_look(c->txn, elastic->kind, elastic->id), "AssociationId"));
	return *ret_reply ? moved_commit(c, &m) : -ENOMEM;
}

/* ---- DisassociateAddress ---- */

static int association_get(const struct call *c, json_t *parameters, const struct doc **ret_elastic,
			   struct fault *f)
{
	const char *id = jstr(parameters, "AssociationId"), *address = jstr(parameters, "PublicIp");

	if (!id == !address)
		return fault_set(f,
				 id ? FAULT_INVALID_PARAMETER_COMBINATION : FAULT_MISSING_PARAMETER,
				 "Either public IP or association id must be specified");
	store_each (c->store, kind_elastic_ip.name, d)
		if (is_callers(c, d) &&
		    (id ? jis(d->json, "AssociationId", id) : jis(d->json, "PublicIp", address))) {
			*ret_elastic = d;
			return 0;
		}
	if (id)
		return fault_set(f, FAULT_INVALID_ASSOCIATION_ID_NOT_FOUND,
				 "The association ID '%.64s' does not exist", id);
	return fault_set(f, FAULT_AUTH_FAILURE, "The address '%.64s' does not belong to you.",
			 address);
}

int disassociate_address(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *elastic = NULL, *interface = NULL;
	struct moved m = {0};
	int r = association_get(c, parameters, &elastic, f);

	if (r < 0)
		return r;
	if (!jstr(elastic->json, "AssociationId"))
		return fault_set(f, FAULT_INVALID_ASSOCIATION_ID_NOT_FOUND,
				 "The address %s is not associated with anything",
				 jstr_or(elastic->json, "PublicIp", ""));
	interface = store_get(c->store, c->ctx, "network-interface",
			      jstr_or(elastic->json, "NetworkInterfaceId", ""));
	if (interface && jbool(interface->json, "RequesterManaged", 0))
		return fault_set(f, FAULT_AUTH_FAILURE,
				 "You do not have permission to access the specified resource.");
	r = elastic_part(c, elastic, &m);
	if (r < 0)
		return r;
	*ret_reply = reply_true();
	return moved_commit(c, &m);
}
