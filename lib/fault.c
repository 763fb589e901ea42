/* Faults: the table of AWS error codes and how a fault is filled. */
#include "fault.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "utf8.h"

static const struct {
	const char *code;
	int status;
	int error;
} table[FAULT_COUNT] = {
#define FAULT(name, code, status, error) [FAULT_##name] = {code, status, error},
#include "fault-table.h"
#undef FAULT
};

static void fill(struct fault *f, const char *code, int status, const char *format,
		 va_list arguments)
{
	char message[sizeof f->message];

	if (!f)
		return;
	/* The arguments may point into the fault that is being replaced. */
	(void)vsnprintf(message, sizeof message, format, arguments); /* cut at the end is fine */
	utf8_mend(message);
	(void)snprintf(f->code, sizeof f->code, "%s", code);
	memcpy(f->message, message, sizeof message);
	f->status = status;
}

int fault_set(struct fault *f, enum fault_kind kind, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fill(f, table[kind].code, table[kind].status, format, arguments);
	va_end(arguments);
	return -table[kind].error;
}

int fault_set_code(struct fault *f, const char *code, int status, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fill(f, code, status, format, arguments);
	va_end(arguments);
	return -EREMOTE;
}

int fault_is_set(const struct fault *f)
{
	return f && f->code[0];
}

int fault_is(const struct fault *f, enum fault_kind kind)
{
	return f && strcmp(f->code, table[kind].code) == 0;
}
