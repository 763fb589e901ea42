/* Auth: key, scope, clock and signature, in that order, each refused in the service's own words. */
#include "auth.h"

#include <errno.h>
#include <string.h>
#include "zones.h"

enum refusal { BAD_SIGNATURE, UNKNOWN_KEY, BAD_TIME };

/* Columns as enum aws_protocol. */
static const enum fault_kind words[][5] = {
	[BAD_SIGNATURE] = {[AWS_EC2] = FAULT_AUTH_FAILURE,
			   [AWS_QUERY] = FAULT_SIGNATURE_DOES_NOT_MATCH,
			   [AWS_JSON] = FAULT_INVALID_SIGNATURE,
			   [AWS_REST_JSON] = FAULT_INVALID_SIGNATURE,
			   [AWS_REST_XML] = FAULT_SIGNATURE_DOES_NOT_MATCH},
	[UNKNOWN_KEY] = {[AWS_EC2] = FAULT_AUTH_FAILURE,
			 [AWS_QUERY] = FAULT_INVALID_CLIENT_TOKEN_ID,
			 [AWS_JSON] = FAULT_UNRECOGNIZED_CLIENT,
			 [AWS_REST_JSON] = FAULT_UNRECOGNIZED_CLIENT,
			 [AWS_REST_XML] = FAULT_INVALID_ACCESS_KEY_ID},
	[BAD_TIME] = {[AWS_EC2] = FAULT_REQUEST_EXPIRED,
		      [AWS_QUERY] = FAULT_SIGNATURE_DOES_NOT_MATCH,
		      [AWS_JSON] = FAULT_INVALID_SIGNATURE,
		      [AWS_REST_JSON] = FAULT_INVALID_SIGNATURE,
		      [AWS_REST_XML] = FAULT_REQUEST_TIME_TOO_SKEWED},
};

static enum fault_kind word(const struct aws_service *service, enum refusal refusal)
{
	return words[refusal][aws_service_protocol(service)];
}

static int check_time(const struct aws_service *service, const struct sigv4 *claim, int64_t now_sec,
		      struct fault *f)
{
	char now[17], bound[17];
	enum sigv4_age age = sigv4_age(claim, now_sec);
	if (age == SIGV4_CURRENT)
		return 0;
	if (aws_service_protocol(service) == AWS_EC2)
		return fault_set(f, FAULT_REQUEST_EXPIRED, "Request has expired.");
	sigv4_timestamp(now_sec, now);
	if (age == SIGV4_NOT_YET) {
		sigv4_timestamp(now_sec + SIGV4_SKEW_SEC, bound);
		return fault_set(
			f, word(service, BAD_TIME),
			"Signature not yet current: %s is still later than %s (%s + 15 min.)",
			claim->timestamp, bound, now);
	}
	sigv4_timestamp(now_sec - (claim->is_presigned ? claim->expires_sec : SIGV4_SKEW_SEC),
			bound);
	return fault_set(f, word(service, BAD_TIME),
			 "Signature expired: %s is now earlier than %s (now %s)", claim->timestamp,
			 bound, now);
}

/* STS and IAM are global: their home is us-east-1 even in a cloud without that region. */
static int check_scope(const struct config *c, const struct aws_service *service,
		       const struct sigv4 *claim, struct fault *f)
{
	const char *name = aws_service_prefix(service);
	int is_home = strcmp(claim->region, "us-east-1") == 0 &&
		      (strcmp(name, "sts") == 0 || strcmp(name, "iam") == 0);
	if (!is_home && !region_exists(c, claim->region))
		return fault_set(f, word(service, BAD_SIGNATURE),
				 "Credential should be scoped to a valid region, not '%s'.",
				 claim->region);
	if (strncmp(claim->date, claim->timestamp, 8) != 0)
		return fault_set(f, word(service, BAD_SIGNATURE),
				 "Date in Credential scope does not match YYYYMMDD from ISO-8601 "
				 "version of date from HTTP: "
				 "'%s' != '%.8s', from '%s'.",
				 claim->date, claim->timestamp, claim->timestamp);
	return 0;
}

static int is_signature_of(const struct sigv4_request *r, const struct sigv4 *claim,
			   const char *secret)
{
	char signature[65];
	return sigv4_sign(r, claim, secret, signature) == 0 &&
	       sigv4_equal(signature, claim->signature);
}

/* Some actions' large bodies are left to TLS and to a checksum of their own. */
static int is_signed_without_body(const struct sigv4_request *r, const struct sigv4 *claim,
				  const char *secret)
{
	static const char word[] = "UNSIGNED-PAYLOAD";
	const char *header = sigv4_header(r, "x-amz-content-sha256");
	struct sigv4_request without = *r;
	if (!r->may_be_unsigned || (header && strcmp(header, word) != 0))
		return 0;
	strcpy(without.body_sha256, word);
	return is_signature_of(&without, claim, secret);
}

static int check_signature(const struct aws_service *service, const struct sigv4_request *r,
			   const struct sigv4 *claim, const char *secret, struct fault *f)
{
	const char *header = sigv4_header(r, "x-amz-content-sha256");
	int is_right = is_signature_of(r, claim, secret);
	/* The signature covers the body that came; a header that says otherwise is a lie about it.
	 */
	if (is_right && header && aws_service_protocol(service) != AWS_REST_XML &&
	    strcmp(header, r->body_sha256) != 0)
		is_right = 0;
	is_right = is_right || is_signed_without_body(r, claim, secret);
	if (is_right)
		return 0;
	if (aws_service_protocol(service) == AWS_EC2)
		return fault_set(f, FAULT_AUTH_FAILURE,
				 "AWS was not able to validate the provided access credentials");
	return fault_set(
		f, word(service, BAD_SIGNATURE),
		"The request signature we calculated does not match the signature you provided. "
		"Check your AWS Secret Access Key and signing method. Consult the service "
		"documentation for details.");
}

int auth_check(const struct config *c, const struct store *keys, const struct aws_service *service,
	       const struct sigv4_request *r, const struct sigv4 *claim, int64_t now_sec,
	       struct identity *ret_identity, struct fault *f)
{
	struct access_key key;
	if (!service)
		return fault_set(
			f, FAULT_SIGNATURE_DOES_NOT_MATCH,
			"Credential should be scoped to a service of this cloud, not '%s'.",
			claim->service);
	/* No sessions are handed out yet, so no session token can be right. */
	if (credentials_find(keys, claim->access_key, &key) < 0 || claim->has_token)
		return fault_set(
			f, word(service, UNKNOWN_KEY), "%s",
			aws_service_protocol(service) == AWS_EC2
				? "AWS was not able to validate the provided access credentials"
				: "The security token included in the request is invalid.");
	int result = check_scope(c, service, claim, f);
	if (result == 0)
		result = check_time(service, claim, now_sec, f);
	if (result == 0)
		result = check_signature(service, r, claim, key.secret, f);
	if (result < 0)
		return result;
	snprintf(ret_identity->account, sizeof(ret_identity->account), "%s", key.account);
	snprintf(ret_identity->principal, sizeof(ret_identity->principal), "%s", key.principal);
	snprintf(ret_identity->user_id, sizeof(ret_identity->user_id), "%s", key.user_id);
	return 0;
}
