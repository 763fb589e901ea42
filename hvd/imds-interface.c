/* The metadata tree below network/interfaces/macs/: one directory for each of the instance's
 * interfaces. */
#include "imds-node.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "jsonx.h"
#include "own.h"

#define INTERFACE_TEXT(name, path)                                                                 \
	static int name(const struct imds_place *p, char **ret_text)                               \
	{                                                                                          \
		const char *text = jpath_str(p->interface, path);                                  \
                                                                                                   \
		return imds_text(text && *text ? text : NULL, ret_text);                           \
	}

INTERFACE_TEXT(eni_id, "NetworkInterfaceId")
INTERFACE_TEXT(eni_mac, "MacAddress")
INTERFACE_TEXT(eni_owner, "OwnerId")
INTERFACE_TEXT(eni_subnet, "SubnetId")
INTERFACE_TEXT(eni_vpc, "VpcId")
INTERFACE_TEXT(eni_hostname, "PrivateDnsName")
INTERFACE_TEXT(eni_public_hostname, "Association.PublicDnsName")

const json_t *imds_interface_at(const struct imds_place *p, size_t i)
{
	return json_array_get(json_object_get(p->view->instance, "NetworkInterfaces"), i);
}

static int macs_each(const struct imds_place *p, size_t i, char ret_name[static IMDS_NAME_MAX])
{
	const json_t *eni = imds_interface_at(p, i);

	if (!eni)
		return -ENOENT;
	snprintf(ret_name, IMDS_NAME_MAX, "%s", jstr_or(eni, "MacAddress", ""));
	return 0;
}

static void macs_enter(struct imds_place *p, size_t i)
{
	p->interface = imds_interface_at(p, i);
}

static int device_number(const struct imds_place *p, char **ret_text)
{
	const json_t *attachment = json_object_get(p->interface, "Attachment");

	return imds_number(jint(attachment, "DeviceIndex", 0), ret_text);
}

static int local_ipv4s(const struct imds_place *p, char **ret_text)
{
	int r = imds_lines(json_object_get(p->interface, "PrivateIpAddresses"), "PrivateIpAddress",
			   ret_text);

	return r == -ENOENT ? imds_text(jstr(p->interface, "PrivateIpAddress"), ret_text) : r;
}

static int group_ids(const struct imds_place *p, char **ret_text)
{
	return imds_lines(json_object_get(p->interface, "Groups"), "GroupId", ret_text);
}

static int group_names(const struct imds_place *p, char **ret_text)
{
	return imds_lines(json_object_get(p->interface, "Groups"), "GroupName", ret_text);
}

/* The i-th public address and the private one that it stands for. */
static int association_at(const json_t *eni, size_t i, const char **ret_public,
			  const char **ret_private)
{
	json_t *addresses = json_object_get(eni, "PrivateIpAddresses"), *a;
	size_t k, n = 0;

	json_array_foreach (addresses, k, a) {
		const char *public = jpath_str(a, "Association.PublicIp");

		if (!public || n++ != i)
			continue;
		*ret_public = public;
		*ret_private = jstr(a, "PrivateIpAddress");
		return 0;
	}
	*ret_public = jpath_str(eni, "Association.PublicIp");
	*ret_private = jstr(eni, "PrivateIpAddress");
	return i == 0 && n == 0 && *ret_public && **ret_public ? 0 : -ENOENT;
}

static int public_ipv4s(const struct imds_place *p, char **ret_text)
{
	OWN(free) char *text = NULL;
	const char *public, *private;

	for (size_t i = 0; association_at(p->interface, i, &public, &private) == 0; i++) {
		OWN(free) char *before = give(text);

		if (asprintf(&text, "%s%s%s", before ? before : "", before ? "\n" : "", public) < 0)
			return -ENOMEM;
	}
	if (!text)
		return -ENOENT;
	*ret_text = give(text);
	return 0;
}

static int associations_each(const struct imds_place *p, size_t i,
			     char ret_name[static IMDS_NAME_MAX])
{
	const char *public, *private;

	if (association_at(p->interface, i, &public, &private) < 0)
		return -ENOENT;
	snprintf(ret_name, IMDS_NAME_MAX, "%s", public);
	return 0;
}

static int association_private(const struct imds_place *p, char **ret_text)
{
	const char *public, *private;

	for (size_t i = 0; association_at(p->interface, i, &public, &private) == 0; i++)
		if (strcmp(public, p->name) == 0)
			return imds_text(private, ret_text);
	return -ENOENT;
}

static int has_associations(const struct imds_place *p)
{
	const char *public, *private;

	return association_at(p->interface, 0, &public, &private) == 0;
}

/* NULL: not known, or younger than what is known. */
static const json_t *subnet_of(const struct imds_place *p)
{
	size_t i;
	json_t *subnet;

	json_array_foreach (p->view->subnets, i, subnet)
		if (strcmp(jstr_or(subnet, "SubnetId", ""),
			   jstr_or(p->interface, "SubnetId", "?")) == 0)
			return subnet;
	return NULL;
}

static int subnet_cidr(const struct imds_place *p, char **ret_text)
{
	const json_t *subnet = subnet_of(p);

	return subnet ? imds_text(jstr(subnet, "CidrBlock"), ret_text) : -EAGAIN;
}

/* Where there is no IPv6 these are not there. */
static int ipv6s(const struct imds_place *p, char **ret_text)
{
	return imds_lines(json_object_get(p->interface, "Ipv6Addresses"), "Ipv6Address", ret_text);
}

static int ipv4_prefixes(const struct imds_place *p, char **ret_text)
{
	return imds_lines(json_object_get(p->interface, "Ipv4Prefixes"), "Ipv4Prefix", ret_text);
}

static int ipv6_prefixes(const struct imds_place *p, char **ret_text)
{
	return imds_lines(json_object_get(p->interface, "Ipv6Prefixes"), "Ipv6Prefix", ret_text);
}

static int subnet_ipv6_cidrs(const struct imds_place *p, char **ret_text)
{
	const json_t *subnet = subnet_of(p);

	return subnet ? imds_lines(json_object_get(subnet, "Ipv6CidrBlockAssociationSet"),
				   "Ipv6CidrBlock", ret_text)
		      : -EAGAIN;
}

static int vpc_ipv6_cidrs(const struct imds_place *p, char **ret_text)
{
	return p->view->vpc
		       ? imds_lines(json_object_get(p->view->vpc, "Ipv6CidrBlockAssociationSet"),
				    "Ipv6CidrBlock", ret_text)
		       : -EAGAIN;
}

static int vpc_cidr(const struct imds_place *p, char **ret_text)
{
	return p->view->vpc ? imds_text(jstr(p->view->vpc, "CidrBlock"), ret_text) : -EAGAIN;
}

static int vpc_cidrs(const struct imds_place *p, char **ret_text)
{
	int r;

	if (!p->view->vpc)
		return -EAGAIN;
	r = imds_lines(json_object_get(p->view->vpc, "CidrBlockAssociationSet"), "CidrBlock",
		       ret_text);
	return r == -ENOENT ? vpc_cidr(p, ret_text) : r;
}

static const struct imds_node associations[] = {
	{.name = NULL, .each = associations_each, .get = association_private}};

static const struct imds_node interface_nodes[] = {
	{"device-number", device_number},
	{"interface-id", eni_id},
	{"ipv4-associations", .children = associations, .is_there = has_associations},
	{"ipv4-prefix", ipv4_prefixes},
	{"ipv6-prefix", ipv6_prefixes},
	{"ipv6s", ipv6s},
	{"local-hostname", eni_hostname},
	{"local-ipv4s", local_ipv4s},
	{"mac", eni_mac},
	{"owner-id", eni_owner},
	{"public-hostname", eni_public_hostname},
	{"public-ipv4s", public_ipv4s},
	{"security-group-ids", group_ids},
	{"security-groups", group_names},
	{"subnet-id", eni_subnet},
	{"subnet-ipv4-cidr-block", subnet_cidr},
	{"subnet-ipv6-cidr-blocks", subnet_ipv6_cidrs},
	{"vpc-id", eni_vpc},
	{"vpc-ipv4-cidr-block", vpc_cidr},
	{"vpc-ipv4-cidr-blocks", vpc_cidrs},
	{"vpc-ipv6-cidr-blocks", vpc_ipv6_cidrs},
	{NULL},
};
const struct imds_node imds_macs[] = {
	{.name = NULL, .each = macs_each, .enter = macs_enter, .children = interface_nodes}};
