/* Services, actions, members and enums: looking things up in the generated tables. */
#include "table.h"

#include <stdlib.h>

const struct aws_service *aws_service_find(const char *endpoint_prefix)
{
	for (int i = 0; i < AWS_N_SERVICES; i++)
		if (strcmp(aws_text(aws_services[i].prefix), endpoint_prefix) == 0)
			return &aws_services[i];
	return NULL;
}

const struct aws_service *aws_service_next(const struct aws_service *s)
{
	s = s ? s + 1 : aws_services;
	return s < aws_services + AWS_N_SERVICES ? s : NULL;
}

enum aws_protocol aws_service_protocol(const struct aws_service *s)
{
	return s->protocol;
}

const char *aws_service_prefix(const struct aws_service *s)
{
	return aws_text(s->prefix);
}

const char *aws_service_version(const struct aws_service *s)
{
	return aws_text(s->version);
}

static int compare_action(const void *name, const void *action)
{
	return strcmp(name, aws_text(((const struct aws_action *)action)->name));
}

const struct aws_action *aws_action_find(const struct aws_service *s, const char *name)
{
	return bsearch(name, aws_actions + s->first_action, s->n_actions, sizeof *aws_actions,
		       compare_action);
}

const char *aws_action_name(const struct aws_action *a)
{
	return aws_text(a->name);
}

int aws_action_takes(const struct aws_action *a, const char *parameter)
{
	const struct aws_shape *input = aws_shape_at(a->input);

	return input && aws_member_find(input, parameter, strlen(parameter));
}

static int same(uint32_t text, const char *name, size_t n_bytes)
{
	const char *t = aws_text(text);

	return strncmp(t, name, n_bytes) == 0 && t[n_bytes] == '\0';
}

const struct aws_member *aws_member_find(const struct aws_shape *s, const char *name,
					 size_t n_bytes)
{
	for (unsigned i = 0; s->type == AWS_STRUCTURE && i < s->n; i++)
		if (same(aws_member_at(s, i)->name, name, n_bytes))
			return aws_member_at(s, i);
	return NULL;
}

const struct aws_member *aws_member_find_request(const struct aws_shape *s, const char *name,
						 size_t n_bytes)
{
	for (unsigned i = 0; s->type == AWS_STRUCTURE && i < s->n; i++)
		if (same(aws_member_at(s, i)->request, name, n_bytes))
			return aws_member_at(s, i);
	return NULL;
}

static int compare_text(const void *text, const void *offset)
{
	return strcmp(text, aws_text(*(const uint32_t *)offset));
}

int aws_enum_has(const struct aws_shape *s, const char *text)
{
	return !!bsearch(text, aws_enums + s->first, s->n, sizeof *aws_enums, compare_text);
}

const struct aws_member *aws_payload_find(const struct aws_shape *s)
{
	for (unsigned i = 0; s && s->type == AWS_STRUCTURE && i < s->n; i++)
		if (aws_member_at(s, i)->flags & AWS_PAYLOAD)
			return aws_member_at(s, i);
	return NULL;
}

static int is_stream(uint16_t shape)
{
	const struct aws_member *m = aws_payload_find(aws_shape_at(shape));

	return m && aws_shape_of(m)->type == AWS_BLOB;
}

int aws_action_streams_in(const struct aws_action *a)
{
	return is_stream(a->input);
}

int aws_action_streams_out(const struct aws_action *a)
{
	return is_stream(a->output);
}

int aws_action_may_be_unsigned(const struct aws_action *a)
{
	return a->may_be_unsigned;
}

int aws_action_status(const struct aws_action *a)
{
	return a->status;
}
