/*
 * A stranger's signature: method, path, query and headers of its choice. The input is lines:
 * method, path, query, then name and value of each header in turn. What is read as a claim can be
 * signed, and no claim that was not made with the secret is equal to it.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../../apid/sigv4.h"
#include "../../lib/own.h"

#define HEADERS_MAX 32

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static const char *line(char **at)
{
	const char *text = *at ? strsep(at, "\n") : NULL;

	return text ? text : "";
}

/* Long enough that mutation alone never finds them. */
static const char *grown(const char *value)
{
	static const char good[] =
		"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/ec2/aws4_request, "
		"SignedHeaders=host;x-amz-date, "
		"Signature=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

	return strcmp(value, "*") == 0 ? good : value;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	OWN(free) char *text = strndup((const char *)data, n_bytes);
	OWN(form_clear) struct form query = {0};
	struct aws_pair headers[HEADERS_MAX];
	struct sigv4_request r = {.query = &query, .headers = headers};
	struct sigv4 claim;
	struct fault f = {0};
	char signature[65], *at = text;

	r.method = line(&at);
	r.path = line(&at);
	const char *raw = line(&at);

	if (form_parse(raw, strlen(raw), 1000, &query, &f) < 0)
		return 0;
	while (at && r.n_headers < HEADERS_MAX) {
		headers[r.n_headers].name = line(&at);
		headers[r.n_headers++].value = grown(line(&at));
	}
	sigv4_sha256("", 0, r.body_sha256);
	int e = sigv4_parse(&r, &claim, &f);

	if (e < 0) {
		if ((e == -ENODATA) == fault_is_set(&f))
			abort();
		return 0;
	}
	if (!claim.access_key[0] || !claim.service[0] || strlen(claim.signature) != 64 ||
	    strlen(claim.timestamp) != 16)
		abort();
	if (sigv4_sign(&r, &claim, "a secret that is in no input", signature) < 0 ||
	    sigv4_equal(signature, claim.signature))
		abort();
	return 0;
}
