/* Guests' allowances: a bucket each, filled by time. */
#include "imds-guest.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "id.h"

#define SECOND 1000000ll

struct imds_guest {
	struct imds_guest *next;
	char vpc_id[ID_MAX], address[INET6_ADDRSTRLEN];
	size_t n_connections;
	int64_t allowance_usec; /* worth of time at the rate: a request costs 1/rate of a second;
				   below 0 is debt */
	uint64_t filled_usec;
};

static struct imds_guest *guests;

static const int64_t cost = SECOND / IMDS_GUEST_RATE,
		     whole = IMDS_GUEST_BURST * (SECOND / IMDS_GUEST_RATE);

static void fill(struct imds_guest *g, uint64_t now)
{
	uint64_t passed = now > g->filled_usec ? now - g->filled_usec : 0;

	g->filled_usec = now;
	g->allowance_usec = passed >= (uint64_t)(whole - g->allowance_usec)
				    ? whole
				    : g->allowance_usec + (int64_t)passed;
}

struct imds_guest *imds_guest_enter(const char *vpc_id, const char *address, uint64_t now_usec)
{
	struct imds_guest *g = guests;

	while (g && (strcmp(g->address, address) != 0 || strcmp(g->vpc_id, vpc_id) != 0))
		g = g->next;
	if (!g) {
		g = calloc(1, sizeof *g);
		if (!g)
			return NULL;
		snprintf(g->vpc_id, sizeof g->vpc_id, "%s", vpc_id);
		snprintf(g->address, sizeof g->address, "%s", address);
		g->allowance_usec = whole;
		g->filled_usec = now_usec;
		g->next = guests;
		guests = g;
	}
	fill(g, now_usec);
	if (g->n_connections >= IMDS_GUEST_CONNECTIONS_MAX || g->allowance_usec < cost)
		return NULL;
	g->allowance_usec -= cost;
	g->n_connections++;
	return g;
}

void imds_guest_leave(struct imds_guest *g)
{
	if (g)
		g->n_connections--;
}

uint64_t imds_guest_delay_usec(struct imds_guest *g, uint64_t now_usec)
{
	fill(g, now_usec);
	g->allowance_usec -= cost;
	return g->allowance_usec < 0 ? (uint64_t)-g->allowance_usec : 0;
}

size_t imds_guest_sweep(uint64_t now_usec)
{
	size_t n = 0;

	for (struct imds_guest **at = &guests; *at;) {
		struct imds_guest *g = *at;

		fill(g, now_usec);
		if (g->n_connections == 0 && g->allowance_usec == whole) {
			*at = g->next;
			free(g);
			continue;
		}
		n++;
		at = &g->next;
	}
	return n;
}
