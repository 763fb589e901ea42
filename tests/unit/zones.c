/* Zones have AWS's names and ids. */
#include "tap.h"
#include "zones.h"

static void ids_are_as_aws_shortens_them(void)
{
	static const struct {
		const char *region, *id;
	} known[] = {
		{"us-east-1", "use1-az1"},	 {"us-west-2", "usw2-az1"},
		{"ap-northeast-2", "apne2-az1"}, {"ap-southeast-1", "apse1-az1"},
		{"ap-south-1", "aps1-az1"},	 {"eu-central-1", "euc1-az1"},
		{"sa-east-1", "sae1-az1"},	 {"ca-central-1", "cac1-az1"},
		{"us-gov-west-1", "usgw1-az1"},
	};
	char id[ZONE_ID_MAX];

	for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
		zone_id(known[i].region, 0, id);
		is_str(id, known[i].id, known[i].region);
	}
	zone_id("a-region-with-a-name-of-great-length-northeast-12345", 5, id);
	ok(strlen(id) < ZONE_ID_MAX, "a long name stays in its bounds");
}

static void only_configured_zones_exist(void)
{
	OWN(config_free) struct config *c = NULL;
	char error[512];

	if (!is_int(config_load("/nonexistent/gureum.conf", &c, error), 0, "defaults"))
		return;
	ok(region_exists(c, "us-east-1") && !region_exists(c, "eu-west-1"), "regions");
	is_int(zone_count(c), 3, "three zones");
	is_int(zone_index(c, "us-east-1", "us-east-1c"), 2, "by name");
	is_int(zone_index(c, "us-east-1", "use1-az2"), 1, "by id");
	ok(zone_exists(c, "us-east-1", "us-east-1a"), "exists");
	ok(!zone_exists(c, "us-east-1", "use1-az1"), "an id is no name");
	ok(!zone_exists(c, "us-east-1", "us-east-1d"), "one too many");
	ok(!zone_exists(c, "us-east-1", "ap-northeast-2a"), "another region's");
	ok(!zone_exists(c, "eu-west-1", "eu-west-1a"), "an unknown region's");
	ok(!zone_exists(c, "us-east-1", NULL), "NULL");
}

int main(void)
{
	RUN(ids_are_as_aws_shortens_them);
	RUN(only_configured_zones_exist);
	return tests_done();
}
