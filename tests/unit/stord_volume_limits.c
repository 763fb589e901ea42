/* What types mean in requests and bytes per second. */
#include "tap.h"
#include "../../stord/volume_type.h"
#include "jsonx.h"
#include "own.h"

#define MIB (INT64_C(1) << 20)

static int64_t limit(const char *volume, const char *name)
{
	OWN(json_decref) json_t *v = json_loads(volume, 0, NULL);
	OWN(json_decref) json_t *limits = volume_limits(v);

	return jint(limits, name, -1);
}

static void provisioned_types_get_what_they_were_asked_for(void)
{
	const char *gp3 = "{\"VolumeType\":\"gp3\",\"Size\":8,\"Iops\":3000,\"Throughput\":125}";

	is_int(limit(gp3, "total_iops_sec"), 3000, "gp3's IOPS");
	is_int(limit(gp3, "total_bytes_sec"), 125 * MIB, "gp3's throughput");
	is_int(limit(gp3, "total_iops_sec_max"), 0, "gp3 has no burst");
	is_int(limit(gp3, "size_iops_sec"), 256 * 1024, "a request of 1 MiB counts as four");
	is_int(limit("{\"VolumeType\":\"io1\",\"Size\":2000,\"Iops\":64000}", "total_bytes_sec"),
	       1000 * MIB, "io1 of 64,000 IOPS");
	is_int(limit("{\"VolumeType\":\"io2\",\"Size\":2000,\"Iops\":16000}", "total_bytes_sec"),
	       4000 * MIB, "io2 of 16,000 IOPS");
}

static void gp2_has_credits_for_half_an_hour(void)
{
	const char *small = "{\"VolumeType\":\"gp2\",\"Size\":8,\"Iops\":100}";

	is_int(limit(small, "total_iops_sec"), 100, "the baseline");
	is_int(limit(small, "total_iops_sec_max") * limit(small, "total_iops_sec_max_length"),
	       5400000, "5.4 million credits");
	is_int(limit(small, "total_bytes_sec"), 128 * MIB, "up to 170 GiB");
	is_int(limit("{\"VolumeType\":\"gp2\",\"Size\":334,\"Iops\":1002}", "total_bytes_sec"),
	       250 * MIB, "larger");
	is_int(limit("{\"VolumeType\":\"gp2\",\"Size\":1000,\"Iops\":3000}", "total_iops_sec_max"),
	       0, "none when the baseline is as much");
}

static void hard_disks_are_limited_by_size(void)
{
	is_int(limit("{\"VolumeType\":\"sc1\",\"Size\":1024}", "total_bytes_sec"), 12 * MIB,
	       "12 MiB/s for a TiB");
	is_int(limit("{\"VolumeType\":\"sc1\",\"Size\":1024}", "total_bytes_sec_max"), 80 * MIB,
	       "80 in a burst");
	is_int(limit("{\"VolumeType\":\"st1\",\"Size\":16384}", "total_bytes_sec"), 500 * MIB,
	       "500 at most");
	is_int(limit("{\"VolumeType\":\"st1\",\"Size\":16384}", "total_bytes_sec_max"), 0,
	       "and then no burst");
	is_int(limit("{\"VolumeType\":\"st1\",\"Size\":125}", "size_iops_sec"), MIB,
	       "counted by the MiB");
}

int main(void)
{
	RUN(provisioned_types_get_what_they_were_asked_for);
	RUN(gp2_has_credits_for_half_an_hour);
	RUN(hard_disks_are_limited_by_size);
	return tests_done();
}
