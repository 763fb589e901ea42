/* Ids have AWS's form and are told from what only looks like it. */
#include "tap.h"
#include "id.h"

static void a_new_id_is_an_id(void)
{
	char a[ID_MAX], b[ID_MAX];

	id_new("vpc", a);
	id_new("vpc", b);
	ok(id_is(a, "vpc"), "accepted");
	is_int(strlen(a), 4 + 17, "17 digits");
	ok(strcmp(a, b) != 0, "never twice");
}

static void what_is_not_an_id_is_refused(void)
{
	static const char *const bad[] = {"",
					  "vpc",
					  "vpc-",
					  "vpc-1234567",
					  "vpc-123456789",
					  "vpc-1234567X",
					  "vpc-0123456789abcdef",
					  "vpc-0123456789abcdef01",
					  "i-01234567",
					  "vpc-0123456A",
					  "vpc-0123456789abcdef0 "};

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ok(!id_is(bad[i], "vpc"), bad[i]);
	ok(!id_is(NULL, "vpc"), "NULL");
	ok(id_is("vpc-01234567", "vpc"), "the short form of old is one");
	ok(!id_is("vpc-cidr-assoc-01234567", "vpc"), "a longer prefix is another kind");
}

static void a_uuid_has_its_form(void)
{
	char u[ID_MAX];

	id_uuid(u);
	is_int(strlen(u), 36, "36 characters");
	ok(u[8] == '-' && u[13] == '-' && u[18] == '-' && u[23] == '-' && u[14] == '4', u);
	ok(strchr("89ab", u[19]) != NULL, "variant");
}

static void link_names_fit_and_differ(void)
{
	char a[16], b[16];

	id_link_name('t', "eni-0123456789abcdef0", a);
	id_link_name('t', "eni-0123456789abcdef1", b);
	is_int(strlen(a), 15, "IFNAMSIZ - 1");
	ok(strcmp(a, b) != 0, "the last digit counts");
	id_link_name('t', "eni-1123456789abcdef0", b);
	ok(strcmp(a, b) != 0, "the first digit counts");
	is_int(a[0], 't', "its letter");
}

int main(void)
{
	RUN(a_new_id_is_an_id);
	RUN(what_is_not_an_id_is_refused);
	RUN(a_uuid_has_its_form);
	RUN(link_names_fit_and_differ);
	return tests_done();
}
