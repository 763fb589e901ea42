/* SigV4: finding the claim in a request. It is copied into buffers of fixed size: what is too long
 * is refused, never cut. */
#include "sigv4.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define ALGORITHM "AWS4-HMAC-SHA256"

const char *sigv4_header(const struct sigv4_request *r, const char *name)
{
	for (size_t i = 0; i < r->n_headers; i++)
		if (strcasecmp(r->headers[i].name, name) == 0)
			return r->headers[i].value;
	return NULL;
}

void sigv4_timestamp(int64_t sec, char ret_timestamp[static 17])
{
	time_t t = (time_t)sec;
	struct tm tm;
	if (!gmtime_r(&t, &tm) || strftime(ret_timestamp, 17, "%Y%m%dT%H%M%SZ", &tm) != 16)
		strcpy(ret_timestamp, "19700101T000000Z");
}

/* "20150830T123600Z" */
static int parse_timestamp(const char *text, int64_t *ret_sec)
{
	struct tm tm = {0};
	char again[17];
	const char *end = strptime(text, "%Y%m%dT%H%M%SZ", &tm);
	if (strlen(text) != 16 || !end || *end)
		return -EINVAL;
	int64_t sec = timegm(&tm);
	/* strptime takes blanks and short numbers: only what prints back the same is a timestamp.
	 */
	sigv4_timestamp(sec, again);
	if (strcmp(text, again) != 0)
		return -EINVAL;
	*ret_sec = sec;
	return 0;
}

/* A Date header, as old signers use it: RFC 1123. */
static int parse_http_date(const char *text, int64_t *ret_sec)
{
	struct tm tm = {0};
	const char *end = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
	if (!end || *end)
		return -EINVAL;
	*ret_sec = timegm(&tm);
	return 0;
}

static int copy(char *to, size_t size, const char *from, size_t n)
{
	if (n == 0 || n >= size)
		return -EINVAL;
	memcpy(to, from, n);
	to[n] = '\0';
	return 0;
}

static int is_hex64(const char *text)
{
	return strlen(text) == 64 && strspn(text, "0123456789abcdef") == 64;
}

/* "AKID/20150830/us-east-1/ec2/aws4_request" */
static int parse_credential(const char *text, size_t n, struct sigv4 *claim)
{
	struct {
		char *to;
		size_t size;
	} parts[] = {
		{claim->access_key, sizeof(claim->access_key)},
		{claim->date, sizeof(claim->date)},
		{claim->region, sizeof(claim->region)},
		{claim->service, sizeof(claim->service)},
	};
	const char *end = text + n;
	for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		const char *slash = memchr(text, '/', (size_t)(end - text));
		if (!slash || copy(parts[i].to, parts[i].size, text, (size_t)(slash - text)) < 0)
			return -EINVAL;
		text = slash + 1;
	}
	return end - text == 12 && memcmp(text, "aws4_request", 12) == 0 ? 0 : -EINVAL;
}

/* "host;x-amz-date": lower case, sorted, none twice, and host is among them (else a signature would
 * hold for any cloud). */
static int signed_headers_are_valid(const char *list)
{
	int has_host = 0;
	const char *before = NULL;
	size_t n_before = 0;
	for (const char *at = list;; at++) {
		size_t n = strcspn(at, ";");
		if (n == 0)
			return 0;
		for (size_t i = 0; i < n; i++)
			if (isupper((unsigned char)at[i]) || isspace((unsigned char)at[i]))
				return 0;
		if (before) {
			int order = strncmp(before, at, n_before < n ? n_before : n);
			if (order > 0 || (order == 0 && n_before >= n))
				return 0;
		}
		has_host |= n == 4 && memcmp(at, "host", 4) == 0;
		before = at;
		n_before = n;
		at += n;
		if (*at == '\0')
			return has_host;
	}
}

static int is_signed(const struct sigv4 *claim, const char *header)
{
	size_t n = strlen(header);
	for (const char *at = claim->signed_headers; *at; at += strspn(at, ";")) {
		size_t length = strcspn(at, ";");
		if (length == n && strncasecmp(at, header, n) == 0)
			return 1;
		at += length;
	}
	return 0;
}

/* The first header that says what is to be done (the action, a REST action's parameters) and that
 * the signature leaves out: somebody else may have written it. NULL: none. The date and the body's
 * hash are signed in other ways, a token may be added last, and some presigners leave out who they
 * are. */
static const char *unsigned_header(const struct sigv4_request *r, const struct sigv4 *claim)
{
	static const char *const free_ones[] = {"x-amz-date", "x-amz-content-sha256",
						"x-amz-security-token", "x-amz-user-agent"};

	for (size_t i = 0; i < r->n_headers; i++) {
		const char *name = r->headers[i].name;
		int is_free = strncasecmp(name, "x-amz-", 6) != 0 || is_signed(claim, name);

		for (size_t k = 0; k < sizeof(free_ones) / sizeof(*free_ones); k++)
			is_free |= strcasecmp(name, free_ones[k]) == 0;
		if (!is_free)
			return name;
	}
	return NULL;
}

/* "AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…", the parts in any order, blanks
 * after commas or not. */
static int parse_authorization(const char *text, struct sigv4 *claim, struct fault *f)
{
	int has_credential = 0;
	text += strlen(ALGORITHM);
	while (*text) {
		text += strspn(text, " \t,");
		const char *equals = strchr(text, '=');
		if (!equals)
			break;
		size_t n_name = (size_t)(equals - text), n = strcspn(equals + 1, ", \t");
		const char *value = equals + 1;
		int r = 0;
		if (n_name == 10 && memcmp(text, "Credential", 10) == 0) {
			r = parse_credential(value, n, claim);
			has_credential = 1;
		} else if (n_name == 13 && memcmp(text, "SignedHeaders", 13) == 0) {
			r = copy(claim->signed_headers, sizeof(claim->signed_headers), value, n);
		} else if (n_name == 9 && memcmp(text, "Signature", 9) == 0) {
			r = copy(claim->signature, sizeof(claim->signature), value, n);
		}
		if (r < 0)
			return fault_set(f, FAULT_INCOMPLETE_SIGNATURE,
					 "The '%.*s' of the Authorization header is malformed",
					 (int)n_name, text);
		text = value + n;
	}
	if (*text || !has_credential || !claim->signed_headers[0] || !claim->signature[0])
		return fault_set(f, FAULT_INCOMPLETE_SIGNATURE,
				 "Authorization header requires 'Credential', 'SignedHeaders' and "
				 "'Signature' parameters");
	return 0;
}

static int parse_presigned(const struct form *query, struct sigv4 *claim, struct fault *f)
{
	const char *algorithm = form_find(query, "X-Amz-Algorithm"),
		   *credential = form_find(query, "X-Amz-Credential"),
		   *expires = form_find(query, "X-Amz-Expires"),
		   *headers = form_find(query, "X-Amz-SignedHeaders"),
		   *signature = form_find(query, "X-Amz-Signature");
	if (!algorithm || strcmp(algorithm, ALGORITHM) != 0 || !credential || !expires ||
	    !headers || !signature)
		return fault_set(f, FAULT_INCOMPLETE_SIGNATURE,
				 "Query string authentication requires X-Amz-Algorithm, "
				 "X-Amz-Credential, X-Amz-Date, "
				 "X-Amz-Expires, X-Amz-SignedHeaders and X-Amz-Signature");
	claim->is_presigned = 1;
	size_t n = strlen(expires);
	if (n == 0 || n > 6 || strspn(expires, "0123456789") != n ||
	    (claim->expires_sec = atoll(expires)) < 1 || claim->expires_sec > SIGV4_EXPIRES_MAX)
		return fault_set(f, FAULT_INCOMPLETE_SIGNATURE,
				 "X-Amz-Expires must be a number of seconds from 1 to %d",
				 SIGV4_EXPIRES_MAX);
	if (parse_credential(credential, strlen(credential), claim) < 0 ||
	    copy(claim->signed_headers, sizeof(claim->signed_headers), headers, strlen(headers)) <
		    0 ||
	    copy(claim->signature, sizeof(claim->signature), signature, strlen(signature)) < 0)
		return fault_set(
			f, FAULT_INCOMPLETE_SIGNATURE,
			"X-Amz-Credential, X-Amz-SignedHeaders or X-Amz-Signature is malformed");
	return 0;
}

static int parse_date(const struct sigv4_request *r, struct sigv4 *claim, struct fault *f)
{
	const char *amz = claim->is_presigned ? form_find(r->query, "X-Amz-Date")
					      : sigv4_header(r, "x-amz-date");
	const char *date = amz ? amz : sigv4_header(r, "date");
	if (!date || (parse_timestamp(date, &claim->signed_sec) < 0 &&
		      (amz || parse_http_date(date, &claim->signed_sec) < 0)))
		return fault_set(f, FAULT_INCOMPLETE_SIGNATURE,
				 "Date must be in ISO-8601 'basic format'. Got '%.40s'",
				 date ? date : "");
	sigv4_timestamp(claim->signed_sec, claim->timestamp);
	return 0;
}

int sigv4_parse(const struct sigv4_request *r, struct sigv4 *ret_claim, struct fault *f)
{
	struct sigv4 claim = {0};
	const char *authorization = sigv4_header(r, "authorization");
	int is_query =
		form_find(r->query, "X-Amz-Algorithm") || form_find(r->query, "X-Amz-Signature");
	if (!authorization && !is_query)
		return -ENODATA;
	if (authorization && is_query)
		return fault_set(f, FAULT_INCOMPLETE_SIGNATURE,
				 "Only one authentication mechanism is allowed: the Authorization "
				 "header or the query string");
	size_t n = strlen(ALGORITHM);
	if (authorization && (strncmp(authorization, ALGORITHM, n) != 0 ||
			      (authorization[n] != ' ' && authorization[n] != '\t')))
		return fault_set(f, FAULT_INCOMPLETE_SIGNATURE,
				 "Authorization must be of the form '" ALGORITHM " Credential=…'");
	int e = authorization ? parse_authorization(authorization, &claim, f)
			      : parse_presigned(r->query, &claim, f);
	if (e < 0)
		return e;
	claim.has_token = form_find(r->query, "X-Amz-Security-Token") ||
			  sigv4_header(r, "x-amz-security-token");
	if (!signed_headers_are_valid(claim.signed_headers))
		return fault_set(f, FAULT_INCOMPLETE_SIGNATURE,
				 "'SignedHeaders' must be sorted, in lower case, and contain "
				 "'host'");
	const char *missing = unsigned_header(r, &claim);
	if (missing)
		return fault_set(f, FAULT_INCOMPLETE_SIGNATURE,
				 "'%.64s' must be a 'SignedHeader' in the AWS Authorization.",
				 missing);
	if (!is_hex64(claim.signature))
		return fault_set(f, FAULT_INCOMPLETE_SIGNATURE,
				 "The signature must be 64 lower-case hex digits");
	e = parse_date(r, &claim, f);
	if (e < 0)
		return e;
	*ret_claim = claim;
	return 0;
}

int sigv4_equal(const char signature[static 65], const char other[static 65])
{
	return CRYPTO_memcmp(signature, other, 64) == 0;
}

enum sigv4_age sigv4_age(const struct sigv4 *claim, int64_t now_sec)
{
	if (claim->signed_sec > now_sec + SIGV4_SKEW_SEC)
		return SIGV4_NOT_YET;
	int64_t valid_sec = claim->is_presigned ? claim->expires_sec : SIGV4_SKEW_SEC;
	return now_sec > claim->signed_sec + valid_sec ? SIGV4_EXPIRED : SIGV4_CURRENT;
}
