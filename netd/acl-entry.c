/* Entries of network ACLs: numbered, each way. What is answered is in force, for flows under way,
 * too. */
#include "acl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ICMP = 1, TCP = 6, UDP = 17, ICMPV6 = 58 };

static const struct {
	const char *name;
	int number;
} protocols[] = {{"all", -1}, {"icmp", ICMP}, {"tcp", TCP}, {"udp", UDP}, {"icmpv6", ICMPV6}};

int acl_protocol_parse(const char *text, char ret_number[static ACL_PROTOCOL_MAX])
{
	char *end;
	long number;

	if (!text || !*text)
		return -EINVAL;
	number = strtol(text, &end, 10);
	for (size_t i = 0; i < sizeof protocols / sizeof *protocols; i++)
		if (strcasecmp(text, protocols[i].name) == 0) {
			number = protocols[i].number;
			end = "";
		}
	if (*end || number < -1 || number > 255)
		return -EINVAL;
	snprintf(ret_number, ACL_PROTOCOL_MAX, "%ld", number);
	return 0;
}

static int number_read(json_t *parameters, json_t *entry, struct fault *f)
{
	int64_t number = jint(parameters, "RuleNumber", 0);

	if (number < 1 || number >= ACL_NUMBER_LAST)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%lld) for parameter ruleNumber is invalid. Network Acl "
				 "rule numbers are between 1 and %d.",
				 (long long)number, ACL_NUMBER_LAST - 1);
	return jset_new(entry, "RuleNumber", json_integer(number));
}

static int cidr_read(json_t *parameters, json_t *entry, struct fault *f)
{
	const char *v4 = jstr(parameters, "CidrBlock"), *v6 = jstr(parameters, "Ipv6CidrBlock");
	char text[CIDR6_TEXT_MAX];
	struct cidr cidr;

	if (v4 && v6)
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "The parameters cidrBlock and ipv6CidrBlock may not be used "
				 "together");
	if (!v4 && !v6)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter cidrBlock or "
				 "ipv6CidrBlock");
	if (v4 ? cidr_parse(v4, &cidr) < 0 : cidr6_canonical(v6, text) < 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter %s is invalid. This is not a valid "
				 "CIDR block.",
				 v4 ? v4 : v6, v4 ? "cidrBlock" : "ipv6CidrBlock");
	if (v4)
		cidr_format(cidr_canonical(cidr), text);
	return jset(entry, v4 ? "CidrBlock" : "Ipv6CidrBlock", text);
}

static int ports_read(const json_t *range, json_t *entry, struct fault *f)
{
	int64_t from = jint(range, "From", -1), to = jint(range, "To", -1);

	if (!range)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter portRange");
	if (from < 0 || to < from || to > 65535)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Invalid TCP/UDP port range (%lld:%lld)", (long long)from,
				 (long long)to);
	return jset_new(entry, "PortRange",
			json_pack("{s:I s:I}", "From", (json_int_t)from, "To", (json_int_t)to));
}

static int icmp_read(const json_t *icmp, json_t *entry, struct fault *f)
{
	int64_t type = jint(icmp, "Type", -1), code = jint(icmp, "Code", -1);

	if (!icmp)
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter icmpTypeCode");
	if (type < -1 || type > 255 || code < -1 || code > 255 || (type == -1 && code != -1))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Invalid ICMP type/code (%lld:%lld)", (long long)type,
				 (long long)code);
	return jset_new(entry, "IcmpTypeCode",
			json_pack("{s:I s:I}", "Code", (json_int_t)code, "Type", (json_int_t)type));
}

/* What the protocol has no use for, AWS takes and forgets. */
static int protocol_read(json_t *parameters, json_t *entry, struct fault *f)
{
	const char *text = jstr_or(parameters, "Protocol", "");
	char number[ACL_PROTOCOL_MAX];

	if (acl_protocol_parse(text, number) < 0)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Invalid value '%.32s' for IP protocol. Unknown protocol.", text);
	int n = atoi(number), r = jset(entry, "Protocol", number);

	if (r == 0 && (n == TCP || n == UDP))
		r = ports_read(json_object_get(parameters, "PortRange"), entry, f);
	else if (r == 0 && (n == ICMP || (n == ICMPV6 && jstr(entry, "Ipv6CidrBlock"))))
		r = icmp_read(json_object_get(parameters, "IcmpTypeCode"), entry, f);
	return r;
}

/* The parameters as an entry (a new reference). */
static int entry_read(json_t *parameters, json_t **ret_entry, struct fault *f)
{
	OWN(json_decref)
	json_t *entry = json_pack("{s:b s:s}", "Egress", jbool(parameters, "Egress", 0),
				  "RuleAction", jstr_or(parameters, "RuleAction", "deny"));
	int r = entry ? 0 : -ENOMEM;

	if (r == 0)
		r = number_read(parameters, entry, f);
	if (r == 0)
		r = cidr_read(parameters, entry, f);
	if (r == 0)
		r = protocol_read(parameters, entry, f);
	if (r < 0)
		return r;
	*ret_entry = give(entry);
	return 0;
}

/* Where the entry of this way and number stands, or (returns 0) would stand. */
static int entry_find(const json_t *acl, int is_egress, int64_t number, size_t *ret_at)
{
	json_t *entries = json_object_get(acl, "Entries"), *entry;
	size_t i;

	*ret_at = json_array_size(entries);
	json_array_foreach (entries, i, entry) {
		int egress = jbool(entry, "Egress", 0);
		int64_t other = jint(entry, "RuleNumber", ACL_NUMBER_LAST);

		if (egress > is_egress || (egress == is_egress && other < number))
			continue;
		*ret_at = i;
		return egress == is_egress && other == number;
	}
	return 0;
}

/* Entries of one way and family that a customer made. */
static size_t entries_count(const json_t *acl, const json_t *like)
{
	const char *member = jstr(like, "CidrBlock") ? "CidrBlock" : "Ipv6CidrBlock";
	json_t *entries = json_object_get(acl, "Entries"), *entry;
	size_t n = 0, i;

	json_array_foreach (entries, i, entry)
		n += jbool(entry, "Egress", 0) == jbool(like, "Egress", 0) && jstr(entry, member) &&
		     jint(entry, "RuleNumber", 0) < ACL_NUMBER_LAST;
	return n;
}

/* The ACL of a request and an editable copy of it (the caller's). */
static int acl_edit(const struct call *c, json_t *parameters, const struct doc **ret_acl,
		    json_t **ret_json, struct fault *f)
{
	int r = kind_get_parameter(c, &kind_network_acl, parameters, "NetworkAclId", ret_acl, f);

	if (r < 0)
		return r;
	*ret_json = doc_edit(*ret_acl);
	return *ret_json ? 0 : -ENOMEM;
}

static int acl_put(struct call *c, const struct doc *acl, const json_t *json, json_t **ret_reply)
{
	char vpc_id[ID_MAX];
	int r = txn_replace(c->txn, acl, json_incref((json_t *)json));

	snprintf(vpc_id, sizeof vpc_id, "%s", jstr_or(json, "VpcId", ""));
	if (r == 0)
		r = call_apply(c, vpc_id);
	if (r < 0)
		return r;
	*ret_reply = reply_true();
	return *ret_reply ? 0 : -ENOMEM;
}

/* Finds the entry that the parameters name. */
static int entry_get(const json_t *acl, json_t *parameters, size_t *ret_at, struct fault *f)
{
	int64_t number = jint(parameters, "RuleNumber", 0);

	if (entry_find(acl, jbool(parameters, "Egress", 0), number, ret_at))
		return 0;
	return fault_set(f, FAULT_INVALID_NETWORK_ACL_ENTRY_NOT_FOUND,
			 "The network acl entry identified by %lld does not exist",
			 (long long)number);
}

/* Finds where there is no such entry yet. */
static int entry_get_place(const json_t *acl, json_t *parameters, size_t *ret_at, struct fault *f)
{
	int64_t number = jint(parameters, "RuleNumber", 0);

	if (!entry_find(acl, jbool(parameters, "Egress", 0), number, ret_at))
		return 0;
	return fault_set(f, FAULT_NETWORK_ACL_ENTRY_ALREADY_EXISTS,
			 "The network acl entry identified by %lld already exists.",
			 (long long)number);
}

static int entry_put(struct call *c, json_t *parameters, int is_there, json_t **ret_reply,
		     struct fault *f)
{
	OWN(json_decref) json_t *json = NULL;
	OWN(json_decref) json_t *entry = NULL;
	const struct doc *acl;
	size_t at;
	int r = acl_edit(c, parameters, &acl, &json, f);

	if (r == 0)
		r = entry_read(parameters, &entry, f);
	if (r == 0)
		r = is_there ? entry_get(json, parameters, &at, f)
			     : entry_get_place(json, parameters, &at, f);
	if (r < 0)
		return r;
	json_t *entries = json_object_get(json, "Entries");

	if (is_there)
		json_array_remove(entries, at);
	if (entries_count(json, entry) >= LIMIT_ENTRIES_PER_ACL)
		return fault_set(f, FAULT_NETWORK_ACL_ENTRY_LIMIT_EXCEEDED,
				 "The maximum number of network acl entries has been reached.");
	if (json_array_insert(entries, at, entry) < 0)
		return -ENOMEM;
	return acl_put(c, acl, json, ret_reply);
}

int create_network_acl_entry(struct call *c, json_t *parameters, json_t **ret_reply,
			     struct fault *f)
{
	return entry_put(c, parameters, 0, ret_reply, f);
}

int replace_network_acl_entry(struct call *c, json_t *parameters, json_t **ret_reply,
			      struct fault *f)
{
	return entry_put(c, parameters, 1, ret_reply, f);
}

int delete_network_acl_entry(struct call *c, json_t *parameters, json_t **ret_reply,
			     struct fault *f)
{
	OWN(json_decref) json_t *json = NULL;
	OWN(json_decref) json_t *nothing = json_object();
	const struct doc *acl;
	size_t at;
	int r = acl_edit(c, parameters, &acl, &json, f);

	if (r == 0)
		r = number_read(parameters, nothing, f);
	if (r == 0)
		r = entry_get(json, parameters, &at, f);
	if (r < 0)
		return r;
	json_array_remove(json_object_get(json, "Entries"), at);
	return acl_put(c, acl, json, ret_reply);
}
