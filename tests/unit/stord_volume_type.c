/* Sizes, IOPS and throughput of each volume type, as AWS has them. */
#include "tap.h"
#include "../../stord/volume_type.h"
#include "own.h"

static struct volume_shape shape;

static const char *ask(const char *json, int64_t gib)
{
	static struct fault f;
	OWN(json_decref) json_t *p = json_loads(json, 0, NULL);

	f = (struct fault){0};
	shape = (struct volume_shape){0};
	return volume_shape_parse(p, gib, &shape, &f) < 0 ? f.code : "";
}

static void each_type_has_its_sizes(void)
{
	static const struct {
		const char *type, *iops;
		int64_t low, high;
	} table[] = {{"gp2", "", 1, 16384},
		     {"gp3", "", 1, 65536},
		     {"io1", ",\"Iops\":100", 4, 16384},
		     {"io2", ",\"Iops\":100", 4, 65536},
		     {"st1", "", 125, 16384},
		     {"sc1", "", 125, 16384},
		     {"standard", "", 1, 1024}};
	char json[80];

	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		snprintf(json, sizeof json, "{\"VolumeType\":\"%s\"%s}", table[i].type,
			 table[i].iops);
		is_str(ask(json, table[i].low), "", table[i].type);
		is_str(ask(json, table[i].high), "", table[i].type);
		is_str(ask(json, table[i].low - 1), "InvalidParameterValue", table[i].type);
		is_str(ask(json, table[i].high + 1), "InvalidParameterValue", table[i].type);
	}
	is_str(ask("{\"VolumeType\":\"gp9\"}", 8), "InvalidParameterValue", "no such type");
}

static void the_defaults_are_those_of_aws(void)
{
	ask("{}", 8);
	is_str(shape.type, "gp2", "gp2 when not told");
	is_int(shape.iops, 100, "at least 100");
	ask("{}", 1000);
	is_int(shape.iops, 3000, "3 for each GiB");
	ask("{}", 16384);
	is_int(shape.iops, 16000, "at most 16,000");
	ask("{\"VolumeType\":\"gp3\"}", 1);
	is_int(shape.iops, 3000, "gp3: 3,000 at any size");
	is_int(shape.throughput_mib, 125, "gp3: 125 MiB/s");
	ask("{\"VolumeType\":\"st1\"}", 500);
	is_int(shape.iops, 0, "st1 has none");
}

static void iops_are_bounded_by_type_and_size(void)
{
	is_str(ask("{\"VolumeType\":\"gp2\",\"Iops\":300}", 100), "InvalidParameterCombination",
	       "not for gp2");
	is_str(ask("{\"VolumeType\":\"standard\",\"Iops\":300}", 100),
	       "InvalidParameterCombination", "not for standard");
	is_str(ask("{\"VolumeType\":\"io1\"}", 100), "MissingParameter", "needed for io1");
	is_str(ask("{\"VolumeType\":\"io1\",\"Iops\":99}", 100), "InvalidParameterValue",
	       "too few");
	is_str(ask("{\"VolumeType\":\"io1\",\"Iops\":5000}", 100), "", "50 for each GiB");
	is_str(ask("{\"VolumeType\":\"io1\",\"Iops\":5001}", 100), "InvalidParameterValue",
	       "one more");
	is_str(ask("{\"VolumeType\":\"io1\",\"Iops\":64001}", 16384), "InvalidParameterValue",
	       "over the most");
	is_str(ask("{\"VolumeType\":\"io2\",\"Iops\":100000}", 100), "", "1,000 for each GiB");
	is_str(ask("{\"VolumeType\":\"gp3\",\"Iops\":3000}", 1), "", "what comes for nothing");
	is_str(ask("{\"VolumeType\":\"gp3\",\"Iops\":3001}", 1), "InvalidParameterValue",
	       "500 for each GiB");
	is_str(ask("{\"VolumeType\":\"gp3\",\"Iops\":2999}", 100), "InvalidParameterValue",
	       "less than comes for nothing");
}

static void throughput_is_for_gp3(void)
{
	is_str(ask("{\"Throughput\":125}", 100), "InvalidParameterCombination", "not for gp2");
	is_str(ask("{\"VolumeType\":\"gp3\",\"Throughput\":124}", 100), "InvalidParameterValue",
	       "too little");
	is_str(ask("{\"VolumeType\":\"gp3\",\"Throughput\":750}", 100), "",
	       "a quarter of the IOPS");
	is_str(ask("{\"VolumeType\":\"gp3\",\"Throughput\":751}", 100), "InvalidParameterValue",
	       "more than that");
	is_str(ask("{\"VolumeType\":\"gp3\",\"Throughput\":1000,\"Iops\":4000}", 100), "",
	       "with more IOPS");
	is_str(ask("{\"VolumeType\":\"gp3\",\"Throughput\":2001,\"Iops\":16000}", 100),
	       "InvalidParameterValue", "over the most");
}

int main(void)
{
	RUN(each_type_has_its_sizes);
	RUN(the_defaults_are_those_of_aws);
	RUN(iops_are_bounded_by_type_and_size);
	RUN(throughput_is_for_gp3);
	return tests_done();
}
