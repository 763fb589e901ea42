/* Devices of a running domain: read from its live XML, plugged in, pulled out. */
#include "virt-device.h"

#include <errno.h>
#include <string.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include "domain.h"
#include "fiber.h"
#include "hold.h"
#include "instance-rooms.h"
#include "step.h"
#include "virt-internal.h"
#include "virt-xml.h"

OWN_DEFINE(xmlDoc *, xmlFreeDoc);

/* Who waits for a device to go. */
struct waiter {
	struct waiter *next;
	const char *name, *alias;
	struct fiber *fiber;
	int is_told, is_refused, is_late;
};
static struct waiter *waiters;

void virt_devices_clear(struct virt_devices *d)
{
	free(d->list);
	*d = (struct virt_devices){0};
}

const struct virt_device *virt_device_find(const struct virt_devices *d, enum virt_device_kind kind,
					   const char *target)
{
	for (size_t i = 0; i < d->n; i++)
		if (d->list[i].kind == kind && strcmp(d->list[i].target, target) == 0)
			return &d->list[i];
	return NULL;
}

/* ---- reading ---- */

static unsigned number(const xmlNode *node, const char *name)
{
	char value[16];

	xml_attribute(node, name, value, sizeof(value));
	return (unsigned)strtoul(value, NULL, 0);
}

static void read_device(const xmlNode *node, enum virt_device_kind kind, struct virt_device *ret)
{
	const xmlNode *address = xml_child(node, "address"), *serial = xml_child(node, "serial");
	xmlChar *text = serial ? xmlNodeGetContent(serial) : NULL;

	*ret = (struct virt_device){.kind = kind};
	xml_attribute(xml_child(node, "target"), "dev", ret->target, sizeof(ret->target));
	xml_attribute(xml_child(node, "alias"), "name", ret->alias, sizeof(ret->alias));
	xml_attribute(xml_child(node, "source"), "file", ret->source, sizeof(ret->source));
	xml_attribute(xml_child(node, "driver"), "type", ret->format, sizeof(ret->format));
	xml_attribute(xml_child(node, "mac"), "address", ret->mac, sizeof(ret->mac));
	snprintf(ret->serial, sizeof(ret->serial), "%s", text ? (const char *)text : "");
	ret->bus = number(address, "bus");
	ret->slot = number(address, "slot");
	xmlFree(text);
}

/* A device's element, told by its name; the kind or -1. */
static int kind_of(const xmlNode *node)
{
	if (node->type != XML_ELEMENT_NODE)
		return -1;
	return strcmp((const char *)node->name, "disk") == 0	    ? VIRT_DISK
	       : strcmp((const char *)node->name, "interface") == 0 ? VIRT_INTERFACE
								    : -1;
}

static int read_devices(const xmlNode *devices, struct virt_devices *ret_devices)
{
	size_t n = 0;

	for (const xmlNode *node = devices ? devices->children : NULL; node; node = node->next)
		n += kind_of(node) >= 0;
	struct virt_devices d = {.list = calloc(n ? n : 1, sizeof(*d.list))};
	if (!d.list)
		return -ENOMEM;
	for (const xmlNode *node = devices ? devices->children : NULL; node; node = node->next)
		if (kind_of(node) >= 0)
			read_device(node, (enum virt_device_kind)kind_of(node), &d.list[d.n++]);
	*ret_devices = d;
	return 0;
}

/* The domain has the bus for what comes and goes: one that an older hvd started has not, and then
 * libvirt finds a place. */
static int has_plug_bus(const xmlNode *devices)
{
	char model[32];

	for (const xmlNode *n = devices ? devices->children : NULL; n; n = n->next) {
		if (n->type != XML_ELEMENT_NODE ||
		    strcmp((const char *)n->name, "controller") != 0 ||
		    number(n, "index") != DOMAIN_PLUG_BUS)
			continue;
		xml_attribute(n, "model", model, sizeof(model));
		if (strcmp(model, "pcie-to-pci-bridge") == 0)
			return 1;
	}
	return 0;
}

struct device_work {
	virConnectPtr connection;
	const char *name, *xml;
	enum virt_device_kind kind;
	const char *target;
	struct virt_devices devices; /* result */
	int has_bus;		     /* result */
	char alias[48];
	char error[VIRT_ERROR_BYTES];
};

/* (worker) */
static int read_live(virDomainPtr d, struct device_work *w)
{
	OWN(free) char *xml = virDomainGetXMLDesc(d, 0);
	if (!xml)
		return virt_errno(w->connection, w->error);
	OWN(xmlFreeDoc)
	xmlDoc *doc = xmlReadMemory(xml, (int)strlen(xml), NULL, NULL, XML_PARSE_NONET);
	if (!doc)
		return -EPROTO;
	const xmlNode *devices = xml_child(xmlDocGetRootElement(doc), "devices");

	virt_devices_clear(&w->devices);
	w->has_bus = has_plug_bus(devices);
	return read_devices(devices, &w->devices);
}

/* (worker) */
static int read_work(void *arg)
{
	struct device_work *w = arg;
	OWN(virt_domain_unref) virDomainPtr d = virDomainLookupByName(w->connection, w->name);

	return d ? read_live(d, w) : virt_errno(w->connection, w->error);
}

int virt_devices_read(struct virt *v, const char *name, struct virt_devices *ret_devices)
{
	OWN(virt_connection_unref) virConnectPtr c = virt_connection(v);
	struct device_work w = {.connection = c, .name = name};

	if (!c)
		return -ENOTCONN;
	int r = fiber_work(read_work, &w);
	if (r < 0)
		virt_devices_clear(&w.devices);
	else
		*ret_devices = w.devices;
	return r;
}

/* ---- plugging in ---- */

/* The first place that no device has, 0: none. */
static unsigned free_slot(const struct virt_devices *d)
{
	uint64_t taken = 1;

	for (size_t i = 0; i < d->n; i++)
		if (d->list[i].bus == DOMAIN_PLUG_BUS && d->list[i].slot < 64)
			taken |= UINT64_C(1) << d->list[i].slot;
	for (unsigned slot = 1; slot <= DOMAIN_PLUG_SLOTS; slot++)
		if (!(taken & UINT64_C(1) << slot))
			return slot;
	return 0;
}

/* The device's XML with a place in it (malloced by libxml2). NULL out of memory. */
static xmlChar *with_place(xmlDoc *doc, unsigned slot)
{
	xmlNode *address = xmlNewChild(xmlDocGetRootElement(doc), NULL, BAD_CAST "address", NULL);
	char bus[8], text[8];
	xmlChar *xml = NULL;
	int n_bytes;

	snprintf(bus, sizeof(bus), "0x%02x", DOMAIN_PLUG_BUS);
	snprintf(text, sizeof(text), "0x%02x", slot);
	const char *const members[][2] = {{"type", "pci"},
					  {"domain", "0x0000"},
					  {"bus", bus},
					  {"slot", text},
					  {"function", "0x0"}};
	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++)
		if (!address ||
		    !xmlNewProp(address, BAD_CAST members[i][0], BAD_CAST members[i][1]))
			return NULL;
	xmlDocDumpMemory(doc, &xml, &n_bytes);
	return xml;
}

/* (worker) */
static int attach_work(void *arg)
{
	struct device_work *w = arg;
	OWN(virt_domain_unref) virDomainPtr d = virDomainLookupByName(w->connection, w->name);
	OWN(xmlFreeDoc)
	xmlDoc *doc = xmlReadMemory(w->xml, (int)strlen(w->xml), NULL, NULL, XML_PARSE_NONET);
	struct virt_device device;

	if (!d)
		return virt_errno(w->connection, w->error);
	if (!doc || kind_of(xmlDocGetRootElement(doc)) < 0)
		return -EINVAL;
	int r = read_live(d, w);
	if (r < 0)
		return r;
	const xmlNode *root = xmlDocGetRootElement(doc);
	read_device(root, (enum virt_device_kind)kind_of(root), &device);
	if (virt_device_find(&w->devices, device.kind, device.target))
		return -EEXIST;
	unsigned slot = free_slot(&w->devices);
	if (w->has_bus && !slot)
		return -ENOSPC;
	xmlChar *xml = w->has_bus ? with_place(doc, slot) : xmlStrdup(BAD_CAST w->xml);
	if (!xml)
		return -ENOMEM;
	step("libvirt: a device in");
	r = virDomainAttachDeviceFlags(d, (const char *)xml, VIR_DOMAIN_AFFECT_LIVE);
	if (r < 0)
		r = virt_errno(w->connection, w->error);
	xmlFree(xml);
	return r < 0 ? r : 0;
}

int virt_device_attach(struct virt *v, const char *name, const char *xml,
		       char ret_error[static VIRT_ERROR_BYTES])
{
	/* One at a time, so that two do not choose the same place. */
	OWN(hold_leave) struct hold *h = hold_enter(name);
	OWN(virt_connection_unref) virConnectPtr c = virt_connection(v);
	struct device_work w = {.connection = c, .name = name, .xml = xml};
	int r = !h ? -ENOMEM : !c ? -ENOTCONN : fiber_work(attach_work, &w);

	snprintf(ret_error, VIRT_ERROR_BYTES, "%s", r == -ENOTCONN ? "libvirt is away" : w.error);
	virt_devices_clear(&w.devices);
	return r;
}

/* ---- pulling out ---- */

void virt_device_told(const char *name, const char *alias, int is_refused)
{
	for (struct waiter *w = waiters; w; w = w->next) {
		if ((name && strcmp(name, w->name) != 0) || (alias && strcmp(alias, w->alias) != 0))
			continue;
		w->is_told = 1;
		w->is_refused = is_refused;
		fiber_wake(w->fiber);
	}
}

static int on_late(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct waiter *w = userdata;

	(void)source, (void)usec;
	w->is_late = 1;
	fiber_wake(w->fiber);
	return 0;
}

/* (worker) Asks for it, once the device is found; -ENOENT: it is not there. */
static int detach_work(void *arg)
{
	struct device_work *w = arg;
	OWN(virt_domain_unref) virDomainPtr d = virDomainLookupByName(w->connection, w->name);

	if (!d)
		return virt_errno(w->connection, w->error);
	step("libvirt: a device out");
	if (virDomainDetachDeviceAlias(d, w->alias, VIR_DOMAIN_AFFECT_LIVE) == 0)
		return 0;
	int r = virt_errno(w->connection, w->error);
	/* QEMU's words: the guest was asked before and has not answered yet. */
	return strstr(w->error, "in the process of unplug") ? 0 : r;
}

/* The device is there still: its alias; -ENOENT: it is not. */
static int look(struct virt *v, const char *name, enum virt_device_kind kind, const char *target,
		char ret_alias[static 48])
{
	OWN(virt_devices_clear) struct virt_devices devices = {0};
	int r = virt_devices_read(v, name, &devices);
	const struct virt_device *d = r < 0 ? NULL : virt_device_find(&devices, kind, target);

	if (d)
		snprintf(ret_alias, 48, "%s", d->alias);
	return r < 0 ? r : d ? 0 : -ENOENT;
}

/* The request, and the wait for what comes of it. */
static int ask_and_wait(struct device_work *w, struct waiter *self, uint64_t wait_usec)
{
	sd_event_source *timer = NULL;
	int r = fiber_work(detach_work, w);

	if (r == 0)
		r = sd_event_add_time(fiber_loop(), &timer, CLOCK_MONOTONIC, now_usec() + wait_usec,
				      1000, on_late, self);
	while (r >= 0 && !self->is_told && !self->is_late)
		fiber_wait();
	sd_event_source_disable_unref(timer);
	return r < 0 ? r : 0;
}

int virt_device_detach(struct virt *v, const char *name, enum virt_device_kind kind,
		       const char *target, uint64_t wait_usec,
		       char ret_error[static VIRT_ERROR_BYTES])
{
	OWN(virt_connection_unref) virConnectPtr c = virt_connection(v);
	struct device_work w = {.connection = c, .name = name, .kind = kind, .target = target};
	int r = c ? look(v, name, kind, target, w.alias) : -ENOTCONN;

	ret_error[0] = '\0';
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	struct waiter self = {
		.next = waiters, .name = name, .alias = w.alias, .fiber = fiber_self()};
	waiters = &self;
	r = ask_and_wait(&w, &self, wait_usec);
	struct waiter **slot = &waiters;
	while (*slot != &self)
		slot = &(*slot)->next;
	*slot = self.next;
	snprintf(ret_error, VIRT_ERROR_BYTES, "%s", w.error);

	int there = look(v, name, kind, target, w.alias);
	if (there < 0)
		return there == -ENOENT ? 0 : there;
	return r < 0 && r != -ENOENT ? r : self.is_refused ? -EBUSY : -ETIMEDOUT;
}
