/* Signatures agree with the examples that AWS published: its Signature Version 4 test suite, and
 * the S3 API reference's. */
#include "tap.h"
#include "../../apid/sigv4.h"

#define SUITE_SECRET "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
#define S3_SECRET    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
#define SUITE_CLAIM                                                                                \
	"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
#define S3_CLAIM                                                                                   \
	"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
#define SUITE_DATE                                                                                 \
	{"Host", "example.amazonaws.com"},                                                         \
	{                                                                                          \
		"X-Amz-Date", "20150830T123600Z"                                                   \
	}
#define S3_DATE                                                                                    \
	{"Host", "examplebucket.s3.amazonaws.com"},                                                \
	{                                                                                          \
		"x-amz-date", "20130524T000000Z"                                                   \
	}
#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

struct example {
	const char *name, *method, *path, *query, *body, *signed_headers, *signature;
	struct aws_pair headers[8];
};

static const struct example suite[] = {
	{"get-vanilla",
	 "GET",
	 "/",
	 "",
	 "",
	 "host;x-amz-date",
	 "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
	 {SUITE_DATE}},
	{"post-vanilla",
	 "POST",
	 "/",
	 "",
	 "",
	 "host;x-amz-date",
	 "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
	 {SUITE_DATE}},
	{"get-unreserved",
	 "GET",
	 "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
	 "",
	 "",
	 "host;x-amz-date",
	 "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
	 {SUITE_DATE}},
	{"get-utf8",
	 "GET",
	 "/\341\210\264",
	 "",
	 "",
	 "host;x-amz-date",
	 "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
	 {SUITE_DATE}},
	{"get-space",
	 "GET",
	 "/example space/",
	 "",
	 "",
	 "host;x-amz-date",
	 "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
	 {SUITE_DATE}},
	{"get-relative",
	 "GET",
	 "/example/..",
	 "",
	 "",
	 "host;x-amz-date",
	 "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
	 {SUITE_DATE}},
	{"get-relative-relative",
	 "GET",
	 "/example1/example2/../..",
	 "",
	 "",
	 "host;x-amz-date",
	 "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
	 {SUITE_DATE}},
	{"get-slash",
	 "GET",
	 "//",
	 "",
	 "",
	 "host;x-amz-date",
	 "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
	 {SUITE_DATE}},
	{"get-slash-dot-slash",
	 "GET",
	 "/./",
	 "",
	 "",
	 "host;x-amz-date",
	 "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
	 {SUITE_DATE}},
	{"get-slashes",
	 "GET",
	 "//example//",
	 "",
	 "",
	 "host;x-amz-date",
	 "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84",
	 {SUITE_DATE}},
	{"get-slash-pointless-dot",
	 "GET",
	 "/./example",
	 "",
	 "",
	 "host;x-amz-date",
	 "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5",
	 {SUITE_DATE}},
	{"get-vanilla-query-order-key-case",
	 "GET",
	 "/",
	 "Param2=value2&Param1=value1",
	 "",
	 "host;x-amz-date",
	 "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
	 {SUITE_DATE}},
	{"get-vanilla-query-order-value",
	 "GET",
	 "/",
	 "Param1=value2&Param1=value1",
	 "",
	 "host;x-amz-date",
	 "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694",
	 {SUITE_DATE}},
	{"get-vanilla-query-unreserved",
	 "GET",
	 "/",
	 "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz="
	 "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
	 "",
	 "host;x-amz-date",
	 "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
	 {SUITE_DATE}},
	{"get-vanilla-utf8-query",
	 "GET",
	 "/",
	 "\341\210\264=bar",
	 "",
	 "host;x-amz-date",
	 "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
	 {SUITE_DATE}},
	{"get-header-key-duplicate",
	 "GET",
	 "/",
	 "",
	 "",
	 "host;my-header1;x-amz-date",
	 "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
	 {SUITE_DATE,
	  {"My-Header1", "value2"},
	  {"My-Header1", "value2"},
	  {"My-Header1", "value1"}}},
	{"get-header-value-order",
	 "GET",
	 "/",
	 "",
	 "",
	 "host;my-header1;x-amz-date",
	 "08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
	 {SUITE_DATE,
	  {"My-Header1", "value4"},
	  {"My-Header1", "value1"},
	  {"My-Header1", "value3"},
	  {"My-Header1", "value2"}}},
	{"get-header-value-trim",
	 "GET",
	 "/",
	 "",
	 "",
	 "host;my-header1;my-header2;x-amz-date",
	 "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
	 {SUITE_DATE, {"My-Header1", " value1"}, {"My-Header2", " \"a   b   c\""}}},
	{"get-header-value-multiline, as one of its readers",
	 "GET",
	 "/",
	 "",
	 "",
	 "host;my-header1;x-amz-date",
	 "ba17b383a53190154eb5fa66a1b836cc297cc0a3d70a5d00705980573d8ff790",
	 {SUITE_DATE, {"My-Header1", "value1,value2,value3"}}},
	{"post-x-www-form-urlencoded",
	 "POST",
	 "/",
	 "",
	 "Param1=value1",
	 "content-type;host;x-amz-date",
	 "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
	 {SUITE_DATE, {"Content-Type", "application/x-www-form-urlencoded"}}},
};

static const struct example s3[] = {
	{"get object",
	 "GET",
	 "/test.txt",
	 "",
	 "",
	 "host;range;x-amz-content-sha256;x-amz-date",
	 "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
	 {S3_DATE, {"Range", "bytes=0-9"}, {"x-amz-content-sha256", EMPTY}}},
	{"put object: the path is encoded once",
	 "PUT",
	 "/test%24file.text",
	 "",
	 "ignored",
	 "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
	 "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
	 {S3_DATE,
	  {"Date", "Fri, 24 May 2013 00:00:00 GMT"},
	  {"x-amz-storage-class", "REDUCED_REDUNDANCY"},
	  {"x-amz-content-sha256",
	   "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"}}},
	{"put object: sent without the escape",
	 "PUT",
	 "/test$file.text",
	 "",
	 "ignored",
	 "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
	 "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
	 {S3_DATE,
	  {"Date", "Fri, 24 May 2013 00:00:00 GMT"},
	  {"x-amz-storage-class", "REDUCED_REDUNDANCY"},
	  {"x-amz-content-sha256",
	   "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"}}},
	{"get lifecycle",
	 "GET",
	 "/",
	 "lifecycle",
	 "",
	 "host;x-amz-content-sha256;x-amz-date",
	 "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
	 {S3_DATE, {"x-amz-content-sha256", EMPTY}}},
	{"list",
	 "GET",
	 "/",
	 "prefix=J&max-keys=2",
	 "",
	 "host;x-amz-content-sha256;x-amz-date",
	 "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
	 {S3_DATE, {"x-amz-content-sha256", EMPTY}}},
};

/* The signature that an example's request gives, by way of a claim with its signed headers. */
static void sign(const struct example *e, const char *claim_text, const char *secret,
		 char ret_signature[static 65])
{
	struct form query;
	struct sigv4 claim = {0};
	struct fault f = {0};
	char authorization[2048];
	struct aws_pair headers[9];
	struct sigv4_request r = {
		.method = e->method, .path = e->path, .query = &query, .headers = headers};

	strcpy(ret_signature, "refused");
	if (form_parse(e->query, strlen(e->query), 100, &query, &f) < 0)
		return;
	snprintf(authorization, sizeof authorization, "%sSignedHeaders=%s, Signature=%s",
		 claim_text, e->signed_headers, e->signature);
	for (; e->headers[r.n_headers].name; r.n_headers++)
		headers[r.n_headers] = e->headers[r.n_headers];
	headers[r.n_headers++] = (struct aws_pair){"Authorization", authorization};
	sigv4_sha256(e->body, strlen(e->body), r.body_sha256);
	if (sigv4_parse(&r, &claim, &f) < 0)
		printf("# %s: %s\n", f.code, f.message);
	else
		(void)sigv4_sign(&r, &claim, secret, ret_signature);
	form_clear(&query);
}

static void the_published_suite_holds(void)
{
	char signature[65];

	for (size_t i = 0; i < sizeof suite / sizeof *suite; i++) {
		sign(&suite[i], SUITE_CLAIM, SUITE_SECRET, signature);
		is_str(signature, suite[i].signature, suite[i].name);
	}
}

static void the_examples_of_s3_hold(void)
{
	char signature[65];

	for (size_t i = 0; i < sizeof s3 / sizeof *s3; i++) {
		sign(&s3[i], S3_CLAIM, S3_SECRET, signature);
		is_str(signature, s3[i].signature, s3[i].name);
	}
}

static int parse(const char *query_text, const struct aws_pair *headers, struct sigv4 *ret_claim,
		 struct fault *f)
{
	struct form query;
	struct sigv4_request r = {
		.method = "GET", .path = "/", .query = &query, .headers = headers};

	if (form_parse(query_text, strlen(query_text), 100, &query, f) < 0)
		return -1000;
	while (headers[r.n_headers].name)
		r.n_headers++;
	int result = sigv4_parse(&r, ret_claim, f);
	form_clear(&query);
	return result;
}

#define PRESIGNED_HEAD                                                                             \
	"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-"  \
	"east-1%2Fs3%2Faws4_request"                                                               \
	"&X-Amz-Date=20130524T000000Z"
#define PRESIGNED_TAIL                                                                             \
	"&X-Amz-SignedHeaders=host&X-Amz-Signature="                                               \
	"aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"

static void a_presigned_query_holds(void)
{
	static const struct aws_pair headers[] = {{"Host", "examplebucket.s3.amazonaws.com"},
						  {NULL, NULL}};
	const char *text = PRESIGNED_HEAD "&X-Amz-Expires=86400" PRESIGNED_TAIL;
	struct form query;
	struct sigv4 claim;
	struct fault f = {0};
	char signature[65];

	is_int(parse(text, headers, &claim, &f), 0, "the claim is read");
	ok(claim.is_presigned && claim.expires_sec == 86400, "and is a presigned one");
	(void)form_parse(text, strlen(text), 100, &query, &f);
	struct sigv4_request r = {.method = "GET",
				  .path = "/test.txt",
				  .query = &query,
				  .headers = headers,
				  .n_headers = 1};
	(void)sigv4_sign(&r, &claim, S3_SECRET, signature);
	is_str(signature, "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
	       "AWS's signature");
	ok(sigv4_equal(signature, claim.signature), "equal");
	signature[63] ^= 1;
	ok(!sigv4_equal(signature, claim.signature), "one digit off is not equal");
	is_int(sigv4_age(&claim, claim.signed_sec + 86400), SIGV4_CURRENT, "valid for its day");
	is_int(sigv4_age(&claim, claim.signed_sec + 86401), SIGV4_EXPIRED, "and no longer");
	form_clear(&query);
}

static void a_week_is_the_longest(void)
{
	static const struct aws_pair headers[] = {{"Host", "h"}, {NULL, NULL}};
	static const char *const bad[] = {"0", "-1", "604801", "", "1e3", "99999999999999999999"};
	struct sigv4 claim;
	char text[1024];

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct fault f = {0};

		snprintf(text, sizeof text, "%s&X-Amz-Expires=%s%s", PRESIGNED_HEAD, bad[i],
			 PRESIGNED_TAIL);
		(void)parse(text, headers, &claim, &f);
		is_str(f.code, "IncompleteSignature", bad[i]);
	}
}

static void fifteen_minutes_of_skew_are_allowed(void)
{
	struct sigv4 claim = {.signed_sec = 1000000};

	is_int(sigv4_age(&claim, 1000000 + 900), SIGV4_CURRENT, "late");
	is_int(sigv4_age(&claim, 1000000 + 901), SIGV4_EXPIRED, "too late");
	is_int(sigv4_age(&claim, 1000000 - 900), SIGV4_CURRENT, "early");
	is_int(sigv4_age(&claim, 1000000 - 901), SIGV4_NOT_YET, "too early");
}

#define CREDENTIAL "Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request"
#define SIGNATURE  "Signature=" EMPTY

static void a_broken_claim_is_incomplete(void)
{
	static const char *const bad[] = {
		"AWS4-HMAC-SHA256",
		"AWS4-HMAC-SHA256 ",
		"AWS4-HMAC-SHA256x " CREDENTIAL ", SignedHeaders=host, " SIGNATURE,
		"AWS AKIDEXAMPLE:frJIUN8DYpKDtOLCwo//yllqDzg=",
		"Bearer x",
		"AWS4-HMAC-SHA256 " CREDENTIAL ", SignedHeaders=host",
		"AWS4-HMAC-SHA256 " CREDENTIAL ", " SIGNATURE,
		"AWS4-HMAC-SHA256 SignedHeaders=host, " SIGNATURE,
		"AWS4-HMAC-SHA256 " CREDENTIAL ", SignedHeaders=host, Signature=abc",
		"AWS4-HMAC-SHA256 " CREDENTIAL ", SignedHeaders=host, Signature="
		"E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
		"AWS4-HMAC-SHA256 " CREDENTIAL ", SignedHeaders=x-amz-date, " SIGNATURE,
		"AWS4-HMAC-SHA256 " CREDENTIAL ", SignedHeaders=x-amz-date;host, " SIGNATURE,
		"AWS4-HMAC-SHA256 " CREDENTIAL ", SignedHeaders=host;host, " SIGNATURE,
		"AWS4-HMAC-SHA256 " CREDENTIAL ", SignedHeaders=Host, " SIGNATURE,
		"AWS4-HMAC-SHA256 " CREDENTIAL ", SignedHeaders=host;, " SIGNATURE,
		"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/aws4_request, "
		"SignedHeaders=host, " SIGNATURE,
		"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/201508300/us-east-1/ec2/aws4_request, "
		"SignedHeaders=host, " SIGNATURE,
		"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/ec2/aws4_reques, "
		"SignedHeaders=host, " SIGNATURE,
		"AWS4-HMAC-SHA256 Credential=/20150830/us-east-1/ec2/aws4_request, "
		"SignedHeaders=host, " SIGNATURE,
	};
	struct sigv4 claim;

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct fault f = {0};
		struct aws_pair headers[] = {SUITE_DATE, {"Authorization", bad[i]}, {NULL, NULL}};

		(void)parse("", headers, &claim, &f);
		is_str(f.code, "IncompleteSignature", bad[i]);
	}
}

static void a_broken_date_is_incomplete(void)
{
	static const char *const bad[] = {"",
					  "now",
					  "2015-08-30T12:36:00Z",
					  "20150830T123600",
					  "20151330T123600Z",
					  "20150230T123600Z",
					  "20150830T 23600Z"};
	struct sigv4 claim;

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct fault f = {0};
		struct aws_pair headers[] = {{"Host", "h"},
					     {"X-Amz-Date", bad[i]},
					     {"Authorization", "AWS4-HMAC-SHA256 " CREDENTIAL
							       ", SignedHeaders=host, " SIGNATURE},
					     {NULL, NULL}};

		(void)parse("", headers, &claim, &f);
		is_str(f.code, "IncompleteSignature", bad[i]);
	}
}

/* What a header may be that the signature leaves out. */
static const char *unsigned_is(const char *name)
{
	struct aws_pair headers[] = {SUITE_DATE,
				     {name, "1"},
				     {"Authorization",
				      "AWS4-HMAC-SHA256 " CREDENTIAL
				      ", SignedHeaders=host;x-amz-date, " SIGNATURE},
				     {NULL, NULL}};
	static struct fault f;
	struct sigv4 claim;

	f = (struct fault){0};
	return parse("", headers, &claim, &f) == 0 ? "taken" : f.code;
}

static void headers_that_say_what_to_do_must_be_signed(void)
{
	struct aws_pair headers[] = {SUITE_DATE,
				     {"X-Amz-Target", "Service.Delete"},
				     {"Authorization",
				      "AWS4-HMAC-SHA256 " CREDENTIAL
				      ", SignedHeaders=host;x-amz-date;x-amz-target, " SIGNATURE},
				     {NULL, NULL}};
	struct sigv4 claim;
	struct fault f = {0};

	is_int(parse("", headers, &claim, &f), 0, "signed");
	is_str(unsigned_is("X-Amz-Target"), "IncompleteSignature", "the action");
	is_str(unsigned_is("x-amz-Data-Length"), "IncompleteSignature", "a parameter");
	is_str(unsigned_is("X-Amz-Security-Token"), "taken", "a token may be added last");
	is_str(unsigned_is("x-amz-user-agent"), "taken", "which program it is");
	is_str(unsigned_is("X-Amzn-Trace-Id"), "taken", "what others add on the way");
	is_str(unsigned_is("User-Agent"), "taken", "who asks");
}

static void two_claims_are_one_too_many(void)
{
	struct aws_pair headers[] = {SUITE_DATE,
				     {"Authorization", "AWS4-HMAC-SHA256 " CREDENTIAL
						       ", SignedHeaders=host, " SIGNATURE},
				     {NULL, NULL}};
	struct sigv4 claim;
	struct fault f = {0};

	(void)parse(PRESIGNED_HEAD "&X-Amz-Expires=10" PRESIGNED_TAIL, headers, &claim, &f);
	is_str(f.code, "IncompleteSignature", "refused");
}

static void an_unsigned_request_is_told_apart(void)
{
	struct aws_pair headers[] = {SUITE_DATE, {NULL, NULL}};
	struct sigv4 claim;
	struct fault f = {0};

	ok(parse("Action=DescribeVpcs", headers, &claim, &f) < 0 && !fault_is_set(&f),
	   "no fault of its own");
}

static void a_space_may_be_sent_as_plus(void)
{
	const struct example plus = {"",    "GET",	 "/", "a=b+c", "", "host;x-amz-date",
				     EMPTY, {SUITE_DATE}};
	const struct example escape = {"",    "GET",	   "/", "a=b%20c", "", "host;x-amz-date",
				       EMPTY, {SUITE_DATE}};
	char one[65], other[65];

	sign(&plus, SUITE_CLAIM, SUITE_SECRET, one);
	sign(&escape, SUITE_CLAIM, SUITE_SECRET, other);
	is_str(one, other, "the same signature");
}

int main(void)
{
	RUN(the_published_suite_holds);
	RUN(the_examples_of_s3_hold);
	RUN(a_presigned_query_holds);
	RUN(a_week_is_the_longest);
	RUN(fifteen_minutes_of_skew_are_allowed);
	RUN(a_broken_claim_is_incomplete);
	RUN(a_broken_date_is_incomplete);
	RUN(headers_that_say_what_to_do_must_be_signed);
	RUN(two_claims_are_one_too_many);
	RUN(an_unsigned_request_is_told_apart);
	RUN(a_space_may_be_sent_as_plus);
	return tests_done();
}
