/* A guest's network devices, netd's attachments and the document's copy are made to agree. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "domain.h"
#include "interface.h"

#define UNPLUG_WAIT_USEC  2000000ull /* the instance's fiber does nothing else meanwhile */
#define UNPLUG_AGAIN_MSEC 10000	     /* the event comes first, as a rule */
#define BOOT_AGAIN_MSEC	  500
#define AWAY_AGAIN_MSEC	  10000
#define BOOT_USEC	  60000000ll

/* One round. */
struct settle {
	struct live *live;
	struct context ctx;
	struct virt_devices devices; /* of the running domain */
	int has_domain;
	struct fault fault;
};

static const struct doc *find(const struct live *l)
{
	return store_find(daemon_get()->store, INSTANCE_KIND, l->id);
}

static const char *status_of(const json_t *interface)
{
	const char *status = jpath_str(interface, "Attachment.Status");

	return status ? status : "attached";
}

int interfaces_are_settled(const json_t *instance)
{
	json_t *interface;
	size_t i;

	json_array_foreach (json_object_get(instance, "NetworkInterfaces"), i, interface)
		if (strcmp(status_of(interface), "attached") != 0)
			return 0;
	return 1;
}

static const struct virt_device *live_device(const struct settle *s, const char *tap)
{
	return s->has_domain ? virt_device_find(&s->devices, VIRT_INTERFACE, tap) : NULL;
}

/* A guest that is still booting does not hear the request, and QEMU makes it only once. */
static int is_booting(const struct settle *s)
{
	const struct doc *d = find(s->live);
	int64_t since = d ? jtime_parse(jstr_or(d->json, "LaunchTime", "")) : -1;

	return d && !json_object_get(d->json, "_SeenAlive") && since >= 0 &&
	       (int64_t)time(NULL) * 1000000 < since + BOOT_USEC;
}

/* The device goes from the guest: 0, milliseconds until it may have gone, or -errno. */
static int unplug(struct settle *s, const char *tap)
{
	char error[VIRT_ERROR_BYTES];
	int r;

	if (!live_device(s, tap))
		return 0;
	if (is_booting(s))
		return BOOT_AGAIN_MSEC;
	r = virt_device_detach(hvd_get()->virt, s->live->id, VIRT_INTERFACE, tap, UNPLUG_WAIT_USEC,
			       error);
	if (r == -ETIMEDOUT || r == -EBUSY)
		return UNPLUG_AGAIN_MSEC;
	if (r < 0 && r != -ENOTCONN)
		log_warning(r, "an interface cannot be pulled out of its guest", "INSTANCE",
			    s->live->id, "TAP", tap, "REASON", error);
	return r;
}

static int plug(struct settle *s, const json_t *interface, const json_t *reply)
{
	OWN(free) char *xml = NULL;
	char error[VIRT_ERROR_BYTES] = "";
	const struct domain_nic nic = {.tap = jstr(reply, "_Tap"),
				       .mac = jstr(interface, "MacAddress"),
				       .mtu = (unsigned)jint(reply, "_Mtu", 0)};
	int r = nic.tap && nic.mac ? domain_nic_xml(&nic, &xml) : -EPROTO;

	if (r == 0)
		r = virt_device_attach(hvd_get()->virt, s->live->id, xml, error);
	if (r == -EEXIST)
		return 0;
	if (r < 0 && r != -ENOTCONN && r != -ENOENT)
		log_error(r, "an interface cannot be plugged into its guest", "INSTANCE",
			  s->live->id, "NETWORK_INTERFACE", jstr(interface, "NetworkInterfaceId"),
			  "REASON", error);
	return r;
}

static int tell_netd(struct settle *s, const char *method, json_t *ask_taken, json_t **ret_reply)
{
	OWN(json_decref) json_t *ask = ask_taken;
	OWN(json_decref) json_t *reply = NULL;

	s->fault = (struct fault){0};
	int r = ask ? rpc_call(daemon_peer("netd"), &s->ctx, method, ask, NULL, &reply, NULL,
			       &s->fault)
		    : -ENOMEM;
	if (r == 0 && ret_reply)
		*ret_reply = give(reply);
	return r;
}

/* netd's attachment ends. */
static int forget(struct settle *s, const char *interface_id)
{
	int r = tell_netd(s, "ec2.DetachNetworkInterface",
			  json_pack("{s:s}", "NetworkInterfaceId", interface_id), NULL);

	return r < 0 && s->fault.status >= 400 && s->fault.status < 500 ? 0 : r;
}

/* The tap first: with it, the guest's device. What cannot be plugged in is taken back. */
static int attach_one(struct settle *s, const json_t *interface)
{
	const char *id = jstr_or(interface, "NetworkInterfaceId", ""),
		   *tap = jstr_or(interface, "_Tap", "");
	int is_attached = strcmp(status_of(interface), "attached") == 0, r;
	OWN(json_decref) json_t *reply = NULL;

	if (is_attached && (!s->has_domain || live_device(s, tap)))
		return 0;
	/* A device from before a forced detach leads nowhere. */
	r = unplug(s, tap);
	if (r != 0)
		return r;
	r = tell_netd(s, "ec2.AttachNetworkInterface",
		      json_pack("{s:s, s:s, s:I}", "NetworkInterfaceId", id, "InstanceId",
				s->live->id, "DeviceIndex",
				json_integer_value(jpath(interface, "Attachment.DeviceIndex"))),
		      &reply);
	if (r == 0 && s->has_domain)
		r = plug(s, interface, reply);
	if (r == -EIO && !s->fault.status) { /* libvirt's words, which need not be QEMU's */
		int was = virt_has_refused(hvd_get()->virt, s->live->id);
		r = was == 1 ? r : was == 0 ? -ENOENT : was;
	}
	if (r == -ENOENT && !s->fault.status) /* the guest has just ended: its next start has it */
		return 0;
	if (r == 0)
		log_info("interface attached", "INSTANCE", s->live->id, "NETWORK_INTERFACE", id);
	if (r == 0 || virt_may_pass(r) || s->fault.status)
		return r;
	return forget(s, id);
}

static int detach_one(struct settle *s, const json_t *interface)
{
	const char *id = jstr_or(interface, "NetworkInterfaceId", "");
	int r = unplug(s, jstr_or(interface, "_Tap", ""));

	if (r != 0)
		return r;
	r = forget(s, id);
	if (r == 0)
		log_info("interface detached", "INSTANCE", s->live->id, "NETWORK_INTERFACE", id);
	return r;
}

static int has_tap(const json_t *interfaces, const char *tap)
{
	const json_t *interface;
	size_t i;

	json_array_foreach (interfaces, i, interface)
		if (strcmp(jstr_or(interface, "_Tap", ""), tap) == 0)
			return 1;
	return 0;
}

static void note(int r, int *msec, int *worst)
{
	if (r < 0)
		*worst = r;
	else if (r > 0 && (!*msec || r < *msec))
		*msec = r;
}

static int settle_all(struct settle *s, const json_t *interfaces)
{
	int msec = 0, worst = 0;
	const json_t *interface;
	size_t i;

	json_array_foreach (interfaces, i, interface)
		note(strcmp(status_of(interface), "detaching") == 0 ? detach_one(s, interface)
								    : attach_one(s, interface),
		     &msec, &worst);
	/* What was detached by force. */
	for (i = 0; i < s->devices.n; i++)
		if (s->devices.list[i].kind == VIRT_INTERFACE &&
		    !has_tap(interfaces, s->devices.list[i].target))
			note(unplug(s, s->devices.list[i].target), &msec, &worst);
	return worst < 0 ? worst : msec;
}

/* The document's copy, if it is not as netd has it. */
static int copy(struct settle *s)
{
	OWN(json_decref) json_t *interfaces = NULL;
	int r = parts_interfaces(&s->ctx, s->live->id, &interfaces, &s->fault);
	const struct doc *d = find(s->live);

	if (r < 0 || !d)
		return r;
	OWN(json_decref) json_t *instance = doc_edit(d);

	r = instance_set_interfaces(instance, interfaces);
	if (r < 0 || json_equal(instance, d->json))
		return r;
	return instance_commit(d, give(instance));
}

/* What netd has; while it is away, the document's copy will do, if nothing is under way. Whether it
 * is away, or -errno. */
static int interfaces_get(struct settle *s, json_t **ret_interfaces)
{
	int r = parts_interfaces(&s->ctx, s->live->id, ret_interfaces, &s->fault);
	const struct doc *d = find(s->live);

	if (r == 0 || !d || !interfaces_are_settled(d->json))
		return r;
	*ret_interfaces = json_deep_copy(json_object_get(d->json, "NetworkInterfaces"));
	return *ret_interfaces ? 1 : -ENOMEM;
}

int interfaces_settle(struct live *l, int has_domain)
{
	struct settle s = {.live = l, .has_domain = has_domain};
	const struct doc *d = find(l);
	OWN(json_decref) json_t *interfaces = NULL;

	if (!d || (interfaces_are_settled(d->json) && (!has_domain || l->are_nics_known)))
		return 0;
	l->are_nics_known = 1;
	instance_context(d, &s.ctx);
	int is_away = interfaces_get(&s, &interfaces), r = is_away < 0 ? is_away : 0;
	if (r == 0 && has_domain)
		r = virt_devices_read(hvd_get()->virt, l->id, &s.devices);
	if (r == 0)
		r = settle_all(&s, interfaces);
	virt_devices_clear(&s.devices);
	int e = is_away ? 0 : copy(&s);
	if (r >= 0 && e < 0)
		r = e;
	if (r < 0 || is_away)
		l->are_nics_known = 0;
	if (r == 0 && is_away)
		return AWAY_AGAIN_MSEC;
	/* Gone, or libvirt away: the event and the reconnection kick. */
	return r == -ENOENT || r == -ENOTCONN ? 0 : r;
}
