/* Urlencoded text: whatever is accepted is well-formed, and reads the same when it is written
 * again. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../../apid/form.h"
#include "../../lib/own.h"

#define PAIRS_MAX 100

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static void put(FILE *out, const char *text)
{
	for (; *text; text++)
		fprintf(out, "%%%02x", (unsigned char)*text);
}

static char *write_again(const struct form *form, size_t *ret_n)
{
	char *text = NULL;
	FILE *out = open_memstream(&text, ret_n);

	for (size_t i = 0; i < form->n; i++) {
		put(out, form->pair[i].name);
		fputc('=', out);
		put(out, form->pair[i].value);
		fputc('&', out);
	}
	fclose(out);
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	OWN(form_clear) struct form form = {0}, again = {0};
	struct fault f = {0};
	size_t n;

	if (form_parse((const char *)data, n_bytes, PAIRS_MAX, &form, &f) < 0) {
		if (!fault_is_set(&f))
			abort();
		return 0;
	}
	OWN(free) char *text = write_again(&form, &n);

	if (form_parse(text, n, PAIRS_MAX + 1, &again, &f) < 0 || again.n != form.n)
		abort();
	for (size_t i = 0; i < form.n; i++)
		if (!form.pair[i].name[0] || strcmp(form.pair[i].name, again.pair[i].name) != 0 ||
		    strcmp(form.pair[i].value, again.pair[i].value) != 0 ||
		    !form_is_utf8(form.pair[i].value, strlen(form.pair[i].value)))
			abort();
	return 0;
}
