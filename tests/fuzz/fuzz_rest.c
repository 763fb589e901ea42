/* A stranger's request to a rest service:
 * "METHOD\nPATH\nQUERYNAME\nQUERYVALUE\nHEADER\nVALUE\nBODY…". */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "aws/aws.h"
#include "own.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *next_line(char **at)
{
	char *line = *at, *end = strchr(line, '\n');

	*at = end ? end + 1 : line + strlen(line);
	if (end)
		*end = '\0';
	return line;
}

static void try(const char *service, const struct aws_rest *r)
{
	const struct aws_action *a = aws_action_route(aws_service_find(service), r);
	OWN(json_decref) json_t *parameters = NULL;
	OWN(json_decref) json_t *headers = NULL;
	struct fault f = {0};

	if (a && aws_decode_rest(a, r, &parameters, &f) == 0)
		(void)aws_encode_headers(a, parameters, &headers); /* it need not fit */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	OWN(free) char *text = malloc(size + 1);
	char *at = text;

	memcpy(text, data, size);
	text[size] = '\0';
	struct aws_rest r = {.method = next_line(&at), .path = next_line(&at)};
	struct aws_pair query = {.name = next_line(&at), .value = next_line(&at)};
	struct aws_pair header = {.name = next_line(&at), .value = next_line(&at)};

	r.query = &query;
	r.headers = &header;
	r.n_query = r.n_headers = 1;
	r.body = at;
	r.n_body = strlen(at);
	try("ebs", &r);
	try("s3", &r);
	return 0;
}
