/* What the agent reads of strangers: a line of the host, an HTTP answer. Bounds hold, and a quoted
 * text is read back as a value. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "../../agent/agent.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static struct http_reply reply;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	char text[64], quoted[600], line[700];
	size_t n = n_bytes < sizeof(text) ? n_bytes : sizeof(text) - 1;

	(void)line_command((const char *)data, n_bytes);
	if (http_parse((const char *)data, n_bytes, &reply) == 0 &&
	    (reply.n > n_bytes || reply.n > AGENT_BODY_MAX || reply.body[reply.n] != '\0' ||
	     reply.status > 999))
		abort();
	memcpy(text, data, n);
	text[n] = '\0';
	/* Whatever a host name holds, the line around it stays one object with its other member. */
	snprintf(line, sizeof(line), "{\"x\": %s, \"reboot\": {}}",
		 line_quote(text, quoted, sizeof(quoted)));
	if (line_command(line, strlen(line)) != COMMAND_REBOOT)
		abort();
	(void)ssh_key_is((const char *)data, n_bytes);
	(void)hostname_is(text);
	return 0;
}
