/* A disk without its guest's consent: the node behind the device is exchanged. */
#include "virt-cut.h"

#include <errno.h>
#include <string.h>
#include <libvirt/libvirt-qemu.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include "fiber.h"
#include "jsonx.h"
#include "step.h"
#include "virt-internal.h"
#include "virt-xml.h"

#define LAYERS_MAX 128

OWN_DEFINE(xmlDoc *, xmlFreeDoc);

struct cut {
	virConnectPtr connection;
	const char *name, *target;
	char alias[48], node[64];
	unsigned layers[LAYERS_MAX]; /* libvirt's numbers of the chain's nodes, the top first */
	size_t n_layers;
	char error[VIRT_ERROR_BYTES];
};

/* ---- what libvirt says of the disk ---- */

/* The disk's own layer and those under it, each in the one before. */
static void read_layers(struct cut *c, const xmlNode *layer)
{
	for (; layer && c->n_layers < LAYERS_MAX; layer = xml_child(layer, "backingStore")) {
		char index[16];

		xml_attribute(xml_child(layer, "source"), "index", index, sizeof(index));
		if (index[0])
			c->layers[c->n_layers++] = (unsigned)strtoul(index, NULL, 10);
	}
}

static int read_disk(struct cut *c, virDomainPtr d)
{
	OWN(free) char *xml = virDomainGetXMLDesc(d, 0);
	if (!xml)
		return virt_errno(c->connection, c->error);
	OWN(xmlFreeDoc)
	xmlDoc *doc = xmlReadMemory(xml, (int)strlen(xml), NULL, NULL, XML_PARSE_NONET);
	const xmlNode *devices = doc ? xml_child(xmlDocGetRootElement(doc), "devices") : NULL;

	for (const xmlNode *n = devices ? devices->children : NULL; n; n = n->next) {
		char target[16];

		if (n->type != XML_ELEMENT_NODE || strcmp((const char *)n->name, "disk") != 0)
			continue;
		xml_attribute(xml_child(n, "target"), "dev", target, sizeof(target));
		if (strcmp(target, c->target) != 0)
			continue;
		xml_attribute(xml_child(n, "alias"), "name", c->alias, sizeof(c->alias));
		snprintf(c->node, sizeof(c->node), "cut-%.27s", c->alias);
		read_layers(c, n);
		return 0;
	}
	return doc ? -ENOENT : -EPROTO;
}

/* ---- QEMU's monitor ---- */

/* Takes `arguments`. *ret_value (may be NULL): a new reference. -EIO with QEMU's words. */
static int ask(struct cut *c, virDomainPtr d, const char *command, json_t *arguments,
	       json_t **ret_value)
{
	OWN(json_decref)
	json_t *request = json_pack("{s:s, s:o}", "execute", command, "arguments", arguments);
	OWN(free) char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
	OWN(free) char *answer = NULL;

	if (!text)
		return -ENOMEM;
	if (virDomainQemuMonitorCommand(d, text, &answer, 0) < 0)
		return virt_errno(c->connection, c->error);
	OWN(json_decref) json_t *reply = json_loads(answer, 0, NULL);
	const char *why = jpath_str(reply, "error.desc");

	if (!reply || why) {
		snprintf(c->error, sizeof(c->error), "%s", why ? why : "no JSON from QEMU");
		return -EIO;
	}
	if (ret_value)
		*ret_value = json_incref(json_object_get(reply, "return"));
	return 0;
}

static json_t *drive_of(const struct cut *c, const char *value)
{
	char path[96];

	snprintf(path, sizeof(path), "/machine/peripheral/%s", c->alias);
	return json_pack("{s:s, s:s, s:s*}", "path", path, "property", "drive", "value", value);
}

/* Nothing, as large as the disk is, where every request fails. */
static json_t *nothing(const struct cut *c, unsigned long long n_bytes)
{
	static const char *const kinds[] = {"read", "write", "write-zeroes", "discard", "flush"};
	json_t *errors = json_array();

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (json_array_append_new(errors, json_pack("{s:s, s:s, s:i}", "event", "none",
							    "iotype", kinds[i], "errno", 5)) < 0) {
			json_decref(errors);
			return NULL;
		}
	return json_pack("{s:s, s:s, s:{s:s, s:I}, s:o}", "driver", "blkdebug", "node-name",
			 c->node, "image", "driver", "null-co", "size", (json_int_t)n_bytes,
			 "inject-error", errors);
}

/* One that an earlier hvd added is as good. */
static int add_nothing(struct cut *c, virDomainPtr d)
{
	virDomainBlockInfo info;

	if (virDomainGetBlockInfo(d, c->target, &info, 0) < 0)
		return virt_errno(c->connection, c->error);
	int r = ask(c, d, "blockdev-add", nothing(c, info.capacity), NULL);

	return r == -EIO && strstr(c->error, "Duplicate") ? 0 : r;
}

static int exchange(struct cut *c, virDomainPtr d)
{
	OWN(json_decref) json_t *now = NULL;
	int r = ask(c, d, "qom-get", drive_of(c, NULL), &now);

	if (r < 0 || strcmp(json_string_value(now) ? json_string_value(now) : "", c->node) == 0)
		return r;
	r = add_nothing(c, d);
	return r == 0 ? ask(c, d, "qom-set", drive_of(c, c->node), NULL) : r;
}

/* A node that is not there any more is closed. */
static int close_node(struct cut *c, virDomainPtr d, unsigned layer, const char *what)
{
	char node[48];

	snprintf(node, sizeof(node), "libvirt-%u-%s", layer, what);
	int r = ask(c, d, "blockdev-del", json_pack("{s:s}", "node-name", node), NULL);

	return r == -EIO && strstr(c->error, "Failed to find node") ? 0 : r;
}

/* (worker) */
static int cut_work(void *arg)
{
	struct cut *c = arg;
	OWN(virt_domain_unref) virDomainPtr d = virDomainLookupByName(c->connection, c->name);

	if (!d)
		return virt_errno(c->connection, c->error);
	int r = read_disk(c, d);

	if (r < 0)
		return r;
	(void)virDomainBlockJobAbort(d, c->target, 0); /* none, as a rule */
	step("libvirt: a disk cut off");
	r = exchange(c, d);
	step("libvirt: a cut disk's files");
	for (size_t i = 0; r == 0 && i < c->n_layers; i++) {
		r = close_node(c, d, c->layers[i], "format");
		if (r == 0)
			r = close_node(c, d, c->layers[i], "storage");
	}
	return r;
}

int virt_disk_cut(struct virt *v, const char *name, const char *target,
		  char ret_error[static VIRT_ERROR_BYTES])
{
	OWN(virt_connection_unref) virConnectPtr connection = virt_connection(v);
	struct cut c = {.connection = connection, .name = name, .target = target};
	int r = connection ? fiber_work(cut_work, &c) : -ENOTCONN;

	snprintf(ret_error, VIRT_ERROR_BYTES, "%s", r == -ENOTCONN ? "libvirt is away" : c.error);
	return r;
}
