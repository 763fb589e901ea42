/* A JSON body from a stranger; and, since a daemon's reply may hold any text a stranger gave it,
 * the same body as a reply. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include "aws/table.h"
#include "own.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static void encode(const struct aws_action *a, const json_t *reply)
{
	OWN(free) char *body = NULL;
	size_t n_bytes;
	int r = aws_encode(a, reply, "id", &body, &n_bytes);

	if (r == -EPROTO)
		return;
	OWN(json_decref) json_t *text = r == 0 ? json_stringn(body, n_bytes) : NULL;

	if (!text) /* not UTF-8 */
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	OWN(json_decref) json_t *parameters = NULL;
	struct fault f = {0};

	if (n_bytes < 2)
		return 0;
	const struct aws_action *a = &aws_actions[(data[0] << 8 | data[1]) % AWS_N_ACTIONS];
	const char *body = (const char *)data + 2;
	OWN(json_decref) json_t *reply = json_loadb(body, n_bytes - 2, 0, NULL);

	if (aws_decode_json(a, body, n_bytes - 2, &parameters, &f) == 0 &&
	    aws_check(a, parameters, &f) < 0)
		abort();
	if (reply)
		encode(a, reply);
	return 0;
}
