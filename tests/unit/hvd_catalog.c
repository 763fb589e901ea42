/* Instance types, regions, zones and key pairs, as customers see them. */
#include "hvd_call.h"

#include <errno.h>
#include <unistd.h>
#include "../../hvd/key_material.h"

#define RSA_BASE64                                                                                 \
	"AAAAB3NzaC1yc2EAAAADAQABAAABAQDBN+"                                                       \
	"SGYu7y68KVHc34KZo3eKBLVR3iCB4ZzhGqsfUwEw99vkf5StYBpnynN2boBckx8PJpfHA4e4JYBDJepvtsjw9JGe" \
	"9QnlQ97S4/765F18F9"                                                                       \
	"LPfe0mKfjMeux7nmx83U2yBOdtW71TuHMw4ywXQd2Pcf0l7/kfXD44x9WXGQGmsW9NPc1a+uUunxaEk4on/"      \
	"caNkP6GeaGJvkc84gKMhxMwSg+T3Fk50PtjwJptwRFxakyP/Bn22Nhqqt"                                \
	"cp6c9iBizgQ/UomcD1bH25yYeNzglGPeSP1AzooXKNrO8GvgXHSU4BzWmA5RJ/XTdFpNKWB/"                 \
	"YC0rEPaltahsg8nDgObj"
#define RSA_MD5 "ef:4b:7e:f8:ea:f8:63:fb:54:3d:7e:4b:b0:3e:6c:b7"
#define RSA_PKCS1                                                                                  \
	"MIIBCgKCAQEAwTfkhmLu8uvClR3N+CmaN3igS1Ud4ggeGc4RqrH1MBMPfb5H+"                            \
	"UrW\nAaZ8pzdm6AXJMfDyaXxwOHuCWAQyXqb7bI8PSRnvUJ5UPe0uP++uRdfBfSz33tJi\n"                  \
	"n4zHrse55sfN1NsgTnbVu9U7hzMOMsF0Hdj3H9Je/5H1w+OMfVlxkBprFvTT3NWv\nrlLp8WhJOKJ/"           \
	"3GjZD+hnmhib5HPOICjIcTMEoPk9xZOdD7Y8CabcERcWpMj/wZ9t\n"                                   \
	"jYaqrXKenPYgYs4EP1KJnA9Wx9ucmHjc4JRj3kj9QM6KFyjazvBr4Fx0lOAc1pgO\nUSf103RaTSlgf2AtKxD2pb" \
	"WobIPJw4Dm4wIDAQAB\n"
#define ED25519_LINE                                                                               \
	"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAII0KQ6sOl6sWrRNCa4OO8PoXSI5doTKAEMOzQwNMcqpj"
#define ED25519_SHA256 "NWz2iYf6mXFLvfx3kttI0SY4bzfAklDnZlxtge5lhEs="

static void types_are_those_of_aws(void)
{
	const struct instance_type *t = instance_type_find("t3.micro");
	size_t n = 0;

	ok(t && t->n_vcpus == 2 && t->memory_mib == 1024 && t->n_interfaces == 2 &&
		   t->n_ipv4_per_interface == 2,
	   "t3.micro");
	ok(t && t->is_burstable && t->baseline_permille == 100 && t->n_threads_per_core == 2,
	   "is burstable");
	t = instance_type_find("m5.large");
	ok(t && !t->is_burstable && t->memory_mib == 8192 && t->ebs_max_iops == 18750 &&
		   t->is_nitro,
	   "m5.large");
	t = instance_type_find("t2.nano");
	ok(t && !t->is_nitro && t->n_threads_per_core == 1, "t2.nano");
	ok(!instance_type_find("t9.huge") && !instance_type_find("") && !instance_type_find(NULL),
	   "no other");
	for (t = NULL; (t = instance_type_next(t)); n++)
		if (instance_type_find(t->name) != t || t->memory_mib < 512 ||
		    t->n_vcpus % t->n_threads_per_core != 0)
			ok(0, t->name);
	ok(n > 90, "a table of them");
}

static void types_are_described(void)
{
	OWN(json_decref) json_t *all = NULL, *one = NULL, *few = NULL, *page = NULL;
	json_t *t;

	is_str(call("ec2.DescribeInstanceTypes", "{\"InstanceTypes\":[\"t3.micro\"]}", &one), "",
	       "one");
	t = json_array_get(json_object_get(one, "InstanceTypes"), 0);
	is_int(jint(json_object_get(t, "VCpuInfo"), "DefaultVCpus", 0), 2, "vCPUs");
	is_int(json_integer_value(jpath(t, "MemoryInfo.SizeInMiB")), 1024, "memory");
	is_int(json_integer_value(jpath(t, "EbsInfo.EbsOptimizedInfo.MaximumIops")), 11800, "EBS");
	ok(jbool(t, "BurstablePerformanceSupported", 0), "burstable");
	is_str(call("ec2.DescribeInstanceTypes",
		    "{\"InstanceTypes\":[\"t3.micro\",\"x.y\",\"z.z\"]}", NULL),
	       "InvalidInstanceType", "unknown");
	is_str(fault.message, "The following supplied instance types do not exist: [x.y, z.z]",
	       "all of them are told");
	is_str(call("ec2.DescribeInstanceTypes", "{}", &all), "", "all");
	ok(json_array_size(json_object_get(all, "InstanceTypes")) > 90 || jstr(all, "NextToken"),
	   "of them");
	is_str(call("ec2.DescribeInstanceTypes",
		    "{\"Filters\":[{\"Name\":\"vcpu-info.default-vcpus\",\"Values\":[\"2\"]},{"
		    "\"Name\":\"memory-info.size-in-mib\",\"Values\":[\"512\"]},"
		    "{\"Name\":\"processor-info.sustained-clock-speed-in-ghz\",\"Values\":[\"2.5\"]"
		    "},{\"Name\":\"current-generation\",\"Values\":[\"true\"]}]}",
		    &few),
	       "", "filtered");
	is_int(json_array_size(json_object_get(few, "InstanceTypes")), 1,
	       "by numbers, fractions and booleans");
	is_str(call("ec2.DescribeInstanceTypes", "{\"MaxResults\":5}", &page), "", "a page");
	ok(jstr(page, "NextToken") && json_array_size(json_object_get(page, "InstanceTypes")) == 5,
	   "of five");
	is_str(call("ec2.DescribeInstanceTypes",
		    "{\"Filters\":[{\"Name\":\"size\",\"Values\":[\"2\"]}]}", NULL),
	       "InvalidParameterValue", "an unknown filter");
}

static void offerings_are_everywhere(void)
{
	OWN(json_decref) json_t *region = NULL, *zones = NULL, *ids = NULL;

	is_str(call("ec2.DescribeInstanceTypeOfferings",
		    "{\"Filters\":[{\"Name\":\"instance-type\",\"Values\":[\"m5.*\"]}]}", &region),
	       "", "region");
	is_int(json_array_size(json_object_get(region, "InstanceTypeOfferings")), 5, "m5");
	is_str(call("ec2.DescribeInstanceTypeOfferings",
		    "{\"LocationType\":\"availability-zone\",\"Filters\":[{\"Name\":\"instance-"
		    "type\",\"Values\":[\"t3.nano\"]}]}",
		    &zones),
	       "", "zones");
	is_int(json_array_size(json_object_get(zones, "InstanceTypeOfferings")), 3, "each");
	is_str(call("ec2.DescribeInstanceTypeOfferings",
		    "{\"LocationType\":\"availability-zone-id\",\"Filters\":[{\"Name\":"
		    "\"location\",\"Values\":[\"use1-az2\"]},"
		    "{\"Name\":\"instance-type\",\"Values\":[\"t3.nano\"]}]}",
		    &ids),
	       "", "ids");
	is_int(json_array_size(json_object_get(ids, "InstanceTypeOfferings")), 1, "one");
}

static void regions_and_zones_are_described(void)
{
	OWN(json_decref) json_t *regions = NULL, *zones = NULL, *one = NULL;

	is_str(call("ec2.DescribeRegions", "{}", &regions), "", "regions");
	is_int(json_array_size(json_object_get(regions, "Regions")), 2, "two");
	is_str(jstr(json_array_get(json_object_get(regions, "Regions"), 1), "Endpoint"),
	       "ec2.ap-northeast-2.amazonaws.com", "endpoint");
	is_str(call("ec2.DescribeRegions", "{\"RegionNames\":[\"mars-1\"]}", NULL),
	       "InvalidParameterValue", "no such region");
	is_str(call("ec2.DescribeAvailabilityZones", "{}", &zones), "", "zones");
	is_int(json_array_size(json_object_get(zones, "AvailabilityZones")), 3, "three");
	is_str(call("ec2.DescribeAvailabilityZones", "{\"ZoneIds\":[\"use1-az2\"]}", &one), "",
	       "by id");
	is_str(jstr(json_array_get(json_object_get(one, "AvailabilityZones"), 0), "ZoneName"),
	       "us-east-1b", "its name");
	is_str(call("ec2.DescribeAvailabilityZones", "{\"ZoneNames\":[\"us-east-1z\"]}", NULL),
	       "InvalidParameterValue", "no such zone");
}

static void all_ids_are_long(void)
{
	OWN(json_decref) json_t *all = NULL, *one = NULL;

	is_str(call("ec2.DescribeAggregateIdFormat", "{}", &all), "", "all");
	ok(jbool(all, "UseLongIdsAggregated", 0), "are long");
	is_str(call("ec2.DescribeIdFormat", "{\"Resource\":\"instance\"}", &one), "", "one");
	is_int(json_array_size(json_object_get(one, "Statuses")), 1, "resource");
	is_str(call("ec2.DescribeIdFormat", "{\"Resource\":\"thing\"}", NULL),
	       "InvalidParameterValue", "no such");
}

static void reads(const char *text, const char *fingerprint, const char *what)
{
	OWN(key_material_clear) struct key_material k = {0};

	is_int(key_material_parse(text, strlen(text), &k), 0, what);
	is_str(k.fingerprint, fingerprint, "its fingerprint");
	ok(k.public_line && strchr(k.public_line, ' ') &&
		   !strchr(strchr(k.public_line, ' ') + 1, ' '),
	   "two words");
}

static void public_keys_are_read_in_every_form(void)
{
	reads("ssh-rsa " RSA_BASE64 " me@host\n", RSA_MD5, "an OpenSSH line");
	reads("  ssh-rsa\t" RSA_BASE64, RSA_MD5, "without comment");
	reads("-----BEGIN RSA PUBLIC KEY-----\n" RSA_PKCS1 "-----END RSA PUBLIC KEY-----\n",
	      RSA_MD5, "PKCS#1");
	reads("---- BEGIN SSH2 PUBLIC KEY ----\nComment: \"a \\\nb\"\n" RSA_BASE64
	      "\n---- END SSH2 PUBLIC KEY ----\n",
	      RSA_MD5, "RFC 4716");
	reads("-----BEGIN PUBLIC "
	      "KEY-----\nMCowBQYDK2VwAyEAjQpDqw6XqxatE0Jrg47w+hdIjl2hMoAQw7NDA0xyqmM=\n-----END "
	      "PUBLIC KEY-----\n",
	      ED25519_SHA256, "PEM");
	reads("MCowBQYDK2VwAyEAjQpDqw6XqxatE0Jrg47w+hdIjl2hMoAQw7NDA0xyqmM=", ED25519_SHA256,
	      "DER in base64");
	reads(ED25519_LINE " x y z", ED25519_SHA256, "ed25519");
}

static int parse(const char *text)
{
	OWN(key_material_clear) struct key_material k = {0};

	return key_material_parse(text, strlen(text), &k);
}

static void other_bytes_are_no_keys(void)
{
	static const char *const bad[] = {
		"",
		"x",
		"ssh-rsa",
		"ssh-rsa ",
		"ssh-rsa AAAA",
		"ssh-rsa !!!!",
		"ssh-dss AAAAB3NzaC1kc3MAAAAA",
		ED25519_LINE "\n" ED25519_LINE,		    /* two keys */
		"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIf//", /* a length past the end */
		"ssh-ed25519 "
		"AAAAC3NzaC1lZDI1NTE5AAAAII0KQ6sOl6sWrRNCa4OO8PoXSI5doTKAEMOzQwNMcqpjAAAA", /* and
											       more
											       after
											       it */
		"-----BEGIN PUBLIC KEY-----",
		"-----BEGIN RSA PUBLIC KEY-----\nAAAA\n-----END RSA PUBLIC KEY-----\n",
		"---- BEGIN SSH2 PUBLIC KEY ----\n---- END SSH2 PUBLIC KEY ----",
		"---- BEGIN SSH2 PUBLIC KEY ----",
		"AAAA====",
		NULL,
	};

	for (size_t i = 0; bad[i]; i++)
		is_int(parse(bad[i]), -EINVAL, "refused");
	/* Cut anywhere, a key is a refusal or a key, never a crash. */
	for (size_t n = 0; n < strlen(RSA_BASE64); n += 7) {
		char text[sizeof RSA_BASE64 + 16];

		snprintf(text, sizeof text, "ssh-rsa %.*s", (int)n, RSA_BASE64);
		if (parse(text) == 0)
			ok(0, text);
	}
}

/* What ssh-keygen reads from the private key and from the public line is the same. */
static void openssh_agrees(const struct key_material *k)
{
	char path[160], command[512], line[2048] = "";
	FILE *out;

	snprintf(path, sizeof path, "%s/key", hvd_dir);
	out = fopen(path, "w");
	fputs(k->private_pem, out);
	fclose(out);
	snprintf(command, sizeof command, "chmod 600 %s; ssh-keygen -y -P '' -f %s", path, path);
	out = popen(command, "r");
	if (!fgets(line, sizeof line, out))
		line[0] = '\0';
	if (pclose(out) >> 8 == 127) {
		skip("no ssh-keygen");
		return;
	}
	line[strcspn(line, "\n")] = '\0';
	if (strlen(line) > strlen(k->public_line))
		line[strlen(k->public_line)] = '\0';
	is_str(line, k->public_line, "ssh-keygen reads the private key");
	unlink(path);
}

static void keys_are_made_as_ssh_wants_them(void)
{
	OWN(key_material_clear) struct key_material rsa = {0};
	OWN(key_material_clear) struct key_material ed = {0};

	is_int(key_material_make(KEY_RSA, &rsa), 0, "rsa");
	ok(strncmp(rsa.private_pem, "-----BEGIN RSA PRIVATE KEY-----\n", 32) == 0, "PKCS#1");
	is_int(strlen(rsa.fingerprint), 59, "SHA-1");
	openssh_agrees(&rsa);
	is_int(key_material_make(KEY_ED25519, &ed), 0, "ed25519");
	is_int(strlen(ed.fingerprint), 44, "SHA-256");
	openssh_agrees(&ed);
}

static void key_pairs_live_and_die(void)
{
	OWN(json_decref) json_t *made = NULL, *all = NULL, *with = NULL, *gone = NULL;
	json_t *first;

	is_str(call("ec2.CreateKeyPair",
		    "{\"KeyName\":\"k\",\"KeyType\":\"ed25519\",\"TagSpecifications\":[{"
		    "\"ResourceType\":\"key-pair\",\"Tags\":[{\"Key\":\"a\",\"Value\":\"b\"}]}]}",
		    &made),
	       "", "made");
	ok(strstr(jstr_or(made, "KeyMaterial", ""), "OPENSSH PRIVATE KEY"),
	   "the private key comes");
	is_str(call("ec2.CreateKeyPair", "{\"KeyName\":\"k\"}", NULL), "InvalidKeyPair.Duplicate",
	       "once");
	is_str(call("ec2.DescribeKeyPairs", "{\"KeyNames\":[\"k\"]}", &all), "", "shown");
	first = json_array_get(json_object_get(all, "KeyPairs"), 0);
	is_str(jstr(first, "KeyFingerprint"), jstr(made, "KeyFingerprint"), "fingerprint");
	ok(!jstr(first, "PublicKey") && !jstr(first, "KeyMaterial"), "no keys");
	is_str(call("ec2.DescribeKeyPairs",
		    "{\"IncludePublicKey\":true,\"Filters\":[{\"Name\":\"tag:a\",\"Values\":[\"b\"]"
		    "},{\"Name\":\"key-name\",\"Values\":[\"k\"]}]}",
		    &with),
	       "", "with");
	ok(strncmp(jstr_or(json_array_get(json_object_get(with, "KeyPairs"), 0), "PublicKey", ""),
		   "ssh-ed25519 ", 12) == 0,
	   "the public key");
	is_str(call("ec2.DescribeKeyPairs", "{\"KeyNames\":[\"k\",\"other\"]}", NULL),
	       "InvalidKeyPair.NotFound", "unknown");
	is_str(fault.message, "The key pair 'other' does not exist", "as AWS says it");
	is_str(call("ec2.DeleteKeyPair", "{\"KeyName\":\"k\"}", &gone), "", "deleted");
	ok(jbool(gone, "Return", 0), "true");
	is_str(call("ec2.DeleteKeyPair", "{\"KeyName\":\"k\"}", NULL), "", "again is no error");
	is_str(call("ec2.DeleteKeyPair", "{}", NULL), "MissingParameter", "which?");
	is_int(store_count(d->store, "key-pair"), 0, "none left");
}

static void bad_key_pairs_change_nothing(void)
{
	is_str(call("ec2.CreateKeyPair", "{\"KeyName\":\"a\\nssh-rsa AAAA\"}", NULL),
	       "InvalidParameterValue", "a name of two lines");
	is_str(call("ec2.CreateKeyPair", "{\"KeyName\":\" a\"}", NULL), "InvalidParameterValue",
	       "a blank first");
	is_str(call("ec2.CreateKeyPair", "{\"KeyName\":\"\"}", NULL), "MissingParameter",
	       "no name");
	is_str(call("ec2.CreateKeyPair", "{\"KeyName\":\"p\",\"KeyFormat\":\"ppk\"}", NULL),
	       "UnsupportedOperation", "PuTTY's form");
	is_str(call("ec2.ImportKeyPair",
		    "{\"KeyName\":\"p\",\"PublicKeyMaterial\":\"c3NoLXJzYSBBQUFB\"}", NULL),
	       "InvalidKey.Format", "no key");
	is_str(call("ec2.ImportKeyPair", "{\"KeyName\":\"p\",\"PublicKeyMaterial\":\"%%%%\"}",
		    NULL),
	       "InvalidKey.Format", "no base64");
	is_int(store_count(d->store, "key-pair"), 0, "nothing is kept");
}

static void an_imported_key_is_written_anew(void)
{
	struct context ctx = {.account = "123456789012", .region = "us-east-1"},
		       other = {.account = "123456789012", .region = "ap-northeast-2"};
	OWN(json_decref) json_t *reply = NULL;
	const struct doc *k = NULL;

	/* "ssh-ed25519 … command=evil" in base64 */
	is_str(call("ec2.ImportKeyPair",
		    "{\"KeyName\":\"mine\",\"PublicKeyMaterial\":"
		    "\"c3NoLWVkMjU1MTkgQUFBQUMzTnphQzFsWkRJMU5URTVBQUFBSUkwS1E2c09sNnNXclJOQ2E0T084"
		    "UG9YU0k1ZG9US0FFTU96UXdOTWNxcGogY29tbWFuZD1ldmlsCg==\"}",
		    &reply),
	       "", "imported");
	is_str(jstr(reply, "KeyFingerprint"), ED25519_SHA256, "fingerprint");
	is_int(key_pair_find(d->store, &ctx, "mine", &k, &fault), 0, "found");
	is_str(jstr(k->json, "_PublicKey"), ED25519_LINE " mine", "with our comment");
	ok(key_pair_find(d->store, &other, "mine", &k, &fault) < 0 &&
		   fault_is(&fault, FAULT_INVALID_KEY_PAIR_NOT_FOUND),
	   "not in another region");
}

static void tests(void)
{
	RUN(types_are_those_of_aws);
	RUN(types_are_described);
	RUN(offerings_are_everywhere);
	RUN(regions_and_zones_are_described);
	RUN(all_ids_are_long);
	RUN(public_keys_are_read_in_every_form);
	RUN(other_bytes_are_no_keys);
	RUN(keys_are_made_as_ssh_wants_them);
	RUN(key_pairs_live_and_die);
	RUN(bad_key_pairs_change_nothing);
	RUN(an_imported_key_is_written_anew);
}

int main(void)
{
	return hvd_main(tests);
}
