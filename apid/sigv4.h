/*
 * SigV4: AWS Signature Version 4, the verifier's side; pure functions of a request, no clock and no
 * keys of their own.
 *
 * sigv4_parse() finds the claim (which key, which scope, which signature) in the Authorization
 * header or in the query (presigned); sigv4_sign() says what the signature would be for a secret;
 * sigv4_equal() compares. Who may sign, and how a refusal is called, is apid/auth.h.
 *
 * Source: AWS General Reference / IAM user guide, "Create a signed AWS API request"; S3 API
 * reference, "Authenticating Requests" for S3's own rules: its path is encoded once and not
 * normalised, its payload hash is the x-amz-content-sha256 header.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include "aws/aws.h"
#include "form.h"

#define SIGV4_SKEW_SEC	  (15 * 60)
#define SIGV4_EXPIRES_MAX (7 * 24 * 3600)

struct sigv4_request {
	const char *method;
	const char *path;		/* as received: still percent-encoded, without the query */
	const struct form *query;	/* decoded */
	const struct aws_pair *headers; /* in order, duplicates kept */
	size_t n_headers;
	char body_sha256[65]; /* lower-case hex */
	int may_be_unsigned;  /* the signature may leave out the body ("UNSIGNED-PAYLOAD") */
};

struct sigv4 {
	int is_presigned;
	int has_token; /* a session token came with it */
	char access_key[129];
	char date[9];	     /* the scope: "20150830", */
	char region[64];     /* "us-east-1", */
	char service[64];    /* "ec2" */
	char timestamp[17];  /* "20150830T123600Z" */
	int64_t signed_sec;  /* the same, seconds since the epoch */
	int64_t expires_sec; /* presigned: valid for so long after signed_sec; else 0 */
	char signed_headers[1024];
	char signature[65];
};

/* The value of a header (name in any case), NULL if none. */
const char *sigv4_header(const struct sigv4_request *r, const char *name);

/* The claim that the request carries. 0; -ENODATA: it is not signed, `f` is not touched; else
 * -errno with fault IncompleteSignature. */
int sigv4_parse(const struct sigv4_request *r, struct sigv4 *ret_claim, struct fault *f);

/* The canonical request, malloced; NULL out of memory. */
char *sigv4_canonical(const struct sigv4_request *r, const struct sigv4 *claim);
/* The signature that `secret` gives. 0 or -ENOMEM. */
int sigv4_sign(const struct sigv4_request *r, const struct sigv4 *claim, const char *secret,
	       char ret_signature[static 65]);
/* Compares in constant time. */
int sigv4_equal(const char signature[static 65], const char other[static 65]);

enum sigv4_age { SIGV4_CURRENT, SIGV4_EXPIRED, SIGV4_NOT_YET };
enum sigv4_age sigv4_age(const struct sigv4 *claim, int64_t now_sec);
/* "20150830T123600Z" */
void sigv4_timestamp(int64_t sec, char ret_timestamp[static 17]);

/* Lower-case hex of the SHA-256. */
void sigv4_sha256(const void *data, size_t n_bytes, char ret_hex[static 65]);
