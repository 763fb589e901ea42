/* Pass: from what the kernel is to what the plans say. (Its rooms: pass-internal.h.) */
#include "pass-internal.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

int router_is_present(const struct router *r)
{
	return r->plan && (!r->plan->is_idle || r->netns);
}

/* ---- failures: the first is kept, with what it was about ---- */

static void fail(int *error, char reason[static 320], int r, const struct netns *n,
		 const struct item *i)
{
	OWN(free) char *text = NULL;
	size_t n_text = 0;
	FILE *out;

	if (*error < 0)
		return;
	*error = r;
	out = open_memstream(&text, &n_text);
	if (!out)
		return;
	if (i)
		item_print(i, out);
	else if (n)
		fprintf(out, "%s", n->reason);
	(void)fclose(out); /* a reason cut short is one still */
	snprintf(reason, 320, "%s", text);
}

void router_failed(struct router *r, int error, const struct item *i)
{
	fail(&r->error, r->reason, error, r->netns, i);
}

void pass_failed(struct pass *p, int error, const struct item *i)
{
	fail(&p->error, p->reason, error, p->host, i);
}

void host_failed(struct pass *p, int error, const struct item *i)
{
	fail(&p->host_error, p->reason, error, p->host, i);
}

/* ---- namespaces ---- */

static int is_known(const struct pass *p, const char *netns)
{
	for (size_t i = 0; i < p->n_routers; i++)
		if (p->routers[i]->plan && strcmp(p->routers[i]->plan->netns, netns) == 0)
			return 1;
	return 0;
}

static int is_ours(const char *netns)
{
	return strncmp(netns, "gureum-vpc-", 11) == 0 || strncmp(netns, "gureum-eni-", 11) == 0;
}

/* Namespaces that an earlier process left: of known VPCs they are taken over, others end. */
static void find_namespaces(struct pass *p, int is_removing)
{
	OWN(free) char **names = NULL;
	int e = netns_list("gureum-", &names);

	for (char **name = names; e == 0 && *name; name++) {
		if (!is_ours(*name) || is_known(p, *name) == is_removing)
			continue;
		p->n_changes += (unsigned)is_removing;
		if (is_removing)
			e = netns_delete(*name);
		for (size_t i = 0; !is_removing && i < p->n_routers; i++) {
			struct router *r = p->routers[i];

			if (r->plan && !r->netns && strcmp(r->plan->netns, *name) == 0)
				e = netns_open(*name, &r->netns);
		}
	}
	if (e < 0)
		pass_failed(p, e, NULL);
}

static void end_router(struct pass *p, struct router *r)
{
	char name[ID_MAX + 8];
	int e;

	if (!r->netns)
		return;
	plan_netns_name(r->id, name);
	e = netns_delete(name);
	if (e < 0)
		pass_failed(p, e, NULL);
	netns_free(r->netns);
	r->netns = NULL;
	p->n_changes++;
}

/* ---- the whole ---- */

void router_doubt(struct router *r)
{
	r->is_touched = 1;
	r->is_trusted = r->netns->is_known = 0;
}

/* The namespace is there, and closed to all that is not allowed. */
static void prepare(const struct pass *p, struct router *r)
{
	int e = 0;

	if (!router_is_present(r) || (r->netns && !r->is_touched))
		return;
	if (!r->netns) {
		e = netns_open(r->plan->netns, &r->netns);
		r->is_touched = 1;
		r->n_changes++;
	}
	if (e == 0)
		e = netns_keep(r->netns);
	r->n_changes += e > 0;
	if (e >= 0) {
		/* Until it is as it should be, nothing is known of it. */
		r->is_trusted = r->netns->is_known && !p->is_first;
		r->netns->is_known = 0;
		e = router_protect(r);
	}
	if (e < 0)
		router_failed(r, e, NULL);
	r->is_ready = e == 0;
}

/* Links between routers; both ends' namespaces are then looked at. */
static void connect_peers(struct pass *p)
{
	for (size_t i = 0; i < p->n_routers; i++) {
		struct router *r = p->routers[i];
		const struct item *link = NULL;
		int e = router_is_present(r) && r->netns && r->error == 0
				? peerings_connect(p, r, &link)
				: 0;

		if (e < 0)
			router_failed(r, e, link);
	}
	for (size_t i = 0; i < p->n_routers; i++)
		if (!p->routers[i]->is_ready && p->routers[i]->error == 0)
			prepare(p, p->routers[i]);
}

static void connect_all(struct pass *p, struct host_wants *w)
{
	for (size_t i = 0; i < p->n_routers; i++) {
		struct router *r = p->routers[i];

		if (!router_is_present(r) || !r->netns || (r->is_touched && !r->is_ready) ||
		    (!r->is_touched && p->is_host_trusted))
			continue;
		host_connect(p, r);
		if (r->is_touched && !r->is_ready)
			prepare(p, r);
	}
	connect_peers(p);
	host_connect_own(p, w);
	for (size_t i = 0; i < p->n_routers; i++)
		if (p->routers[i]->is_ready)
			router_connect(p, p->routers[i]);
	if (!p->is_incomplete)
		host_clean(p, w);
}

static void run(struct pass *p)
{
	OWN(host_wants_free) struct host_wants w = {0};
	int e;

	if (p->is_first)
		find_namespaces(p, 0);
	for (size_t i = 0; i < p->n_routers; i++)
		prepare(p, p->routers[i]);
	e = host_apply(p, &w);
	if (e == 0)
		e = host_read(p, &w);
	if (e < 0) {
		pass_failed(p, e, NULL);
		return;
	}
	connect_all(p, &w);
	for (size_t i = 0; i < p->n_routers; i++)
		if (!p->routers[i]->plan && !p->is_incomplete)
			end_router(p, p->routers[i]);
	if (p->is_first && !p->is_incomplete)
		find_namespaces(p, 1);
	host_know(p, &w);
}

int pass_run(struct pass *p)
{
	int r;

	p->error = p->host_error = 0;
	p->reason[0] = '\0';
	p->n_changes = 0;
	for (size_t i = 0; i < p->n_routers; i++) {
		struct router *router = p->routers[i];

		router->error = router->is_nat_changed = 0;
		router->is_ready = router->is_trusted = 0;
		router->reason[0] = '\0';
		router->n_changes = 0;
	}
	run(p);
	r = p->error ? p->error : p->host_error;
	for (size_t i = 0; i < p->n_routers; i++) {
		p->n_changes += p->routers[i]->n_changes;
		if (r == 0)
			r = p->routers[i]->error;
	}
	return r;
}
