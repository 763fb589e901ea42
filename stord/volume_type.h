/*
 * Volume types: sizes, IOPS and throughput that each allows, as one table. Source: EBS user guide,
 * "Amazon EBS volume types".
 */
#pragma once

#include <jansson.h>
#include <stdint.h>
#include "fault.h"

/* A volume's performance; 0: the type has no such figure. */
struct volume_shape {
	const char *type;
	int64_t size_gib, iops, throughput_mib;
};

/* The limits that QEMU shall keep for a volume's document: an object of libvirt's iotune names (a
 * new reference; NULL out of memory). */
json_t *volume_limits(const json_t *volume);

/* From VolumeType (default gp2), Iops and Throughput of the parameters, for a volume of size_gib.
 * Refused as AWS does. */
int volume_shape_parse(const json_t *parameters, int64_t size_gib, struct volume_shape *ret_shape,
		       struct fault *f);
