/* The small reads and writes on JSON. */
#include "tap.h"
#include "jsonx.h"
#include "own.h"

static void absent_is_the_default(void)
{
	OWN(json_decref) json_t *o = json_pack("{s:s, s:i, s:b}", "s", "text", "i", 7, "b", 1);

	is_str(jstr(o, "s"), "text", "a string");
	ok(!jstr(o, "i"), "an integer is no string");
	is_str(jstr_or(NULL, "s", "d"), "d", "no object");
	is_int(jint(o, "i", 1), 7, "an integer");
	is_int(jint(o, "s", 1), 1, "a string is no integer");
	is_int(jbool(o, "b", 0), 1, "a boolean");
	is_int(jbool(o, "i", 0), 0, "an integer is no boolean");
}

static void a_path_finds_its_way(void)
{
	OWN(json_decref)
	json_t *o = json_pack("{s:{s:{s:s}}, s:s}", "a", "b", "c", "deep", "x", "flat");

	is_str(jpath_str(o, "a.b.c"), "deep", "deep");
	is_str(jpath_str(o, "x"), "flat", "flat");
	ok(!jpath(o, "a.b.d"), "an absent end");
	ok(!jpath(o, "x.y"), "through a string");
	ok(!jpath(NULL, "x"), "no object");
}

static void times_go_there_and_back(void)
{
	OWN(json_decref) json_t *t = jtime(1795363200123456);
	OWN(json_decref) json_t *zero = jtime(0);

	is_str(json_string_value(t), "2026-11-22T16:00:00.123Z", "printed");
	is_int(jtime_parse(json_string_value(t)), 1795363200123000, "read");
	is_str(json_string_value(zero), "1970-01-01T00:00:00.000Z", "the epoch");
	is_int(jtime_parse("2026-11-22T16:00:00Z"), 1795363200000000, "no fraction");
	is_int(jtime_parse("2026-11-22T16:00:00.5Z"), 1795363200500000, "a short fraction");
	is_int(jtime_parse("2026-11-22"), -1, "no time");
	is_int(jtime_parse("2026-11-22T16:00:00.000+09:00"), -1, "no UTC");
	is_int(jtime_parse(NULL), -1, "NULL");
}

static void members_are_set_and_removed(void)
{
	OWN(json_decref) json_t *o = json_object();

	is_int(jset(o, "a", "1"), 0, "set");
	is_str(jstr(o, "a"), "1", "there");
	is_int(jset(o, "a", NULL), 0, "removed");
	is_int(json_object_size(o), 0, "gone");
	ok(jset_new(o, "a", NULL) < 0, "NULL is out of memory");
}

static void arrays_are_searched_and_joined(void)
{
	OWN(json_decref) json_t *a = json_pack("[s,i]", "x", 1);
	OWN(json_decref) json_t *b = json_pack("[s]", "y");

	ok(jarray_has(a, "x") && !jarray_has(a, "y"), "has");
	is_int(jarray_extend_all(a, b), 0, "extended");
	ok(jarray_has(a, "y"), "now it has");
	ok(!jarray_has(NULL, "x"), "no array");
	OWN(json_decref) json_t *lists = json_object();

	is_int(jarray_add_under(lists, "one", json_array_get(a, 0)), 0, "the first begins one");
	is_int(jarray_add_under(lists, "one", json_array_get(a, 0)), 0, "the second joins it");
	is_int(json_array_size(json_object_get(lists, "one")), 2, "both are there");
	ok(jarray_add_under(lists, "two", NULL) < 0, "nothing cannot be added");
}

int main(void)
{
	RUN(absent_is_the_default);
	RUN(a_path_finds_its_way);
	RUN(times_go_there_and_back);
	RUN(members_are_set_and_removed);
	RUN(arrays_are_searched_and_joined);
	return tests_done();
}
