/* How long the codec takes: microseconds for a RunInstances request, and for a DescribeInstances
 * reply of 1 and of 1,000 instances. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "aws/aws.h"
#include "own.h"

#define SECONDS 1.0

/* CPU time: others may share the machine. */
static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void report(const char *what, double began, unsigned n, size_t n_bytes)
{
	printf("  %-48s %10.1f us %10zu bytes\n", what, (now() - began) / n * 1e6, n_bytes);
}

static void decode(void)
{
	static const struct aws_pair pairs[] = {
		{"Action", "RunInstances"},
		{"Version", "2016-11-15"},
		{"ImageId", "ami-0123456789abcdef0"},
		{"InstanceType", "t3.nano"},
		{"MinCount", "1"},
		{"MaxCount", "1"},
		{"KeyName", "k"},
		{"SecurityGroupId.1", "sg-0123456789abcdef0"},
		{"TagSpecification.1.ResourceType", "instance"},
		{"TagSpecification.1.Tag.1.Key", "Name"},
		{"TagSpecification.1.Tag.1.Value", "a"},
		{"BlockDeviceMapping.1.DeviceName", "/dev/xvda"},
		{"BlockDeviceMapping.1.Ebs.VolumeSize", "8"},
		{"ClientToken", "c7f4a4a0-0c1b-4b6e-a0a1-2a6d6e6a5f50"},
	};
	const struct aws_action *a = aws_action_find(aws_service_find("ec2"), "RunInstances");
	double began = now();
	struct fault f = {0};
	unsigned n = 0;

	for (; now() - began < SECONDS; n++) {
		OWN(json_decref) json_t *parameters = NULL;

		if (aws_decode_query(a, pairs, sizeof pairs / sizeof *pairs, &parameters, &f) < 0)
			abort();
	}
	report("decode RunInstances", began, n, 0);
}

static json_t *instance(unsigned i)
{
	char id[32];

	snprintf(id, sizeof id, "i-%017x", i);
	return json_pack(
		"{s:s, s:s, s:s, s:{s:i, s:s}, s:s, s:s, s:s, s:s, s:b, s:[{s:s, s:s}], s:[{s:s, "
		"s:{s:s, s:s, s:b}}], "
		"s:{s:s, s:s}, s:[{s:s, s:s}]}",
		"InstanceId", id, "ImageId", "ami-0123456789abcdef0", "InstanceType", "t3.nano",
		"State", "Code", 16, "Name", "running", "LaunchTime", "2026-11-22T16:00:00.000Z",
		"PrivateIpAddress", "172.31.0.5", "VpcId", "vpc-0123456789abcdef0", "SubnetId",
		"subnet-0123456789abcdef0", "EbsOptimized", 0, "Tags", "Key", "Name", "Value", "a",
		"BlockDeviceMappings", "DeviceName", "/dev/xvda", "Ebs", "VolumeId",
		"vol-0123456789abcdef0", "Status", "attached", "DeleteOnTermination", 1,
		"Placement", "AvailabilityZone", "us-east-1a", "Tenancy", "default",
		"SecurityGroups", "GroupId", "sg-0123456789abcdef0", "GroupName", "default");
}

static void encode(unsigned n_instances)
{
	const struct aws_action *a = aws_action_find(aws_service_find("ec2"), "DescribeInstances");
	json_t *reservations = json_array();
	OWN(json_decref) json_t *reply = json_pack("{s:o}", "Reservations", reservations);
	size_t n_bytes = 0;
	char what[64];
	unsigned n = 0;

	for (unsigned i = 0; i < n_instances; i++)
		json_array_append_new(reservations, json_pack("{s:s, s:[o]}", "ReservationId",
							      "r-0", "Instances", instance(i)));
	double began = now();

	for (; now() - began < SECONDS; n++) {
		OWN(free) char *body = NULL;

		if (aws_encode(a, reply, "59dbff89-35bd-4eac-99ed-be587EXAMPLE", &body, &n_bytes) <
		    0)
			abort();
	}
	snprintf(what, sizeof what, "encode DescribeInstances of %u", n_instances);
	report(what, began, n, n_bytes);
}

int main(void)
{
	decode();
	encode(1);
	encode(1000);
	return 0;
}
