/*
 * Canonical form: the bytes that a signature is made over, and the signature.
 *
 * The rules are AWS's: headers in the claim's own order, values trimmed and their runs of blanks
 * folded; query pairs decoded, encoded again in one way and sorted as bytes; so it does not matter
 * in which of several spellings a client sent them.
 */
#include "sigv4.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "own.h"

static void to_hex(const unsigned char *data, size_t n, char *ret_hex)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < n; i++) {
		ret_hex[2 * i] = digits[data[i] >> 4];
		ret_hex[2 * i + 1] = digits[data[i] & 15];
	}
	ret_hex[2 * n] = '\0';
}

void sigv4_sha256(const void *data, size_t n_bytes, char ret_hex[static 65])
{
	unsigned char digest[32] = {0};
	(void)EVP_Digest(data, n_bytes, digest, NULL, EVP_sha256(),
			 NULL); /* fails only out of memory: then nothing will match */
	to_hex(digest, sizeof(digest), ret_hex);
}

static void put_encoded(FILE *out, const char *text, size_t n, int keep_slash)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)text[i];
		if (isalnum(c) || c == '-' || c == '.' || c == '_' || c == '~' ||
		    (c == '/' && keep_slash))
			fputc(c, out);
		else
			fprintf(out, "%%%02X", c);
	}
}

/* Removes empty, "." and ".." segments (RFC 3986, 5.2.4), keeps a last slash; in place. */
static void normalize_path(char *path)
{
	char *out = path;
	const char *in = path;
	while (*in) {
		in += strspn(in, "/");
		size_t n = strcspn(in, "/");
		int is_dot = n == 1 && in[0] == '.', is_up = n == 2 && in[0] == '.' && in[1] == '.';
		if (is_up) {
			while (out > path && *--out != '/')
				;
		} else if (n > 0 && !is_dot) {
			*out++ = '/';
			memmove(out, in, n);
			out += n;
		}
		in += n;
		/* "/a/" and "/a/." name the folder: the slash stays. */
		if ((*in == '/' && in[strspn(in, "/")] == '\0') ||
		    (*in == '\0' && n > 0 && (is_dot || is_up)) || (*in == '\0' && n == 0)) {
			*out++ = '/';
			break;
		}
	}
	if (out == path)
		*out++ = '/';
	*out = '\0';
}

static int hex_value(char c)
{
	return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

/* Percent escapes to bytes, in place; the length, which may hold NULs. */
static size_t unescape(char *text)
{
	char *out = text;
	for (const char *in = text; *in; in++) {
		if (*in == '%' && isxdigit((unsigned char)in[1]) &&
		    isxdigit((unsigned char)in[2])) {
			*out++ = (char)(hex_value(in[1]) << 4 | hex_value(in[2]));
			in += 2;
		} else {
			*out++ = *in;
		}
	}
	return (size_t)(out - text);
}

static int put_path(FILE *out, const char *path, int is_s3)
{
	OWN(free) char *copied = calloc(1, strlen(path) + 2);
	if (!copied)
		return -ENOMEM;
	strcpy(copied, path[0] == '/' ? path : "/");
	size_t n;
	if (is_s3) {
		n = unescape(copied);
	} else {
		normalize_path(copied);
		n = strlen(copied);
	}
	put_encoded(out, copied, n, 1);
	fputc('\n', out);
	return 0;
}

static int compare_pairs(const void *a, const void *b)
{
	const struct aws_pair *x = a, *y = b;
	int order = strcmp(x->name, y->name);
	return order ? order : strcmp(x->value, y->value);
}

/* Name and value encoded, as a malloced string. */
static char *encoded(const char *text)
{
	char *result = NULL;
	size_t n;
	FILE *out = open_memstream(&result, &n);
	if (!out)
		return NULL;
	put_encoded(out, text, strlen(text), 0);
	if (fclose(out) != 0) {
		free(result);
		return NULL;
	}
	return result;
}

/* The order is that of the encoded text, which is not the order of what it stands for. */
static int put_query(FILE *out, const struct form *query)
{
	int result = 0;
	size_t n = 0;
	OWN(free) struct aws_pair *pairs = calloc(query->n + 1, sizeof(*pairs));
	if (!pairs)
		return -ENOMEM;
	for (size_t i = 0; i < query->n; i++) {
		if (strcmp(query->pair[i].name, "X-Amz-Signature") == 0)
			continue;
		pairs[n].name = encoded(query->pair[i].name);
		pairs[n].value = encoded(query->pair[i].value);
		if (!pairs[n].name || !pairs[n].value)
			result = -ENOMEM;
		n++;
	}
	if (result == 0) {
		qsort(pairs, n, sizeof(*pairs), compare_pairs);
		for (size_t i = 0; i < n; i++)
			fprintf(out, "%s%s=%s", i ? "&" : "", pairs[i].name, pairs[i].value);
		fputc('\n', out);
	}
	for (size_t i = 0; i < n; i++) {
		free((char *)pairs[i].name);
		free((char *)pairs[i].value);
	}
	return result;
}

static void put_folded(FILE *out, const char *value)
{
	value += strspn(value, " \t\r\n");
	while (*value) {
		size_t n = strcspn(value, " \t\r\n");
		fwrite(value, 1, n, out);
		value += n;
		value += strspn(value, " \t\r\n");
		if (*value)
			fputc(' ', out);
	}
}

static void put_headers(FILE *out, const struct sigv4_request *r, const char *signed_headers)
{
	for (const char *at = signed_headers; *at; at += strspn(at, ";")) {
		size_t length = strcspn(at, ";");
		int is_first = 1;
		fprintf(out, "%.*s:", (int)length, at);
		for (size_t i = 0; i < r->n_headers; i++) {
			if (strlen(r->headers[i].name) != length ||
			    strncasecmp(r->headers[i].name, at, length) != 0)
				continue;
			if (!is_first)
				fputc(',', out);
			put_folded(out, r->headers[i].value);
			is_first = 0;
		}
		fputc('\n', out);
		at += length;
	}
}

/* What stands for the body. S3 takes the client's word here (its reader checks the bytes as they
 * come). */
static const char *payload_hash(const struct sigv4_request *r, const struct sigv4 *claim, int is_s3)
{
	const char *header = sigv4_header(r, "x-amz-content-sha256");
	if (is_s3 && claim->is_presigned)
		return header ? header : "UNSIGNED-PAYLOAD";
	return is_s3 && header ? header : r->body_sha256;
}

char *sigv4_canonical(const struct sigv4_request *r, const struct sigv4 *claim)
{
	char *text = NULL;
	size_t n;
	int is_s3 = strcmp(claim->service, "s3") == 0;
	FILE *out = open_memstream(&text, &n);
	if (!out)
		return NULL;
	fprintf(out, "%s\n", r->method);
	int result = put_path(out, r->path, is_s3);
	if (result == 0)
		result = put_query(out, r->query);
	put_headers(out, r, claim->signed_headers);
	fprintf(out, "\n%s\n%s", claim->signed_headers, payload_hash(r, claim, is_s3));
	if (fclose(out) != 0 || result < 0) {
		free(text);
		return NULL;
	}
	return text;
}

static int hmac(const unsigned char *key, size_t n_key, const char *text,
		unsigned char ret_mac[static 32])
{
	unsigned n = 32;
	return HMAC(EVP_sha256(), key, (int)n_key, (const unsigned char *)text, strlen(text),
		    ret_mac, &n)
		       ? 0
		       : -ENOMEM;
}

int sigv4_sign(const struct sigv4_request *r, const struct sigv4 *claim, const char *secret,
	       char ret_signature[static 65])
{
	OWN(free) char *canonical = sigv4_canonical(r, claim);
	char first[256], to_sign[512], hash[65];
	if (!canonical || (size_t)snprintf(first, sizeof(first), "AWS4%s", secret) >= sizeof(first))
		return -ENOMEM;
	sigv4_sha256(canonical, strlen(canonical), hash);
	snprintf(to_sign, sizeof(to_sign), "AWS4-HMAC-SHA256\n%s\n%s/%s/%s/aws4_request\n%s",
		 claim->timestamp, claim->date, claim->region, claim->service, hash);
	unsigned char key[32];
	const char *const steps[] = {claim->date, claim->region, claim->service, "aws4_request",
				     to_sign};
	int result = hmac((const unsigned char *)first, strlen(first), steps[0], key);
	for (size_t i = 1; result == 0 && i < sizeof(steps) / sizeof(*steps); i++) {
		unsigned char next[32];
		result = hmac(key, sizeof(key), steps[i], next);
		memcpy(key, next, sizeof(key));
	}
	if (result == 0)
		to_hex(key, sizeof(key), ret_signature);
	OPENSSL_cleanse(first, sizeof(first));
	OPENSSL_cleanse(key, sizeof(key));
	return result;
}
