/* What a customer is told can be told: whatever was written into the sentence. */
#include "tap.h"
#include "fault.h"
#include "utf8.h"

static void a_sentence_cut_within_a_character_is_text(void)
{
	struct fault f = {0};
	char many[600];

	for (size_t i = 0; i < sizeof many - 2; i += 2)
		memcpy(many + i, "é", 2);
	many[sizeof many - 2] = '\0';
	(void)fault_set(&f, FAULT_INVALID_PARAMETER_VALUE, "'%.5s' is odd", many);
	is_str(f.message, "'éé?' is odd", "in the middle");
	(void)fault_set(&f, FAULT_INVALID_PARAMETER_VALUE, "%s", many);
	is_str(f.message + 508, "é?", "at the end");
}

static void what_is_no_text_becomes_text(void)
{
	static const struct {
		const char *given, *want;
	} rows[] = {
		{"", ""},
		{"plain", "plain"},
		{"구름 😀", "구름 😀"},
		{"\x80", "?"},
		{"a\xff\xfe", "a??"},
		{"\xc0\xaf", "??"},			    /* overlong */
		{"\xe0\x80\xaf", "???"},		    /* overlong */
		{"\xed\xa0\x80", "???"},		    /* a surrogate */
		{"\xf4\x90\x80\x80", "????"},		    /* above U+10FFFF */
		{"\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"},   /* U+10FFFF */
		{"\xea\xb5\xac\xeb\xa6", "\xea\xb5\xac??"}, /* ends too early */
		{"\xc3\xc3\xa9\xa9", "?\xc3\xa9?"},	    /* in between */
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		char text[32];

		snprintf(text, sizeof text, "%s", rows[i].given);
		utf8_mend(text);
		is_str(text, rows[i].want, rows[i].want);
	}
}

int main(void)
{
	RUN(a_sentence_cut_within_a_character_is_text);
	RUN(what_is_no_text_becomes_text);
	return tests_done();
}
