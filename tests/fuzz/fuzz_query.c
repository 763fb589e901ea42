/*
 * Query parameters from a stranger. Raw bytes rarely guess a name of a model, so the input is read
 * as choices: an action, then for each parameter a walk through the action's model, left now and
 * then for raw bytes.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include "aws/table.h"
#include "own.h"

#define PAIRS_MAX 200

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

struct input {
	const uint8_t *at, *end;
};

struct pair {
	char name[400], value[64];
};

static unsigned next(struct input *in)
{
	return in->at < in->end ? *in->at++ : 0;
}

static void append(char *text, size_t room, const char *more)
{
	size_t at = strlen(text);

	snprintf(text + at, room - at, "%s", more);
}

static void append_raw(struct input *in, char *text, size_t room)
{
	char raw[16];
	unsigned n = next(in) % sizeof raw;

	for (unsigned i = 0; i < n; i++)
		raw[i] = next(in);
	raw[n] = '\0';
	append(text, room, raw);
}

/* One step down: the names a model knows, mostly. */
static const struct aws_shape *step(struct input *in, const struct aws_shape *s, int is_flat,
				    char *name, size_t room, int *ret_is_flat)
{
	char number[16];
	unsigned choice = next(in);
	const struct aws_member *m;

	*ret_is_flat = 0;
	if (choice >= 0xf8 || (s->type <= AWS_MAP && s->n == 0)) {
		append_raw(in, name, room);
		return NULL;
	}
	if (s->type == AWS_STRUCTURE) {
		m = aws_member_at(s, (choice << 8 | next(in)) % s->n);
		append(name, room, *name ? "." : "");
		append(name, room, aws_text(m->request));
		*ret_is_flat = m->flags & AWS_FLATTENED;
		return aws_shape_of(m);
	}
	if (s->type != AWS_LIST && s->type != AWS_MAP)
		return NULL;
	m = aws_member_at(s, s->type == AWS_MAP ? choice & 1 : 0);
	snprintf(number, sizeof number, ".%u", next(in) % 12);
	if (!is_flat) {
		append(name, room, ".");
		append(name, room, s->type == AWS_MAP ? "entry" : aws_text(m->request));
	}
	append(name, room, number);
	if (s->type == AWS_MAP) {
		append(name, room, ".");
		append(name, room, aws_text(m->request));
	}
	return aws_shape_of(m);
}

static void make_value(struct input *in, const struct aws_shape *s, char *value, size_t room)
{
	static const char *const values[] = {
		"1",   "true",	"2026-11-22T16:00:00Z", "YWJj", "", "-1", "99999999999",
		"a b", "1e400", "arn:aws:iam::1:user/x"};

	if (s && s->type == AWS_STRING && s->n && (next(in) & 1))
		append(value, room, aws_text(aws_enums[s->first + next(in) % s->n]));
	else if (next(in) & 3)
		append(value, room, values[next(in) % (sizeof values / sizeof *values)]);
	else
		append_raw(in, value, room);
}

static void make_pair(struct input *in, const struct aws_action *a, struct pair *p)
{
	const struct aws_shape *s = aws_shape_at(a->input);
	int is_ec2 = aws_service_protocol(&aws_services[a->service]) == AWS_EC2, is_flat = 0;

	for (int i = 0; s && i < 24; i++) {
		s = step(in, s, is_ec2 || is_flat, p->name, sizeof p->name, &is_flat);
		if (s && s->type > AWS_MAP)
			break;
	}
	make_value(in, s, p->value, sizeof p->value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	struct input in = {data, data + n_bytes};
	unsigned choice = next(&in) << 8;
	const struct aws_action *a = &aws_actions[(choice | next(&in)) % AWS_N_ACTIONS];
	OWN(free) struct pair *room = calloc(PAIRS_MAX, sizeof *room);
	struct aws_pair pairs[PAIRS_MAX];
	OWN(json_decref) json_t *parameters = NULL;
	OWN(free) char *body = NULL;
	struct fault f = {0};
	size_t n, n_body;

	for (n = 0; n < PAIRS_MAX && in.at < in.end; n++) {
		make_pair(&in, a, &room[n]);
		pairs[n] = (struct aws_pair){room[n].name, room[n].value};
	}
	if (aws_decode_query(a, pairs, n, &parameters, &f) == 0) {
		if (aws_check(a, parameters, &f) < 0) /* what was taken fits the model */
			abort();
		return 0;
	}
	if (parameters || !f.code[0] || f.status < 400 || f.status > 499)
		abort();
	if (aws_encode_error(aws_service_find("ec2"), &f, "id", &body, &n_body) < 0)
		abort();
	OWN(json_decref) json_t *text = json_stringn(body, n_body);

	if (!text) /* not UTF-8 */
		abort();
	return 0;
}
