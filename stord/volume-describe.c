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
