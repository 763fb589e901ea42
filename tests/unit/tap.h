/*
 * TAP for unit tests: a test is a function named as a sentence, one promise each.
 *
 *	static void the_dead_stay_dead(void) { ok(instance_move(i, RUNNING, NULL) < 0, "refused"); }
 *	int main(void) { RUN(the_dead_stay_dead); return tests_done(); }
 *
 * Each of ok, is_str, is_int is one TAP line; the function's name stands in it, so a failure is
 * found at once. Child processes must leave by _exit(), so that nothing is printed twice (stdout is
 * line buffered).
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int tap_count, tap_failed;
static const char *tap_test = "main";

#define ok(cond, name)		tap_ok(!!(cond), name, #cond, __FILE__, __LINE__)
#define is_str(got, want, name) tap_is_str(got, want, name, __FILE__, __LINE__)
#define is_int(got, want, name)                                                                    \
	tap_is_int((long long)(got), (long long)(want), name, __FILE__, __LINE__)
#define RUN(test)                                                                                  \
	do {                                                                                       \
		setvbuf(stdout, NULL, _IOLBF, 0);                                                  \
		tap_test = #test;                                                                  \
		test();                                                                            \
		tap_test = "main";                                                                 \
	} while (0)

/* What this machine cannot do is skipped with the reason, never silently. */
#define skip(reason) printf("ok %d # SKIP %s: %s\n", ++tap_count, tap_test, reason)

static inline int tap_line(int passed, const char *name, const char *file, int line)
{
	printf("%sok %d - %s: %s\n", passed ? "" : "not ", ++tap_count, tap_test, name);
	if (!passed) {
		tap_failed++;
		printf("# %s:%d\n", file, line);
	}
	return passed;
}

static inline int tap_ok(int passed, const char *name, const char *text, const char *file, int line)
{
	if (!tap_line(passed, name, file, line))
		printf("# false: %s\n", text);
	return passed;
}

static inline int tap_is_str(const char *got, const char *want, const char *name, const char *file,
			     int line)
{
	int same = (!got && !want) || (got && want && strcmp(got, want) == 0);

	if (!tap_line(same, name, file, line))
		printf("# got:  %s\n# want: %s\n", got ? got : "(null)", want ? want : "(null)");
	return same;
}

static inline int tap_is_int(long long got, long long want, const char *name, const char *file,
			     int line)
{
	if (!tap_line(got == want, name, file, line))
		printf("# got:  %lld\n# want: %lld\n", got, want);
	return got == want;
}

/* Prints the plan; main returns this. */
static inline int tests_done(void)
{
	printf("1..%d\n", tap_count);
	return tap_failed != 0;
}
