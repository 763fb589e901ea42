/*
 * Envelope: in whose words a request is refused of which no claim could be read.
 *
 * AWS knows by the host name which service was asked; here all have one endpoint, and the claim's
 * scope tells. Where there is none, or the request is too broken to be read, what is left of it is
 * looked at, for the form of the refusal alone: nothing is ever done by it.
 */
#pragma once

#include "form.h"
#include "http.h"

/* By, in this order: the scope wherever one stands (but in JSON what was asked in JSON), X-Amz-Target
 * or a JSON Content-Type, a path that only one service has, a path at all with a scope that this
 * cloud lacks, the API version. NULL: nothing tells; EC2's words then. */
const struct aws_service *envelope_service(const struct http_request *q);
/* JSON to a service of the Query protocol, as newer clients ask some of these (CloudWatch). */
int envelope_is_json_to_query(const struct http_request *q, const struct aws_service *s);
/* It is signed as it was done before Signature Version 4. */
int envelope_is_signed_before_v4(const struct http_request *q);
