/* Sets and members of a namespace, by ipset's save and restore. */
#include <errno.h>
#include <string.h>
#include "cidr.h"
#include "netns.h"

static void read_create(struct items *items, const char *name, const char *type, const char *rest)
{
	struct item *i = items_add(items, ITEM_SET, name);
	char first[IP_TEXT_MAX], last[IP_TEXT_MAX];
	uint32_t from, to;

	i->address.family = strstr(rest, " family inet6") ? AF_INET6 : 0;
	snprintf(i->text, sizeof i->text, "%.31s", type);
	if (sscanf(rest, " range %15[0-9.]-%15[0-9.]", first, last) == 2 &&
	    ip_parse(first, &from) == 0 && ip_parse(last, &to) == 0) {
		i->via = ip4(from);
		for (i->type = 32; i->type > 0 && (from | ~cidr_mask(i->type)) != to; i->type--)
			;
	}
}

static void read_add(struct items *items, const char *name, const char *element)
{
	struct item *i = items_add(items, ITEM_MEMBER, name);
	char address[IP_ANY_TEXT_MAX];

	if (sscanf(element, "%45[0-9a-f.:]/%u", address, &i->plen) >= 1)
		(void)ip_any_parse(address,
				   &i->address); /* what we cannot read is nobody's address: it
						will be removed, and fail aloud */
	(void)sscanf(element + strcspn(element, ","), ",%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &i->mac[0],
		     &i->mac[1], &i->mac[2], &i->mac[3], &i->mac[4],
		     &i->mac[5]); /* only some sets have MACs */
}

int ipset_dump(struct netns *n, struct items *ret_items)
{
	static const char *const argv[] = {"ipset", "save", NULL};
	OWN(items_free) struct items items = {0};
	OWN(free) char *out = NULL;
	int r = netns_command(n, argv, NULL, &out);

	if (r < 0)
		return r;
	for (char *line = out, *next; line && *line; line = next) {
		char name[32], word[64];
		int rest = 0;

		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		if (sscanf(line, "create %31s %63s%n", name, word, &rest) == 2)
			read_create(&items, name, word, line + rest);
		else if (sscanf(line, "add %31s %63s", name, word) == 2)
			read_add(&items, name, word);
	}
	r = items_sort(&items);
	if (r < 0)
		return r;
	*ret_items = items;
	items = (struct items){0};
	return 0;
}

static void print_member(const char *verb, const struct item *i, FILE *out)
{
	static const uint8_t no_mac[6];
	char address[IP_ANY_TEXT_MAX];

	ip_any_format(&i->address, address);
	fprintf(out, "%s %s %s", verb, i->name, address);
	if (i->plen)
		fprintf(out, "/%u", i->plen);
	if (verb[0] == 'a' && memcmp(i->mac, no_mac, sizeof no_mac) != 0)
		fprintf(out, ",%02x:%02x:%02x:%02x:%02x:%02x", i->mac[0], i->mac[1], i->mac[2],
			i->mac[3], i->mac[4], i->mac[5]);
	fputc('\n', out);
}

/* What a VPC of five blocks of /16 has is well below; a set takes memory for what is in it only. */
#define MEMBERS_MAX " maxelem 1048576"

static void print_make(const struct item *i, FILE *out)
{
	char first[IP_ANY_TEXT_MAX];

	if (i->kind == ITEM_MEMBER) {
		print_member("add", i, out);
		return;
	}
	ip_any_format(&i->via, first);
	fprintf(out, "create %s %s", i->name, i->text);
	if (i->via.family)
		fprintf(out, " range %s/%u", first, i->type);
	fprintf(out, "%s%s\n", i->address.family == AF_INET6 ? " family inet6" : "",
		strncmp(i->text, "hash:", 5) == 0 ? MEMBERS_MAX : "");
}

static void print_remove(const struct item *i, FILE *out)
{
	if (i->kind == ITEM_MEMBER)
		print_member("del", i, out);
	else
		fprintf(out, "destroy %s\n", i->name);
}

int ipset_change(struct netns *n, const struct changes *c, int is_removing)
{
	static const char *const argv[] = {"ipset", "-exist", "restore", NULL};
	OWN(free) char *text = NULL;
	size_t n_text = 0, n_lines = 0;
	FILE *out = open_memstream(&text, &n_text);

	if (!out)
		return -ENOMEM;
	for (size_t i = 0; i < c->n; i++) {
		const struct change *change = &c->at[is_removing ? c->n - 1 - i : i];

		if (is_removing != !change->will)
			continue;
		n_lines++;
		if (is_removing)
			print_remove(change->was, out);
		else
			print_make(change->will, out);
	}
	if (fclose(out) != 0)
		return -ENOMEM;
	return n_lines ? netns_command(n, argv, text, NULL) : 0;
}
