/* Layers of a running domain's disks. */
#include "virt-layer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <libvirt/libvirt-qemu.h>
#include <libxml/tree.h>
#include "fiber.h"
#include "step.h"
#include "virt-internal.h"

OWN_DEFINE(xmlDoc *, xmlFreeDoc);

struct layer_work {
	virConnectPtr connection;
	const char *name, *target, *base, *top, *xml;
	int (*run)(virDomainPtr d, const struct layer_work *w);
	char error[VIRT_ERROR_BYTES];
};

/* (worker) */
static int work(void *arg)
{
	struct layer_work *w = arg;
	OWN(virt_domain_unref) virDomainPtr d = virDomainLookupByName(w->connection, w->name);

	if (!d)
		return virt_errno(w->connection, w->error);
	int r = w->run(d, w);

	return r < 0 ? virt_errno(w->connection, w->error) : r;
}

static int layer_do(struct virt *v, struct layer_work *w, char *ret_error)
{
	OWN(virt_connection_unref) virConnectPtr c = virt_connection(v);

	if (!c) {
		if (ret_error)
			snprintf(ret_error, VIRT_ERROR_BYTES, "libvirt is away");
		return -ENOTCONN;
	}
	w->connection = c;
	int r = fiber_work(work, w);

	if (ret_error)
		snprintf(ret_error, VIRT_ERROR_BYTES, "%s", w->error);
	return r;
}

/* ---- the switch ---- */

static xmlNode *add(xmlNode *parent, const char *name, const char *attribute, const char *value)
{
	xmlNode *node = parent ? xmlNewChild(parent, NULL, BAD_CAST name, NULL) : NULL;

	if (!node || !xmlNewProp(node, BAD_CAST attribute, BAD_CAST value))
		return NULL;
	return node;
}

/* What a disk goes on in. NULL out of memory. */
static xmlNode *switch_to(xmlNode *disk, const struct virt_switch *s)
{
	xmlNode *source =
		add(disk, "driver", "type", "qcow2") ? add(disk, "source", "file", s->path) : NULL;

	if (!source || !s->secret)
		return source;
	xmlNode *secret =
		add(add(source, "encryption", "format", "luks"), "secret", "type", "passphrase");

	return secret && xmlNewProp(secret, BAD_CAST "uuid", BAD_CAST s->secret) ? source : NULL;
}

/* The snapshot as libvirt is told of it (malloced by libxml2). NULL out of memory. */
static xmlChar *switch_xml(const struct virt_switch *disks, size_t n)
{
	OWN(xmlFreeDoc) xmlDoc *doc = xmlNewDoc(BAD_CAST "1.0");
	xmlNode *root = doc ? xmlNewDocNode(doc, NULL, BAD_CAST "domainsnapshot", NULL) : NULL;
	xmlChar *xml = NULL;
	int n_bytes = 0;

	if (!root)
		return NULL;
	xmlDocSetRootElement(doc, root);
	xmlNode *list = xmlNewChild(root, NULL, BAD_CAST "disks", NULL);

	for (size_t i = 0; i < n; i++) {
		xmlNode *disk = add(list, "disk", "name", disks[i].target);

		if (!disk || !xmlNewProp(disk, BAD_CAST "snapshot",
					 BAD_CAST(disks[i].path ? "external" : "no")))
			return NULL;
		if (disks[i].path && !switch_to(disk, &disks[i]))
			return NULL;
	}
	xmlDocDumpMemory(doc, &xml, &n_bytes);
	return xml;
}

static int run_switch(virDomainPtr d, const struct layer_work *w)
{
	step("libvirt: a switch of layers");
	virDomainSnapshotPtr s = virDomainSnapshotCreateXML(
		d, w->xml,
		VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA |
			VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT | VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC);

	if (!s)
		return -1;
	(void)virDomainSnapshotFree(s); /* drops a reference */
	return 0;
}

int virt_layers_switch(struct virt *v, const char *name, const struct virt_switch *disks, size_t n,
		       char ret_error[static VIRT_ERROR_BYTES])
{
	xmlChar *xml = switch_xml(disks, n);
	struct layer_work w = {.name = name, .xml = (const char *)xml, .run = run_switch};
	int r = xml ? layer_do(v, &w, ret_error) : -ENOMEM;

	xmlFree(xml);
	return r;
}

/* ---- jobs ---- */

static int run_commit(virDomainPtr d, const struct layer_work *w)
{
	step("libvirt: a commit");
	return virDomainBlockCommit(d, w->target, w->base, w->top, 0, 0);
}

static int run_pull(virDomainPtr d, const struct layer_work *w)
{
	step("libvirt: a pull");
	return virDomainBlockRebase(d, w->target, w->base, 0, 0);
}

static int run_look(virDomainPtr d, const struct layer_work *w)
{
	virDomainBlockJobInfo info;

	return virDomainGetBlockJobInfo(d, w->target, &info, 0);
}

static int run_stop(virDomainPtr d, const struct layer_work *w)
{
	virDomainBlockJobInfo info;

	if (virDomainBlockJobAbort(d, w->target, 0) == 0)
		return 0;
	/* It may have ended by itself just before. */
	return virDomainGetBlockJobInfo(d, w->target, &info, 0) == 0 ? 0 : -1;
}

int virt_layer_commit(struct virt *v, const char *name, const char *target, const char *top,
		      const char *base, char ret_error[static VIRT_ERROR_BYTES])
{
	struct layer_work w = {
		.name = name, .target = target, .top = top, .base = base, .run = run_commit};

	return layer_do(v, &w, ret_error);
}

int virt_layer_pull(struct virt *v, const char *name, const char *target, const char *base,
		    char ret_error[static VIRT_ERROR_BYTES])
{
	struct layer_work w = {.name = name, .target = target, .base = base, .run = run_pull};

	return layer_do(v, &w, ret_error);
}

/* The monitor answers in words: only an empty answer is a success. */
static int run_flush(virDomainPtr d, const struct layer_work *w)
{
	OWN(free) char *answer = NULL;
	char command[160];

	step("libvirt: a flush");
	snprintf(command, sizeof(command),
		 "qemu-io -d /machine/peripheral/%s/virtio-backend \"flush\"", w->target);
	if (virDomainQemuMonitorCommand(d, command, &answer, VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP) <
	    0)
		return -1;
	return answer && answer[strspn(answer, "\r\n ")] ? -1 : 0;
}

int virt_layer_flush(struct virt *v, const char *name, const char *alias,
		     char ret_error[static VIRT_ERROR_BYTES])
{
	struct layer_work w = {.name = name, .target = alias, .run = run_flush};

	return layer_do(v, &w, ret_error);
}

int virt_layer_job(struct virt *v, const char *name, const char *target)
{
	struct layer_work w = {.name = name, .target = target, .run = run_look};

	return layer_do(v, &w, NULL);
}

int virt_layer_job_stop(struct virt *v, const char *name, const char *target)
{
	struct layer_work w = {.name = name, .target = target, .run = run_stop};

	return layer_do(v, &w, NULL);
}
