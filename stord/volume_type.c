/* What each volume type allows. */
#include "volume_type.h"

#include <errno.h>
#include <string.h>
#include "jsonx.h"

static const struct volume_type {
	const char *name;
	int64_t gib_low, gib_high;
	int64_t iops_low,
		iops_high; /* that may be asked for; 0, 0: Iops is not a parameter of the type */
	int64_t iops_per_gib;
	int64_t iops_default;	 /* 0: Iops must be given */
	int64_t throughput_high; /* MiB/s; 0: Throughput is not a parameter of the type */
} types[] = {
	{"gp3", 1, 65536, 3000, 80000, 500, 3000, 2000},
	{"gp2", 1, 16384, 0, 0, 0, 0, 0},
	{"io1", 4, 16384, 100, 64000, 50, 0, 0},
	{"io2", 4, 65536, 100, 256000, 1000, 0, 0},
	{"st1", 125, 16384, 0, 0, 0, 0, 0},
	{"sc1", 125, 16384, 0, 0, 0, 0, 0},
	{"standard", 1, 1024, 0, 0, 0, 0, 0},
};
#define THROUGHPUT_LOW	    125
#define IOPS_PER_THROUGHPUT 4 /* 0.25 MiB/s for each IOPS */

static const struct volume_type *type_find(const char *name)
{
	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if (strcmp(types[i].name, name) == 0)
			return &types[i];
	return NULL;
}

static int size_check(const struct volume_type *t, int64_t gib, struct fault *f)
{
	if (gib < t->gib_low)
		return fault_set(
			f, FAULT_INVALID_PARAMETER_VALUE,
			"Volume of %lldGiB is too small for volume type %s; minimum is %lldGiB.",
			(long long)gib, t->name, (long long)t->gib_low);
	if (gib > t->gib_high)
		return fault_set(
			f, FAULT_INVALID_PARAMETER_VALUE,
			"Volume of %lldGiB is too large for volume type %s; maximum is %lldGiB.",
			(long long)gib, t->name, (long long)t->gib_high);
	return 0;
}

/* gp2: 3 IOPS for each GiB, at least 100, at most 16,000. */
static int64_t gp2_baseline(int64_t gib)
{
	return gib * 3 < 100 ? 100 : gib * 3 > 16000 ? 16000 : gib * 3;
}

static int iops_parse(const struct volume_type *t, const json_t *parameters, int64_t gib,
		      int64_t *ret_iops, struct fault *f)
{
	int64_t iops = jint(parameters, "Iops", t->iops_default);

	if (!t->iops_high) {
		if (json_object_get(parameters, "Iops"))
			return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
					 "The parameter iops is not supported for %s volumes.",
					 t->name);
		*ret_iops = strcmp(t->name, "gp2") == 0 ? gp2_baseline(gib) : 0;
		return 0;
	}
	if (!json_object_get(parameters, "Iops") && !t->iops_default)
		return fault_set(
			f, FAULT_MISSING_PARAMETER,
			"The request must contain the parameter iops for volumes of type %s.",
			t->name);
	if (iops < t->iops_low)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Volume iops of %lld is too low; minimum is %lld.",
				 (long long)iops, (long long)t->iops_low);
	if (iops > t->iops_high)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Volume iops of %lld is too high; maximum is %lld.",
				 (long long)iops, (long long)t->iops_high);
	if (iops > t->iops_default && iops > gib * t->iops_per_gib)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Iops to volume size ratio of %.6f is too high; maximum is %lld.",
				 (double)iops / (double)gib, (long long)t->iops_per_gib);
	*ret_iops = iops;
	return 0;
}

static int throughput_parse(const struct volume_type *t, const json_t *parameters, int64_t iops,
			    int64_t *ret_mib, struct fault *f)
{
	int64_t mib = jint(parameters, "Throughput", THROUGHPUT_LOW);

	if (!t->throughput_high) {
		if (json_object_get(parameters, "Throughput"))
			return fault_set(
				f, FAULT_INVALID_PARAMETER_COMBINATION,
				"The parameter throughput is not supported for %s volumes.",
				t->name);
		*ret_mib = 0;
		return 0;
	}
	if (mib < THROUGHPUT_LOW || mib > t->throughput_high)
		return fault_set(
			f, FAULT_INVALID_PARAMETER_VALUE,
			"Volume throughput of %lld is out of range; it must be %d to %lld MiB/s.",
			(long long)mib, THROUGHPUT_LOW, (long long)t->throughput_high);
	if (mib * IOPS_PER_THROUGHPUT > iops)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Throughput (MiBps) to iops ratio of %.6f is too high; maximum is "
				 "0.250000 MiBps per iops.",
				 (double)mib / (double)iops);
	*ret_mib = mib;
	return 0;
}

int volume_shape_parse(const json_t *parameters, int64_t size_gib, struct volume_shape *ret_shape,
		       struct fault *f)
{
	const char *name = jstr_or(parameters, "VolumeType", "gp2");
	const struct volume_type *t = type_find(name);
	struct volume_shape s = {.size_gib = size_gib};

	if (!t)
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Unsupported volume type '%.32s' for volume creation.", name);
	s.type = t->name;
	int r = size_check(t, size_gib, f);

	if (r == 0)
		r = iops_parse(t, parameters, size_gib, &s.iops, f);
	if (r == 0)
		r = throughput_parse(t, parameters, s.iops, &s.throughput_mib, f);
	if (r == 0)
		*ret_shape = s;
	return r;
}
