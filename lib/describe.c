/* Describe, once for all kinds: ids, scope, filters, pages. */
#include "describe.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include "id.h"
#include "jsonx.h"
#include "page.h"
#include "tags.h"

/* What was found, while nobody waits or commits. */
struct found {
	const struct doc **docs;
	size_t n, n_space;
	uint64_t continue_after; /* 0: that was all */
};

static void own_found_clear(struct found *s)
{
	free(s->docs);
}

static int found_add(struct found *s, const struct doc *d)
{
	if (s->n == s->n_space) {
		size_t n = s->n_space ? s->n_space * 2 : 16;
		const struct doc **more = realloc(s->docs, n * sizeof *more);

		if (!more)
			return -ENOMEM;
		s->docs = more;
		s->n_space = n;
	}
	s->docs[s->n++] = d;
	return 0;
}

static int may_see(const struct call *c, const struct describe *d, const struct doc *doc)
{
	return (strcmp(doc->account, c->ctx->account) == 0 &&
		strcmp(doc->region, c->ctx->region) == 0) ||
	       (d->is_visible && d->is_visible(c, doc));
}

/* What the caller may know of the document, a new reference: tags are their account's own, and who
 * sees another's document sees those that he gave it himself. */
static json_t *seen(const struct call *c, const struct doc *doc)
{
	json_t *tags = json_object_get(doc->json, "Tags"),
	       *given = tags_given_by(doc, c->ctx->account);

	if (given == tags)
		return json_incref(doc->json);
	OWN(json_decref) json_t *copy = json_copy(doc->json);
	int r = !copy	? -ENOMEM
		: given ? json_object_set(copy, "Tags", given)
			: json_object_del(copy, "Tags");

	return r == 0 ? give(copy) : NULL;
}

/* A new reference. */
static json_t *shown(const struct call *c, const struct describe *d, const struct doc *doc)
{
	OWN(json_decref) json_t *json = seen(c, doc);
	struct doc known = *doc;

	known.json = json;
	return !json ? NULL : d->present ? d->present(c, &known) : give(json);
}

static int by_sequence(const void *a, const void *b)
{
	const struct doc *x = *(const struct doc *const *)a, *y = *(const struct doc *const *)b;

	return (x->sequence > y->sequence) - (x->sequence < y->sequence);
}

static int has_left(const struct call *c, const struct describe *d, const char *id)
{
	return d->gone && store_get(c->store, c->ctx, d->gone, id);
}

/* The documents with these ids; one unknown fails them all. */
static int find_ids(struct call *c, const struct describe *d, const json_t *ids, struct found *s,
		    struct fault *f)
{
	size_t i;
	json_t *v;

	json_array_foreach (ids, i, v) {
		const char *id = json_string_value(v);
		const struct doc *doc = id ? store_find(c->store, d->kind, id) : NULL;

		if (!id || (d->prefix && !id_is(id, d->prefix)))
			return fault_set(f, d->malformed, "Invalid id: \"%.128s\"%s%s%s",
					 id ? id : "null", d->prefix ? " (expecting \"" : "",
					 d->prefix ? d->prefix : "", d->prefix ? "-...\")" : "");
		if (!doc && has_left(c, d, id))
			continue;
		if (!doc || !may_see(c, d, doc))
			return fault_set(f, d->not_found, "The %s ID '%.128s' does not exist",
					 d->kind, id);
		if (found_add(s, doc) < 0)
			return -ENOMEM;
	}
	if (s->n > 0)
		qsort(s->docs, s->n, sizeof *s->docs, by_sequence);
	size_t n = 0;

	for (i = 0; i < s->n; i++) /* asked for twice is shown once */
		if (n == 0 || s->docs[n - 1] != s->docs[i])
			s->docs[n++] = s->docs[i];
	s->n = n;
	return 0;
}

/* 1, 0 or -ENOMEM. */
static int passes(const struct call *c, const struct describe *d, const struct doc *doc,
		  json_t *parameters)
{
	OWN(json_decref) json_t *json = d->is_filtered_as_shown ? shown(c, d, doc) : seen(c, doc);
	struct doc looked_at = *doc;

	looked_at.json = json;
	return json ? filter_match(d->filters, &looked_at, parameters) : -ENOMEM;
}

static int find_page(struct call *c, const struct describe *d, json_t *parameters,
		     const struct page *p, struct found *s)
{
	store_each (c->store, d->kind, doc) {
		int r = doc->sequence > p->after && may_see(c, d, doc)
				? passes(c, d, doc, parameters)
				: 0;

		if (r < 0)
			return r;
		if (!r)
			continue;
		if (p->n_max && s->n == (size_t)p->n_max) {
			s->continue_after = s->docs[s->n - 1]->sequence;
			break;
		}
		if (found_add(s, doc) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int find(struct call *c, const struct describe *d, json_t *parameters, struct found *s,
		struct fault *f)
{
	const json_t *ids = d->ids ? json_object_get(parameters, d->ids) : NULL;
	struct page p;
	int r = filter_check(d->filters, parameters, f);

	if (r == 0)
		r = page_parse(c, d, parameters, &p, f);
	if (r < 0)
		return r;
	if (json_array_size(ids) == 0)
		return find_page(c, d, parameters, &p, s);
	r = find_ids(c, d, ids, s, f);
	if (r < 0)
		return r;
	size_t n = 0;

	for (size_t i = 0; i < s->n; i++) {
		r = passes(c, d, s->docs[i], parameters);
		if (r < 0)
			return r;
		if (r)
			s->docs[n++] = s->docs[i];
	}
	s->n = n;
	return 0;
}

/* {result: items} and the token for what follows `position`. */
static int reply_make(struct call *c, const struct describe *d, json_t *items, uint64_t position,
		      json_t *parameters, json_t **ret_reply)
{
	OWN(free) char *token = position ? page_token(c, parameters, position) : NULL;
	OWN(json_decref) json_t *reply = json_pack("{s:O}", d->result, items);

	if (!reply || (position && !token))
		return -ENOMEM;
	int r = jset(reply, "NextToken", token);

	if (r == 0)
		*ret_reply = give(reply);
	return r;
}

int describe_run(struct call *c, const struct describe *d, json_t *parameters, json_t **ret_reply,
		 struct fault *f)
{
	__attribute__((cleanup(own_found_clear))) struct found s = {0};
	OWN(json_decref) json_t *items = json_array();
	int r = find(c, d, parameters, &s, f);

	for (size_t i = 0; r == 0 && i < s.n; i++) {
		if (json_array_append_new(items, shown(c, d, s.docs[i])) < 0)
			r = -ENOMEM;
	}
	return r < 0 ? r : reply_make(c, d, items, s.continue_after, parameters, ret_reply);
}

int describe_select(struct call *c, const struct describe *d, json_t *parameters, json_t **ret_ids,
		    char **ret_next_token, struct fault *f)
{
	__attribute__((cleanup(own_found_clear))) struct found s = {0};
	OWN(json_decref) json_t *ids = json_array();
	OWN(free) char *token = NULL;
	int r = find(c, d, parameters, &s, f);

	for (size_t i = 0; r == 0 && i < s.n; i++)
		if (json_array_append_new(ids, json_string(s.docs[i]->id)) < 0)
			r = -ENOMEM;
	if (r == 0 && s.continue_after && !(token = page_token(c, parameters, s.continue_after)))
		r = -ENOMEM;
	if (r < 0)
		return r;
	*ret_ids = give(ids);
	*ret_next_token = give(token);
	return 0;
}

int describe_list(struct call *c, const struct describe *d, json_t *items, json_t *parameters,
		  json_t **ret_reply, struct fault *f)
{
	OWN(json_decref) json_t *page = json_array();
	uint64_t continue_after = 0, last = 0;
	struct page p;
	size_t i;
	json_t *item;
	int r = filter_check(d->filters, parameters, f);

	if (r == 0)
		r = page_parse(c, d, parameters, &p, f);
	if (r < 0)
		return r;
	json_array_foreach (items, i, item) {
		struct doc doc = {.kind = d->kind ? d->kind : "",
				  .id = "",
				  .account = c->ctx->account,
				  .region = c->ctx->region,
				  .json = item,
				  .sequence = i + 1};

		if (doc.sequence <= p.after || !filter_match(d->filters, &doc, parameters))
			continue;
		if (p.n_max && json_array_size(page) == (size_t)p.n_max) {
			continue_after = last;
			break;
		}
		last = doc.sequence;
		if (json_array_append(page, item) < 0)
			return -ENOMEM;
	}
	return reply_make(c, d, page, continue_after, parameters, ret_reply);
}
