/*
 * The models' patterns: runs the automata that scripts/aws_patterns.py made.
 *
 * Theory: the set of all steps that the automaton can be in is carried along the text (Thompson's
 * way), so that there is no backtracking and no text that takes exponential time. A step is in the
 * set at most once per character: `mark` holds the number of the character at which it was last
 * added.
 */
#include "table.h"

#include <errno.h>
#include <stdlib.h>
#include "../own.h"

#define SMALL 64 /* steps that find room on the stack: nearly all patterns */

struct set {
	uint16_t *step;
	unsigned n;
};

struct machine {
	uint16_t start;
	uint32_t generation;
	uint32_t *mark;
	struct set sets[2];
	uint16_t *todo; /* steps to follow: each step adds two at most, once */
	int is_match;	/* the set of this generation holds the end */
};

static uint32_t decode(const unsigned char **at)
{
	const unsigned char *p = *at;
	int n = *p < 0x80 ? 0 : *p < 0xe0 ? 1 : *p < 0xf0 ? 2 : 3;
	uint32_t code = n ? *p & (0x3f >> n) : *p;

	for (p++; n-- > 0 && (*p & 0xc0) == 0x80; p++)
		code = code << 6 | (*p & 0x3f);
	*at = p;
	return code;
}

/* Adds a step, and all that follow from it without a character. */
static void add(struct machine *m, struct set *set, uint16_t step)
{
	unsigned n = 0;

	m->todo[n++] = step;
	while (n > 0) {
		step = m->todo[--n];
		const struct aws_step *s = &aws_steps[step];

		if (m->mark[step - m->start] == m->generation)
			continue;
		m->mark[step - m->start] = m->generation;
		if (s->kind == AWS_STEP_RANGES)
			set->step[set->n++] = step;
		else if (s->kind == AWS_STEP_MATCH)
			m->is_match = 1;
		else
			m->todo[n++] = s->a;
		if (s->kind == AWS_STEP_SPLIT)
			m->todo[n++] = s->b;
	}
}

static int in_ranges(const struct aws_step *s, uint32_t code)
{
	unsigned low = s->a, high = s->a + s->b;

	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (code < aws_ranges[middle].low)
			high = middle;
		else if (code > aws_ranges[middle].high)
			low = middle + 1;
		else
			return 1;
	}
	return 0;
}

/* A program ends with its one MATCH. */
static unsigned count_steps(uint16_t start)
{
	unsigned n = 1;

	for (const struct aws_step *s = &aws_steps[start]; s->kind != AWS_STEP_MATCH; s++)
		n++;
	return n;
}

static int run(struct machine *m, const char *text)
{
	struct set *now = &m->sets[0], *next = &m->sets[1];

	m->generation = 1;
	add(m, now, m->start);
	for (const unsigned char *p = (const unsigned char *)text; *p;) {
		uint32_t code = decode(&p);
		struct set *swap = now;

		m->generation++;
		m->is_match = 0;
		next->n = 0;
		for (unsigned i = 0; i < now->n; i++)
			if (in_ranges(&aws_steps[now->step[i]], code))
				add(m, next, now->step[i] + 1);
		if (next->n == 0 && !m->is_match)
			return 0;
		now = next;
		next = swap;
	}
	return m->is_match;
}

int aws_pattern_fits(uint16_t step, const char *text)
{
	uint32_t mark[SMALL] = {0};
	uint16_t steps[4][SMALL];
	unsigned n = count_steps(step);
	struct machine m = {.start = step,
			    .mark = mark,
			    .sets = {{steps[0], 0}, {steps[1], 0}},
			    .todo = steps[2]};
	OWN(free) uint32_t *room = NULL;

	if (step == 0)
		return 1;
	if (n > SMALL) {
		room = calloc(n, sizeof *mark + 4 * sizeof **steps);
		if (!room)
			return -ENOMEM;
		m.mark = room;
		m.sets[0].step = (uint16_t *)(room + n);
		m.sets[1].step = m.sets[0].step + n;
		m.todo = m.sets[1].step + n;
	}
	return run(&m, text);
}
