/* Who is believed, and in which words the others are refused; the root credentials and their file.
 */
#include "tap.h"

#include <sys/stat.h>
#include <unistd.h>
#include "../../apid/auth.h"

#define ACCOUNT "123456789012"
#define NOW	1440938160 /* 2015-08-30T12:36:00Z */

static char folder[] = "/tmp/apid-auth-XXXXXX";
static struct store *store;
static struct config *config;
static char key_id[64], secret[64];

static void path_of(const char *name, char *ret_path, size_t n)
{
	snprintf(ret_path, n, "%s/%s", folder, name);
}

static void read_file(const char *name, char *ret_text, size_t n)
{
	char path[128];

	path_of(name, path, sizeof path);
	FILE *in = fopen(path, "r");

	ret_text[0] = '\0';
	if (!in)
		return;
	ret_text[fread(ret_text, 1, n - 1, in)] = '\0';
	fclose(in);
}

static void start(void)
{
	char path[128], error[512];

	if (!mkdtemp(folder))
		exit(1);
	path_of("state.db", path, sizeof path);
	if (store_open(path, 1, NULL, &store) < 0)
		exit(1);
	path_of("none.conf", path, sizeof path);
	if (config_load(path, &config, error) < 0)
		exit(1);
}

static void root_credentials_are_made_once(void)
{
	char first[512], again[512], path[128];
	struct stat st;

	is_int(credentials_open(store, folder, ACCOUNT), 0, "made");
	read_file("root-credentials", first, sizeof first);
	path_of("root-credentials", path, sizeof path);
	ok(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600, "for its owner only");
	is_int(sscanf(first, "[default]\naws_access_key_id = %63s\naws_secret_access_key = %63s",
		      key_id, secret),
	       2, "AWS's form");
	ok(strlen(key_id) == 20 && strncmp(key_id, "AKIA", 4) == 0 && strlen(secret) == 40,
	   "AWS's lengths");
	is_int(credentials_open(store, folder, ACCOUNT), 0, "a second start");
	read_file("root-credentials", again, sizeof again);
	is_str(again, first, "keeps them");
	(void)unlink(path);
	is_int(credentials_open(store, folder, ACCOUNT), 0, "a lost file");
	read_file("root-credentials", again, sizeof again);
	is_str(again, first, "comes back");
	(void)chmod(path, 0644);
	is_int(credentials_open(store, folder, ACCOUNT), 0, "one that others could read");
	ok(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600, "is made anew");
}

/* A request as a client would send it; the members of `claim` that the test left empty are filled
 * in. */
struct trial {
	const char *service, *region, *date, *timestamp, *key, *secret, *body, *sha_header;
	int has_token, is_changed_after;
	int64_t now;
};

static const char *refusal(const struct trial *t)
{
	static struct fault f;
	struct form query = {0};
	struct aws_pair headers[] = {
		{"Host", "localhost"},
		{"X-Amz-Date", t->timestamp ? t->timestamp : "20150830T123600Z"},
		{"x-amz-content-sha256", t->sha_header}};
	struct sigv4_request r = {.method = "POST",
				  .path = "/",
				  .query = &query,
				  .headers = headers,
				  .n_headers = t->sha_header ? 3 : 2};
	struct sigv4 claim = {
		.signed_sec = NOW, .has_token = t->has_token, .signed_headers = "host;x-amz-date"};
	struct identity who = {0};

	f = (struct fault){0};
	snprintf(claim.access_key, sizeof claim.access_key, "%s", t->key ? t->key : key_id);
	snprintf(claim.date, sizeof claim.date, "%s", t->date ? t->date : "20150830");
	snprintf(claim.region, sizeof claim.region, "%s", t->region ? t->region : "us-east-1");
	snprintf(claim.service, sizeof claim.service, "%s", t->service);
	snprintf(claim.timestamp, sizeof claim.timestamp, "%s", headers[1].value);
	sigv4_sha256(t->body ? t->body : "", t->body ? strlen(t->body) : 0, r.body_sha256);
	(void)sigv4_sign(&r, &claim, t->secret ? t->secret : secret, claim.signature);
	if (t->is_changed_after)
		sigv4_sha256("Action=TerminateInstances", 25, r.body_sha256);
	if (auth_check(config, store, aws_service_find(t->service), &r, &claim,
		       t->now ? t->now : NOW, &who, &f) == 0)
		return strcmp(who.account, ACCOUNT) == 0 ? "believed" : "somebody else";
	return f.code;
}

static void a_right_signature_is_believed(void)
{
	is_str(refusal(&(struct trial){.service = "ec2"}), "believed", "ec2");
	is_str(refusal(&(struct trial){.service = "ec2", .region = "ap-northeast-2"}), "believed",
	       "in another region");
	is_str(refusal(&(struct trial){.service = "sts", .body = "Action=GetCallerIdentity"}),
	       "believed", "sts");
	is_str(refusal(&(struct trial){.service = "ec2", .now = NOW + 900}), "believed", "late");
	is_str(refusal(&(struct trial){.service = "ec2", .now = NOW - 900}), "believed", "early");
}

static void each_service_refuses_in_its_own_words(void)
{
	static const struct {
		const char *service, *bad_signature, *unknown_key, *bad_time;
	} rows[] = {
		{"ec2", "AuthFailure", "AuthFailure", "RequestExpired"},
		{"sts", "SignatureDoesNotMatch", "InvalidClientTokenId", "SignatureDoesNotMatch"},
		{"elasticloadbalancing", "SignatureDoesNotMatch", "InvalidClientTokenId",
		 "SignatureDoesNotMatch"},
		{"s3", "SignatureDoesNotMatch", "InvalidAccessKeyId", "RequestTimeTooSkewed"},
	};

	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct trial t = {.service = rows[i].service, .secret = "not the secret"};

		is_str(refusal(&t), rows[i].bad_signature, "another secret");
		t = (struct trial){.service = rows[i].service, .key = "AKIAAAAAAAAAAAAAAAAA"};
		is_str(refusal(&t), rows[i].unknown_key, "unknown key");
		t = (struct trial){.service = rows[i].service, .has_token = 1};
		is_str(refusal(&t), rows[i].unknown_key, "a session that nobody opened");
		t = (struct trial){.service = rows[i].service, .now = NOW + 901};
		is_str(refusal(&t), rows[i].bad_time, "old");
		t = (struct trial){.service = rows[i].service, .now = NOW - 901};
		is_str(refusal(&t), rows[i].bad_time, "from the future");
		t = (struct trial){.service = rows[i].service, .region = "mars-1"};
		is_str(refusal(&t), rows[i].bad_signature, "another region");
		t = (struct trial){.service = rows[i].service, .date = "20150829"};
		is_str(refusal(&t), rows[i].bad_signature, "the scope of another day");
	}
}

static void another_body_is_refused(void)
{
	is_str(refusal(&(struct trial){
		       .service = "ec2", .body = "Action=DescribeVpcs", .is_changed_after = 1}),
	       "AuthFailure", "the body was exchanged");
	is_str(refusal(&(struct trial){.service = "ec2", .sha_header = "UNSIGNED-PAYLOAD"}),
	       "AuthFailure", "a body that is not signed");
	is_str(refusal(&(struct trial){
		       .service = "sts",
		       .sha_header =
			       "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}),
	       "believed", "a header that says the truth");
}

static void an_unknown_service_is_refused(void)
{
	is_str(refusal(&(struct trial){.service = "quantum"}), "SignatureDoesNotMatch", "refused");
}

int main(void)
{
	start();
	RUN(root_credentials_are_made_once);
	RUN(a_right_signature_is_believed);
	RUN(each_service_refuses_in_its_own_words);
	RUN(another_body_is_refused);
	RUN(an_unknown_service_is_refused);
	store_free(store);
	config_free(config);
	for (const char *const *name = (const char *const[]){"root-credentials", "state.db",
							     "state.db-wal", "state.db-shm", NULL};
	     *name; name++) {
		char path[128];

		path_of(*name, path, sizeof path);
		(void)unlink(path);
	}
	(void)rmdir(folder);
	return tests_done();
}
