/* Domain XML: golden files, libvirt's own schema, uuids and targets. REGEN=1 rewrites the golden
 * files. */
#include <errno.h>
#include <libxml/parser.h>
#include <libxml/relaxng.h>
#include <libxml/xpath.h>
#include <unistd.h>

#include "../../hvd/domain.h"
#include "tap.h"

#define GOLDEN "tests/golden/domain/"
#define SCHEMA "/usr/share/libvirt/schemas/domain.rng"

static const struct {
	const char *name;
	struct domain_spec spec;
} cases[] = {
	{"kernel-tcg",
	 {.id = "i-0123456789abcdef0",
	  .type = "qemu",
	  .instance_type = "t3.micro",
	  .n_vcpus = 2,
	  .n_threads_per_core = 2,
	  .memory_mib = 1024,
	  .kernel = "/var/lib/gureum/stord/snapshots/snap-1.raw",
	  .initrd = "/var/lib/gureum/stord/snapshots/snap-2.raw",
	  .cmdline = "console=ttyS0 root=/dev/vda quiet panic=-1",
	  .cache = "none",
	  .console_path = "/var/lib/gureum/hvd/console/i-0123456789abcdef0.log",
	  .agent_path = "/run/gureum/agents/i-0123456789abcdef0",
	  .disks = {{"/var/lib/gureum/stord/vol-1.qcow2", "qcow2", "vda", "vol-0123456789abcdef1"}},
	  .n_disks = 1,
	  .nics = {{"tabcdefghijklmn", "02:00:00:00:00:01", 9001}},
	  .n_nics = 1}},
	{"firmware-kvm",
	 {.id = "i-0fedcba9876543210",
	  .type = "kvm",
	  .instance_type = "m5.xlarge",
	  .n_vcpus = 4,
	  .n_threads_per_core = 2,
	  .memory_mib = 16384,
	  .cmdline = "is of no use without a kernel",
	  .cache = "writeback",
	  .console_path = "/c.log",
	  .agent_path = "/a.sock",
	  .disks = {{"/vol-1.qcow2", "qcow2", "vda", "vol-0fedcba9876543211"},
		    {"/vol-2.raw", "raw", "vdf", "vol-0fedcba9876543212"}},
	  .n_disks = 2,
	  .nics = {{"t1", "02:00:00:00:00:01", 0}, {"t2", "02:00:00:00:00:02", 1500}},
	  .n_nics = 2}},
	{"hostile",
	 {.id = "i-00000001",
	  .type = "qemu",
	  .instance_type = "t3.nano\"/><x>",
	  .n_vcpus = 1,
	  .n_threads_per_core = 1,
	  .memory_mib = 512,
	  .kernel = "/k",
	  .cmdline = "a=\"1\" b=<c> & d='e' ]]>",
	  .cache = "unsafe",
	  .console_path = "/a b'\"<&.log",
	  .agent_path = "/a'\"<&.sock",
	  .disks = {{"/v&<>\".qcow2", "qcow2", "vda", "vol-00000001"}},
	  .n_disks = 1,
	  .nics = {{"t", "02:00:00:00:00:01", 1500}},
	  .n_nics = 1}},
};
#define N_CASES (sizeof(cases) / sizeof(cases[0]))

static char *slurp(const char *path)
{
	OWN(fclose) FILE *f = fopen(path, "re");
	char *text = calloc(1, 65536);

	if (f && text)
		text[fread(text, 1, 65535, f)] = '\0';
	return text;
}

static void domains_are_as_recorded(void)
{
	for (size_t i = 0; i < N_CASES; i++) {
		char path[128];
		OWN(free) char *xml = NULL;

		snprintf(path, sizeof(path), GOLDEN "%s.xml", cases[i].name);
		is_int(domain_xml(&cases[i].spec, &xml), 0, cases[i].name);
		if (getenv("REGEN")) {
			OWN(fclose) FILE *f = fopen(path, "we");
			if (f)
				fputs(xml, f);
		}
		OWN(free) char *recorded = slurp(path);
		is_str(xml, recorded, cases[i].name);
	}
}

static void ignore(void *userdata, const char *format, ...)
{
	(void)userdata, (void)format;
}

static void domains_pass_libvirts_schema(void)
{
	if (access(SCHEMA, R_OK) < 0) {
		skip("libvirt's schemas are not installed");
		return;
	}
	xmlRelaxNGParserCtxt *parser = xmlRelaxNGNewParserCtxt(SCHEMA);
	xmlRelaxNG *schema = xmlRelaxNGParse(parser);
	for (size_t i = 0; i < 2;
	     i++) { /* the hostile one has a type name that no schema would have */
		OWN(free) char *xml = NULL;
		(void)domain_xml(&cases[i].spec, &xml); /* checked above */
		xmlDoc *doc = xmlReadMemory(xml, (int)strlen(xml), NULL, NULL, 0);
		xmlRelaxNGValidCtxt *valid = xmlRelaxNGNewValidCtxt(schema);
		if (!getenv("V"))
			xmlRelaxNGSetValidErrors(valid, ignore, ignore, NULL);
		is_int(xmlRelaxNGValidateDoc(valid, doc), 0, cases[i].name);
		xmlRelaxNGFreeValidCtxt(valid);
		xmlFreeDoc(doc);
	}
	xmlRelaxNGFree(schema);
	xmlRelaxNGFreeParserCtxt(parser);
}

static char *at(const char *xml, const char *path)
{
	xmlDoc *doc = xmlReadMemory(xml, (int)strlen(xml), NULL, NULL, 0);
	xmlXPathContext *context = xmlXPathNewContext(doc);
	xmlXPathObject *found = xmlXPathEvalExpression(BAD_CAST path, context);
	char *text = (char *)xmlXPathCastToString(found);

	xmlXPathFreeObject(found);
	xmlXPathFreeContext(context);
	xmlFreeDoc(doc);
	return text;
}

static void what_a_customer_chose_is_never_markup(void)
{
	const struct domain_spec *spec = &cases[2].spec;
	OWN(free) char *xml = NULL;

	is_int(domain_xml(spec, &xml), 0, "built");
	OWN(free) char *cmdline = at(xml, "/domain/os/cmdline");
	OWN(free) char *product = at(xml, "/domain/sysinfo/system/entry[@name='product']");
	OWN(free) char *console = at(xml, "/domain/devices/serial/source/@path");
	OWN(free) char *disk = at(xml, "/domain/devices/disk/source/@file");
	is_str(cmdline, spec->cmdline, "the command line comes back");
	is_str(product, spec->instance_type, "and the type");
	is_str(console, spec->console_path, "and the console's path");
	is_str(disk, spec->disks[0].path, "and the disk's");
}

static void uuids_are_ec2s_and_lasting(void)
{
	char a[DOMAIN_UUID_BYTES], b[DOMAIN_UUID_BYTES];

	domain_uuid("i-0123456789abcdef0", a);
	domain_uuid("i-0123456789abcdef0", b);
	is_str(a, b, "the same id gives the same uuid");
	ok(strncmp(a, "ec2", 3) == 0, "cloud-init knows it by these letters");
	is_int(strlen(a), 36, "as long as a uuid");
	ok(a[8] == '-' && a[13] == '-' && a[14] == '4' && a[18] == '-' && a[19] == '8' &&
		   a[23] == '-',
	   "in a uuid's form");
	domain_uuid("i-0123456789abcdef1", b);
	ok(strcmp(a, b) != 0, "another id gives another");
	domain_uuid("i-01234567", b);
	is_int(strlen(b), 36, "short ids are filled up");
}

static void devices_get_the_letters_they_ask_for(void)
{
	uint64_t taken = 0;
	char t[8];

	is_int(domain_target("vda", &taken, t), 0, "the root");
	is_str(t, "vda", "is vda");
	(void)domain_target("/dev/sdf", &taken, t);
	is_str(t, "vdf", "/dev/sdf");
	(void)domain_target("xvdh", &taken, t);
	is_str(t, "vdh", "xvdh");
	(void)domain_target("/dev/xvdf", &taken, t);
	is_str(t, "vdb", "a taken letter gives way to the first free one");
	(void)domain_target("/dev/nvme1n1", &taken, t);
	is_str(t, "vdc", "a name without a letter too");
	(void)domain_target("/dev/xvdba", &taken, t);
	is_str(t, "vdd", "a name with two letters too");
	taken = (1u << 26) - 1;
	(void)domain_target("/dev/sdb", &taken, t);
	is_str(t, "vdaa", "after vdz comes vdaa");
	domain_target_take("vdab", &taken);
	(void)domain_target("/dev/sdb", &taken, t);
	is_str(t, "vdac", "a target in use is left out");
	taken = (UINT64_C(1) << DOMAIN_TARGETS) - 1;
	is_int(domain_target("/dev/sdb", &taken, t), -ENOSPC, "all taken");
}

int main(void)
{
	RUN(domains_are_as_recorded);
	RUN(domains_pass_libvirts_schema);
	RUN(what_a_customer_chose_is_never_markup);
	RUN(uuids_are_ec2s_and_lasting);
	RUN(devices_get_the_letters_they_ask_for);
	return tests_done();
}
