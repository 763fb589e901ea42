/* Flow table: open addressing, twice as many slots as rows. */
#include "flow-table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define N_SLOTS (2 * FLOW_TABLE_MAX)

static uint32_t mix(uint32_t hash, const void *bytes, size_t n)
{
	const uint8_t *b = bytes;

	for (size_t i = 0; i < n; i++)
		hash = (hash ^ b[i]) * 16777619u; /* FNV-1a */
	return hash;
}

static uint32_t hash_of(const struct flow_count *c)
{
	uint32_t h = 2166136261u;

	h = mix(h, &c->source, sizeof c->source);
	h = mix(h, &c->destination, sizeof c->destination);
	h = mix(h, &c->source_port, sizeof c->source_port);
	h = mix(h, &c->destination_port, sizeof c->destination_port);
	h = mix(h, &c->protocol, 1);
	h = mix(h, c->icmp, sizeof c->icmp);
	return mix(h, &c->verdict, 1);
}

static int is_same(const struct flow_count *a, const struct flow_count *b)
{
	return ip_is(&a->source, &b->source) && ip_is(&a->destination, &b->destination) &&
	       a->source_port == b->source_port && a->destination_port == b->destination_port &&
	       a->protocol == b->protocol && a->verdict == b->verdict &&
	       memcmp(a->icmp, b->icmp, sizeof a->icmp) == 0;
}

static int make(struct flow_table *t)
{
	struct flow_count *rows = calloc(FLOW_TABLE_MAX, sizeof *rows);
	unsigned short *slots = calloc(N_SLOTS, sizeof *slots);

	if (!rows || !slots) {
		free(rows);
		free(slots);
		return -ENOMEM;
	}
	*t = (struct flow_table){rows, slots, 0};
	return 0;
}

static void add_up(struct flow_count *to, const struct flow_count *c)
{
	to->packets[0] += c->packets[0];
	to->bytes[0] += c->bytes[0];
	to->tcp_flags[0] |= c->tcp_flags[0];
	to->last = c->last;
}

int flow_table_add(struct flow_table *t, const struct flow_count *c)
{
	uint32_t at = hash_of(c) % N_SLOTS;

	if (!t->rows && make(t) < 0)
		return -ENOMEM;
	while (t->slots[at] && !is_same(&t->rows[t->slots[at] - 1], c))
		at = (at + 1) % N_SLOTS;
	if (t->slots[at]) {
		add_up(&t->rows[t->slots[at] - 1], c);
		return 0;
	}
	if (t->n == FLOW_TABLE_MAX)
		return -ENOSPC;
	t->rows[t->n++] = *c;
	t->slots[at] = (unsigned short)t->n;
	return 0;
}

void flow_table_free(struct flow_table *t)
{
	free(t->rows);
	free(t->slots);
	*t = (struct flow_table){0};
}
