/* Secondary private addresses of an interface, and its prefixes: to assign them, move them, take them
 * back. */
#include "interface.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "address.h"
#include "delegation.h"
#include "elastic.h"
#include "refresh.h"

/* One request: the interface's changed copy, and what it got. */
struct assigning {
	const struct call *c;
	const struct doc *interface, *subnet;
	json_t *json, *assigned, *taken; /* the caller's */
	json_t *prefixes;		 /* texts */
	int may_move;
	struct moved moved;
};

static json_t *find(const json_t *interface, const char *address, size_t *ret_at)
{
	json_t *a;
	size_t i;

	json_array_foreach (json_object_get(interface, "PrivateIpAddresses"), i, a)
		if (jis(a, "PrivateIpAddress", address)) {
			*ret_at = i;
			return a;
		}
	return NULL;
}

static const struct doc *owner_of(const struct assigning *s, const char *address)
{
	size_t at;

	store_each (s->c->store, "network-interface", d)
		if (jis(d->json, "SubnetId", s->subnet->id) && find(d->json, address, &at))
			return d;
	return NULL;
}

static int note_assigned(struct assigning *s, json_t *element, const char *address)
{
	json_t *list = json_object_get(s->json, "PrivateIpAddresses");

	if (json_array_append(list, element) < 0 ||
	    json_array_append_new(s->taken, json_string(address)) < 0 ||
	    json_array_append_new(s->assigned, json_pack("{s:s}", "PrivateIpAddress", address)) < 0)
		return -ENOMEM;
	return 0;
}

/* It comes from another interface, and brings its elastic address along. */
static int take_over(struct assigning *s, const char *address, struct fault *f)
{
	const struct doc *owner = owner_of(s, address);
	size_t at;

	if (!owner)
		return interface_address_fault(-EADDRINUSE, address, s->subnet->id, f);
	OWN(json_decref)
	json_t *json = json_deep_copy(txn_look(s->c->txn, owner->kind, owner->id));
	OWN(json_decref) json_t *element = json_incref(find(json, address, &at));

	if (!element || jbool(element, "Primary", 0) || !s->may_move ||
	    interface_is_customers(owner, NULL) < 0)
		return fault_set(
			f, FAULT_INVALID_PARAMETER_VALUE,
			"The address %s is assigned to the interface %s%s", address, owner->id,
			s->may_move ? ", and cannot be moved" : "; AllowReassignment is not set");
	(void)json_array_remove(json_object_get(json, "PrivateIpAddresses"), at); /* it is there */
	int r = elastic_follow(s->c, element, s->interface->id);

	if (r == 0)
		r = refresh_mark(json);
	if (r == 0)
		r = txn_replace(s->c->txn, owner, give(json));
	moved_note(&s->moved, owner->id);
	return r < 0 ? r : note_assigned(s, element, address);
}

/* `wanted` NULL: any. One that it has already is no error, and nothing new. */
static int assign_one(struct assigning *s, const char *wanted, struct fault *f)
{
	char address[IP_TEXT_MAX];
	size_t at;
	int r;

	if (wanted && find(s->json, wanted, &at))
		return 0;
	r = address_take(s->subnet->json, wanted, s->taken, address);
	if (r == -EADDRINUSE)
		return take_over(s, wanted, f);
	if (r < 0)
		return interface_address_fault(r, wanted, s->subnet->id, f);
	OWN(json_decref) json_t *element = interface_address(s->c, address, 0);

	return element ? note_assigned(s, element, address) : -ENOMEM;
}

static int assign_addresses(struct assigning *s, const json_t *list, int64_t n, struct fault *f)
{
	const json_t *wanted;
	size_t i;
	int r = 0;

	json_array_foreach (list, i, wanted)
		if (r == 0)
			r = assign_one(s, json_string_value(wanted), f);
	for (; r == 0 && n > 0; n--)
		r = assign_one(s, NULL, f);
	return r;
}

/* What is named comes before what is chosen, so that nothing is chosen that is named; prefixes before
 * addresses, which fit in anywhere. */
static int assign_all(struct assigning *s, json_t *parameters, struct fault *f)
{
	const struct delegation *d = &delegation_ipv4;
	const json_t *list = json_object_get(parameters, "PrivateIpAddresses"),
		     *subnet = s->subnet->json;
	int64_t n = jint(parameters, "SecondaryPrivateIpAddressCount", 0),
		n_prefixes = jint(parameters, d->count, 0);
	int r = count_check(parameters, "SecondaryPrivateIpAddressCount", 1, f);

	if (r == 0)
		r = count_check(parameters, d->count, 1, f);
	if (r < 0)
		return r;
	if (list && n > 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "Either a list of private addresses or the number of secondary "
				 "private addresses must be specified");
	if (!list && n == 0 && !delegation_is_asked(d, parameters))
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "A list of private addresses, the number of secondary private "
				 "addresses, prefixes or their number must be specified");
	r = delegation_named(d, subnet, parameters, s->json, &s->prefixes, f);
	if (r == 0)
		r = jarray_extend_all(s->taken, s->prefixes);
	if (r == 0)
		r = interface_limit_check(json_object_get(s->json, "Attachment"), s->json,
					  (list ? json_array_size(list) : (size_t)n) +
						  json_array_size(s->prefixes) + (size_t)n_prefixes,
					  0, f);
	if (r == 0)
		r = assign_addresses(s, list, 0, f);
	if (r == 0)
		r = delegation_take(d, subnet, parameters, s->taken, s->prefixes, f);
	if (r == 0)
		r = jarray_extend_all(s->taken, s->prefixes);
	if (r == 0)
		r = assign_addresses(s, NULL, n, f);
	return r < 0 ? r : delegation_add(d, s->json, s->prefixes);
}

static int assign_reply(const struct assigning *s, json_t **ret_reply)
{
	OWN(json_decref)
	json_t *reply = json_pack("{s:s s:O}", "NetworkInterfaceId", s->interface->id,
				  "AssignedPrivateIpAddresses", s->assigned);
	const json_t *text;
	size_t i;

	if (!reply)
		return -ENOMEM;
	json_array_foreach (s->prefixes, i, text) {
		OWN(json_decref) json_t *prefix = json_pack("{s:O}", "Ipv4Prefix", text);

		if (!prefix || jarray_add_under(reply, "AssignedIpv4Prefixes", prefix) < 0)
			return -ENOMEM;
	}
	*ret_reply = give(reply);
	return 0;
}

/* Puts the changed copy and commits. */
static int finish(const struct call *c, const struct doc *interface, json_t *json, struct moved *m)
{
	int r;

	moved_note(m, interface->id);
	r = refresh_mark(json);
	if (r < 0) {
		json_decref(json);
		return r;
	}
	r = txn_replace(c->txn, interface, json);
	return r < 0 ? r : moved_commit(c, m);
}

int assign_private_ip_addresses(struct call *c, json_t *parameters, json_t **ret_reply,
				struct fault *f)
{
	struct assigning s = {.c = c, .may_move = jbool(parameters, "AllowReassignment", 0)};
	int r = interface_get_customers(c, parameters, &s.interface, f);

	if (r == 0)
		r = kind_get(c, &kind_subnet, "SubnetId", jstr(s.interface->json, "SubnetId"),
			     &s.subnet, f);
	if (r < 0)
		return r;
	OWN(json_decref) json_t *json = doc_edit(s.interface);
	OWN(json_decref) json_t *assigned = json_array();
	OWN(json_decref) json_t *taken = json_array();

	s.json = json;
	s.assigned = assigned;
	s.taken = taken;
	r = json && assigned && taken ? assign_all(&s, parameters, f) : -ENOMEM;
	OWN(json_decref) json_t *prefixes = s.prefixes;

	if (r == 0)
		r = assign_reply(&s, ret_reply);
	return r < 0 ? r : finish(c, s.interface, give(json), &s.moved);
}

int unassign_private_ip_addresses(struct call *c, json_t *parameters, json_t **ret_reply,
				  struct fault *f)
{
	const json_t *list = json_object_get(parameters, "PrivateIpAddresses"), *address;
	OWN(json_decref) json_t *removed = json_array();
	const struct doc *interface = NULL;
	struct moved m = {0};
	size_t i, at;
	int r = interface_get_customers(c, parameters, &interface, f);

	if (r < 0)
		return r;
	if (json_array_size(list) == 0 && !delegation_is_asked(&delegation_ipv4, parameters))
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter privateIpAddress or "
				 "ipv4Prefix");
	OWN(json_decref) json_t *json = doc_edit(interface);

	r = json && removed ? delegation_remove(&delegation_ipv4, json, parameters, removed, f)
			    : -ENOMEM;
	if (r < 0)
		return r;
	json_array_foreach (list, i, address) {
		const char *text = json_string_value(address);
		json_t *element = find(json, text, &at);

		if (!element || jbool(element, "Primary", 0))
			return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
					 "Some of the specified addresses are not assigned to "
					 "interface %s, or are its primary one",
					 interface->id);
		r = elastic_orphan(c, json, text);
		if (r == 0)
			r = json_array_remove(json_object_get(json, "PrivateIpAddresses"), at);
		if (r < 0)
			return r;
	}
	*ret_reply = reply_true();
	return finish(c, interface, give(json), &m);
}
