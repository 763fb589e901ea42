/* Attributes of network interfaces: one is read or changed per call, as in AWS. */
#include "interface.h"

#include <errno.h>
#include <string.h>
#include "refresh.h"

int describe_network_interface_attribute(struct call *c, json_t *parameters, json_t **ret_reply,
					 struct fault *f)
{
	const char *attribute = jstr_or(parameters, "Attribute", "");
	const struct doc *d;
	json_t *value;
	const char *member;
	int r = kind_get_parameter(c, &kind_network_interface, parameters, "NetworkInterfaceId", &d,
				   f);

	if (r < 0)
		return r;
	if (strcmp(attribute, "description") == 0) {
		member = "Description";
		value = json_pack("{s:s}", "Value", jstr_or(d->json, member, ""));
	} else if (strcmp(attribute, "sourceDestCheck") == 0) {
		member = "SourceDestCheck";
		value = json_pack("{s:b}", "Value", jbool(d->json, member, 1));
	} else if (strcmp(attribute, "groupSet") == 0) {
		member = "Groups";
		value = json_incref(json_object_get(d->json, member));
	} else if (strcmp(attribute, "attachment") == 0) {
		member = "Attachment";
		value = json_incref(json_object_get(d->json, member));
	} else {
		return fault_set(
			f, *attribute ? FAULT_INVALID_PARAMETER_VALUE : FAULT_MISSING_PARAMETER,
			"Value (%.64s) for parameter attribute is invalid. Unknown attribute.",
			attribute);
	}
	*ret_reply = json_pack("{s:s s:o*}", "NetworkInterfaceId", d->id, member, value);
	return *ret_reply ? 0 : -ENOMEM;
}

/* The text or truth of {"Value": …}, whatever it is; -EINVAL when it is not there. */
static int value_copy(json_t *parameters, json_t *json, const char *member, struct fault *f)
{
	json_t *value = json_object_get(json_object_get(parameters, member), "Value");

	if (!value)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter %s.Value", member);
	return json_object_set(json, member, value) < 0 ? -ENOMEM : 0;
}

static int set_groups(const struct call *c, json_t *parameters, json_t *json, struct fault *f)
{
	OWN(json_decref) json_t *groups = NULL;
	const struct doc *vpc;
	int r = kind_get(c, &kind_vpc, "VpcId", jstr(json, "VpcId"), &vpc, f);

	if (r == 0)
		r = interface_groups(c, vpc->json, json_object_get(parameters, "Groups"), 0,
				     &groups, f);
	return r < 0 ? r : jset_new(json, "Groups", give(groups));
}

static int set_description(const struct call *c, json_t *parameters, json_t *json, struct fault *f)
{
	int r = text_limit(json_object_get(parameters, "Description"), "Value", LIMIT_DESCRIPTION,
			   f);

	(void)c;
	return r < 0 ? r : value_copy(parameters, json, "Description", f);
}

static int set_source_dest_check(const struct call *c, json_t *parameters, json_t *json,
				 struct fault *f)
{
	(void)c;
	return value_copy(parameters, json, "SourceDestCheck", f);
}

static int set_attachment(const struct call *c, json_t *parameters, json_t *json, struct fault *f)
{
	const json_t *wish = json_object_get(parameters, "Attachment");
	json_t *attachment = json_object_get(json, "Attachment");
	const char *id = jstr_or(wish, "AttachmentId", "");

	(void)c;
	if (!attachment || !jis(attachment, "AttachmentId", id))
		return fault_set(f, FAULT_INVALID_ATTACHMENT_ID_NOT_FOUND,
				 "The attachment ID '%.64s' does not exist", id);
	if (!json_is_boolean(json_object_get(wish, "DeleteOnTermination")))
		return fault_set(
			f, FAULT_MISSING_PARAMETER,
			"The request must contain the parameter attachment.deleteOnTermination");
	return jset_new(attachment, "DeleteOnTermination",
			json_boolean(jbool(wish, "DeleteOnTermination", 0)));
}

static const struct {
	const char *member;
	int (*set)(const struct call *c, json_t *parameters, json_t *json, struct fault *f);
	int is_in_kernel;
} attributes[] = {
	{"Attachment", set_attachment, 0},
	{"Description", set_description, 0},
	{"Groups", set_groups, 1},
	{"SourceDestCheck", set_source_dest_check, 1},
};
#define N_ATTRIBUTES (sizeof attributes / sizeof *attributes)

/* Commits the change; what packets feel is felt when the answer is sent. */
static int commit(struct call *c, const struct doc *d, json_t *json, int is_in_kernel)
{
	OWN(json_decref) json_t *kept = json_incref(json);
	int r = refresh_mark(json);

	if (r < 0) {
		json_decref(json);
		return r;
	}
	r = txn_replace(c->txn, d, json);
	if (r == 0)
		r = txn_commit(c->txn);
	if (r < 0)
		return r;
	refresh_start(c->store, jstr(kept, "NetworkInterfaceId"));
	if (!is_in_kernel)
		return 0;
	kernel_touch(jstr(kept, "VpcId"));
	/* The change is durable: the kernel room logs a failure and tries again. */
	if (json_object_get(kept, "Attachment"))
		(void)kernel_sync(jstr(kept, "VpcId"), NULL);
	return 0;
}

int modify_network_interface_attribute(struct call *c, json_t *parameters, json_t **ret_reply,
				       struct fault *f)
{
	const struct doc *d;
	size_t chosen = 0, n = 0;
	int r = interface_get_customers(c, parameters, &d, f);

	if (r < 0)
		return r;
	for (size_t i = 0; i < N_ATTRIBUTES; i++)
		if (json_object_get(parameters, attributes[i].member)) {
			chosen = i;
			n++;
		}
	if (json_object_get(parameters, "EnaSrdSpecification"))
		return fault_set(f, FAULT_UNSUPPORTED_OPERATION, "ENA Express is not supported");
	if (n != 1)
		return fault_set(f,
				 n ? FAULT_INVALID_PARAMETER_COMBINATION : FAULT_MISSING_PARAMETER,
				 "Exactly one attribute must be specified");
	OWN(json_decref) json_t *json = doc_edit(d);

	if (!json)
		return -ENOMEM;
	r = attributes[chosen].set(c, parameters, json, f);
	if (r < 0)
		return r;
	*ret_reply = reply_true();
	return commit(c, d, give(json), attributes[chosen].is_in_kernel);
}

int reset_network_interface_attribute(struct call *c, json_t *parameters, json_t **ret_reply,
				      struct fault *f)
{
	const struct doc *d;
	int r = interface_get_customers(c, parameters, &d, f);

	if (r < 0)
		return r;
	if (!jstr(parameters, "SourceDestCheck"))
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter sourceDestCheck");
	OWN(json_decref) json_t *json = doc_edit(d);

	r = jset_new(json, "SourceDestCheck", json_true());
	if (r < 0)
		return r;
	*ret_reply = reply_true();
	return commit(c, d, give(json), 1);
}
