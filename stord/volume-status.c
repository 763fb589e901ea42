/*
 * How volumes are: DescribeVolumeStatus, attributes, EnableVolumeIO.
 *
 * A volume is impaired when its file is lost, or when a guest's write found no room on the host
 * (_IoError, which hvd reports): the guest waits then, and goes on by itself when there is room.
 * EnableVolumeIO asks for that at once.
 */
#include "stord.h"

#include <errno.h>
#include <string.h>
#include "describe.h"
#include "hold.h"
#include "host.h"

#define ENABLE_ACTION	   "enable-volume-io"
#define ENABLE_DESCRIPTION "Enable volume I/O: there was no room on the host for a write"

static int is_stuck(const json_t *volume)
{
	return json_object_get(volume, "_IoError") != NULL;
}

static const char *status_of(const json_t *volume)
{
	const char *state = jstr_or(volume, "State", "");

	return strcmp(state, "error") == 0 || is_stuck(volume) ? "impaired"
	       : strcmp(state, "creating") == 0		       ? "insufficient-data"
							       : "ok";
}

static const char *io_enabled(const json_t *volume)
{
	return strcmp(status_of(volume), "impaired") == 0 ? "failed" : "passed";
}

/* ---- filters ---- */

static int match_status(const struct doc *d, const json_t *values)
{
	return pattern_match_any(values, status_of(d->json));
}

static int match_detail_name(const struct doc *d, const json_t *values)
{
	(void)d;
	return pattern_match_any(values, "io-enabled") ||
	       pattern_match_any(values, "io-performance");
}

static int match_detail_status(const struct doc *d, const json_t *values)
{
	return pattern_match_any(values, io_enabled(d->json)) ||
	       pattern_match_any(values, "not-applicable");
}

static int match_action(const struct doc *d, const json_t *values)
{
	return is_stuck(d->json) && pattern_match_any(values, ENABLE_ACTION);
}

static int match_action_description(const struct doc *d, const json_t *values)
{
	return is_stuck(d->json) && pattern_match_any(values, ENABLE_DESCRIPTION);
}

/* There are no scheduled events here. */
static int match_none(const struct doc *d, const json_t *values)
{
	(void)d, (void)values;
	return 0;
}

static const struct filter status_filters[] = {
	{"action.code", NULL, match_action},
	{"action.description", NULL, match_action_description},
	{"action.event-id", NULL, match_none},
	{"availability-zone", "AvailabilityZone"},
	{"event.description", NULL, match_none},
	{"event.event-id", NULL, match_none},
	{"event.event-type", NULL, match_none},
	{"event.not-after", NULL, match_none},
	{"event.not-before", NULL, match_none},
	{"volume-status.details-name", NULL, match_detail_name},
	{"volume-status.details-status", NULL, match_detail_status},
	{"volume-status.status", NULL, match_status},
	{NULL},
};

static json_t *present_attachments(const json_t *volume)
{
	OWN(json_decref) json_t *list = json_array();
	json_t *attachment;
	size_t i;

	json_array_foreach (json_object_get(volume, "Attachments"), i, attachment)
		if (json_array_append_new(list, json_pack("{s:s, s:s}", "InstanceId",
							  jstr_or(attachment, "InstanceId", ""),
							  "IoPerformance", "not-applicable")) < 0)
			return NULL;
	return give(list);
}

static json_t *present_status(const struct call *c, const struct doc *d)
{
	json_t *actions = is_stuck(d->json) ? json_pack("[{s:s, s:s}]", "Code", ENABLE_ACTION,
							"Description", ENABLE_DESCRIPTION)
					    : json_array();

	(void)c;
	return json_pack("{s:s, s:O, s:o, s:[], s:o, s:{s:s, s:[{s:s, s:s}, {s:s, s:s}]}}",
			 "VolumeId", d->id, "AvailabilityZone",
			 json_object_get(d->json, "AvailabilityZone"), "Actions", actions, "Events",
			 "AttachmentStatuses", present_attachments(d->json), "VolumeStatus",
			 "Status", status_of(d->json), "Details", "Name", "io-enabled", "Status",
			 io_enabled(d->json), "Name", "io-performance", "Status", "not-applicable");
}

static const struct describe statuses = {.kind = "volume",
					 .result = "VolumeStatuses",
					 .ids = "VolumeIds",
					 .prefix = "vol",
					 .malformed = FAULT_INVALID_VOLUME_ID_MALFORMED,
					 .not_found = FAULT_INVALID_VOLUME_NOT_FOUND,
					 .filters = status_filters,
					 .present = present_status};

int volume_describe_status(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	/* AWS: "if MaxResults is given a value larger than 1,000, only 1,000 results are
	 * returned". */
	if (jint(parameters, "MaxResults", 0) > 1000)
		(void)jset_new(parameters, "MaxResults", json_integer(1000)); /* else refused */
	return describe_run(c, &statuses, parameters, ret_reply, f);
}

/* ---- attributes ---- */

int volume_describe_attribute(struct call *c, json_t *parameters, json_t **ret_reply,
			      struct fault *f)
{
	const char *attribute = jstr(parameters, "Attribute");
	const struct doc *d = NULL;
	int r = volume_get(c, parameters, &d, f);

	if (r < 0)
		return r;
	if (!attribute)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter attribute");
	if (strcmp(attribute, "autoEnableIO") == 0)
		*ret_reply = json_pack("{s:s, s:{s:b}}", "VolumeId", d->id, "AutoEnableIO", "Value",
				       jbool(d->json, "_AutoEnableIO", 0));
	else if (strcmp(attribute, "productCodes") == 0)
		*ret_reply = json_pack("{s:s, s:[]}", "VolumeId", d->id, "ProductCodes");
	else
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter attribute is invalid.", attribute);
	return *ret_reply ? 0 : -ENOMEM;
}

int volume_modify_attribute(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const json_t *value = jpath(parameters, "AutoEnableIO.Value");
	const struct doc *d = NULL;
	int r = volume_get(c, parameters, &d, f);

	(void)ret_reply; /* AWS answers nothing */
	if (r < 0)
		return r;
	if (!json_is_boolean(value))
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter autoEnableIO");
	OWN(json_decref) json_t *volume = doc_edit(d);

	r = jset_new(volume, "_AutoEnableIO", json_boolean(json_is_true(value)));
	return r < 0 ? r : txn_replace(c->txn, d, give(volume));
}

/* ---- a write that found no room ---- */

/* (internal) hvd says whether a guest waits for room. */
int volume_report(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *d = NULL;
	int r = volume_get(c, parameters, &d, f), now = jbool(parameters, "IsStuck", 0);

	(void)ret_reply;
	if (r < 0 || now == is_stuck(d->json))
		return r;
	OWN(json_decref) json_t *volume = doc_edit(d);

	if (now)
		r = jset(volume, "_IoError", "no-space");
	else
		(void)json_object_del(volume, "_IoError"); /* it is there */
	return r < 0 ? r : txn_replace(c->txn, d, give(volume));
}

int volume_enable_io(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	OWN(json_decref) json_t *attachments = NULL, *ask = NULL;
	const struct doc *d = NULL;
	int r = volume_get(c, parameters, &d, f);
	json_t *attachment;
	size_t i;

	(void)ret_reply; /* AWS answers nothing */
	if (r < 0 || !is_stuck(d->json))
		return r;
	attachments = json_incref(json_object_get(d->json, "Attachments"));
	ask = json_pack("{s:s, s:b}", "VolumeId", d->id, "GoOn", 1);
	json_array_foreach (attachments, i, attachment) {
		OWN(json_decref) json_t *reply = NULL;

		if (!ask || jset(ask, "InstanceId", jstr(attachment, "InstanceId")) < 0)
			return -ENOMEM;
		r = host_ask(c->ctx, "gureum.ApplyVolume", ask, &reply, f);
		if (r < 0)
			return r;
	}
	return 0;
}
