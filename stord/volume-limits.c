/*
 * What a volume's type, size and figures mean in requests and bytes per second.
 *
 * QEMU's throttle is a leaky bucket for the average and one for bursts; the second holds `max` for
 * `max_length` seconds and drains at the average. That is AWS's credit bucket: 5.4 million credits
 * of gp2 are 3,000 a second for 1,800 seconds, spent faster than they come while a volume does more
 * than its baseline. A volume begins with a full one, at AWS as here; here also after its guest's
 * QEMU was started anew.
 *
 * Large requests count as several, as AWS counts them (size_iops_sec). Source: EBS user guide,
 * "Amazon EBS volume types", "I/O characteristics and monitoring".
 */
#include "volume_type.h"

#include <string.h>
#include "jsonx.h"

#define MIB	    (INT64_C(1) << 20)
#define SSD_COUNTED (256 * 1024)
#define HDD_COUNTED MIB

#define GP2_CREDITS    5400000
#define GP2_BURST_IOPS 3000
#define TIB_IN_GIB     1024

struct limits {
	int64_t bytes, iops, bytes_max, iops_max, counted, bytes_seconds, iops_seconds;
};

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static void limit_gp3(const struct volume_shape *s, struct limits *l)
{
	l->iops = s->iops;
	l->bytes = s->throughput_mib * MIB;
}

static void limit_gp2(const struct volume_shape *s, struct limits *l)
{
	l->iops = s->iops;
	l->bytes = (s->size_gib <= 170 ? 128 : 250) * MIB;
	if (s->iops < GP2_BURST_IOPS) {
		l->iops_max = GP2_BURST_IOPS;
		l->iops_seconds = GP2_CREDITS / GP2_BURST_IOPS;
	}
}

/* 256 KiB for each IOPS up to 500 MiB/s; from 32,000 IOPS on 16 KiB for each, up to 1,000. */
static void limit_io1(const struct volume_shape *s, struct limits *l)
{
	l->iops = s->iops;
	l->bytes = s->iops > 32000 ? least(s->iops * 16 * 1024, 1000 * MIB)
				   : least(s->iops * SSD_COUNTED, 500 * MIB);
}

static void limit_io2(const struct volume_shape *s, struct limits *l)
{
	l->iops = s->iops;
	l->bytes = least(s->iops * SSD_COUNTED, 4000 * MIB);
}

/* Throughput by the TiB, and a bucket of as many bytes as the volume has. */
static void limit_disk(const struct volume_shape *s, int64_t base, int64_t burst, int64_t most,
		       struct limits *l)
{
	l->bytes = least(base * MIB * s->size_gib / TIB_IN_GIB, most * MIB);
	int64_t max = least(burst * MIB * s->size_gib / TIB_IN_GIB, most * MIB);

	if (max <= l->bytes)
		return;
	l->bytes_max = max;
	l->bytes_seconds = s->size_gib * 1024 * MIB / max;
}

static void limit_st1(const struct volume_shape *s, struct limits *l)
{
	l->iops = 500;
	limit_disk(s, 40, 250, 500, l);
}

static void limit_sc1(const struct volume_shape *s, struct limits *l)
{
	l->iops = 250;
	limit_disk(s, 12, 80, 250, l);
}

/* "About 100 IOPS on average, with burst capability of up to hundreds"; 40–90 MiB/s. */
static void limit_standard(const struct volume_shape *s, struct limits *l)
{
	(void)s;
	l->iops = 200;
	l->bytes = 90 * MIB;
}

static const struct {
	const char *type;
	void (*set)(const struct volume_shape *s, struct limits *l);
	int64_t counted; /* a request of more counts as several */
} types[] = {
	{"gp3", limit_gp3, SSD_COUNTED},	   {"gp2", limit_gp2, SSD_COUNTED},
	{"io1", limit_io1, SSD_COUNTED},	   {"io2", limit_io2, SSD_COUNTED},
	{"st1", limit_st1, HDD_COUNTED},	   {"sc1", limit_sc1, HDD_COUNTED},
	{"standard", limit_standard, SSD_COUNTED},
};

json_t *volume_limits(const json_t *volume)
{
	struct volume_shape s = {.type = jstr_or(volume, "VolumeType", ""),
				 .size_gib = jint(volume, "Size", 0),
				 .iops = jint(volume, "Iops", 0),
				 .throughput_mib = jint(volume, "Throughput", 0)};
	struct limits l = {0};

	for (size_t i = 0; i < sizeof types / sizeof *types; i++)
		if (strcmp(types[i].type, s.type) == 0) {
			types[i].set(&s, &l);
			l.counted = types[i].counted;
		}
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "total_bytes_sec",
			 (json_int_t)l.bytes, "total_iops_sec", (json_int_t)l.iops,
			 "total_bytes_sec_max", (json_int_t)l.bytes_max, "total_iops_sec_max",
			 (json_int_t)l.iops_max, "size_iops_sec", (json_int_t)l.counted,
			 "total_bytes_sec_max_length", (json_int_t)l.bytes_seconds,
			 "total_iops_sec_max_length", (json_int_t)l.iops_seconds);
}
