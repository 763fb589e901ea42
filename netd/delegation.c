/* Prefixes in documents and requests. */
#include "delegation.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "action.h"
#include "delegation-block.h"
#include "ipv6.h"
#include "jsonx.h"

const struct delegation delegation_ipv4 = {AF_INET, DELEGATION_BITS4, "Ipv4Prefixes", "Ipv4Prefix",
					   "Ipv4PrefixCount"};
const struct delegation delegation_ipv6 = {AF_INET6, DELEGATION_BITS6, "Ipv6Prefixes", "Ipv6Prefix",
					   "Ipv6PrefixCount"};

int delegation_of(const char *address, char ret_prefix[static CIDR6_TEXT_MAX])
{
	struct cidr6 v6 = {.bits = DELEGATION_BITS6};
	struct cidr v4 = {.bits = DELEGATION_BITS4};

	if (ip_parse(address, &v4.address) == 0) {
		cidr_format(cidr_canonical(v4), ret_prefix);
		return 0;
	}
	if (inet_pton(AF_INET6, address, &v6.address) != 1)
		return -EINVAL;
	v6.address = cidr6_first(v6);
	cidr6_format(v6, ret_prefix);
	return 0;
}

size_t delegation_n(const struct delegation *d, const json_t *interface)
{
	return json_array_size(json_object_get(interface, d->list));
}

int delegation_has(const json_t *texts, const char *address)
{
	char prefix[CIDR6_TEXT_MAX];

	return jarray_has(texts, address) ||
	       (delegation_of(address, prefix) == 0 && jarray_has(texts, prefix));
}

int delegation_is_asked(const struct delegation *d, const json_t *parameters)
{
	return json_array_size(json_object_get(parameters, d->list)) ||
	       jint(parameters, d->count, 0) > 0;
}

/* ---- those that are named ---- */

/* An element of a request's list: a text, or an object with one. */
static const char *text_of(const struct delegation *d, const json_t *element)
{
	return json_is_string(element) ? json_string_value(element)
				       : jstr_or(element, d->element, "");
}

/* What blocks_find() refused. */
static int refuse(const struct delegation *d, int r, const char *text, struct fault *f)
{
	if (r == -EINVAL)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter %s is invalid. This is not a valid "
				 "CIDR block.",
				 text, d->element);
	if (r == -EDOM)
		return fault_set(
			f, FAULT_INVALID_PARAMETER_VALUE,
			"Value (%.64s) for parameter %s is invalid. A prefix is an aligned "
			"block of /%u.",
			text, d->element, d->bits);
	if (r == -ERANGE)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "The prefix %.64s does not fall within the subnet's address range",
				 text);
	return r;
}

static int find_in(const struct delegation *d, const json_t *interface, const char *text,
		   size_t *ret_at)
{
	json_t *prefix;
	size_t i;

	json_array_foreach (json_object_get(interface, d->list), i, prefix)
		if (jis(prefix, d->element, text)) {
			*ret_at = i;
			return 1;
		}
	return 0;
}

static int name_one(struct blocks *b, const char *text, const json_t *interface, json_t *texts,
		    struct fault *f)
{
	char canonical[CIDR6_TEXT_MAX];
	size_t at, has_at;
	int r = blocks_find(b, text, &at);

	if (r < 0)
		return refuse(b->d, r, text, f);
	blocks_format(b, at, canonical);
	if (jarray_has(texts, canonical) || find_in(b->d, interface, canonical, &has_at))
		return 0;
	if (!blocks_is_free(b, at))
		return fault_set(f, FAULT_INVALID_IP_ADDRESS_IN_USE,
				 "The prefix %s has addresses that are in use.", canonical);
	return json_array_append_new(texts, json_string(canonical)) < 0 ? -ENOMEM : 0;
}

int delegation_named(const struct delegation *d, const json_t *subnet, const json_t *parameters,
		     const json_t *interface, json_t **ret_texts, struct fault *f)
{
	const json_t *list = json_object_get(parameters, d->list), *element;
	int64_t n = jint(parameters, d->count, 0);
	OWN(json_decref) json_t *texts = json_array();
	OWN(blocks_clear) struct blocks b = {0};
	struct cidr6 block;
	size_t i;
	int r;

	if (d->family == AF_INET6 && delegation_is_asked(d, parameters) &&
	    ipv6_block_of(subnet, &block) < 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "The subnet %s has no IPv6 CIDR block",
				 jstr_or(subnet, "SubnetId", ""));
	if (list && json_object_get(parameters, d->count))
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "%s and %s may not be used together", d->list, d->count);
	if ((r = count_check(parameters, d->count, 0, f)) < 0)
		return r;
	if (n > LIMIT_ADDRESSES_PER_INTERFACE ||
	    json_array_size(list) > LIMIT_ADDRESSES_PER_INTERFACE)
		return fault_set(f, FAULT_PRIVATE_IP_ADDRESS_LIMIT_EXCEEDED,
				 "Number of prefixes will exceed limit.");
	r = texts ? 0 : -ENOMEM;
	if (r == 0 && json_array_size(list))
		r = blocks_read(d, subnet, &b);
	json_array_foreach (list, i, element)
		if (r == 0)
			r = name_one(&b, text_of(d, element), interface, texts, f);
	if (r < 0)
		return r;
	*ret_texts = give(texts);
	return 0;
}

/* ---- any ---- */

int delegation_take(const struct delegation *d, const json_t *subnet, const json_t *parameters,
		    const json_t *also, json_t *texts, struct fault *f)
{
	OWN(blocks_clear) struct blocks b = {0};
	int64_t n = jint(parameters, d->count, 0);
	char text[CIDR6_TEXT_MAX];
	const json_t *address;
	size_t i, at;
	int r = n > 0 ? blocks_read(d, subnet, &b) : 0;

	if (r == 0 && n > 0)
		json_array_foreach (also, i, address)
			blocks_use(&b, json_string_value(address));
	for (; r == 0 && n > 0; n--) {
		if (blocks_choose(&b, &at) < 0)
			return fault_set(f, FAULT_INSUFFICIENT_CIDR_BLOCKS,
					 "The specified subnet does not have enough free cidr "
					 "blocks to satisfy the request.");
		blocks_format(&b, at, text);
		blocks_use(&b, text);
		r = json_array_append_new(texts, json_string(text)) < 0 ? -ENOMEM : 0;
	}
	return r;
}

/* ---- of a document ---- */

int delegation_add(const struct delegation *d, json_t *interface, const json_t *texts)
{
	const json_t *text;
	size_t i;
	int r = 0;

	json_array_foreach (texts, i, text) {
		OWN(json_decref) json_t *prefix = json_pack("{s:O}", d->element, text);

		if (r == 0)
			r = prefix ? jarray_add_under(interface, d->list, prefix) : -ENOMEM;
	}
	return r;
}

int delegation_remove(const struct delegation *d, json_t *interface, const json_t *parameters,
		      json_t *removed, struct fault *f)
{
	json_t *list = json_object_get(interface, d->list);
	const json_t *element;
	char canonical[CIDR6_TEXT_MAX];
	size_t i, at;

	json_array_foreach (json_object_get(parameters, d->list), i, element) {
		const char *text = text_of(d, element);

		if (cidr6_canonical(text, canonical) < 0)
			snprintf(canonical, sizeof canonical, "%.40s", text);
		if (!find_in(d, interface, canonical, &at))
			return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
					 "Some of the specified prefixes are not assigned to "
					 "interface %s",
					 jstr_or(interface, "NetworkInterfaceId", ""));
		if (json_array_append_new(removed, json_string(canonical)) < 0)
			return -ENOMEM;
		(void)json_array_remove(list, at); /* it is there */
	}
	if (list && json_array_size(list) == 0)
		(void)json_object_del(interface, d->list); /* it is there */
	return 0;
}
