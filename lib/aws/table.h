/*
 * The rows of the generated tables (build/gen/aws-tables.c, by scripts/aws-models.py), and how to
 * walk them. Only lib/aws includes this.
 *
 * Rows refer to rows by index and to text by offset in aws_strings: no pointer, so no relocation,
 * and a page that is never looked at is never loaded. Index and offset 0 of limits, steps and
 * strings is "nothing".
 */
#pragma once

#include <stdint.h>
#include <string.h>
#include "aws.h"
#include "aws-tables.h"

#define AWS_NONE      0xffff
#define AWS_DEPTH_MAX 16    /* of a request's nesting */
#define AWS_ITEMS_MAX 10000 /* elements of all of a request's lists and maps */

enum aws_type {
	AWS_STRUCTURE,
	AWS_LIST,
	AWS_MAP,
	AWS_STRING,
	AWS_INTEGER,
	AWS_LONG,
	AWS_DOUBLE,
	AWS_BOOLEAN,
	AWS_TIMESTAMP,
	AWS_BLOB
};

enum aws_member_flags {
	AWS_REQUIRED = 1,
	AWS_FLATTENED = 2,
	AWS_ATTRIBUTE = 4, /* an XML attribute of its structure's element */
	AWS_PAYLOAD = 8,   /* this member alone is the body (rest protocols) */
	AWS_STREAMING = 16,
	AWS_SENSITIVE = 32, /* never in a message */
};

enum aws_location { AWS_BODY, AWS_HEADER, AWS_HEADERS, AWS_QUERYSTRING, AWS_URI, AWS_STATUS };
enum aws_timestamp { AWS_TIME_DEFAULT, AWS_TIME_ISO8601, AWS_TIME_UNIX, AWS_TIME_RFC822 };

struct aws_service {
	uint32_t prefix, version, namespace, target_prefix, json_version;
	uint16_t first_action, n_actions; /* sorted by name */
	uint16_t protocol;
};

struct aws_action {
	uint32_t name;
	uint32_t wrapper;    /* the query protocol's <XResult>, "" when the action has no output */
	uint32_t root;	     /* the reply's root element */
	uint32_t input_root; /* of a request's body, where no one member is the body (rest-xml) */
	uint32_t method, uri;
	uint16_t input, output; /* shapes, AWS_NONE: takes, gives nothing */
	uint16_t service;
	uint16_t status;	 /* of a good reply (rest protocols) */
	uint8_t may_be_unsigned; /* its body need not be under the signature */
};

struct aws_shape {
	uint16_t type;
	uint16_t n;	/* members of a structure; 1 of a list; key and value of a map; values of an
			   enum */
	uint16_t first; /* of them: in aws_members, or in aws_enums, sorted */
	uint16_t limits; /* of a number, or of a text's or list's length */
};

struct aws_member {
	uint32_t name;	  /* in JSON */
	uint32_t request; /* in a query's parameter names, in a JSON protocol's body */
	uint32_t reply;	  /* XML element */
	uint32_t namespace;
	uint16_t shape;
	uint8_t flags, location, timestamp;
};

struct aws_limits {
	double low, high;
	uint32_t pattern_text; /* for the message */
	uint16_t pattern;      /* step in aws_steps */
	uint8_t bounds;	       /* 1: low is set, 2: high is set */
};

/* One step of a pattern's automaton: see scripts/aws_patterns.py. */
enum aws_step_kind { AWS_STEP_MATCH, AWS_STEP_RANGES, AWS_STEP_SPLIT, AWS_STEP_JUMP };
struct aws_step {
	uint16_t kind, a, b; /* RANGES: b ranges from a on; SPLIT: to a and to b; JUMP: to a */
};
struct aws_range {
	uint32_t low, high; /* code points, both included */
};

extern const struct aws_service aws_services[];
extern const struct aws_action aws_actions[];
extern const struct aws_shape aws_shapes[];
extern const struct aws_member aws_members[];
extern const struct aws_limits aws_limits[];
extern const uint32_t aws_enums[];
extern const struct aws_step aws_steps[];
extern const struct aws_range aws_ranges[];
extern const char aws_strings[];

static inline const char *aws_text(uint32_t offset)
{
	return aws_strings + offset;
}

static inline const struct aws_shape *aws_shape_of(const struct aws_member *m)
{
	return &aws_shapes[m->shape];
}

static inline const struct aws_service *aws_service_of(const struct aws_action *a)
{
	return &aws_services[a->service];
}

static inline const struct aws_shape *aws_shape_at(uint16_t index)
{
	return index == AWS_NONE ? NULL : &aws_shapes[index];
}

static inline const struct aws_member *aws_member_at(const struct aws_shape *s, unsigned i)
{
	return &aws_members[s->first + i];
}

/* The structure's member of this name ("InstanceIds"), or by its name in requests ("InstanceId").
 * NULL: none. */
const struct aws_member *aws_member_find(const struct aws_shape *s, const char *name,
					 size_t n_bytes);
const struct aws_member *aws_member_find_request(const struct aws_shape *s, const char *name,
						 size_t n_bytes);
/* `text` is one of the enum's values. */
int aws_enum_has(const struct aws_shape *s, const char *text);
/* All of `text` (UTF-8) fits the pattern that starts at `step`: 1 or 0, or -ENOMEM. Time is text
 * times pattern at most. */
int aws_pattern_fits(uint16_t step, const char *text);
/* A moment as clients write it (ISO 8601 with or without fraction and offset, RFC 822, seconds
 * since the epoch) in microseconds since the epoch. 0 or -EINVAL (also for what was before 1970).
 */
int aws_time_parse(const char *text, int64_t *ret_usec);
/* `text` is base64, padded. */
int aws_base64_check(const char *text);
/* A scalar of the shape's type from its text, a new reference. 0; -EINVAL: it is none; -ENOMEM. */
int aws_scalar_read(const struct aws_shape *s, const char *text, json_t **ret_value);
/* Checks a value that will be the member `m` of the action's parameters: as aws_check, without what
 * is around it. */
int aws_check_member(const struct aws_action *a, const struct aws_member *m, const json_t *value,
		     struct fault *f);
/* A JSON body that holds the members of `s`, under the model's names; not checked. */
int aws_read_json(const struct aws_service *service, const struct aws_shape *s, const char *body,
		  size_t n_bytes, json_t **ret_value, struct fault *f);
/* The member that alone is the body (rest protocols), NULL: there is none. */
const struct aws_member *aws_payload_find(const struct aws_shape *s);
