/* Items: lists of kernel objects as values, sorted, compared, printed. */
#include "item.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include "cidr.h"

void items_free(struct items *s)
{
	free(s->at);
	*s = (struct items){0};
}

int items_reserve(struct items *s, size_t n)
{
	struct item *grown;

	if (s->n_room - s->n >= n)
		return 0;
	grown = realloc(s->at, (s->n + n) * sizeof *grown);
	if (!grown)
		return s->error = -ENOMEM;
	s->at = grown;
	s->n_room = s->n + n;
	return 0;
}

struct item *items_add(struct items *s, enum item_kind kind, const char *name)
{
	static _Thread_local struct item scratch;
	struct item *i;

	if (s->n == s->n_room && items_reserve(s, s->n ? s->n : 32) < 0) {
		scratch = (struct item){0};
		return &scratch;
	}
	i = &s->at[s->n++];
	memset(i, 0, sizeof *i);
	i->kind = kind;
	if (name) /* a whole VPC is thousands of them: printf would be felt */
		memcpy(i->name, name, strnlen(name, sizeof i->name - 1));
	return i;
}

void items_copy(struct items *s, const struct item *i)
{
	*items_add(s, i->kind, NULL) = *i;
}

/* Whether two items speak of the same thing. A bridge entry is its port and its address together.
 */
static int compare_keys(const struct item *a, const struct item *b)
{
	int c;

	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	if ((c = strcmp(a->name, b->name)) != 0)
		return c;
	if (a->table != b->table)
		return a->table < b->table ? -1 : 1;
	if ((c = ip_compare(&a->address, &b->address)) != 0)
		return c;
	if (a->plen != b->plen)
		return a->plen < b->plen ? -1 : 1;
	if (a->metric != b->metric)
		return a->metric < b->metric ? -1 : 1;
	return a->kind == ITEM_FDB ? memcmp(a->mac, b->mac, sizeof a->mac) : 0;
}

static int differs(const struct item *a, const struct item *b)
{
	return !ip_is(&a->via, &b->via) || a->mtu != b->mtu || a->flags != b->flags ||
	       a->type != b->type || memcmp(a->mac, b->mac, sizeof a->mac) != 0 ||
	       strcmp(a->link, b->link) != 0 || strcmp(a->text, b->text) != 0;
}

static int compare(const void *a, const void *b)
{
	return compare_keys(a, b);
}

int items_sort(struct items *s)
{
	size_t n = 0;

	if (s->n)
		qsort(s->at, s->n, sizeof *s->at, compare);
	for (size_t i = 0; i < s->n; i++)
		if (n == 0 || compare_keys(&s->at[n - 1], &s->at[i]) != 0)
			s->at[n++] = s->at[i];
	s->n = n;
	return s->error;
}

int items_has(const struct items *s, enum item_kind kind, const char *name)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->at[i].kind == kind && strcmp(s->at[i].name, name) == 0)
			return 1;
	return 0;
}

void changes_free(struct changes *c)
{
	free(c->at);
	*c = (struct changes){0};
}

struct item *items_find(const struct items *s, enum item_kind kind, const char *name)
{
	struct item key = {.kind = kind};

	snprintf(key.name, sizeof key.name, "%s", name);
	return s->n ? bsearch(&key, s->at, s->n, sizeof *s->at, compare) : NULL;
}

int items_have(const struct items *s, const struct item *i)
{
	const struct item *found = s->n ? bsearch(i, s->at, s->n, sizeof *s->at, compare) : NULL;

	return found && !differs(found, i);
}

void items_remove(struct items *s, struct item *i)
{
	size_t at = (size_t)(i - s->at);

	memmove(i, i + 1, (s->n - at - 1) * sizeof *i);
	s->n--;
}

struct items items_slice(const struct items *s, enum item_kind from, enum item_kind to)
{
	size_t first = 0, last;

	while (first < s->n && s->at[first].kind < from)
		first++;
	for (last = first; last < s->n && s->at[last].kind <= to; last++)
		;
	return (struct items){.at = s->at + first, .n = last - first};
}

/* The first that does not come before it; `is_after`: the first that comes after all of its name. */
static size_t bound(const struct items *s, enum item_kind kind, const char *name, int is_after)
{
	size_t low = 0, high = s->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct item *i = &s->at[middle];
		int order = i->kind != kind ? (i->kind < kind ? -1 : 1) : strcmp(i->name, name);

		if (order < is_after)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct items items_named(const struct items *s, enum item_kind kind, const char *name)
{
	size_t first = bound(s, kind, name, 0);

	return (struct items){.at = s->at + first, .n = bound(s, kind, name, 1) - first};
}

int items_compare(const struct items *wanted, const struct items *actual,
		  struct changes *ret_changes)
{
	struct changes c = {calloc(wanted->n + actual->n + 1, sizeof *c.at), 0};
	size_t w = 0, a = 0;

	if (!c.at)
		return -ENOMEM;
	while (w < wanted->n || a < actual->n) {
		const struct item *will = w < wanted->n ? &wanted->at[w] : NULL;
		const struct item *was = a < actual->n ? &actual->at[a] : NULL;
		int order = !will ? 1 : !was ? -1 : compare_keys(will, was);

		w += order <= 0;
		a += order >= 0;
		if (order < 0)
			c.at[c.n++] = (struct change){NULL, will};
		else if (order > 0)
			c.at[c.n++] = (struct change){was, NULL};
		else if (differs(will, was))
			c.at[c.n++] = (struct change){was, will};
	}
	*ret_changes = c;
	return 0;
}

const char *item_veth_peer(const struct item *veth)
{
	if (veth->flags & ITEM_GUEST_PORT)
		return "eth0";
	if (veth->link[0])
		return veth->name;
	return veth->name[0] == 'x' ? "eigw" : "igw";
}

static const char *const kind_names[ITEM_KINDS] = {
	[ITEM_SET] = "set",	    [ITEM_MEMBER] = "member",	[ITEM_BRIDGE] = "bridge",
	[ITEM_VETH] = "veth",	    [ITEM_TAP] = "tap",		[ITEM_FDB] = "fdb",
	[ITEM_PEERING] = "peering", [ITEM_LEG] = "leg",		[ITEM_SYSCTL] = "sysctl",
	[ITEM_UP] = "up",	    [ITEM_ADDRESS] = "address", [ITEM_NEIGHBOUR] = "neighbour",
	[ITEM_PROXY] = "proxy",	    [ITEM_ROUTE] = "route",	[ITEM_RULE] = "rule",
};

static const char *route_type(uint32_t type)
{
	switch (type) {
	case RTN_UNICAST:
		return "unicast";
	case RTN_BLACKHOLE:
		return "blackhole";
	case RTN_UNREACHABLE:
		return "unreachable";
	case RTN_THROW:
		return "throw";
	default:
		return "other";
	}
}

void item_print(const struct item *i, FILE *out)
{
	static const uint8_t no_mac[6];
	static const char *const flags[] = {"guest-port", "router-port", "owned", "multicast"};
	char text[IP_ANY_TEXT_MAX];

	fprintf(out, "%s", kind_names[i->kind]);
	if (i->kind == ITEM_ROUTE)
		fprintf(out, " %s", route_type(i->type));
	if (i->name[0])
		fprintf(out, " %s", i->name);
	ip_any_format(&i->address, text);
	if (i->kind == ITEM_MEMBER || i->kind == ITEM_ADDRESS || i->kind == ITEM_NEIGHBOUR ||
	    i->kind == ITEM_PROXY || i->kind == ITEM_ROUTE)
		fprintf(out, " %s", text);
	if (i->kind == ITEM_ADDRESS || i->kind == ITEM_ROUTE || (i->kind == ITEM_MEMBER && i->plen))
		fprintf(out, "/%u", i->plen);
	if (i->text[0])
		fprintf(out, " %s", i->text);
	if (i->address.family == AF_INET6 && (i->kind == ITEM_SET || i->kind == ITEM_RULE))
		fprintf(out, " ipv6");
	ip_any_format(&i->via, text);
	if (i->via.family)
		fprintf(out, " %s %s", i->kind == ITEM_SET ? "range" : "via", text);
	if (i->kind == ITEM_SET && i->via.family)
		fprintf(out, "/%u", i->type);
	if (i->link[0])
		fprintf(out, " %s %s", i->kind == ITEM_ROUTE ? "dev" : "master", i->link);
	if (memcmp(i->mac, no_mac, sizeof no_mac) != 0)
		fprintf(out, " %02x:%02x:%02x:%02x:%02x:%02x", i->mac[0], i->mac[1], i->mac[2],
			i->mac[3], i->mac[4], i->mac[5]);
	if (i->mtu)
		fprintf(out, " mtu %u", i->mtu);
	for (size_t f = 0; f < sizeof flags / sizeof *flags; f++)
		if (i->flags & 1u << f)
			fprintf(out, " %s", flags[f]);
	if (i->table)
		fprintf(out, " table %u", i->table);
	if (i->metric)
		fprintf(out, " %s %u", i->kind == ITEM_RULE ? "priority" : "metric", i->metric);
}
