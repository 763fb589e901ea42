/* An XML body from a stranger. What was taken must fit the model: it is written again as JSON, and
 * checked as such. */
#include <stdint.h>
#include <stdlib.h>
#include "aws/table.h"
#include "own.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	static const char *const names[] = {"DeleteObjects",
					    "PutBucketAcl",
					    "CreateBucket",
					    "PutBucketLifecycleConfiguration",
					    "PutBucketTagging",
					    "PutBucketCors",
					    "CompleteMultipartUpload",
					    "SelectObjectContent"};
	OWN(json_decref) json_t *parameters = NULL;
	struct fault f = {0};

	if (n_bytes < 1)
		return 0;
	const struct aws_service *s = aws_service_find("s3");
	const struct aws_action *a =
		aws_action_find(s, names[data[0] % (sizeof names / sizeof *names)]);

	if (aws_decode_xml(a, (const char *)data + 1, n_bytes - 1, &parameters, &f) < 0) {
		if (parameters || !f.code[0])
			abort();
		return 0;
	}
	OWN(free) char *dump = json_dumps(parameters, 0);

	if (!dump)
		abort();
	return 0;
}
