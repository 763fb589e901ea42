/* Domain XML from a spec, built as a libxml2 tree so that nothing a customer chose can become
 * markup. */
#include "domain.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <libxml/tree.h>
#include <openssl/sha.h>

#include "jsonx.h"

#define EC2_VENDOR "Amazon EC2"

OWN_DEFINE(xmlDoc *, xmlFreeDoc);

const char *const domain_limit_names[DOMAIN_LIMITS] = {
	"total_bytes_sec",	     "total_iops_sec", "total_bytes_sec_max",
	"total_iops_sec_max",	     "size_iops_sec",  "total_bytes_sec_max_length",
	"total_iops_sec_max_length",
};

/* The tree under construction. A failed allocation is remembered, so that builders need not
 * check each step. */
struct builder {
	xmlDoc *doc;
	int is_failed;
};

/* Adds an element with attributes (name, value pairs ended by NULL; an attribute of value NULL
 * is left out). */
static xmlNode *add(struct builder *b, xmlNode *parent, const char *name, ...)
	__attribute__((sentinel));

static xmlNode *add(struct builder *b, xmlNode *parent, const char *name, ...)
{
	if (b->is_failed)
		return NULL;
	xmlNode *node = xmlNewDocNode(b->doc, NULL, BAD_CAST name, NULL);
	if (!node) {
		b->is_failed = 1;
		return NULL;
	}
	if (parent)
		xmlAddChild(parent, node);
	else
		xmlDocSetRootElement(b->doc, node);
	va_list ap;
	va_start(ap, name);
	for (const char *attribute; (attribute = va_arg(ap, const char *));) {
		const char *value = va_arg(ap, const char *);
		if (value && !xmlNewProp(node, BAD_CAST attribute, BAD_CAST value))
			b->is_failed = 1;
	}
	va_end(ap);
	return node;
}

/* The element's text; returns the element. */
static xmlNode *text(struct builder *b, xmlNode *node, const char *value)
{
	if (b->is_failed)
		return NULL;
	xmlNode *t = xmlNewDocText(b->doc, BAD_CAST value);
	if (!t || !xmlAddChild(node, t))
		b->is_failed = 1;
	return node;
}

static void entry(struct builder *b, xmlNode *parent, const char *name, const char *value)
{
	text(b, add(b, parent, "entry", "name", name, NULL), value);
}

static void on_bus(struct builder *b, xmlNode *device, unsigned bus, unsigned slot)
{
	char bus_number[8], number[8];

	snprintf(bus_number, sizeof(bus_number), "0x%02x", bus);
	snprintf(number, sizeof(number), "0x%02x", slot);
	add(b, device, "address", "type", "pci", "domain", "0x0000", "bus", bus_number, "slot",
	    number, "function", "0x0", NULL);
}

/* A place on the root bus. Slot 0 is the host bridge, 1 is left to cards with a fixed place
 * there, 31 is q35's own. */
static void on_root_bus(struct builder *b, xmlNode *device, unsigned slot)
{
	on_bus(b, device, 0, slot);
}

static void add_sysinfo(struct builder *b, xmlNode *root, const struct domain_spec *spec,
			const char *uuid)
{
	xmlNode *sysinfo = add(b, root, "sysinfo", "type", "smbios", NULL);
	xmlNode *bios = add(b, sysinfo, "bios", NULL);
	entry(b, bios, "vendor", EC2_VENDOR);
	entry(b, bios, "version", "1.0");
	xmlNode *system = add(b, sysinfo, "system", NULL);
	entry(b, system, "manufacturer", EC2_VENDOR);
	entry(b, system, "product", spec->instance_type);
	entry(b, system, "serial", uuid);
	entry(b, system, "uuid", uuid);
	/* On AWS's Nitro the board's asset tag is the instance id; tools read it there. */
	xmlNode *board = add(b, sysinfo, "baseBoard", NULL);
	entry(b, board, "manufacturer", EC2_VENDOR);
	entry(b, board, "asset", spec->id);
	xmlNode *chassis = add(b, sysinfo, "chassis", NULL);
	entry(b, chassis, "manufacturer", EC2_VENDOR);
	entry(b, chassis, "asset", EC2_VENDOR);
}

static void add_os(struct builder *b, xmlNode *root, const struct domain_spec *spec)
{
	xmlNode *os = add(b, root, "os", NULL);
	text(b, add(b, os, "type", "arch", "x86_64", "machine", "q35", NULL), "hvm");
	if (spec->kernel)
		text(b, add(b, os, "kernel", NULL), spec->kernel);
	if (spec->kernel && spec->initrd)
		text(b, add(b, os, "initrd", NULL), spec->initrd);
	if (spec->kernel && spec->cmdline)
		text(b, add(b, os, "cmdline", NULL), spec->cmdline);
	if (!spec->kernel)
		add(b, os, "boot", "dev", "hd", NULL);
	add(b, os, "smbios", "mode", "sysinfo", NULL);
}

static void add_cpu(struct builder *b, xmlNode *root, const struct domain_spec *spec)
{
	int is_kvm = strcmp(spec->type, "kvm") == 0;
	/* TCG emulates no SMT: threads would only cost it. */
	unsigned n_threads = is_kvm && spec->n_threads_per_core > 1 &&
					     spec->n_vcpus % spec->n_threads_per_core == 0
				     ? spec->n_threads_per_core
				     : 1;
	char cores[16], threads[16];

	snprintf(cores, sizeof(cores), "%u", spec->n_vcpus / n_threads);
	snprintf(threads, sizeof(threads), "%u", n_threads);
	xmlNode *cpu = is_kvm ? add(b, root, "cpu", "mode", "host-passthrough", "check", "none",
				    "migratable", "off", NULL)
			      : add(b, root, "cpu", "mode", "maximum", "check", "none", NULL);
	add(b, cpu, "topology", "sockets", "1", "dies", "1", "cores", cores, "threads", threads,
	    NULL);
	/* A fifth level of page tables makes each of TCG's page walks longer and is of use only
	 * beyond 64 TiB. */
	if (!is_kvm)
		add(b, cpu, "feature", "policy", "disable", "name", "la57", NULL);
}

static void add_machine(struct builder *b, xmlNode *root)
{
	xmlNode *features = add(b, root, "features", NULL);
	add(b, features, "acpi", NULL);
	add(b, features, "apic", NULL);
	add(b, features, "vmport", "state", "off", NULL);
	xmlNode *clock = add(b, root, "clock", "offset", "utc", NULL);
	add(b, clock, "timer", "name", "rtc", "tickpolicy", "catchup", NULL);
	add(b, clock, "timer", "name", "pit", "tickpolicy", "delay", NULL);
	add(b, clock, "timer", "name", "hpet", "present", "no", NULL);
	text(b, add(b, root, "on_poweroff", NULL), "destroy");
	text(b, add(b, root, "on_reboot", NULL), "restart");
	text(b, add(b, root, "on_crash", NULL), "destroy");
	xmlNode *pm = add(b, root, "pm", NULL);
	add(b, pm, "suspend-to-mem", "enabled", "no", NULL);
	add(b, pm, "suspend-to-disk", "enabled", "no", NULL);
}

/* io=native needs O_DIRECT, which only these modes have. */
static const char *disk_io(const char *cache)
{
	return strcmp(cache, "none") == 0 || strcmp(cache, "directsync") == 0 ? "native"
									      : "threads";
}

/* "vol-0ab…" → "vol0ab…" */
static void volume_serial(const char *volume_id, char ret_serial[static 24])
{
	size_t n = 0;

	for (const char *p = volume_id; *p && n < 20; p++)
		if (*p != '-')
			ret_serial[n++] = *p;
	ret_serial[n] = '\0';
}

static void add_limits(struct builder *b, xmlNode *disk, const struct domain_limits *limits)
{
	xmlNode *tune = NULL;
	char value[24];

	for (size_t i = 0; i < DOMAIN_LIMITS; i++) {
		if (limits->of[i] <= 0)
			continue;
		if (!tune)
			tune = add(b, disk, "iotune", NULL);
		snprintf(value, sizeof(value), "%lld", (long long)limits->of[i]);
		text(b, add(b, tune, domain_limit_names[i], NULL), value);
	}
}

static void add_encryption(struct builder *b, xmlNode *source, const char *uuid)
{
	add(b, add(b, source, "encryption", "format", "luks", NULL), "secret", "type", "passphrase",
	    "uuid", uuid, NULL);
}

/* libvirt finds a chain by its headers, but not what opens encrypted ones: so it is told all. */
static void add_chain(struct builder *b, xmlNode *disk, const json_t *chain, const char *uuid)
{
	xmlNode *at = disk;
	json_t *layer;
	size_t i;

	json_array_foreach (chain, i, layer) {
		at = add(b, at, "backingStore", "type", "file", NULL);
		add(b, at, "format", "type", jstr_or(layer, "Format", "qcow2"), NULL);
		add_encryption(b, add(b, at, "source", "file", jstr_or(layer, "Path", ""), NULL),
			       uuid);
	}
	add(b, at, "backingStore", NULL);
}

/* Slot 0 of the bus for what comes and goes: the place is not for us to say. */
static void add_disk(struct builder *b, xmlNode *devices, const struct domain_disk *d,
		     const char *cache, unsigned bus, unsigned slot)
{
	char serial[24], uuid[DOMAIN_UUID_BYTES];

	volume_serial(d->volume_id, serial);
	xmlNode *disk = add(b, devices, "disk", "type", "file", "device", "disk", NULL);
	/* What several guests write, no guest's page cache on the host may hold back. */
	if (d->is_shared)
		cache = "none";
	add(b, disk, "driver", "name", "qemu", "type", d->format, "cache", cache, "io",
	    disk_io(cache), "discard", "unmap", "error_policy", "enospace", "rerror_policy",
	    "report", NULL);
	xmlNode *source = add(b, disk, "source", "file", d->path, NULL);
	if (d->passphrase) {
		domain_uuid(d->volume_id, uuid);
		add_encryption(b, source, uuid);
		add_chain(b, disk, d->chain, uuid);
	}
	add(b, disk, "target", "dev", d->target, "bus", "virtio", NULL);
	text(b, add(b, disk, "serial", NULL), serial);
	if (d->is_shared)
		add(b, disk, "shareable", NULL);
	add_limits(b, disk, &d->limits);
	if (slot)
		on_bus(b, disk, bus, slot);
}

static void add_nic(struct builder *b, xmlNode *devices, const struct domain_nic *n, unsigned bus,
		    unsigned slot)
{
	char mtu[16];

	snprintf(mtu, sizeof(mtu), "%u", n->mtu);
	xmlNode *nic = add(b, devices, "interface", "type", "ethernet", NULL);
	add(b, nic, "mac", "address", n->mac, NULL);
	/* The tap is netd's: it made and locked it, and it outlives the guest. */
	add(b, nic, "target", "dev", n->tap, "managed", "no", NULL);
	add(b, nic, "model", "type", "virtio", NULL);
	if (n->mtu)
		add(b, nic, "mtu", "size", mtu, NULL);
	/* No boot from the network: the ROM would only cost time at each boot. */
	add(b, nic, "rom", "enabled", "no", NULL);
	if (slot)
		on_bus(b, nic, bus, slot);
}

/* Where the i-th disk or interface lies: the first on the root bus, at `first_slot`; each other one
 * takes the next place of the bus for what comes and goes. */
static void place(size_t i, unsigned first_slot, unsigned *next, unsigned *ret_bus,
		  unsigned *ret_slot)
{
	*ret_bus = i == 0 ? 0 : DOMAIN_PLUG_BUS;
	*ret_slot = i == 0 ? first_slot : (*next)++;
}

static void add_disks_and_nics(struct builder *b, xmlNode *devices, const struct domain_spec *spec)
{
	unsigned next = 1, bus, slot;

	for (size_t i = 0; i < spec->n_disks; i++) {
		place(i, 2, &next, &bus, &slot);
		add_disk(b, devices, &spec->disks[i], spec->cache, bus, slot);
	}
	for (size_t i = 0; i < spec->n_nics; i++) {
		place(i, 3, &next, &bus, &slot);
		add_nic(b, devices, &spec->nics[i], bus, slot);
	}
}

static void add_controllers(struct builder *b, xmlNode *devices)
{
	char bus[8];

	snprintf(bus, sizeof(bus), "%d", DOMAIN_PLUG_BUS);
	add(b, devices, "controller", "type", "pci", "index", "0", "model", "pcie-root", NULL);
	add(b, devices, "controller", "type", "pci", "index", "1", "model", "pcie-root-port", NULL);
	on_bus(b,
	       add(b, devices, "controller", "type", "pci", "index", bus, "model",
		   "pcie-to-pci-bridge", NULL),
	       1, 0);
	add(b, devices, "controller", "type", "usb", "index", "0", "model", "none", NULL);
	on_root_bus(b, add(b, devices, "controller", "type", "virtio-serial", "index", "0", NULL),
		    4);
}

static void add_console(struct builder *b, xmlNode *devices, const struct domain_spec *spec)
{
	xmlNode *serial = add(b, devices, "serial", "type", "file", NULL);
	xmlNode *source =
		add(b, serial, "source", "path", spec->console_path, "append", "on", NULL);
	/* hvd made the file and reads it; libvirtd opens it before it hands it to QEMU. */
	add(b, source, "seclabel", "model", "dac", "relabel", "no", NULL);
	add(b, serial, "target", "type", "isa-serial", "port", "0", NULL);
}

/* QEMU connects to hvd, not the other way round through a stream of libvirt's: libvirtd (9.0) may
 * deadlock when a domain and a stream to it end at once. */
static void add_agent(struct builder *b, xmlNode *devices, const struct domain_spec *spec)
{
	xmlNode *channel = add(b, devices, "channel", "type", "unix", NULL);
	xmlNode *source =
		add(b, channel, "source", "mode", "connect", "path", spec->agent_path, NULL);

	add(b, source, "reconnect", "enabled", "yes", "timeout", "1", NULL);
	/* The socket is hvd's; it may not be there just now, and stays hvd's. */
	add(b, source, "seclabel", "model", "dac", "relabel", "no", NULL);
	add(b, channel, "target", "type", "virtio", "name", DOMAIN_AGENT_PORT, NULL);
}

static void add_devices(struct builder *b, xmlNode *root, const struct domain_spec *spec)
{
	xmlNode *devices = add(b, root, "devices", NULL);

	add_disks_and_nics(b, devices, spec);
	add_controllers(b, devices);
	add_console(b, devices, spec);
	add_agent(b, devices, spec);

	xmlNode *rng = add(b, devices, "rng", "model", "virtio", NULL);
	text(b, add(b, rng, "backend", "model", "random", NULL), "/dev/urandom");
	on_root_bus(b, rng, 5);
	add(b, devices, "memballoon", "model", "none", NULL);
}

/* The finished tree as text. */
static int dump(const struct builder *b, char **ret_xml)
{
	xmlChar *xml = NULL;
	int n_bytes = 0;

	if (b->is_failed)
		return -ENOMEM;
	xmlDocDumpFormatMemoryEnc(b->doc, &xml, &n_bytes, "UTF-8", 1);
	if (!xml)
		return -ENOMEM;
	char *copy = strndup((const char *)xml, (size_t)n_bytes);
	xmlFree(xml);
	if (!copy)
		return -ENOMEM;
	*ret_xml = copy;
	return 0;
}

int domain_xml(const struct domain_spec *spec, char **ret_xml)
{
	OWN(xmlFreeDoc) xmlDoc *doc = xmlNewDoc(BAD_CAST "1.0");
	if (!doc)
		return -ENOMEM;
	struct builder b = {.doc = doc};
	char uuid[DOMAIN_UUID_BYTES], number[16];

	domain_uuid(spec->id, uuid);
	xmlNode *root = add(&b, NULL, "domain", "type", spec->type, NULL);
	text(&b, add(&b, root, "name", NULL), spec->id);
	text(&b, add(&b, root, "uuid", NULL), uuid);
	snprintf(number, sizeof(number), "%u", spec->memory_mib);
	text(&b, add(&b, root, "memory", "unit", "MiB", NULL), number);
	snprintf(number, sizeof(number), "%u", spec->n_vcpus);
	text(&b, add(&b, root, "vcpu", NULL), number);
	add_sysinfo(&b, root, spec, uuid);
	add_os(&b, root, spec);
	add_cpu(&b, root, spec);
	add_machine(&b, root);
	add_devices(&b, root, spec);
	return dump(&b, ret_xml);
}

int domain_disk_xml(const struct domain_disk *disk, const char *cache, char **ret_xml)
{
	OWN(xmlFreeDoc) xmlDoc *doc = xmlNewDoc(BAD_CAST "1.0");
	struct builder b = {.doc = doc, .is_failed = !doc};

	add_disk(&b, NULL, disk, cache, 0, 0);
	return dump(&b, ret_xml);
}

int domain_nic_xml(const struct domain_nic *nic, char **ret_xml)
{
	OWN(xmlFreeDoc) xmlDoc *doc = xmlNewDoc(BAD_CAST "1.0");
	struct builder b = {.doc = doc, .is_failed = !doc};

	add_nic(&b, NULL, nic, 0, 0);
	return dump(&b, ret_xml);
}

void domain_uuid(const char *instance_id, char ret_uuid[static DOMAIN_UUID_BYTES])
{
	/* x: the id's own digits, then digits of its hash. 4 and 8 are version and variant. */
	static const char form[] = "ec2xxxxx-xxxx-4xxx-8xxx-xxxxxxxxxxxx";
	unsigned char hash[SHA256_DIGEST_LENGTH];
	const char *digits = strchr(instance_id, '-');
	char rest[2 * sizeof(hash) + 1];
	size_t n_rest = 0;

	digits = digits ? digits + 1 : instance_id;
	SHA256((const unsigned char *)instance_id, strlen(instance_id), hash);
	for (size_t i = 0; i < sizeof(hash); i++)
		snprintf(rest + 2 * i, 3, "%02x", hash[i]);
	for (size_t i = 0; i < sizeof(form); i++) {
		if (form[i] != 'x')
			ret_uuid[i] = form[i];
		else if (*digits)
			ret_uuid[i] = *digits++;
		else
			ret_uuid[i] = rest[n_rest++];
	}
}

void domain_limits_read(struct domain_limits *limits, const json_t *given)
{
	for (size_t i = 0; i < DOMAIN_LIMITS; i++)
		limits->of[i] = jint(given, domain_limit_names[i], 0);
}

void domain_disk_read(struct domain_disk *disk, const json_t *reply)
{
	disk->path = jstr(reply, "_Path");
	disk->format = jstr_or(reply, "_Format", "qcow2");
	disk->passphrase = jstr(reply, "_Passphrase");
	disk->chain = json_object_get(reply, "_Chain");
	disk->is_shared = jbool(reply, "_IsShared", 0);
	domain_limits_read(&disk->limits, json_object_get(reply, "_Limits"));
}

int domain_target(const char *device_name, uint64_t *taken, char ret_target[static 8])
{
	const char *base = strrchr(device_name, '/');
	unsigned n = DOMAIN_TARGETS;

	base = base ? base + 1 : device_name;
	if (strncmp(base, "xvd", 3) == 0)
		base += 3;
	else if (strncmp(base, "sd", 2) == 0 || strncmp(base, "vd", 2) == 0 ||
		 strncmp(base, "hd", 2) == 0)
		base += 2;
	else
		base = "";
	if (base[0] >= 'a' && base[0] <= 'z' && (base[1] < 'a' || base[1] > 'z'))
		n = (unsigned)(base[0] - 'a');
	if (n == DOMAIN_TARGETS || *taken & UINT64_C(1) << n)
		for (n = 0; n < DOMAIN_TARGETS && *taken & UINT64_C(1) << n;)
			n++;
	if (n == DOMAIN_TARGETS)
		return -ENOSPC;
	*taken |= UINT64_C(1) << n;
	/* after vdz comes vdaa, as Linux counts */
	if (n < 26)
		snprintf(ret_target, 8, "vd%c", 'a' + n);
	else
		snprintf(ret_target, 8, "vda%c", 'a' + n - 26);
	return 0;
}

void domain_target_take(const char *target, uint64_t *taken)
{
	unsigned n = DOMAIN_TARGETS;

	if (strncmp(target, "vd", 2) == 0 && target[2] >= 'a' && target[2] <= 'z')
		n = !target[3] ? (unsigned)(target[2] - 'a')
		    : target[3] >= 'a' && target[3] <= 'z' && target[2] == 'a'
			    ? 26 + (unsigned)(target[3] - 'a')
			    : DOMAIN_TARGETS;
	if (n < DOMAIN_TARGETS)
		*taken |= UINT64_C(1) << n;
}
