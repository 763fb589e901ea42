/*
 * Auth: may this request be believed? A claim (apid/sigv4.h) is checked against the key, the clock,
 * the scope and the bytes; the refusal is in the words of the service that was asked, because
 * clients act on them:
 *
 *	        bad signature                  unknown key                     old or early
 *	EC2     401 AuthFailure                401 AuthFailure                 400 RequestExpired
 *	query   403 SignatureDoesNotMatch      403 InvalidClientTokenId        403 SignatureDoesNotMatch
 *	JSON    400 InvalidSignatureException  400 UnrecognizedClientException 400 InvalidSignatureException
 *	S3      403 SignatureDoesNotMatch      403 InvalidAccessKeyId          403 RequestTimeTooSkewed
 *
 * Source: EC2 API reference "Error codes"; IAM and STS "Common errors"; S3 "Error responses".
 */
#pragma once

#include "config.h"
#include "credentials.h"
#include "sigv4.h"

struct identity {
	char account[16];
	char principal[256];
	char user_id[64];
};

/* Everything that a signature promises. `service` is the row that the claim's scope names (NULL:
 * unknown, refused). */
int auth_check(const struct config *c, const struct store *keys, const struct aws_service *service,
	       const struct sigv4_request *r, const struct sigv4 *claim, int64_t now_sec,
	       struct identity *ret_identity, struct fault *f);
