/* Refusing a parameter in the words of the service. */
#include "refuse.h"

#include <stdarg.h>
#include <stdio.h>

#define SHOWN 100 /* bytes of a customer's value in a message */

static int speaks_ec2(const struct aws_where *w)
{
	return aws_service_of(w->action)->protocol == AWS_EC2;
}

/* What the models of the JSON services call it. */
static enum fault_kind invalid(const struct aws_where *w)
{
	int protocol = aws_service_of(w->action)->protocol;

	return protocol == AWS_REST_JSON ? FAULT_EBS_INVALID_PARAMETER : FAULT_VALIDATION_ERROR;
}

/* Appends, and stays within the buffer. */
static void append(char *text, size_t n_bytes, const char *format, ...)
{
	size_t at = strlen(text);
	va_list args;

	va_start(args, format);
	vsnprintf(text + at, n_bytes - at, format, args);
	va_end(args);
}

static void print_index(const struct aws_where *w, char *ret_text, size_t n_bytes)
{
	const struct aws_member *list = w->up->member;
	int is_flat = speaks_ec2(w) || (list && list->flags & AWS_FLATTENED);

	if (list && aws_shape_of(list)->type == AWS_MAP)
		append(ret_text, n_bytes, is_flat ? ".%zu.%s" : ".entry.%zu.%s", w->index,
		       aws_text(w->member->request));
	else if (is_flat)
		append(ret_text, n_bytes, ".%zu", w->index);
	else
		append(ret_text, n_bytes, ".%s.%zu", aws_text(w->member->request), w->index);
}

void aws_where_print(const struct aws_where *w, char *ret_text, size_t n_bytes)
{
	if (!w->up) {
		*ret_text = '\0';
		return;
	}
	aws_where_print(w->up, ret_text, n_bytes);
	if (w->index > 0)
		print_index(w, ret_text, n_bytes);
	else
		append(ret_text, n_bytes, "%s%s", *ret_text ? "." : "",
		       aws_text(w->member->request));
}

/* "tags.1.member.key": how the Query services' validation names a value. */
static void print_lower(const struct aws_where *w, char *ret_text, size_t n_bytes)
{
	if (!w->up) {
		*ret_text = '\0';
		return;
	}
	print_lower(w->up, ret_text, n_bytes);
	if (w->index > 0) {
		append(ret_text, n_bytes, ".%zu.member", w->index);
		return;
	}
	const char *name = aws_text(w->member->name);
	int first = *name >= 'A' && *name <= 'Z' ? *name - 'A' + 'a' : *name;

	append(ret_text, n_bytes, "%s%c%s", *ret_text ? "." : "", first, name + 1);
}

/* The value as it may stand in a message: a bounded part that ends at a whole character; what is
 * not UTF-8 becomes so where the message is written. */
static const char *shown(const struct aws_where *w, const char *value,
			 char buffer[static SHOWN + 8])
{
	if (w->member && w->member->flags & AWS_SENSITIVE)
		return "***";
	size_t n = strnlen(value, SHOWN);

	memcpy(buffer, value, n);
	while (n > 0 && ((unsigned char)value[n] & 0xc0) == 0x80)
		n--; /* not within a character; a text that ends here has its NUL at n */
	strcpy(buffer + n, value[n] ? "..." : "");
	return buffer;
}

__attribute__((format(printf, 5, 6))) static int
refuse_value(const struct aws_where *w, const char *value, const char *ec2_reason, struct fault *f,
	     const char *format, ...)
{
	char where[256], buffer[SHOWN + 8], reason[256];
	va_list args;

	va_start(args, format);
	vsnprintf(reason, sizeof reason, format, args);
	va_end(args);
	if (speaks_ec2(w)) {
		aws_where_print(w, where, sizeof where);
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%s) for parameter %s is invalid. %s",
				 shown(w, value, buffer), where, ec2_reason);
	}
	print_lower(w, where, sizeof where);
	return fault_set(
		f, invalid(w),
		"1 validation error detected: Value '%s' at '%s' failed to satisfy constraint: %s",
		shown(w, value, buffer), where, reason);
}

int aws_refuse_unknown(const struct aws_where *parent, const char *name, size_t n_bytes,
		       struct fault *f)
{
	char where[256], copy[SHOWN + 1];

	n_bytes = n_bytes < SHOWN ? n_bytes : SHOWN;
	memcpy(copy, name, n_bytes);
	copy[n_bytes] = '\0';
	aws_where_print(parent, where, sizeof where);
	return fault_set(f, FAULT_UNKNOWN_PARAMETER, "The parameter %s%s%s is not recognized",
			 where, *where ? "." : "", copy);
}

int aws_refuse_missing(const struct aws_where *w, struct fault *f)
{
	char where[256];

	if (speaks_ec2(w)) {
		aws_where_print(w, where, sizeof where);
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter %s", where);
	}
	print_lower(w, where, sizeof where);
	return fault_set(f, invalid(w),
			 "1 validation error detected: Value null at '%s' failed to satisfy "
			 "constraint: Member must not be null",
			 where);
}

int aws_refuse_type(const struct aws_where *w, const char *value, struct fault *f)
{
	static const char *const words[] = {
		[AWS_STRUCTURE] = "a structure",
		[AWS_LIST] = "a list",
		[AWS_MAP] = "a map",
		[AWS_STRING] = "UTF-8 text",
		[AWS_INTEGER] = "an integer",
		[AWS_LONG] = "an integer",
		[AWS_DOUBLE] = "a number",
		[AWS_BOOLEAN] = "a boolean",
		[AWS_TIMESTAMP] = "a timestamp",
		[AWS_BLOB] = "base64",
	};
	const char *word = words[w->member ? aws_shape_of(w->member)->type : AWS_STRUCTURE];
	char where[256], buffer[SHOWN + 8], reason[64];

	if (speaks_ec2(w)) {
		snprintf(reason, sizeof reason, "It must be %s.", word);
		return refuse_value(w, value, reason, f, "Member must be %s", word);
	}
	aws_where_print(w, where, sizeof where);
	if (aws_service_of(w->action)->protocol == AWS_REST_JSON)
		return refuse_value(w, value, "", f, "Member must be %s", word);
	return fault_set(f, FAULT_MALFORMED_INPUT, "The value '%s' of %s is not %s",
			 shown(w, value, buffer), where, word);
}

int aws_refuse_enum(const struct aws_where *w, const char *value, struct fault *f)
{
	const struct aws_shape *s = aws_shape_of(w->member);
	char set[200] = "";
	unsigned i;

	for (i = 0;
	     i < s->n && strlen(set) + strlen(aws_text(aws_enums[s->first + i])) + 8 < sizeof set;
	     i++)
		append(set, sizeof set, "%s%s", i ? ", " : "", aws_text(aws_enums[s->first + i]));
	append(set, sizeof set, "%s", i < s->n ? ", ..." : "");
	char reason[256];

	snprintf(reason, sizeof reason, "It must be one of: %s.", set);
	return refuse_value(w, value, reason, f, "Member must satisfy enum value set: [%s]", set);
}

int aws_refuse_pattern(const struct aws_where *w, const char *value, struct fault *f)
{
	const char *pattern = aws_text(aws_limits[aws_shape_of(w->member)->limits].pattern_text);

	return refuse_value(w, value,
			    "It contains characters, or has a form, that are not allowed.", f,
			    "Member must satisfy regular expression pattern: %s", pattern);
}

int aws_refuse_bounds(const struct aws_where *w, const char *value, int is_low, struct fault *f)
{
	const struct aws_shape *s = aws_shape_of(w->member);
	const struct aws_limits *limits = &aws_limits[s->limits];
	int is_number = s->type == AWS_INTEGER || s->type == AWS_LONG || s->type == AWS_DOUBLE;
	double bound = is_low ? limits->low : limits->high;
	char reason[128];

	snprintf(reason, sizeof reason, "Expecting a %s of at %s %.15g.",
		 is_number ? "value" : "length", is_low ? "least" : "most", bound);
	return refuse_value(w, value, reason, f, "Member must have %s %s than or equal to %.15g",
			    is_number ? "value" : "length", is_low ? "greater" : "less", bound);
}

int aws_refuse_size(const struct aws_where *w, const char *what, struct fault *f)
{
	char where[256];

	aws_where_print(w, where, sizeof where);
	return fault_set(f, speaks_ec2(w) ? FAULT_INVALID_PARAMETER_VALUE : FAULT_MALFORMED_INPUT,
			 "%s at parameter %s", what, where);
}
