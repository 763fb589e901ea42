/* Subnet CIDR reservations: addresses that are given to nobody who does not name them. Source: VPC
 * user guide, "Subnet CIDR reservations". What is in use already may be in one, and stays. */
#include "reservation.h"

#include <errno.h>
#include <string.h>

#include "describe.h"
#include "ipv6.h"

static const struct filter reservation_filters[] = {
	{"reservationType", "ReservationType"},
	{"reservation-type", "ReservationType"},
	{"subnet-id", "SubnetId"},
	FILTER_TAGS,
	{NULL},
};

/* Both families share the pages. */
static const struct describe pages = {
	.kind = "subnet-cidr-reservation",
	.result = "Reservations",
	.filters = reservation_filters,
	.n_max_low = 5,
	.n_max_high = 1000,
};

static int is_ipv6(const char *cidr)
{
	return strchr(cidr, ':') != NULL;
}

/* ---- the block ---- */

static int outside(const char *text, const struct doc *subnet, struct fault *f)
{
	return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
			 "The CIDR '%s' is not within the CIDR of subnet %s", text, subnet->id);
}

static int invalid(const char *text, struct fault *f)
{
	return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
			 "Value (%.64s) for parameter cidr is invalid. This is not a valid CIDR "
			 "block.",
			 text);
}

static int read_block4(const struct doc *subnet, const char *text,
		       char ret_cidr[static CIDR6_TEXT_MAX], struct fault *f)
{
	char block[CIDR_TEXT_MAX];
	struct cidr cidr, whole;

	if (cidr_parse(text, &cidr) < 0)
		return invalid(text, f);
	cidr = cidr_canonical(cidr);
	if (cidr_parse(jstr(subnet->json, "CidrBlock"), &whole) < 0)
		return -EUCLEAN;
	cidr_format(cidr, block);
	if (!cidr_has_cidr(whole, cidr))
		return outside(block, subnet, f);
	snprintf(ret_cidr, CIDR6_TEXT_MAX, "%s", block);
	return 0;
}

static int read_block6(const struct doc *subnet, const char *text,
		       char ret_cidr[static CIDR6_TEXT_MAX], struct fault *f)
{
	char block[CIDR6_TEXT_MAX];
	struct cidr6 cidr, whole;

	if (cidr6_canonical(text, block) < 0 || cidr6_parse(block, &cidr) < 0)
		return invalid(text, f);
	if (ipv6_block_of(subnet->json, &whole) < 0 || !cidr6_has_cidr(whole, cidr))
		return outside(block, subnet, f);
	snprintf(ret_cidr, CIDR6_TEXT_MAX, "%s", block);
	return 0;
}

static int has_overlap(const char *a, const char *b)
{
	struct cidr6 one6, two6;
	struct cidr one, two;

	if (is_ipv6(a) != is_ipv6(b))
		return 0;
	if (is_ipv6(a))
		return cidr6_parse(a, &one6) == 0 && cidr6_parse(b, &two6) == 0 &&
		       cidr6_overlap(one6, two6);
	return cidr_parse(a, &one) == 0 && cidr_parse(b, &two) == 0 && cidr_overlap(one, two);
}

static int room_check(const struct call *c, const struct doc *subnet, const char *cidr,
		      struct fault *f)
{
	size_t n = 0;

	store_each (c->store, "subnet-cidr-reservation", d) {
		if (!jis(d->json, "SubnetId", subnet->id))
			continue;
		if (has_overlap(jstr_or(d->json, "Cidr", ""), cidr))
			return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
					 "The CIDR '%s' overlaps with the reservation %s", cidr,
					 d->id);
		n++;
	}
	return n < LIMIT_RESERVATIONS_PER_SUBNET
		       ? 0
		       : fault_set(f, FAULT_SUBNET_LIMIT_EXCEEDED,
				   "The maximum number of CIDR reservations of the subnet has been "
				   "reached.");
}

/* ---- actions ---- */

int create_subnet_cidr_reservation(struct call *c, json_t *parameters, json_t **ret_reply,
				   struct fault *f)
{
	const char *text = jstr_or(parameters, "Cidr", ""),
		   *description = jstr(parameters, "Description");
	OWN(json_decref) json_t *tags = NULL;
	char cidr[CIDR6_TEXT_MAX], id[ID_MAX];
	const struct doc *subnet;
	int r = kind_get_parameter(c, &kind_subnet, parameters, "SubnetId", &subnet, f);

	if (r == 0 && description && strlen(description) > LIMIT_DESCRIPTION)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value for parameter description is invalid. It may have at most "
				 "%d characters",
				 LIMIT_DESCRIPTION);
	if (r == 0)
		r = is_ipv6(text) ? read_block6(subnet, text, cidr, f)
				  : read_block4(subnet, text, cidr, f);
	if (r == 0)
		r = room_check(c, subnet, cidr, f);
	if (r == 0)
		r = kind_tags(&kind_subnet_cidr_reservation, parameters, &tags, f);
	if (r < 0)
		return r;
	id_new("scr", id);
	r = put_new(c, &kind_subnet_cidr_reservation, id,
		    json_pack("{s:s s:s s:s s:s s:s s:s* s:o}", "SubnetCidrReservationId", id,
			      "SubnetId", subnet->id, "Cidr", cidr, "ReservationType",
			      jstr_or(parameters, "ReservationType", ""), "OwnerId",
			      c->ctx->account, "Description", description, "Tags",
			      tags_or_none(tags)));
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:O}", "SubnetCidrReservation",
			       txn_look(c->txn, "subnet-cidr-reservation", id));
	return *ret_reply ? 0 : -ENOMEM;
}

static json_t *of_subnet(const struct call *c, const char *subnet_id)
{
	OWN(json_decref) json_t *list = json_array();

	store_each (c->store, "subnet-cidr-reservation", d)
		if (jis(d->json, "SubnetId", subnet_id) && json_array_append(list, d->json) < 0)
			return NULL;
	return give(list);
}

int get_subnet_cidr_reservations(struct call *c, json_t *parameters, json_t **ret_reply,
				 struct fault *f)
{
	OWN(json_decref) json_t *page = NULL, *four = json_array(), *six = json_array();
	const struct doc *subnet;
	json_t *v;
	size_t i;
	int r = kind_get_parameter(c, &kind_subnet, parameters, "SubnetId", &subnet, f);

	if (r < 0)
		return r;
	OWN(json_decref) json_t *list = of_subnet(c, subnet->id);

	r = list ? describe_list(c, &pages, list, parameters, &page, f) : -ENOMEM;
	if (r < 0)
		return r;
	json_array_foreach (json_object_get(page, "Reservations"), i, v)
		if (json_array_append(is_ipv6(jstr_or(v, "Cidr", "")) ? six : four, v) < 0)
			return -ENOMEM;
	*ret_reply =
		json_pack("{s:O s:O s:s*}", "SubnetIpv4CidrReservations", four,
			  "SubnetIpv6CidrReservations", six, "NextToken", jstr(page, "NextToken"));
	return *ret_reply ? 0 : -ENOMEM;
}

int delete_subnet_cidr_reservation(struct call *c, json_t *parameters, json_t **ret_reply,
				   struct fault *f)
{
	const struct doc *d;
	int r = kind_get_parameter(c, &kind_subnet_cidr_reservation, parameters,
				   "SubnetCidrReservationId", &d, f);

	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:O}", "DeletedSubnetCidrReservation", d->json);
	return *ret_reply ? txn_delete(c->txn, d->kind, d->id) : -ENOMEM;
}

int reservations_drop(const struct call *c, const char *subnet_id, int is_ipv6_only)
{
	int r = 0;

	store_each (c->store, "subnet-cidr-reservation", d)
		if (r == 0 && jis(d->json, "SubnetId", subnet_id) &&
		    (!is_ipv6_only || is_ipv6(jstr_or(d->json, "Cidr", ""))))
			r = txn_delete(c->txn, d->kind, d->id);
	return r;
}
