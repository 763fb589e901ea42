/*
 * A guest's request to IMDS: method, path and headers of its choice, to an instance whose document
 * has everything in it. The input is lines: method, path, token, TTL, X-Forwarded-For; a line that
 * is missing is a header that is absent. In the path `*` picks real names, so that deep nodes are
 * found.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "../../hvd/imds-answer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static const char instance[] =
	"{\"InstanceId\":\"i-00000000000000001\",\"ImageId\":\"ami-1\",\"InstanceType\":\"t3."
	"micro\",\"KeyName\":\"k/..\",\"AmiLaunchIndex\":3,"
	"\"Placement\":{\"AvailabilityZone\":\"us-east-1b\"},\"PrivateIpAddress\":\"10.0.0.1\","
	"\"RootDeviceName\":\"/dev/sda1\",\"LaunchTime\":\"2026\","
	"\"MetadataOptions\":{\"HttpTokens\":\"optional\",\"InstanceMetadataTags\":\"enabled\"},"
	"\"SecurityGroups\":[{\"GroupName\":\"a\"},{}],"
	"\"BlockDeviceMappings\":[{\"DeviceName\":\"/dev/"
	"sda1\"},{\"DeviceName\":\"sdb\"},{}],\"Tags\":[{\"Key\":\"k\",\"Value\":\"v\"},{\"Key\":"
	"\"a b\"}],"
	"\"NetworkInterfaces\":[{\"MacAddress\":\"02:00:00:00:00:01\",\"SubnetId\":\"s\","
	"\"Association\":{\"PublicIp\":\"1.2.3.4\"},"
	"\"PrivateIpAddresses\":[{\"PrivateIpAddress\":\"10.0.0.1\",\"Association\":{\"PublicIp\":"
	"\"1.2.3.4\"}}]},{\"MacAddress\":\"m\"},{}],"
	"\"_UserData\":\"AAECaGk=\",\"_PublicKey\":\"ssh-ed25519 AAAA "
	"k\",\"_ReservationId\":\"r\"}";

static const char *const names[] = {"latest",
				    "meta-data",
				    "dynamic",
				    "user-data",
				    "network",
				    "interfaces",
				    "macs",
				    "02:00:00:00:00:01",
				    "m",
				    "ipv4-associations",
				    "1.2.3.4",
				    "public-keys",
				    "0",
				    "openssh-key",
				    "tags",
				    "instance",
				    "k",
				    "placement",
				    "block-device-mapping",
				    "ebs1",
				    "root",
				    "instance-identity",
				    "document",
				    "1.0",
				    "events",
				    "services"};

static const char *line(char **at)
{
	return *at ? strsep(at, "\n") : NULL;
}

static void expand(const char *path, char *to, size_t room)
{
	size_t n = 0;

	for (; path && *path && n + 32 < room; path++) {
		if (*path != '*' || !path[1]) {
			to[n++] = *path;
			continue;
		}
		n += (size_t)snprintf(to + n, room - n, "/%s",
				      names[(uint8_t) * ++path % (sizeof names / sizeof *names)]);
	}
	to[n] = '\0';
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	static json_t *document, *subnets, *vpc;
	static const struct imds_key key = {{7}};
	OWN(free) char *text = strndup((const char *)data, n_bytes);
	OWN(imds_reply_clear) struct imds_reply reply = {0};
	char *at = text, path[2048];

	if (!document) {
		document = json_loads(instance, 0, NULL);
		subnets = json_loads("[{\"SubnetId\":\"s\",\"CidrBlock\":\"10.0.0.0/24\"},{}]", 0,
				     NULL);
		vpc = json_loads("{\"CidrBlock\":\"10.0.0.0/16\"}", 0, NULL);
	}
	struct imds_view view = {document, "123456789012", "us-east-1", vpc,
				 subnets,  "use1-az2",	   "nitro"};
	struct imds_request q = {.method = line(&at)};
	const char *raw = line(&at);

	if (!q.method || !raw)
		return 0;
	expand(raw, path, sizeof path);
	q.path = path;
	q.token = line(&at);
	q.ttl = line(&at);
	q.is_forwarded = line(&at) != NULL;
	int r = imds_answer(&key, &view, &q, 1000, &reply);

	if (r == -EAGAIN) /* a subnet that netd has not told of */
		return 0;
	if (r < 0 || reply.status < 200 || !reply.body || !reply.content_type)
		abort();
	if (reply.status == 200 && q.token && reply.hop_limit == 0) /* nobody guesses a token */
		abort();
	return 0;
}
