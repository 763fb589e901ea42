/*
 * Faults: why a customer's request was refused, in AWS's words.
 *
 * lib/fault-table.h is the one table that maps each fault to AWS error code, HTTP status and errno.
 * A function that answers a customer takes a `struct fault *` last, fills it where the reason is
 * known with fault_set(), and returns what fault_set() returned (-errno of the row). A fault that
 * came over the wire from another daemon is kept by code and status (fault_set_code). `f` may be
 * NULL where nobody wants the words.
 */
#pragma once

#include <stddef.h>

enum fault_kind {
#define FAULT(name, code, status, error) FAULT_##name,
#include "fault-table.h"
#undef FAULT
	FAULT_COUNT
};

struct fault {
	char code[80];	   /* AWS error code, "" while unset */
	int status;	   /* HTTP status */
	char message[512]; /* a sentence for the customer, UTF-8 whatever it was made of */
};

/* Fills `f` and returns the row's -errno. A fault that is set already is overwritten. */
int fault_set(struct fault *f, enum fault_kind kind, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The same for a code that is not ours to know (from the wire). Returns -EREMOTE. */
int fault_set_code(struct fault *f, const char *code, int status, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* `f` has a code. */
int fault_is_set(const struct fault *f);
/* `f` carries this kind's code. */
int fault_is(const struct fault *f, enum fault_kind kind);
