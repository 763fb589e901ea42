/* The daemon's own: what it opens, what it finds out about the machine, and how libvirt's news
 * reach the instances. */
#include "hvd.h"

#include <errno.h>
#include <string.h>

#include "console.h"
#include "guest-port.h"
#include "imds.h"
#include "image-work.h"
#include "instance-rooms.h"

#define CONSOLES_USEC	    60000000ull
#define CONSOLES_SLACK_USEC 10000000ull

static struct hvd self;
static sd_event_source *consoles;

struct hvd *hvd_get(void)
{
	return &self;
}

/* ---- libvirt's news ---- */

static void on_connected(void *userdata)
{
	struct hvd *h = userdata;

	instance_on_connected(h->daemon->store);
}

static void on_event(void *userdata, const char *name, enum virt_event event)
{
	(void)userdata;
	image_on_event(name, event);
	instance_on_event(name, event);
}

/* ---- the machine ---- */

/* Tells one start of the machine from another: the kernel's, and that of process 1, which in a
 * container or in namespaces of one's own is started more often than the kernel. */
static void read_host_boot(char ret_boot[static 96])
{
	char boot[40] = "", line[1024] = "";
	OWN(fclose) FILE *id = fopen("/proc/sys/kernel/random/boot_id", "re");
	OWN(fclose) FILE *stat = fopen("/proc/1/stat", "re");
	const char *p = NULL;

	if (id && fgets(boot, sizeof(boot), id))
		boot[strcspn(boot, "\n")] = '\0';
	if (stat && fgets(line, sizeof(line), stat))
		p = strrchr(line, ')');	    /* the name before it may contain anything */
	for (int i = 0; p && i < 20; i++) { /* field 22, and `)` ends the second */
		p = strchr(p, ' ');
		p = p ? p + 1 : NULL;
	}
	snprintf(ret_boot, 96, "%s/%.*s", boot, p ? (int)strcspn(p, " ") : 0, p ? p : "");
}

/* How guests run here: as told, or as a probe finds. */
static void choose_acceleration(void *arg)
{
	struct hvd *h = arg;
	const char *told = config_string(h->daemon->config, "Compute", "Acceleration");
	int is_kvm;

	if (strcmp(told, "auto") == 0) {
		probe_wait(&h->probe);
		is_kvm = h->probe.is_usable;
	} else {
		is_kvm = strcmp(told, "kvm") == 0;
		snprintf(h->probe.reason, sizeof(h->probe.reason), "the configuration says %s",
			 is_kvm ? "kvm" : "tcg");
	}
	h->domain_type = is_kvm ? "kvm" : "qemu";
	if (is_kvm)
		log_info("guests run by KVM", "REASON", h->probe.reason);
	else
		log_warning(0, "guests are emulated by TCG, which is slow", "REASON",
			    h->probe.reason);
	instance_kick_all(h->daemon->store);
}

/* ---- consoles ---- */

static int on_consoles(sd_event_source *source, uint64_t usec, void *userdata)
{
	struct daemon *d = self.daemon;
	int n = 0;

	(void)source, (void)usec, (void)userdata;
	store_each (d->store, INSTANCE_KIND, i)
		if (instance_state_of(i->json) == INSTANCE_RUNNING) {
			console_trim(d, i->id);
			n++;
		}
	if (n)
		hvd_watch_consoles();
	return 0;
}

void hvd_watch_consoles(void)
{
	uint64_t at = now_usec() + CONSOLES_USEC;
	int is_on = SD_EVENT_OFF;

	if (!consoles) {
		/* out of memory: at the next start */
		(void)sd_event_add_time(self.daemon->loop, &consoles, CLOCK_MONOTONIC, at,
					CONSOLES_SLACK_USEC, on_consoles, NULL);
		return;
	}
	if (sd_event_source_get_enabled(consoles, &is_on) >= 0 && is_on != SD_EVENT_OFF)
		return;
	(void)sd_event_source_set_time(consoles, at); /* a live source: cannot fail */
	(void)sd_event_source_set_enabled(consoles, SD_EVENT_ONESHOT);
}

/* ---- open and close ---- */

static int acceleration_check(const struct daemon *d)
{
	const char *told = config_string(d->config, "Compute", "Acceleration");

	if (strcmp(told, "auto") == 0 || strcmp(told, "kvm") == 0 || strcmp(told, "tcg") == 0)
		return 0;
	log_error(-EINVAL, "Acceleration is auto, kvm or tcg", "VALUE", told);
	return -EINVAL;
}

static uint64_t libvirt_patience_usec(const struct daemon *d)
{
	return (uint64_t)config_integer(d->config, "Compute", "LibvirtTimeoutSec") * 1000000;
}

int hvd_open(struct daemon *d)
{
	static const struct virt_hooks hooks = {on_connected, on_event};
	int r = acceleration_check(d);

	self.daemon = d;
	self.listening_usec = now_usec();
	read_host_boot(self.host_boot);
	if (r == 0)
		r = catalog_open(d);
	if (r == 0)
		r = imds_open(d);
	if (r == 0)
		r = guest_ports_open(d);
	if (r == 0)
		r = virt_new(d->loop, config_string(d->config, "Compute", "LibvirtUri"),
			     libvirt_patience_usec(d), &hooks, &self, &self.virt);
	if (r == 0)
		r = fiber_spawn(choose_acceleration, &self);
	if (r == 0)
		r = parts_doubts_begin();
	if (r < 0) {
		log_error(r, "cannot open");
		return r;
	}
	instance_purge(d->store);
	instance_kick_all(d->store); /* what can go on without libvirt does */
	hvd_watch_consoles();
	return 0;
}

void hvd_close(struct daemon *d)
{
	imds_close(d);
	catalog_close(d);
	instance_purge_stop();
	parts_doubts_end();
	consoles = sd_event_source_disable_unref(consoles);
	live_close();
	virt_free(self.virt);
	self.virt = NULL;
}

int hypervisor_describe(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	const struct hvd *h = &self;

	(void)parameters, (void)f;
	*ret_reply = json_pack(
		"{s:s, s:s, s:{s:b, s:b, s:b, s:b, s:b, s:f}, s:{s:b, s:s, s:s}}", "Acceleration",
		!h->domain_type			     ? "unknown"
		: strcmp(h->domain_type, "kvm") == 0 ? "kvm"
						     : "tcg",
		"Reason", h->probe.reason, "Probe", "Usable", h->probe.is_usable, "CpuFlag",
		h->probe.has_flag, "KvmIntel", h->probe.has_kvm_intel, "KvmAmd",
		h->probe.has_kvm_amd, "KvmPvm", h->probe.has_kvm_pvm, "Mips", h->probe.mips,
		"Libvirt", "Connected", virt_is_connected(h->virt), "Uri",
		config_string(c->daemon->config, "Compute", "LibvirtUri"), "Version",
		virt_version(h->virt));
	return *ret_reply ? 0 : -ENOMEM;
}
