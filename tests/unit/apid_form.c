/* Urlencoded text is read strictly, in one way only. */
#include "tap.h"
#include "../../apid/form.h"

static void is_form(const char *text, const char *want)
{
	struct form form = {0};
	struct fault f = {0};
	char got[512] = "";

	if (form_parse(text, strlen(text), 100, &form, &f) < 0)
		snprintf(got, sizeof got, "%s", f.code);
	for (size_t i = 0; i < form.n; i++)
		snprintf(got + strlen(got), sizeof got - strlen(got), "[%s|%s]", form.pair[i].name,
			 form.pair[i].value);
	is_str(got, want, text);
	form_clear(&form);
}

static void pairs_are_decoded_in_order(void)
{
	is_form("", "");
	is_form("Action=RunInstances&MinCount=1", "[Action|RunInstances][MinCount|1]");
	is_form("b=1&a=2&b=3", "[b|1][a|2][b|3]");
	is_form("a", "[a|]");
	is_form("a=", "[a|]");
	is_form("a=b=c", "[a|b=c]");
	is_form("&&a=1&", "[a|1]");
	is_form("a=x+y%20z%2B", "[a|x y z+]");
	is_form("a=%EA%B5%AC%eb%a6%84", "[a|구름]");
	is_form("a=구름", "[a|구름]");
	is_form("a=%0A", "[a|\n]");
	is_form("a=%2526", "[a|%26]");
}

static void what_has_two_readings_is_refused(void)
{
	static const char *const bad[] = {
		"a=%",	    "a=%4",	   "a=%zz",	     "a=%4g",	 "a=%00",
		"=1",	    "a=\x01",	   "a=\n",	     "a=\x7f",	 "a=%FF",
		"a=%C0%80", "a=%ED%A0%80", "a=%F4%90%80%80", "a=%E2%82", "%=1",
		"a%00=1",   "a=%C3&b=%A9", "a=\xff"};

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		is_form(bad[i], "MalformedQueryString");
}

static void there_is_a_limit(void)
{
	struct form form = {0};
	struct fault f = {0};

	is_int(form_parse("a&b&c", 5, 3, &form, &f), 0, "three of three");
	form_clear(&form);
	ok(form_parse("a&b&c&d", 7, 3, &form, &f) < 0, "four of three");
	is_str(f.code, "InvalidParameterValue", "refused");
}

int main(void)
{
	RUN(pairs_are_decoded_in_order);
	RUN(what_has_two_readings_is_refused);
	RUN(there_is_a_limit);
	return tests_done();
}
