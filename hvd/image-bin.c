/*
 * The recycle bin of images. Source: EBS user guide, "Recover AMIs from the Recycle Bin".
 *
 * A deregistered image that a retention rule keeps (stord has the rules, and is asked) is a document
 * of the kind "image-in-bin", with the same members, `_BinEnter` and `_BinExit`. It leaves like any
 * other: its snapshots are its no more, and may be deleted; restoring it needs them. A kernel or
 * ramdisk that was copied for it stays until its end, and none that it boots with is deregistered
 * meanwhile. Its name is free: who takes it keeps the old image from being restored.
 */
#include "image-work.h"

#include <errno.h>
#include <string.h>
#include "describe.h"
#include "fiber.h"
#include "id.h"
#include "jsonx.h"
#include "log.h"

#define DAY_USEC  INT64_C(86400000000)
#define LOOK_USEC 60000000ull

/* (fiber) For how many days the rules keep it. */
static int days_of(const struct call *c, const json_t *image, int64_t *ret_days, struct fault *f)
{
	OWN(json_decref)
	json_t *ask = json_pack("{s:s, s:O*}", "ResourceType", "EC2_IMAGE", "Tags",
				json_object_get(image, "Tags"));
	OWN(json_decref) json_t *reply = NULL;
	int r = ask ? rpc_call(daemon_peer("stord"), c->ctx, "gureum.GetRetention", ask, NULL,
			       &reply, NULL, f)
		    : -ENOMEM;

	if (r == 0)
		*ret_days = jint(reply, "Days", 0);
	return r;
}

int image_bin_put(struct call *c, const char *image_id, struct fault *f)
{
	const struct doc *d = store_find(c->store, IMAGE_KIND, image_id);
	OWN(json_decref) json_t *json = d ? doc_edit(d) : NULL;
	const char *state = jstr_or(json, "State", "");
	int64_t days = 0, now = jtime_now_usec();

	if (!json)
		return -ENOMEM;
	/* What was never whole is nothing to restore. */
	if (strcmp(jstr_or(json, "ImageType", ""), "machine") != 0 ||
	    (strcmp(state, "available") != 0 && strcmp(state, "disabled") != 0))
		return 0;
	int r = days_of(c, json, &days, f);

	if (r < 0 || days <= 0)
		return r;
	r = jset_new(json, "_BinEnter", json_integer(now));
	if (r == 0)
		r = jset_new(json, "_BinExit", json_integer(now + days * DAY_USEC));
	if (r == 0)
		r = txn_put(c->txn, IMAGE_BIN_KIND, image_id, c->ctx->account, c->ctx->region,
			    give(json));
	return r < 0 ? r : 1;
}

/* ---- what customers see of it ---- */

static json_t *present(const struct call *c, const struct doc *d)
{
	(void)c;
	return json_pack("{s:s, s:O?, s:O*, s:o, s:o}", "ImageId", d->id, "Name",
			 json_object_get(d->json, "Name"), "Description",
			 json_object_get(d->json, "Description"), "RecycleBinEnterTime",
			 jtime(jint(d->json, "_BinEnter", 0)), "RecycleBinExitTime",
			 jtime(jint(d->json, "_BinExit", 0)));
}

int image_list_bin(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	static const struct filter none[] = {{NULL}};
	static const struct describe in_bin = {.kind = IMAGE_BIN_KIND,
					       .result = "Images",
					       .ids = "ImageIds",
					       .prefix = "ami",
					       .malformed = FAULT_INVALID_AMI_ID_MALFORMED,
					       .not_found = FAULT_INVALID_AMI_ID_NOT_FOUND,
					       .filters = none,
					       .n_max_low = 1,
					       .n_max_high = 1000,
					       .present = present};

	return describe_run(c, &in_bin, parameters, ret_reply, f);
}

/* The image as it was (a new reference). */
static int find(const struct call *c, const char *id, json_t **ret_image, struct fault *f)
{
	const struct doc *d = id ? store_get(c->store, c->ctx, IMAGE_BIN_KIND, id) : NULL;

	if (!id || !id_is(id, "ami"))
		return fault_set(f, FAULT_INVALID_AMI_ID_MALFORMED,
				 "Invalid id: \"%.64s\" (expecting \"ami-...\")", id ? id : "");
	if (!d)
		return fault_set(f, FAULT_INVALID_AMI_ID_NOT_FOUND,
				 "The image '%s' does not exist in the Recycle Bin.", id);
	/* Its snapshots are still being let go of, and would be after it has them again. */
	if (store_find(c->store, "image-leaving", id) || store_find(c->store, "image-arriving", id))
		return fault_set(f, FAULT_SERVICE_UNAVAILABLE,
				 "The image '%s' is still on its way. Try again.", id);
	OWN(json_decref) json_t *image = doc_edit(d);
	int r = image ? jset(image, "_BinEnter", NULL) : -ENOMEM;

	if (r == 0)
		r = jset(image, "_BinExit", NULL);
	if (r == 0)
		*ret_image = give(image);
	return r;
}

/* An image again, in one commit. */
static int come_back(struct call *c, const char *id, json_t *image, struct fault *f)
{
	/* Others may have come first while stord was asked. */
	int r = image_name_check(c, jstr_or(image, "Name", ""), f);

	if (r == 0 && !store_find(c->store, IMAGE_BIN_KIND, id))
		r = fault_set(f, FAULT_INVALID_AMI_ID_NOT_FOUND,
			      "The image '%s' does not exist in the Recycle Bin.", id);
	if (r == 0)
		r = txn_put(c->txn, IMAGE_KIND, id, c->ctx->account, c->ctx->region,
			    json_incref(image));
	if (r == 0)
		r = txn_delete(c->txn, IMAGE_BIN_KIND, id);
	if (r == 0 && store_find(c->store, IMAGE_GONE_KIND, id))
		r = txn_delete(c->txn, IMAGE_GONE_KIND, id);
	if (r == 0)
		r = image_arrive_done(c, id);
	return r == 0 ? txn_commit(c->txn) : r;
}

int image_restore_bin(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const char *id = jstr(parameters, "ImageId");
	OWN(json_decref) json_t *image = NULL;
	int r = find(c, id, &image, f);

	if (r == 0)
		r = image_name_check(c, jstr_or(image, "Name", ""), f);
	if (r == 0)
		r = image_arrive(c, id, image, f);
	if (r < 0)
		return r;
	r = come_back(c, id, image, f);
	if (r < 0) {
		image_arrive_undo(c, id);
		return r;
	}
	log_info("image restored", "IMAGE", id, "REQUEST_ID", c->ctx->request);
	*ret_reply = json_pack("{s:b}", "Return", 1);
	return *ret_reply ? 0 : -ENOMEM;
}

/* ---- its end ---- */

/* (fiber) The first that is over its time goes, and what was copied for it. 1: one went. */
static int let_one_go(struct daemon *d)
{
	int64_t now = jtime_now_usec();

	store_each (d->store, IMAGE_BIN_KIND, i) {
		OWN(txn_free) struct txn *t = NULL;
		struct context ctx = {0};
		char id[ID_MAX];

		if (jint(i->json, "_BinExit", 0) > now)
			continue;
		ctx = image_context(i);
		snprintf(id, sizeof id, "%s", i->id);
		t = txn_new(d->store);
		int r = t ? txn_delete(t, IMAGE_BIN_KIND, id) : -ENOMEM;

		if (r == 0)
			r = txn_commit(t);
		if (r < 0)
			return r;
		struct call c = {.daemon = d, .store = d->store, .ctx = &ctx, .txn = t};
		struct fault f = {0};

		if (image_leave_parts(&c, id, &f) < 0)
			log_warning(0, "what was copied for an image stays", "IMAGE", id, "REASON",
				    f.message);
		return 1;
	}
	return 0;
}

static int is_running;

static void run(void *arg)
{
	struct daemon *d = arg;

	while (store_count(d->store, IMAGE_BIN_KIND)) {
		int r = let_one_go(d);

		if (r < 0)
			log_warning(r, "the recycle bin of images is not emptied");
		if (r <= 0 && fiber_sleep(LOOK_USEC) < 0)
			break;
	}
	is_running = 0;
}

void image_bin_start(struct daemon *d)
{
	if (is_running || !store_count(d->store, IMAGE_BIN_KIND))
		return;
	is_running = 1;
	if (fiber_spawn(run, d) < 0)
		is_running = 0; /* at the next deregistration or start */
}
