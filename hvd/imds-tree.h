/*
 * The metadata tree: paths to text. No sockets, no store: what an instance is goes in as a view, so
 * that any path can be tried on it. Source: EC2 user guide, "Instance metadata categories".
 */
#pragma once

#include <jansson.h>
#include <stddef.h>

/* What one instance can see. All borrowed. */
struct imds_view {
	const json_t *instance; /* its document */
	const char *account, *region;
	const json_t *vpc;	/* DescribeVpcs' row, NULL: not known yet */
	const json_t *subnets;	/* DescribeSubnets' rows of that VPC, NULL: not known yet */
	const char *zone_id;	/* "use1-az1", NULL: not known */
	const char *hypervisor; /* "nitro", "xen" */
};

enum imds_kind { IMDS_TEXT, IMDS_BYTES };

struct imds_leaf {
	enum imds_kind kind; /* IMDS_BYTES: user data, of any content */
	char *body;	     /* malloced, with a NUL after it */
	size_t n_body;
};

/* The listing or value at `path` ("/latest/meta-data/"; decoded, without a query). A slash at the
 * end makes no difference. 0; -ENOENT: nothing there; -EAGAIN: the view lacks vpc or subnets;
 * -ENOMEM. */
int imds_resolve(const struct imds_view *view, const char *path, struct imds_leaf *ret_leaf);
