/* The endpoint's own certificate: kept while it holds, made again when it does not. */
#include "tap.h"

#include <sched.h>
#include <unistd.h>
#include "../../apid/tls.h"

static char folder[] = "/tmp/apid_tls.XXXXXX";

/* What is served under this name now: its certificate, to be freed. */
static char *certificate(const char *host)
{
	OWN(tls_files_clear) struct tls_files files = {0};
	int r = tls_make(folder, host, &files);

	is_int(r, 0, "made or found");
	ok(files.key && strstr(files.key, "PRIVATE KEY"), "with its key");
	return give(files.certificate);
}

static int is_same(const char *host)
{
	OWN(free) char *before = certificate(host);
	OWN(free) char *after = certificate(host);

	return strcmp(before, after) == 0;
}

static void a_certificate_that_holds_is_kept(void)
{
	ok(is_same("127.0.0.1"), "the same at the next start");
	ok(is_same("localhost"), "it has these names, too");
}

static void another_address_makes_another(void)
{
	OWN(free) char *before = certificate("127.0.0.1");
	OWN(free) char *after = certificate("cloud.example");

	ok(strcmp(before, after) != 0, "for the new name");
	ok(is_same("cloud.example"), "which is kept then");
}

static void another_host_name_makes_another(void)
{
	OWN(free) char *before = certificate("");

	if (unshare(CLONE_NEWUTS) < 0 || sethostname("moved", 5) < 0) {
		skip("only root may change the host's name");
		return;
	}
	OWN(free) char *after = certificate("");

	ok(strcmp(before, after) != 0, "clients reach it by its name of today");
	ok(is_same(""), "which is kept then");
}

static void a_key_of_another_certificate_is_replaced(void)
{
	char command[200];
	OWN(free) char *before = certificate("");

	snprintf(command, sizeof command, "cp %s/tls/ca.key %s/tls/server.key", folder, folder);
	is_int(system(command), 0, "a crash between two files");
	OWN(free) char *after = certificate("");

	ok(strcmp(before, after) != 0, "a pair that belongs together");
}

int main(void)
{
	char command[64];

	if (!mkdtemp(folder))
		return 1;
	RUN(a_certificate_that_holds_is_kept);
	RUN(another_address_makes_another);
	RUN(another_host_name_makes_another);
	RUN(a_key_of_another_certificate_is_replaced);
	snprintf(command, sizeof command, "rm -r %s", folder);
	(void)!system(command);
	return tests_done();
}
