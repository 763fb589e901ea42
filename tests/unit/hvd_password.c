/* Passwords on a guest's console, which may say anything. */
#include "../../hvd/password.h"
#include "own.h"
#include "tap.h"

/* "" if there is none. */
static const char *found_in(const char *console, size_t n)
{
	static char base64[PASSWORD_BASE64_MAX + 1];

	strcpy(base64, "untouched");
	if (password_find(console, n, base64))
		return base64;
	is_str(base64, "untouched", "nothing is written when there is none");
	return "";
}

static const char *found(const char *console)
{
	return found_in(console, strlen(console));
}

static void a_password_is_found_as_ec2launch_writes_it(void)
{
	is_str(found("2026/11/26 12:00:00Z: Username: Administrator\r\n"
		     "2026/11/26 12:00:01Z: "
		     "<Password>\r\nQUJD\r\nREVG\r\n</Password>\r\nready\r\n"),
	       "QUJDREVG", "without its lines' ends");
	is_str(found("<Password>QQ==</Password>"), "QQ==", "on one line, and nothing else");
}

static void the_last_whole_one_counts(void)
{
	is_str(found("<Password>QUJD</Password>\n<Password>REVG</Password>"), "REVG", "the last");
	is_str(found("<Password>QUJD</Password>\n<Password>REV"), "QUJD", "it is still written");
	is_str(found("<Password>QUJD</Password>\n<Password>?</Password>"), "QUJD",
	       "the last is none");
	is_str(found("<Password><Password>QUJD</Password>"), "QUJD", "begun twice");
	is_str(found("<Password>QUJD</Password>REVG</Password>"), "QUJD", "ended twice");
}

static void what_is_not_whole_is_none(void)
{
	static const char *const none[] = {
		"",
		"<",
		"<Password>",
		"</Password>",
		"<Password></Password>",
		"<Password>\t </Password>",
		"<Password>QUJ</Password>",
		"<Password>QU=D</Password>",
		"<Password>QU<b>JD</Password>",
		"<password>QUJD</password>",
		"QUJD</Password><Password>",
	};

	for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
		is_str(found(none[i]), "", none[i]);
	is_str(found_in("<Password>QUJD\0QUJD</Password>", 30), "", "with a byte of 0");
	is_str(found_in("<Password>QUJD</Password>", 24), "", "cut off in its last word");
}

static void a_guest_cannot_make_it_long(void)
{
	size_t n = 1u << 18, n_begin = strlen("<Password>");
	OWN(free) char *console = malloc(n + 64);

	memset(console, 'A', n + 64);
	memcpy(console, "<Password>", n_begin);
	memcpy(console + n, "</Password>", 11);
	is_str(found_in(console, n + 11), "", "longer than any key makes it");
	memcpy(console + n_begin + PASSWORD_BASE64_MAX, "</Password>", 11);
	is_int(strlen(found_in(console, n)), PASSWORD_BASE64_MAX, "the longest");
	memset(console, '<', n);
	is_str(found_in(console, n), "", "nothing but beginnings");
	for (size_t i = 0; i + 11 <= n; i += 11)
		memcpy(console + i, i % 2 ? "</Password>" : "<Password>A", 11);
	is_str(found_in(console, n), "", "begun and ended again and again");
}

int main(void)
{
	RUN(a_password_is_found_as_ec2launch_writes_it);
	RUN(the_last_whole_one_counts);
	RUN(what_is_not_whole_is_none);
	RUN(a_guest_cannot_make_it_long);
	return tests_done();
}
