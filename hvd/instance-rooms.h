/* The instances' rooms among themselves: every handler of instance-table.h, and what one room
 * needs of another. */
#pragma once

#include "catalog.h"
#include "fiber.h"
#include "hvd.h"
#include "instance.h"
#include "jsonx.h"
#include "log.h"

#define ACTION(name, handler, flags)                                                               \
	int handler(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f);
#include "instance-table.h"
#undef ACTION

/* instance-options.c: bytes of a base64 text when decoded, -EINVAL if it is none. White space
 * counts for nothing. */
ssize_t base64_length(const char *text);
/* User data as a request brings it: checked, at most 16,384 bytes. */
int user_data_check(const char *base64, struct fault *f);
/* Changes MetadataOptions of an instance's copy by a request's (of RunInstances or
 * ModifyInstanceMetadataOptions). */
int metadata_options_apply(json_t *options, const json_t *request, struct fault *f);
/* CpuOptions, _CpuCredits and what else follows from the type. */
int instance_set_type(json_t *instance, const struct instance_type *type);

/* instance-launch-parts.c: the volumes and interfaces that a launch asks for. */
int launch_read_volumes(struct call *c, json_t *parameters, const json_t *image,
			const char *image_account, struct launch *l, struct fault *f);
/* (fiber) Group names are asked of netd. */
int launch_read_interfaces(struct call *c, json_t *parameters, struct launch *l, struct fault *f);

/* instance-status.c: an agent that has spoken is silent: for too long since it was heard last or could
 * be (`heard`, `audible`: monotonic microseconds, 0 never), or, if that was so before (`is_noted`),
 * until it is heard again. */
int agent_is_silent(uint64_t now, uint64_t heard, uint64_t audible, int is_noted);
/* Packets that the instance's guests have sent so far through its first tap. */
int64_t instance_packets(const json_t *instance);

/* Monotonic microseconds. */
uint64_t now_usec(void);
