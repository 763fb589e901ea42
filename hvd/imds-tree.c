/* The metadata tree as tables: each directory is a table of nodes, each node one function. */
#include "imds-node.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <openssl/evp.h>
#include "jsonx.h"
#include "own.h"

/* ---- values of the instance ---- */

static int instance_text(const struct imds_place *p, const char *path, char **ret_text)
{
	const char *text = jpath_str(p->view->instance, path);

	return imds_text(text && *text ? text : NULL, ret_text);
}

#define INSTANCE_TEXT(name, path)                                                                  \
	static int name(const struct imds_place *p, char **ret_text)                               \
	{                                                                                          \
		return instance_text(p, path, ret_text);                                           \
	}
#define FIXED_TEXT(name, text)                                                                     \
	static int name(const struct imds_place *p, char **ret_text)                               \
	{                                                                                          \
		(void)p;                                                                           \
		return imds_text(text, ret_text);                                                  \
	}
INSTANCE_TEXT(ami_id, "ImageId")
INSTANCE_TEXT(instance_id, "InstanceId")
INSTANCE_TEXT(instance_type, "InstanceType")
INSTANCE_TEXT(kernel_id, "KernelId")
INSTANCE_TEXT(ramdisk_id, "RamdiskId")
INSTANCE_TEXT(local_hostname, "PrivateDnsName")
INSTANCE_TEXT(local_ipv4, "PrivateIpAddress")
INSTANCE_TEXT(public_hostname, "PublicDnsName")
INSTANCE_TEXT(public_ipv4, "PublicIpAddress")

static int first_ipv6(const struct imds_place *p, char **ret_text)
{
	const json_t *list = json_object_get(imds_interface_at(p, 0), "Ipv6Addresses");

	return imds_text(jstr(json_array_get(list, 0), "Ipv6Address"), ret_text);
}
INSTANCE_TEXT(reservation_id, "_ReservationId")
INSTANCE_TEXT(zone_name, "Placement.AvailabilityZone")
INSTANCE_TEXT(group_name, "Placement.GroupName")
FIXED_TEXT(manifest_path, "(unknown)")
FIXED_TEXT(instance_action, "none")
FIXED_TEXT(profile, "default-hvm")
FIXED_TEXT(domain, "amazonaws.com")
FIXED_TEXT(partition, "aws")
FIXED_TEXT(no_events, "[]")
FIXED_TEXT(monitoring, "disabled")

static int hypervisor(const struct imds_place *p, char **ret_text)
{
	return imds_text(p->view->hypervisor, ret_text);
}

static int region(const struct imds_place *p, char **ret_text)
{
	return imds_text(p->view->region, ret_text);
}

static int zone_id(const struct imds_place *p, char **ret_text)
{
	return imds_text(p->view->zone_id, ret_text);
}

static int life_cycle(const struct imds_place *p, char **ret_text)
{
	return imds_text(jstr_or(p->view->instance, "InstanceLifecycle", "on-demand"), ret_text);
}

static int launch_index(const struct imds_place *p, char **ret_text)
{
	return imds_number(jint(p->view->instance, "AmiLaunchIndex", 0), ret_text);
}

static int security_groups(const struct imds_place *p, char **ret_text)
{
	return imds_lines(json_object_get(p->view->instance, "SecurityGroups"), "GroupName",
			  ret_text);
}

static int primary_mac(const struct imds_place *p, char **ret_text)
{
	return imds_text(jstr(imds_interface_at(p, 0), "MacAddress"), ret_text);
}

/* ---- block devices: ami and root are the root's name, ebs1… the others ---- */

static int device_at(const struct imds_place *p, size_t i, const char **ret_device)
{
	const char *root = jstr_or(p->view->instance, "RootDeviceName", "");
	json_t *mappings = json_object_get(p->view->instance, "BlockDeviceMappings"), *m;
	size_t k, n = 0;

	json_array_foreach (mappings, k, m) {
		const char *device = jstr(m, "DeviceName");

		if (!device || strcmp(device, root) == 0 || n++ != i)
			continue;
		*ret_device = strncmp(device, "/dev/", 5) == 0 ? device + 5 : device;
		return 0;
	}
	return -ENOENT;
}

static int devices_each(const struct imds_place *p, size_t i, char ret_name[static IMDS_NAME_MAX])
{
	const char *device;

	if (i == 0)
		strcpy(ret_name, "ami");
	else if (device_at(p, i - 1, &device) == 0)
		snprintf(ret_name, IMDS_NAME_MAX, "ebs%zu", i);
	else if (i == 1 || device_at(p, i - 2, &device) == 0)
		strcpy(ret_name, "root");
	else
		return -ENOENT;
	return 0;
}

static int device_name(const struct imds_place *p, char **ret_text)
{
	const char *device;
	size_t n;

	if (sscanf(p->name, "ebs%zu", &n) == 1)
		return device_at(p, n - 1, &device) == 0 ? imds_text(device, ret_text) : -ENOENT;
	return imds_text(jstr_or(p->view->instance, "RootDeviceName", "/dev/sda1"), ret_text);
}

/* ---- the key, tags, the document ---- */

static int has_key(const struct imds_place *p)
{
	return jstr(p->view->instance, "_PublicKey") != NULL;
}

static int keys_each(const struct imds_place *p, size_t i, char ret_name[static IMDS_NAME_MAX])
{
	(void)p;
	strcpy(ret_name, "0");
	return i == 0 ? 0 : -ENOENT;
}

static int key_label(const struct imds_place *p, const char *name,
		     char ret_label[static IMDS_NAME_MAX])
{
	snprintf(ret_label, IMDS_NAME_MAX, "%s=%s", name,
		 jstr_or(p->view->instance, "KeyName", "key"));
	return 0;
}

static int openssh_key(const struct imds_place *p, char **ret_text)
{
	const char *line = jstr(p->view->instance, "_PublicKey");

	if (!line)
		return -ENOENT;
	return asprintf(ret_text, "%s\n", line) < 0 ? -ENOMEM : 0;
}

static int has_tags(const struct imds_place *p)
{
	const char *is_enabled =
		jpath_str(p->view->instance, "MetadataOptions.InstanceMetadataTags");

	return is_enabled && strcmp(is_enabled, "enabled") == 0;
}

/* Keys that cannot be one name in a path are left out. Source: EC2 user guide, "View tags … using
 * instance metadata". */
static int tags_each(const struct imds_place *p, size_t i, char ret_name[static IMDS_NAME_MAX])
{
	json_t *tags = json_object_get(p->view->instance, "Tags"), *tag;
	size_t k, n = 0;

	json_array_foreach (tags, k, tag) {
		const char *key = jstr_or(tag, "Key", "");

		if (!*key || strpbrk(key, "/ \t\r\n") || strcmp(key, ".") == 0 ||
		    strcmp(key, "..") == 0 || strlen(key) >= IMDS_NAME_MAX || n++ != i)
			continue;
		strcpy(ret_name, key);
		return 0;
	}
	return -ENOENT;
}

static int tag_value(const struct imds_place *p, char **ret_text)
{
	json_t *tags = json_object_get(p->view->instance, "Tags"), *tag;
	size_t i;

	json_array_foreach (tags, i, tag)
		if (strcmp(jstr_or(tag, "Key", ""), p->name) == 0)
			return imds_text(jstr_or(tag, "Value", ""), ret_text);
	return -ENOENT;
}

/* `  "name" : "value"`, as AWS spaces it; no value is null. All values are ours or checked: nothing
 * needs escapes but json_dumps does it anyway. */
static void document_member(FILE *out, const char *name, const char *value, const char *end)
{
	OWN(json_decref) json_t *v = value ? json_string(value) : json_null();
	OWN(free) char *text = json_dumps(v, JSON_ENCODE_ANY);

	fprintf(out, "  \"%s\" : %s%s\n", name, text ? text : "null", end);
}

static int identity_document(const struct imds_place *p, char **ret_text)
{
	static const struct {
		const char *name, *path;
	} members[] = {{"architecture", "Architecture"},
		       {"availabilityZone", "Placement.AvailabilityZone"},
		       {"billingProducts", NULL},
		       {"devpayProductCodes", NULL},
		       {"marketplaceProductCodes", NULL},
		       {"imageId", "ImageId"},
		       {"instanceId", "InstanceId"},
		       {"instanceType", "InstanceType"},
		       {"kernelId", "KernelId"},
		       {"pendingTime", "LaunchTime"},
		       {"privateIp", "PrivateIpAddress"},
		       {"ramdiskId", "RamdiskId"}};
	OWN(free) char *text = NULL;
	size_t n_text = 0;
	FILE *out = open_memstream(&text, &n_text);

	if (!out)
		return -ENOMEM;
	fputs("{\n", out);
	document_member(out, "accountId", p->view->account, ",");
	for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
		const char *value =
			members[i].path ? jpath_str(p->view->instance, members[i].path) : NULL;
		char time[32];

		/* Whole seconds, as AWS writes this one. */
		if (value && strcmp(members[i].name, "pendingTime") == 0 && strlen(value) >= 19) {
			snprintf(time, sizeof time, "%.19sZ", value);
			value = time;
		}
		document_member(out, members[i].name, value, ",");
	}
	document_member(out, "region", p->view->region, ",");
	document_member(out, "version", "2017-09-30", "");
	fputs("}", out);
	if (fclose(out) != 0)
		return -ENOMEM;
	*ret_text = give(text);
	return 0;
}

/* ---- the tree ---- */

static const struct imds_node block_devices[] = {
	{.name = NULL, .each = devices_each, .get = device_name}};

static const struct imds_node interfaces[] = {{"macs", .children = imds_macs}, {NULL}};
static const struct imds_node network[] = {{"interfaces", .children = interfaces}, {NULL}};

static const struct imds_node maintenance[] = {
	{"history", no_events}, {"scheduled", no_events}, {NULL}};
static const struct imds_node events[] = {{"maintenance", .children = maintenance}, {NULL}};

static const struct imds_node placement[] = {{"availability-zone", zone_name},
					     {"availability-zone-id", zone_id},
					     {"group-name", group_name},
					     {"region", region},
					     {NULL}};

static const struct imds_node key_nodes[] = {{"openssh-key", openssh_key}, {NULL}};
static const struct imds_node keys[] = {
	{.name = NULL, .each = keys_each, .label = key_label, .children = key_nodes}};

static const struct imds_node services[] = {{"domain", domain}, {"partition", partition}, {NULL}};

static const struct imds_node tag_nodes[] = {{.name = NULL, .each = tags_each, .get = tag_value}};
static const struct imds_node tags[] = {{"instance", .children = tag_nodes}, {NULL}};

static const struct imds_node meta_data[] = {
	{"ami-id", ami_id},
	{"ami-launch-index", launch_index},
	{"ami-manifest-path", manifest_path},
	{"block-device-mapping", .children = block_devices},
	{"events", .children = events},
	{"hostname", local_hostname},
	{"instance-action", instance_action},
	{"instance-id", instance_id},
	{"instance-life-cycle", life_cycle},
	{"instance-type", instance_type},
	{"ipv6", first_ipv6},
	{"kernel-id", kernel_id},
	{"local-hostname", local_hostname},
	{"local-ipv4", local_ipv4},
	{"mac", primary_mac},
	{"network", .children = network},
	{"placement", .children = placement},
	{"profile", profile},
	{"public-hostname", public_hostname},
	{"public-ipv4", public_ipv4},
	{"public-keys", .children = keys, .is_there = has_key},
	{"ramdisk-id", ramdisk_id},
	{"reservation-id", reservation_id},
	{"security-groups", security_groups},
	{"services", .children = services},
	{"system", hypervisor},
	{"tags", .children = tags, .is_there = has_tags},
	{NULL},
};

static const struct imds_node identity[] = {{"document", identity_document}, {NULL}};
static const struct imds_node fws[] = {{"instance-monitoring", monitoring}, {NULL}};
static const struct imds_node dynamic[] = {
	{"fws", .children = fws}, {"instance-identity", .children = identity}, {NULL}};

/* Every version that AWS serves shows the same tree here. */
static const char *const versions[] = {
	"1.0",	      "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15",
	"2008-02-01", "2008-09-01", "2009-04-04", "2011-01-01", "2011-05-01", "2012-01-12",
	"2014-02-25", "2014-11-05", "2015-10-20", "2016-04-19", "2016-06-30", "2016-09-02",
	"2018-03-28", "2018-08-17", "2018-09-24", "2019-10-01", "2020-10-27", "2021-01-03",
	"2021-03-23", "2021-07-15", "2022-09-24", "2024-04-11", "latest",
};

/* ---- what is in no table ---- */

/* Without its white space, which counts for nothing: many encoders wrap their lines. NULL out of
 * memory. */
static char *unwrapped(const char *base64, size_t *ret_n)
{
	char *text = malloc(strlen(base64) + 1);
	size_t n = 0;

	for (; text && *base64; base64++)
		if (!isspace((unsigned char)*base64))
			text[n++] = *base64;
	*ret_n = n;
	return text;
}

static int user_data(const struct imds_view *view, struct imds_leaf *ret_leaf)
{
	size_t n;
	OWN(free) char *text = unwrapped(jstr_or(view->instance, "_UserData", ""), &n);
	OWN(free) char *body = text ? calloc(1, n / 4 * 3 + 1) : NULL;
	int got;

	if (!text || !body)
		return -ENOMEM;
	if (n == 0 || n % 4 != 0)
		return -ENOENT;
	got = EVP_DecodeBlock((unsigned char *)body, (const unsigned char *)text, (int)n);
	if (got < 0)
		return -ENOENT;
	got -= (text[n - 1] == '=') + (text[n - 2] == '=');
	body[got] = '\0';
	ret_leaf->body = give(body);
	ret_leaf->n_body = (size_t)got;
	ret_leaf->kind = IMDS_BYTES;
	return 0;
}

static int list_versions(char **ret_text)
{
	size_t n_text = 0;
	FILE *out = open_memstream(ret_text, &n_text);

	if (!out)
		return -ENOMEM;
	for (size_t i = 0; i < sizeof versions / sizeof *versions; i++)
		fprintf(out, "%s%s", i ? "\n" : "", versions[i]);
	return fclose(out) == 0 ? 0 : -ENOMEM;
}

/* What follows the version: three names, the only ones that are listed without slashes. */
static int resolve_top(const struct imds_view *view, const char *path, struct imds_leaf *leaf)
{
	size_t n;

	path += strspn(path, "/");
	n = strcspn(path, "/");
	if (n == 0)
		return imds_text(jstr(view->instance, "_UserData") ? "dynamic\nmeta-data\nuser-data"
								   : "dynamic\nmeta-data",
				 &leaf->body);
	if (n == 9 && memcmp(path, "meta-data", n) == 0)
		return imds_walk(view, meta_data, path + n, &leaf->body);
	if (n == 7 && memcmp(path, "dynamic", n) == 0)
		return imds_walk(view, dynamic, path + n, &leaf->body);
	if (n == 9 && memcmp(path, "user-data", n) == 0 && !path[n + strspn(path + n, "/")])
		return user_data(view, leaf);
	return -ENOENT;
}

int imds_resolve(const struct imds_view *view, const char *path, struct imds_leaf *ret_leaf)
{
	struct imds_leaf leaf = {.kind = IMDS_TEXT};
	size_t n, i = 0;
	int r = -ENOENT;

	path += strspn(path, "/");
	n = strcspn(path, "/");
	while (i < sizeof versions / sizeof *versions &&
	       (strlen(versions[i]) != n || memcmp(versions[i], path, n) != 0))
		i++;
	if (n == 0)
		r = list_versions(&leaf.body);
	else if (i < sizeof versions / sizeof *versions)
		r = resolve_top(view, path + n, &leaf);
	if (r < 0)
		return r;
	if (leaf.kind == IMDS_TEXT)
		leaf.n_body = strlen(leaf.body);
	*ret_leaf = leaf;
	return 0;
}
