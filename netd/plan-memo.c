/* Plan, memo: groups' chains as the last plan made them, in order of family and id. */
#include "plan-memo.h"

#include <stdlib.h>
#include <string.h>

struct plan_memo {
	struct memo_group *at;
	size_t n, n_room;
};

struct plan_memo *plan_memo_new(void)
{
	return calloc(1, sizeof(struct plan_memo));
}

static void clear(struct memo_group *g)
{
	json_decref((json_t *)g->group);
	json_decref(g->rules);
	json_decref(g->peers);
	for (size_t i = 0; i < MEMO_CHAINS; i++)
		free(g->text[i]);
}

void plan_memo_free(struct plan_memo *m)
{
	for (size_t i = 0; m && i < m->n; i++)
		clear(&m->at[i]);
	if (m)
		free(m->at);
	free(m);
}

/* Where the group stands, or (returns 0) would stand. */
static int place(const struct plan_memo *m, enum rules_family family, const char *id,
		 size_t *ret_at)
{
	size_t low = 0, high = m->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct memo_group *g = &m->at[middle];
		int order = g->family != family ? (g->family < family ? -1 : 1) : strcmp(g->id, id);

		if (order == 0) {
			*ret_at = middle;
			return 1;
		}
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*ret_at = low;
	return 0;
}

static int are_same(const json_t *a, const json_t *b)
{
	size_t n = json_array_size(a);

	if (a == b)
		return 1;
	if (n != json_array_size(b))
		return 0;
	for (size_t i = 0; i < n; i++)
		if (json_array_get(a, i) != json_array_get(b, i))
			return 0;
	return 1;
}

const struct memo_group *plan_memo_find(struct plan_memo *m, enum rules_family family,
					const char *id, const json_t *rules)
{
	size_t at;

	if (!m || !place(m, family, id, &at))
		return NULL;
	m->at[at].is_used = 1;
	return are_same(m->at[at].rules, rules) ? &m->at[at] : NULL;
}

static struct memo_group *insert(struct plan_memo *m, size_t at)
{
	if (m->n == m->n_room) {
		size_t n_room = m->n_room ? m->n_room * 2 : 16;
		struct memo_group *grown = realloc(m->at, n_room * sizeof *grown);

		if (!grown)
			return NULL;
		m->at = grown;
		m->n_room = n_room;
	}
	memmove(m->at + at + 1, m->at + at, (m->n - at) * sizeof *m->at);
	m->n++;
	memset(&m->at[at], 0, sizeof *m->at);
	return &m->at[at];
}

static void forget(struct plan_memo *m, size_t at)
{
	clear(&m->at[at]);
	m->n--;
	memmove(m->at + at, m->at + at + 1, (m->n - at) * sizeof *m->at);
}

/* A new entry in the place of an old one; NULL out of memory. */
static struct memo_group *replace(struct plan_memo *m, enum rules_family family, const char *id,
				  json_t *rules, json_t *peers)
{
	struct memo_group *g;
	size_t at;

	if (place(m, family, id, &at))
		forget(m, at);
	g = insert(m, at);
	if (!g)
		return NULL;
	snprintf(g->id, sizeof g->id, "%s", id);
	g->family = family;
	g->is_used = 1;
	g->rules = json_incref(rules);
	g->peers = json_incref(peers);
	return g;
}

void plan_memo_put(struct plan_memo *m, enum rules_family family, const char *id, json_t *rules,
		   json_t *peers, const char *const texts[MEMO_CHAINS])
{
	struct memo_group *g = m ? replace(m, family, id, rules, peers) : NULL;

	for (size_t i = 0; g && i < MEMO_CHAINS; i++) {
		g->text[i] = strdup(texts[i] ? texts[i] : "");
		if (!g->text[i]) {
			forget(m, (size_t)(g - m->at));
			return;
		}
	}
}

const struct memo_group *plan_memo_rules(struct plan_memo *m, const char *id, const json_t *group)
{
	size_t at;

	if (!m || !place(m, MEMO_DOCUMENTS, id, &at) || m->at[at].group != group)
		return NULL;
	m->at[at].is_used = 1;
	return &m->at[at];
}

void plan_memo_put_rules(struct plan_memo *m, const char *id, json_t *group, json_t *rules,
			 json_t *named)
{
	struct memo_group *g = m ? replace(m, MEMO_DOCUMENTS, id, rules, named) : NULL;

	if (g)
		g->group = json_incref(group);
}

void plan_memo_sweep(struct plan_memo *m, enum rules_family family)
{
	size_t n = 0;

	for (size_t i = 0; m && i < m->n; i++) {
		struct memo_group *g = &m->at[i];

		if (g->family == family && !g->is_used) {
			clear(g);
			continue;
		}
		if (g->family == family)
			g->is_used = 0;
		m->at[n++] = *g;
	}
	if (m)
		m->n = n;
}
