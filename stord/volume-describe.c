/* Volumes as customers see them. */
#include "stord.h"

#include <errno.h>
#include <string.h>
#include "describe.h"

static const struct filter volume_filters[] = {
	{"attachment.attach-time", "Attachments.AttachTime"},
	{"attachment.delete-on-termination", "Attachments.DeleteOnTermination"},
	{"attachment.device", "Attachments.Device"},
	{"attachment.instance-id", "Attachments.InstanceId"},
	{"attachment.status", "Attachments.State"},
	{"availability-zone", "AvailabilityZone"},
	{"create-time", "CreateTime"},
	{"encrypted", "Encrypted"},
	{"fast-restored", "FastRestored"},
	{"multi-attach-enabled", "MultiAttachEnabled"},
	{"size", "Size"},
	{"snapshot-id", "SnapshotId"},
	{"status", "State"},
	FILTER_TAGS,
	{"volume-id", "VolumeId"},
	{"volume-type", "VolumeType"},
	{NULL},
};

static const struct describe volumes = {.kind = "volume",
					.result = "Volumes",
					.ids = "VolumeIds",
					.prefix = "vol",
					.malformed = FAULT_INVALID_VOLUME_ID_MALFORMED,
					.not_found = FAULT_INVALID_VOLUME_NOT_FOUND,
					.filters = volume_filters,
					.n_max_low = 5,
					.n_max_high = 500};

/* AWS: "if MaxResults is given a value larger than 500, only 500 results are returned". */
static void cap_page(json_t *parameters, int64_t high)
{
	if (jint(parameters, "MaxResults", 0) > high)
		(void)jset_new(parameters, "MaxResults",
			       json_integer(high)); /* else refused: no harm */
}

int volume_describe(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	cap_page(parameters, volumes.n_max_high);
	return describe_run(c, &volumes, parameters, ret_reply, f);
}

/* ---- status ---- */

static const char *status_of(const json_t *volume)
{
	const char *state = jstr_or(volume, "State", "");

	return strcmp(state, "error") == 0	? "impaired"
	       : strcmp(state, "creating") == 0 ? "insufficient-data"
						: "ok";
}

static int any_is(const json_t *values, const char *text)
{
	size_t i;
	json_t *v;

	json_array_foreach (values, i, v)
		if (pattern_match(json_string_value(v), text))
			return 1;
	return 0;
}

static int match_status(const struct doc *d, const json_t *values)
{
	return any_is(values, status_of(d->json));
}

static const char *io_enabled(const json_t *volume)
{
	return strcmp(status_of(volume), "impaired") == 0 ? "failed" : "passed";
}

static int match_detail_name(const struct doc *d, const json_t *values)
{
	(void)d;
	return any_is(values, "io-enabled") || any_is(values, "io-performance");
}

static int match_detail_status(const struct doc *d, const json_t *values)
{
	return any_is(values, io_enabled(d->json)) || any_is(values, "not-applicable");
}

/* There are no scheduled actions and events here. */
static int match_none(const struct doc *d, const json_t *values)
{
	(void)d, (void)values;
	return 0;
}

static json_t *present_status(const struct call *c, const struct doc *d)
{
	(void)c;
	return json_pack("{s:s, s:O, s:[], s:[], s:[], s:{s:s, s:[{s:s, s:s}, {s:s, s:s}]}}",
			 "VolumeId", d->id, "AvailabilityZone",
			 json_object_get(d->json, "AvailabilityZone"), "Actions", "Events",
			 "AttachmentStatuses", "VolumeStatus", "Status", status_of(d->json),
			 "Details", "Name", "io-enabled", "Status", io_enabled(d->json), "Name",
			 "io-performance", "Status", "not-applicable");
}

static const struct filter status_filters[] = {
	{"action.code", NULL, match_none},
	{"action.description", NULL, match_none},
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
	cap_page(parameters, 1000);
	return describe_run(c, &statuses, parameters, ret_reply, f);
}

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
		*ret_reply =
			json_pack("{s:s, s:{s:b}}", "VolumeId", d->id, "AutoEnableIO", "Value", 0);
	else if (strcmp(attribute, "productCodes") == 0)
		*ret_reply = json_pack("{s:s, s:[]}", "VolumeId", d->id, "ProductCodes");
	else
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter attribute is invalid.", attribute);
	return *ret_reply ? 0 : -ENOMEM;
}
