/* The catalog's rooms among themselves: every handler of catalog-table.h, and what one room needs
 * of another. */
#pragma once

#include "catalog.h"

#define ACTION(name, handler, flags)                                                               \
	int handler(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f);
#include "catalog-table.h"
#undef ACTION

#define IMAGE_KIND "image"

/* The caller's own image of any type. Faults: those of image_find, AuthFailure for another's. */
int image_own(const struct call *c, const char *image_id, const struct doc **ret_image,
	      struct fault *f);
/* The image of any type if the context may use it; NULL otherwise. */
const struct doc *image_get(const struct store *s, const struct context *ctx, const char *image_id);
/* Everybody may use it, or this account was given it. */
int image_is_shared(const json_t *image, const char *account);

/* Which snapshots an image refers to is known to stord too, which then refuses to delete them. The
 * two daemons must agree through any crash, so an image is first `image-arriving` (durable), then
 * stord is told, then it is an image; and it is `image-leaving` until stord has been told again.
 * What is arriving at start was cut off, and leaves. */

/* (fiber) Makes the arrival durable and protects the image's snapshots. On failure nothing is left.
 * The caller's txn_put of the image and image_arrive_done() then go into one commit. */
int image_arrive(struct call *c, const char *image_id, json_t *image, struct fault *f);
/* Adds the end of the arrival to the call's transaction. */
int image_arrive_done(struct call *c, const char *image_id);
/* (fiber) The arrival did not lead to an image. */
void image_arrive_undo(struct call *c, const char *image_id);
/* (fiber) The image is gone in one commit, and its snapshots are released; when stord is away that
 * is done later. */
int image_leave(struct call *c, const struct doc *image, struct fault *f);
/* At start: what was arriving leaves, and in the background all that leaves is released. 0 or
 * -errno. */
int image_leave_start(struct daemon *d);
