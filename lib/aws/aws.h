/*
 * The AWS codec: requests in, replies out, by AWS's own service models.
 *
 * scripts/aws-models.py reads the models of Debian's python3-botocore at build time and writes
 * const tables (build/gen/); nothing of them is copied into the repository. The tables hold
 * offsets, not pointers, so that they stay clean, shared pages of which only what is used is ever
 * loaded. One engine serves the ec2, query, json, rest-json and rest-xml protocols.
 *
 * In memory a request and a reply are JSON with the models' member names ("InstanceIds": ["i-…"]),
 * timestamps as ISO 8601 strings or numbers (seconds since the epoch), blobs as base64 strings.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include "../fault.h"

enum aws_protocol { AWS_EC2, AWS_QUERY, AWS_JSON, AWS_REST_JSON, AWS_REST_XML };

struct aws_service; /* opaque rows of the generated tables */
struct aws_action;

struct aws_pair {
	const char *name, *value; /* decoded, UTF-8 */
};

/* By endpoint prefix ("ec2", "sts", "iam", "elasticloadbalancing", "autoscaling", "monitoring",
 * "s3"): what SigV4's scope names. NULL: unknown. */
const struct aws_service *aws_service_find(const char *endpoint_prefix);
/* All of them, one after the other, beginning with that after NULL; NULL: that was the last. */
const struct aws_service *aws_service_next(const struct aws_service *s);
enum aws_protocol aws_service_protocol(const struct aws_service *s);
const char *aws_service_prefix(const struct aws_service *s);
/* "2016-11-15" */
const char *aws_service_version(const struct aws_service *s);
/* By name ("RunInstances"). NULL: AWS has no such action. */
const struct aws_action *aws_action_find(const struct aws_service *s, const char *name);
const char *aws_action_name(const struct aws_action *a);
/* The action takes a parameter of this name ("DryRun", "ClientToken"). */
int aws_action_takes(const struct aws_action *a, const char *parameter);

/* The body (of a request, of a reply) is a stream of bytes: it is no member of the parameters or of
 * the reply, but passed beside them. */
int aws_action_streams_in(const struct aws_action *a);
int aws_action_streams_out(const struct aws_action *a);
/* The body need not be under the signature. */
int aws_action_may_be_unsigned(const struct aws_action *a);
/* The HTTP status of a good reply. */
int aws_action_status(const struct aws_action *a);

/* Query parameters to JSON: "Filter.1.Value.2=x" → {"Filters": [{"Values": [..]}]}, types
 * converted, gaps in numbering closed in order; Action, Version and signature parameters are
 * skipped. Refused with AWS's error: unknown parameter (UnknownParameter), wrong type or enum, out
 * of the model's bounds or pattern (InvalidParameterValue), a required one missing
 * (MissingParameter), nesting deeper than 16, more than 10,000 list elements. */
int aws_decode_query(const struct aws_action *a, const struct aws_pair *pairs, size_t n_pairs,
		     json_t **ret_parameters, struct fault *f);
/* A JSON body (the JSON protocols) to JSON, checked by the model in the same way. */
int aws_decode_json(const struct aws_action *a, const char *body, size_t n_bytes,
		    json_t **ret_parameters, struct fault *f);
/* An XML body (rest-xml) to JSON: the members that stand in the body, checked; what HTTP's path,
 * query and headers carry is the caller's to add, and all of it is aws_check's to check. An empty
 * body, or one that is a stream, is the empty object. No document type, nothing the model lacks:
 * MalformedXML. */
int aws_decode_xml(const struct aws_action *a, const char *body, size_t n_bytes,
		   json_t **ret_parameters, struct fault *f);
/* A request of the rest protocols, as HTTP carries it. */
struct aws_rest {
	const char *method;
	const char *path; /* as received: percent-encoded, without the query */
	const struct aws_pair *query, *headers;
	size_t n_query, n_headers;
	const char *body;
	size_t n_body;
};
/* The action that method, path and query ask for. Where several do (S3: "?acl", or a part's
 * number), the one that says most. NULL: none. */
const struct aws_action *aws_action_route(const struct aws_service *s, const struct aws_rest *r);
/* Path, query, headers and body (JSON or XML, by the service) to JSON, checked; a body that is a
 * stream is not looked at. Query parameters and headers that the model lacks are nobody's. */
int aws_decode_rest(const struct aws_action *a, const struct aws_rest *r, json_t **ret_parameters,
		    struct fault *f);
/* Parameters that are JSON already (the console, the command line): checked only. */
int aws_check(const struct aws_action *a, const json_t *parameters, struct fault *f);

/* The reply's body by the action's protocol; members not in the model (ours begin with "_") are
 * left out, absent structures are absent, lists that the reply has are present even when empty.
 * malloced; -EPROTO with a reply that does not fit the model (a string where a structure should be)
 * : our own mistake, to be logged with aws_encode_where(). */
int aws_encode(const struct aws_action *a, const json_t *reply, const char *request_id,
	       char **ret_body, size_t *ret_bytes);
/* What of the reply HTTP's headers carry (rest protocols): an object of texts, a new reference. 0,
 * -EPROTO as above, or -EINVAL: a value that no header can hold. */
int aws_encode_headers(const struct aws_action *a, const json_t *reply, json_t **ret_headers);
/* After -EPROTO, on the same thread: the way to the member that did not fit
 * ("Reservations.member.OwnerId"). */
const char *aws_encode_where(void);
/* An error's body: EC2 <Response><Errors><Error>, Query <ErrorResponse>, S3 <Error>, JSON
 * {"__type"}. `s` NULL: as EC2. A code of the rest-json services may carry a reason after a colon
 * ("ValidationException:INVALID_BLOCK"): it becomes the member Reason. */
int aws_encode_error(const struct aws_service *s, const struct fault *f, const char *request_id,
		     char **ret_body, size_t *ret_bytes);
/* The code in the words of the JSON services ("IncompleteSignatureException"), as the header
 * x-amzn-ErrorType has it too (rest-json: a client reads it there). */
void aws_error_type(const struct fault *f, char ret_type[static 80]);
/* The Content-Type that goes with both. */
const char *aws_content_type(const struct aws_service *s);
