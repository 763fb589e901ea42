/*
 * Local actions: those the front door answers itself. Either because they are about who asks (STS),
 * or because they concern several daemons at once (tags of anything), or because the answer is that
 * this cloud has none of such things.
 */
#pragma once

#include "apid.h"

/* One action under way. */
struct local_call {
	struct apid *apid;
	const struct identity *who;
	const struct context *ctx;
	const char *method; /* "ec2.CreateTags" */
};

/* (fiber) 0 with *ret_reply (a new reference) or -errno with `f` filled. */
typedef int (*local_action)(struct local_call *c, json_t *parameters, json_t **ret_reply,
			    struct fault *f);

/* The function that answers `method`, NULL: none. */
local_action local_find(const char *method);
/* The whole service is the front door's (STS, IAM): what is not found here is nowhere. */
int local_owns(const char *method);

/* tags.c: split by the owners of the ids, joined over all of them. */
int local_create_tags(struct local_call *c, json_t *parameters, json_t **ret_reply,
		      struct fault *f);
int local_delete_tags(struct local_call *c, json_t *parameters, json_t **ret_reply,
		      struct fault *f);
int local_describe_tags(struct local_call *c, json_t *parameters, json_t **ret_reply,
			struct fault *f);

/* absent.c: Describe actions for what a box does not have. */
int absent_has(const char *method);
int local_describe_absent(struct local_call *c, json_t *parameters, json_t **ret_reply,
			  struct fault *f);
