/* One instance as its metadata sees it. Included by tests/unit/hvd_imds*.c. */
#pragma once

#include <jansson.h>
#include "../../hvd/imds-tree.h"

#define VPC "vpc-00000000000000001"

static const char instance_text[] =
	"{\"InstanceId\":\"i-00000000000000001\",\"ImageId\":\"ami-1\",\"InstanceType\":\"t3."
	"micro\",\"KeyName\":\"k\",\"AmiLaunchIndex\":0,"
	"\"Placement\":{\"AvailabilityZone\":\"us-east-1b\"},\"PrivateIpAddress\":\"127.0.0.1\","
	"\"PrivateDnsName\":\"ip-127-0-0-1.ec2.internal\","
	"\"PublicIpAddress\":\"198.18.0.5\",\"PublicDnsName\":\"\",\"SubnetId\":\"subnet-1\","
	"\"VpcId\":\"" VPC "\",\"Architecture\":\"x86_64\","
	"\"State\":{\"Code\":16,\"Name\":\"running\"},\"RootDeviceName\":\"/dev/"
	"sda1\",\"LaunchTime\":\"2026-11-22T16:00:00.000Z\","
	"\"MetadataOptions\":{\"HttpTokens\":\"optional\",\"HttpEndpoint\":\"enabled\","
	"\"HttpPutResponseHopLimit\":2,\"InstanceMetadataTags\":\"enabled\"},"
	"\"SecurityGroups\":[{\"GroupId\":\"sg-1\",\"GroupName\":\"default\"},{\"GroupId\":\"sg-"
	"2\",\"GroupName\":\"web\"}],"
	"\"BlockDeviceMappings\":[{\"DeviceName\":\"/dev/sda1\"},{\"DeviceName\":\"/dev/sdb\"}],"
	"\"Tags\":[{\"Key\":\"Name\",\"Value\":\"구름\"},{\"Key\":\"a/"
	"b\",\"Value\":\"hidden\"},{\"Key\":\"..\",\"Value\":\"hidden\"}],"
	"\"NetworkInterfaces\":[{\"NetworkInterfaceId\":\"eni-1\",\"MacAddress\":\"02:00:00:00:00:"
	"01\",\"SubnetId\":\"subnet-1\",\"VpcId\":\"" VPC "\","
	"\"OwnerId\":\"123456789012\",\"PrivateIpAddress\":\"127.0.0.1\",\"PrivateDnsName\":\"ip-"
	"127-0-0-1.ec2.internal\","
	"\"PrivateIpAddresses\":[{\"PrivateIpAddress\":\"127.0.0.1\",\"Primary\":true,"
	"\"Association\":{\"PublicIp\":\"198.18.0.5\"}},"
	"{\"PrivateIpAddress\":\"127.0.0.9\"}],\"Association\":{\"PublicIp\":\"198.18.0.5\"},"
	"\"Groups\":[{\"GroupId\":\"sg-1\",\"GroupName\":\"default\"}],\"Attachment\":{"
	"\"DeviceIndex\":0}}],"
	"\"_ReservationId\":\"r-1\",\"_UserData\":\"AAECaGk=\",\"_PublicKey\":\"ssh-ed25519 AAAA "
	"k\"}";

static json_t *instance, *vpc, *subnets;

static struct imds_view view;

static void make_view(void)
{
	instance = json_loads(instance_text, 0, NULL);
	vpc = json_loads("{\"VpcId\":\"" VPC "\",\"CidrBlock\":\"127.0.0.0/"
			 "8\",\"CidrBlockAssociationSet\":[{\"CidrBlock\":\"127.0.0.0/8\"},"
			 "{\"CidrBlock\":\"10.0.0.0/16\"}]}",
			 0, NULL);
	subnets =
		json_loads("[{\"SubnetId\":\"subnet-1\",\"CidrBlock\":\"127.0.0.0/24\"}]", 0, NULL);
	view = (struct imds_view){instance, "123456789012", "us-east-1", vpc,
				  subnets,  "use1-az2",	    "nitro"};
}

static void drop_view(void)
{
	json_decref(instance);
	json_decref(vpc);
	json_decref(subnets);
}
