/* From a document to a running domain: gather what netd, stord and the image give, then one call
 * to libvirt. */
#include <errno.h>
#include <string.h>

#include "console.h"
#include "domain.h"
#include "guest-port.h"
#include "imds.h"
#include "instance-rooms.h"
#include "interface.h"
#include "layers.h"
#include "virt-secret.h"
#include "volume.h"

#define CMDLINE_DEFAULT "root=/dev/vda1 rw console=ttyS0 quiet panic=1"
#define FAILURES_MAX	8 /* of a peer that is there and fails; one that is away is waited for */

/* One start under way. The spec's texts are borrowed from `instance` and `replies`. */
struct start {
	struct live *live;
	struct context ctx;
	json_t *instance; /* as it was when the start began */
	json_t *replies;  /* of the peers, kept for their texts */
	struct domain_spec spec;
	struct paths *paths;
	char console[CONSOLE_PATH_BYTES];
	char agent[GUEST_PORT_PATH_BYTES];
	char targets[DOMAIN_DISKS_MAX][8];
	struct fault fault;
};

static void start_clear(struct start *s)
{
	json_decref(s->instance);
	json_decref(s->replies);
	own_paths_end(&s->paths);
}

static const struct doc *find(const struct live *l)
{
	return store_find(daemon_get()->store, INSTANCE_KIND, l->id);
}

/* Asks a peer; its reply (borrowed) lives as long as the start. NULL: failed, with the reason in
 * the fault. */
static json_t *ask(struct start *s, const char *peer, const struct context *ctx, const char *method,
		   json_t *parameters)
{
	OWN(json_decref) json_t *given = parameters;
	json_t *reply = NULL;

	if (!given ||
	    rpc_call(daemon_peer(peer), ctx, method, given, NULL, &reply, NULL, &s->fault) < 0)
		return NULL;
	return json_array_append_new(s->replies, reply) < 0 ? NULL : reply;
}

/* A stopped instance had given its public address back. */
static int get_address(struct start *s)
{
	OWN(json_decref) json_t *interfaces = NULL;
	const char *eni = jstr(json_array_get(json_object_get(s->instance, "NetworkInterfaces"), 0),
			       "NetworkInterfaceId");

	if (!eni || !jbool(s->instance, "_HasRun", 0))
		return 0;
	if (!ask(s, "netd", &s->ctx, "gureum.Assign",
		 json_pack("{s:s}", "NetworkInterfaceId", eni)))
		return -EIO;
	int r = parts_interfaces(&s->ctx, s->live->id, &interfaces, &s->fault);
	const struct doc *d = find(s->live);
	OWN(json_decref) json_t *instance = d ? doc_edit(d) : NULL;
	if (r == 0)
		r = instance ? instance_set_interfaces(instance, interfaces) : -ENOMEM;
	if (r < 0)
		return r;
	json_decref(s->instance);
	s->instance = json_incref(instance);
	return instance_commit(d, give(instance));
}

static int get_interfaces(struct start *s)
{
	json_t *interface;
	size_t i;

	json_array_foreach (json_object_get(s->instance, "NetworkInterfaces"), i, interface) {
		json_int_t index = json_integer_value(jpath(interface, "Attachment.DeviceIndex"));
		const json_t *reply =
			ask(s, "netd", &s->ctx, "ec2.AttachNetworkInterface",
			    json_pack("{s:s, s:s, s:I, s:I}", "NetworkInterfaceId",
				      jstr(interface, "NetworkInterfaceId"), "InstanceId",
				      s->live->id, "DeviceIndex", index, "_AddressLimit",
				      instance_address_limit(s->instance)));
		if (!reply)
			return -EIO;
		if (s->spec.n_nics == DOMAIN_NICS_MAX)
			return -E2BIG;
		s->spec.nics[s->spec.n_nics++] =
			(struct domain_nic){.tap = jstr(reply, "_Tap"),
					    .mac = jstr(interface, "MacAddress"),
					    .mtu = (unsigned)jint(reply, "_Mtu", 0)};
		if (!s->spec.nics[s->spec.n_nics - 1].tap)
			return -EPROTO;
	}
	return s->spec.n_nics ? 0 : -EPROTO;
}

/* The root is the first mapping, and becomes vda. */
static int get_volumes(struct start *s)
{
	uint64_t taken = 0;
	json_t *mapping;
	size_t i;

	json_array_foreach (json_object_get(s->instance, "BlockDeviceMappings"), i, mapping) {
		const char *id = jpath_str(mapping, "Ebs.VolumeId"),
			   *device = jstr_or(mapping, "DeviceName", "");
		const json_t *reply = ask(s, "stord", &s->ctx, "ec2.AttachVolume",
					  json_pack("{s:s, s:s, s:s}", "VolumeId", id, "InstanceId",
						    s->live->id, "Device", device));
		if (!reply)
			return -EIO;
		if (i == DOMAIN_DISKS_MAX ||
		    domain_target(i == 0 ? "vda" : device, &taken, s->targets[i]) < 0)
			return -E2BIG;
		s->spec.disks[i] = (struct domain_disk){.target = s->targets[i], .volume_id = id};
		domain_disk_read(&s->spec.disks[i], reply);
		if (!s->spec.disks[i].path)
			return -EPROTO;
		s->spec.n_disks = i + 1;
	}
	return s->spec.n_disks ? 0 : -EPROTO;
}

/* The raw file of an aki-/ari- image. The image may be gone by now: what it was made of is then
 * gone too. */
static int get_raw(struct start *s, const char *image_id, const char **ret_path)
{
	const struct store *store = daemon_get()->store;
	const char *snapshot = image_raw_snapshot(store, image_id),
		   *account = image_account(store, image_id);
	struct context ctx = s->ctx;

	if (!snapshot || !account)
		return fault_set(&s->fault, FAULT_INVALID_AMI_ID_NOT_FOUND,
				 "The image id '[%s]' does not exist", image_id);
	snprintf(ctx.account, sizeof(ctx.account), "%s", account);
	const json_t *reply = ask(s, "stord", &ctx, "gureum.OpenSnapshot",
				  json_pack("{s:s}", "SnapshotId", snapshot));
	if (!reply)
		return -EIO;
	*ret_path = jstr(reply, "_Path");
	return *ret_path ? 0 : -EPROTO;
}

static int get_kernel(struct start *s)
{
	const char *kernel = jstr(s->instance, "KernelId"),
		   *ramdisk = jstr(s->instance, "RamdiskId");
	int r = kernel ? get_raw(s, kernel, &s->spec.kernel) : 0;

	if (r == 0 && kernel && ramdisk)
		r = get_raw(s, ramdisk, &s->spec.initrd);
	s->spec.cmdline = jstr_or(s->instance, "_Cmdline", CMDLINE_DEFAULT);
	return r;
}

static int get_machine(struct start *s)
{
	const struct hvd *h = hvd_get();
	const struct instance_type *type =
		instance_type_find(jstr_or(s->instance, "InstanceType", ""));
	const json_t *cpu = json_object_get(s->instance, "CpuOptions");

	if (!type)
		return -EPROTO;
	s->spec.id = s->live->id;
	s->spec.type = h->domain_type;
	s->spec.instance_type = type->name;
	s->spec.memory_mib = type->memory_mib;
	s->spec.n_threads_per_core = (unsigned)jint(cpu, "ThreadsPerCore", 1);
	s->spec.n_vcpus =
		(unsigned)jint(cpu, "CoreCount", type->n_vcpus) * s->spec.n_threads_per_core;
	s->spec.cache = config_string(h->daemon->config, "Compute", "DiskCache");
	console_path(h->daemon, s->live->id, s->console);
	s->spec.console_path = s->console;
	guest_port_path(h->daemon, s->live->id, s->agent);
	s->spec.agent_path = s->agent;
	return 0;
}

static int start_gather(struct start *s)
{
	const char *vpc_id;
	int r = get_machine(s);

	if (r == 0)
		r = get_address(s);
	if (r == 0)
		r = get_interfaces(s);
	if (r == 0)
		r = get_volumes(s);
	if (r == 0)
		r = get_kernel(s);
	if (r == 0 && (vpc_id = jstr(s->instance, "VpcId")))
		(void)imds_serve(daemon_get(), &s->ctx, vpc_id); /* retried in the background */
	return r;
}

/* What the console shows before the guest's first byte: above all that it is emulated, which is
 * slow. */
static int begin_console(const struct start *s)
{
	const struct hvd *h = hvd_get();
	char line[512];

	snprintf(line, sizeof(line), "gureum: %s, %s, %s", s->live->id, s->spec.instance_type,
		 strcmp(h->domain_type, "kvm") == 0 ? "KVM" : "emulated by TCG (slow)");
	if (strcmp(h->domain_type, "kvm") != 0 && h->probe.reason[0])
		snprintf(line + strlen(line), sizeof(line) - strlen(line), ": %s", h->probe.reason);
	return console_begin(h->daemon, s->live->id, line);
}

/* The domain runs: so does the instance. `gathered`: the document that it was made of; NULL: it was
 * found running. */
static int started(struct live *l, const json_t *gathered)
{
	const struct doc *d = find(l);
	OWN(json_decref) json_t *instance = doc_edit(d);
	json_t *mapping;
	size_t i;
	int r = 0;

	if (instance_state_of(instance) == INSTANCE_PENDING)
		r = instance_move(instance, INSTANCE_RUNNING, REASON_NONE);
	if (r == 0)
		r = jset_new(instance, "_HasRun", json_true());
	/* A new guest has yet to show life; one that we only found again after a crash of ours
	 * has not changed. */
	if (r == 0 && strcmp(jstr_or(instance, "_HostBoot", ""), hvd_get()->host_boot) != 0) {
		(void)json_object_del(instance, "_SeenAlive"); /* seldom there */
		(void)json_object_del(instance, "_AgentHeard");
		(void)json_object_del(instance, "_ImpairedSince");
		l->is_life_known = 0;
		r = jset_new(instance, "_PacketsBefore", json_integer(instance_packets(instance)));
	}
	if (r == 0)
		r = jset(instance, "_HostBoot", hvd_get()->host_boot);
	/* Rows that came or were asked to go since then are volumes_settle()'s. */
	json_array_foreach (json_object_get(gathered, "BlockDeviceMappings"), i, mapping) {
		const char *id = jpath_str(mapping, "Ebs.VolumeId");
		json_t *row = json_object_get(volume_mapping(instance, id ? id : ""), "Ebs");
		if (r == 0 && strcmp(jstr_or(row, "Status", ""), "attaching") == 0)
			r = jset(row, "Status", "attached");
	}
	if (gathered) /* that was asked of its former life */
		(void)json_object_del(instance, "_RebootSince");
	l->are_disks_known = l->are_nics_known = gathered != NULL;
	l->stuck = gathered ? STUCK_NOT : STUCK_UNKNOWN;
	if (r == 0)
		r = instance_commit(d, give(instance));
	if (r < 0)
		return r;
	l->stop_since_usec = l->asked_usec = 0;
	hvd_watch_consoles();
	log_info("instance runs", "INSTANCE", l->id);
	return 1;
}

static int failed(struct start *s, int error, const char *why)
{
	const struct doc *d = find(s->live);
	OWN(json_decref) json_t *instance = doc_edit(d);
	int is_away = s->fault.status == 503,
	    may_pass = is_away || (s->fault.status >= 500 && s->live->n_failures < FAILURES_MAX);

	log_warning(error,
		    may_pass ? "an instance cannot be started yet"
			     : "an instance could not be started",
		    "INSTANCE", s->live->id, "CODE", s->fault.code, "REASON", why);
	if (may_pass || error == -ENOMEM)
		return error;
	/* AWS: what never ran is terminated; what had run before is stopped. */
	int r = instance_move(instance,
			      jbool(instance, "_HasRun", 0) ? INSTANCE_STOPPING
							    : INSTANCE_SHUTTING_DOWN,
			      REASON_LAUNCH_FAILED);
	if (r == 0)
		r = instance_commit(d, give(instance));
	return r < 0 ? r : 1;
}

/* Still wanted: nobody stopped or terminated it while we gathered. */
static int is_wanted(const struct live *l)
{
	const struct doc *d = find(l);
	enum instance_state s = d ? instance_state_of(d->json) : INSTANCE_TERMINATED;

	return s == INSTANCE_PENDING || s == INSTANCE_RUNNING;
}

static int create(struct start *s)
{
	OWN(free) char *xml = NULL;
	char error[VIRT_ERROR_BYTES];
	int r = begin_console(s);

	if (r < 0)
		return failed(s, r, "the console file cannot be made");
	for (size_t i = 0; i < s->spec.n_disks; i++)
		if (s->spec.disks[i].passphrase &&
		    (r = virt_secret_set(hvd_get()->virt, s->spec.disks[i].volume_id,
					 s->spec.disks[i].passphrase, error)) < 0)
			return r == -ENOTCONN ? 0 : virt_may_pass(r) ? r : failed(s, r, error);
	if ((r = domain_xml(&s->spec, &xml)) < 0)
		return r;
	if (!paths_enter(s->paths))
		return 1; /* a volume has gone on in another file meanwhile */
	s->live->has_ended = s->live->is_terminated = 0;
	s->live->missed_usec = 0;
	r = virt_create(hvd_get()->virt, s->live->id, xml, error);
	if (r == 0 || r == -EEXIST)
		return started(s->live, r == 0 ? s->instance : NULL);
	/* When libvirt is back all are kicked. */
	return r == -ENOTCONN ? 0 : virt_may_pass(r) ? r : failed(s, r, error);
}

int instance_start(struct live *l)
{
	__attribute__((cleanup(start_clear))) struct start s = {.live = l, .replies = json_array()};
	const struct hvd *h = hvd_get();
	int r = virt_is_active(h->virt, l->id);

	if (r == 1)
		return started(l, NULL);
	/* All are kicked when libvirt is there, and again when it is known how guests run. */
	if (r < 0 || !h->domain_type)
		return r == -ENOTCONN || r >= 0 ? 0 : r;
	if ((r = volumes_settle(l, 0)) < 0 || (r = interfaces_settle(l, 0)) < 0)
		return r;
	const struct doc *d = find(l);
	s.instance = json_incref(d->json);
	instance_context(d, &s.ctx);
	s.paths = paths_begin(l->id);
	r = s.paths ? start_gather(&s) : -ENOMEM;
	if (!is_wanted(l))
		return 1;
	return r < 0 ? failed(&s, r, s.fault.message) : create(&s);
}
