/* Flow logs: what is to be logged of whom. (The logging: flow.h.) */
#include "netd.h"

#include <errno.h>
#include <string.h>
#include "describe.h"
#include "flow-line.h"

#define ROLE_ARN_MAX 2048 /* IAM user guide, "IAM and STS quotas": a path of 512 and more */

static const struct filter flow_log_filters[] = {
	{"deliver-log-status", "DeliverLogsStatus"},
	{"flow-log-id", "FlowLogId"},
	{"log-destination-type", "LogDestinationType"},
	{"log-group-name", "LogGroupName"},
	{"resource-id", "ResourceId"},
	{"traffic-type", "TrafficType"},
	FILTER_TAGS,
	{NULL},
};

static const struct describe flow_logs = {
	.kind = "flow-log",
	.result = "FlowLogs",
	.ids = "FlowLogIds",
	.prefix = "fl",
	.malformed = FAULT_INVALID_FLOW_LOG_ID_NOT_FOUND,
	.not_found = FAULT_INVALID_FLOW_LOG_ID_NOT_FOUND,
	.filters = flow_log_filters,
	.n_max_low = 1,
	.n_max_high = 1000,
};

static const struct {
	const char *type;
	const struct kind *kind;
} resources[] = {{"NetworkInterface", &kind_network_interface},
		 {"Subnet", &kind_subnet},
		 {"VPC", &kind_vpc}};

/* Here filters are called Filter. */
int describe_flow_logs(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	json_t *filters = json_object_get(parameters, "Filter");

	if (filters && json_object_set(parameters, "Filters", filters) < 0)
		return -ENOMEM;
	return describe_run(c, &flow_logs, parameters, ret_reply, f);
}

/* ---- making ---- */

/* What all the logs of one request have in common; borrowed from its parameters. */
struct wanted {
	const struct kind *kind;
	const char *traffic, *group, *destination, *role, *cross_role, *format;
	int64_t interval;
	json_t *tags;
};

/* "arn:aws:logs:REGION:ACCOUNT:log-group:NAME", perhaps with ":*": the name. */
static const char *group_of_arn(const char *arn, char name[static 520])
{
	const char *at = strstr(arn, ":log-group:");

	if (strncmp(arn, "arn:", 4) != 0 || !at)
		return NULL;
	at += strlen(":log-group:");
	snprintf(name, 520, "%.*s", (int)strcspn(at, ":"), at);
	return name[0] ? name : NULL;
}

/* The second role is the other account's, to write to a group there: it is kept and shown like the
 * first, and there is no other place to write to. Source: VPC user guide, "Publish flow logs to
 * CloudWatch Logs". */
static int roles_check(json_t *parameters, struct wanted *w, struct fault *f)
{
	int r = text_limit(parameters, "DeliverLogsPermissionArn", ROLE_ARN_MAX, f);

	w->cross_role = jstr(parameters, "DeliverCrossAccountRole");
	if (r == 0)
		r = text_limit(parameters, "DeliverCrossAccountRole", ROLE_ARN_MAX, f);
	if (r == 0 && w->cross_role &&
	    (strncmp(w->cross_role, "arn:", 4) != 0 || !strstr(w->cross_role, ":role/")))
		return fault_set(f, FAULT_INVALID_PARAMETER,
				 "DeliverCrossAccountRole: %.128s is not the ARN of a role",
				 w->cross_role);
	return r;
}

/* To CloudWatch Logs' words: where a group of that name would be, there is a file of ours. */
static int read_destination(json_t *parameters, struct wanted *w, char name[static 520],
			    struct fault *f)
{
	const char *type = jstr_or(parameters, "LogDestinationType", "cloud-watch-logs");

	w->group = jstr(parameters, "LogGroupName");
	w->destination = jstr(parameters, "LogDestination");
	w->role = jstr(parameters, "DeliverLogsPermissionArn");
	if (strcmp(type, "cloud-watch-logs") != 0)
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
				 "Flow logs cannot be delivered to %s", type);
	if (json_object_get(parameters, "DestinationOptions"))
		return fault_set(f, FAULT_INVALID_PARAMETER,
				 "DestinationOptions cannot be used if LogDestinationType is "
				 "cloud-watch-logs.");
	if (!w->group && !w->destination)
		return fault_set(f, FAULT_INVALID_PARAMETER,
				 "LogDestination can't be empty if LogGroupName is not provided.");
	if (w->group && w->destination)
		return fault_set(f, FAULT_INVALID_PARAMETER,
				 "Please only provide LogGroupName or only provide "
				 "LogDestination.");
	if (!w->role)
		return fault_set(f, FAULT_INVALID_PARAMETER,
				 "DeliverLogsPermissionArn can't be empty if LogDestinationType is "
				 "cloud-watch-logs.");
	if (w->destination && !(w->group = group_of_arn(w->destination, name)))
		return fault_set(f, FAULT_INVALID_PARAMETER,
				 "LogDestination: %.128s is not the ARN of a log group",
				 w->destination);
	if (strlen(w->group) < 1 || strlen(w->group) > 512 ||
	    w->group[strspn(w->group, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789_-/.#")])
		return fault_set(f, FAULT_INVALID_PARAMETER, "LogGroupName: %.128s is not valid",
				 w->group);
	return roles_check(parameters, w, f);
}

static int read_wanted(json_t *parameters, struct wanted *w, char name[static 520], struct fault *f)
{
	const char *type = jstr_or(parameters, "ResourceType", "");
	struct flow_format format;
	int r = read_destination(parameters, w, name, f);

	if (r < 0)
		return r;
	for (size_t i = 0; i < sizeof resources / sizeof *resources; i++)
		if (strcmp(resources[i].type, type) == 0)
			w->kind = resources[i].kind;
	if (!w->kind)
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION,
				 "Flow logs of %s are not supported", type);
	w->traffic = jstr(parameters, "TrafficType");
	if (!w->traffic)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter TrafficType");
	w->format = jstr_or(parameters, "LogFormat", FLOW_FORMAT_DEFAULT);
	if (flow_format_parse(w->format, &format) < 0)
		return fault_set(f, FAULT_INVALID_PARAMETER,
				 "LogFormat: %.256s has unknown or repeated fields", w->format);
	w->interval = jint(parameters, "MaxAggregationInterval", 600);
	if (w->interval != 60 && w->interval != 600)
		return fault_set(f, FAULT_INVALID_PARAMETER,
				 "Invalid Flow Log Max Aggregation Interval");
	return 0;
}

/* Why there can be no such log of this resource; NULL: there can. */
static const char *objection(const struct call *c, const struct wanted *w, const char *id)
{
	size_t n = 0;

	store_each (c->store, "flow-log", d) {
		if (!jis(d->json, "ResourceId", id))
			continue;
		if (jis(d->json, "TrafficType", w->traffic) &&
		    jis(d->json, "LogGroupName", w->group) &&
		    jis(d->json, "LogFormat", w->format) &&
		    jint(d->json, "MaxAggregationInterval", 0) == w->interval)
			return "FlowLogAlreadyExists";
		n++;
	}
	return n >= LIMIT_FLOW_LOGS_PER_RESOURCE ? "FlowLogsLimitExceeded" : NULL;
}

static const char *vpc_of(const struct doc *resource)
{
	return jstr_or(resource->json, "VpcId", "");
}

static int make(const struct call *c, const struct wanted *w, const struct doc *resource,
		json_t *ids)
{
	char id[ID_MAX];
	json_t *log;
	int r;

	id_new("fl", id);
	log = json_pack("{s:o s:s s:s s:s s:s s:s s:s s:s s:s s:s s:I s:O s:s s:s}", "CreationTime",
			jtime_now(), "DeliverLogsPermissionArn", w->role, "DeliverLogsStatus",
			"SUCCESS", "FlowLogId", id, "FlowLogStatus", "ACTIVE", "LogGroupName",
			w->group, "ResourceId", resource->id, "TrafficType", w->traffic,
			"LogDestinationType", "cloud-watch-logs", "LogFormat", w->format,
			"MaxAggregationInterval", (json_int_t)w->interval, "Tags", w->tags,
			"_VpcId", vpc_of(resource), "_Account", c->ctx->account);
	if (log && (jset(log, "LogDestination", w->destination) < 0 ||
		    jset(log, "DeliverCrossAccountRole", w->cross_role) < 0)) {
		json_decref(log);
		return -ENOMEM;
	}
	r = put_new(c, &kind_flow_log, id, log);
	if (r < 0)
		return r;
	kernel_touch(vpc_of(resource));
	return json_array_append_new(ids, json_string(id)) < 0 ? -ENOMEM : 0;
}

static int refuse(json_t *unsuccessful, const char *id, const char *code)
{
	const char *message =
		strcmp(code, "FlowLogAlreadyExists") == 0
			? "There is an existing Flow Log with the same configuration and log "
			  "destination."
			: "The maximum number of flow logs for the resource has been reached.";

	return json_array_append_new(unsuccessful,
				     json_pack("{s:s s:{s:s s:s}}", "ResourceId", id, "Error",
					       "Code", code, "Message", message)) < 0
		       ? -ENOMEM
		       : 0;
}

static int make_all(struct call *c, const struct wanted *w, json_t *parameters, json_t *ids,
		    json_t *unsuccessful, struct fault *f)
{
	const json_t *id;
	size_t i;
	int r = 0;

	json_array_foreach (json_object_get(parameters, "ResourceIds"), i, id) {
		const struct doc *resource;
		const char *why;

		r = kind_get(c, w->kind, "ResourceIds", json_string_value(id), &resource, f);
		if (r < 0)
			return r;
		why = objection(c, w, resource->id);
		r = why ? refuse(unsuccessful, resource->id, why) : make(c, w, resource, ids);
		if (r < 0)
			return r;
	}
	return 0;
}

int create_flow_logs(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	static const char *const allowed[] = {"vpc-flow-log", NULL};
	OWN(json_decref) json_t *tags = NULL, *ids = json_array(), *unsuccessful = json_array();
	struct wanted w = {0};
	char name[520];
	int r = read_wanted(parameters, &w, name, f);

	if (r == 0)
		r = tags_from_specifications(parameters, "vpc-flow-log", allowed, &tags, f);
	w.tags = tags;
	if (r == 0)
		r = make_all(c, &w, parameters, ids, unsuccessful, f);
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:O s:O}", "FlowLogIds", ids, "Unsuccessful", unsuccessful);
	if (*ret_reply && jstr(parameters, "ClientToken"))
		return jset(*ret_reply, "ClientToken", jstr(parameters, "ClientToken"));
	return *ret_reply ? 0 : -ENOMEM;
}

/* ---- ending ---- */

static int drop(const struct call *c, const struct doc *log)
{
	kernel_touch(jstr_or(log->json, "_VpcId", ""));
	return txn_delete(c->txn, "flow-log", log->id);
}

int delete_flow_logs(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const json_t *id;
	size_t i;
	int r = 0;

	json_array_foreach (json_object_get(parameters, "FlowLogIds"), i, id) {
		const struct doc *log;

		r = kind_get(c, &kind_flow_log, "FlowLogIds", json_string_value(id), &log, f);
		if (r == 0)
			r = drop(c, log);
		if (r < 0)
			return r;
	}
	*ret_reply = json_pack("{s:[]}", "Unsuccessful");
	return *ret_reply ? 0 : -ENOMEM;
}

int flow_logs_drop(const struct call *c, const char *resource_id)
{
	int r = 0;

	store_each (c->store, "flow-log", d)
		if (r == 0 && jis(d->json, "ResourceId", resource_id))
			r = drop(c, d);
	return r;
}

int flush_flow_logs(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct doc *vpc;
	int r = kind_get_parameter(c, &kind_vpc, parameters, "VpcId", &vpc, f);

	(void)ret_reply;
	return r < 0 ? r : kernel_flush_flows(vpc->id, f);
}
