/*
 * The models' patterns: runs the automata that scripts/aws_patterns.py made.
 *
 * Theory: the set of all steps that the automaton can be in is carried along the text (Thompson's way), so that there is no
 * backtracking and no text that takes exponential time. A step is in the set at most once per character: `mark`
 * holds the number of the character at which it was last added.
 */
#include "table.h"

struct set {
	uint16_t step[AWS_STEPS_MAX];
	unsigned n;
};

struct machine {
	uint16_t start;
	uint32_t generation;
	uint32_t mark[AWS_STEPS_MAX];
	struct set sets[2];
	uint16_t todo[AWS_STEPS_MAX * 2]; /* steps to follow: each step adds two at most, once */
	int is_match;			  /* the set of this generation holds the end */
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

int aws_pattern_fits(uint16_t step, const char *text)
{
	struct machine m;
	struct set *now = &m.sets[0], *next = &m.sets[1];

	if (step == 0)
		return 1;
	m.start = step;
	m.generation = 1;
	m.is_match = 0;
	memset(m.mark, 0, sizeof m.mark);
	now->n = 0;
	add(&m, now, step);
	for (const unsigned char *p = (const unsigned char *)text; *p;) {
		uint32_t code = decode(&p);

		m.generation++;
		m.is_match = 0;
		next->n = 0;
		for (unsigned i = 0; i < now->n; i++)
			if (in_ranges(&aws_steps[now->step[i]], code))
				add(&m, next, now->step[i] + 1);
		if (next->n == 0 && !m.is_match)
			return 0;
		struct set *swap = now;

		now = next;
		next = swap;
	}
	return m.is_match;
}
