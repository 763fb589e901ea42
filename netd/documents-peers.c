/* Documents: what a VPC sees of its peers: their links, the members of groups that its rules name,
 * and, where the peer's side allows it, public names that lead inside. */
#include "documents.h"

#include <errno.h>
#include <string.h>
#include "jsonx.h"
#include "peering.h"

static json_t *peer_find(const struct plan_input *in, const char *vpc_id)
{
	json_t *peer;
	size_t i;

	json_array_foreach (in->peers, i, peer)
		if (strcmp(jstr_or(peer, "VpcId", ""), vpc_id) == 0)
			return peer;
	return NULL;
}

static int gather_peerings(const struct store *s, const char *vpc_id, struct plan_input *in)
{
	store_each (s, "vpc-peering-connection", d) {
		enum peering_side side;

		if (!peering_is(d->json, "active") || !peering_has_vpc(d->json, vpc_id, &side))
			continue;
		const json_t *far = peering_info(d->json, (enum peering_side) !side);
		int is_named =
			json_is_true(jpath(far, "PeeringOptions.AllowDnsResolutionFromRemoteVpc"));

		if (json_array_append_new(
			    in->peers, json_pack("{s:s s:s s:b s:b s:b}", "VpcPeeringConnectionId",
						 d->id, "VpcId", jstr_or(far, "VpcId", ""),
						 "IsRequester", side == PEERING_REQUESTER,
						 "IsNamed", is_named, "IsWatched", is_named)) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int is_member(const json_t *eni, const char *group_id)
{
	const json_t *group;
	size_t i;

	json_array_foreach (json_object_get(eni, "Groups"), i, group)
		if (strcmp(jstr_or(group, "GroupId", ""), group_id) == 0)
			return 1;
	return 0;
}

static int members_add(const struct store *s, const char *vpc_id, const char *group_id,
		       json_t *addresses)
{
	const json_t *address;
	size_t i;

	store_each (s, "network-interface", d) {
		if (strcmp(jstr_or(d->json, "VpcId", ""), vpc_id) != 0 ||
		    !plan_is_active(d->json) || !is_member(d->json, group_id))
			continue;
		plan_addresses_each(of) json_array_foreach (
			json_object_get(d->json, of->list), i,
			address) if (json_array_append(addresses,
						       json_object_get(address, of->element)) <
				     0) return -ENOMEM;
	}
	return 0;
}

/* Groups of peers that rules of this VPC name; without a connection a rule is stale, and fits
 * nothing. */
static int gather_groups(const struct store *s, struct plan_input *in)
{
	const char *id;
	json_t *is_named;

	json_object_foreach (in->named, id, is_named) {
		const struct doc *group = store_find(s, "security-group", id);
		const char *vpc_id;
		json_t *peer, *addresses;

		vpc_id = group ? jstr_or(group->json, "VpcId", "") : "";
		peer = peer_find(in, vpc_id);
		if (!peer || json_object_get(in->peer_groups, id))
			continue;
		addresses = json_array();
		if (json_object_set_new(in->peer_groups, id, addresses) < 0 ||
		    json_object_set(peer, "IsWatched", json_true()) < 0 ||
		    members_add(s, vpc_id, id, addresses) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int gather_names(const struct store *s, struct plan_input *in)
{
	store_each (s, "network-interface", d) {
		const json_t *peer = peer_find(in, jstr_or(d->json, "VpcId", "")), *address;
		size_t i;

		if (!peer || !jbool(peer, "IsNamed", 0) || !plan_is_active(d->json))
			continue;
		json_array_foreach (json_object_get(d->json, "PrivateIpAddresses"), i, address) {
			const char *name = jpath_str(address, "Association.PublicDnsName");

			if (name && *name &&
			    json_object_set(in->peer_names, name,
					    json_object_get(address, "PrivateIpAddress")) < 0)
				return -ENOMEM;
		}
	}
	return 0;
}

int documents_gather_peers(const struct store *s, const char *vpc_id, struct plan_input *in)
{
	int r;

	in->peers = json_array();
	in->peer_groups = json_object();
	in->peer_names = json_object();
	if (!in->peers || !in->peer_groups || !in->peer_names)
		return -ENOMEM;
	r = gather_peerings(s, vpc_id, in);
	if (r < 0 || json_array_size(in->peers) == 0)
		return r;
	r = gather_groups(s, in);
	return r < 0 ? r : gather_names(s, in);
}
