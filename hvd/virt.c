/* The connection to libvirt: kept open, watched, and the calls that guests need. */
#include "virt-internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <libvirt/libvirt-qemu.h>
#include <libvirt/virterror.h>
#include "fiber.h"
#include "log.h"
#include "step.h"
#include "virt-event.h"
#include "virt-thread.h"

#define RETRY_FIRST_USEC 200000ull
#define RETRY_LAST_USEC	 5000000ull
/* A QEMU that has just died is listed still, on a crowded host for seconds. */
#define ENDED_LOOKS	  100
#define ENDED_LOOK_USEC	  100000ull
#define KEEPALIVES_MISSED 6
/* The daemon ends, and nothing that libvirt has to say matters any more. */
#define CLOSE_LOOKS	5
#define CLOSE_LOOK_USEC 1000000ull

/* What a thread does to connect. It touches nothing else of `virt`: only passes it on. */
struct opening {
	struct virt *virt;
	const char *uri;
	int keepalive_sec;
	virConnectPtr connection;
	char version[24];
	char error[VIRT_ERROR_BYTES];
};

struct virt {
	const char *uri;
	uint64_t patience_usec;
	const struct virt_hooks *hooks;
	void *userdata;
	virConnectPtr connection; /* NULL: down */
	sd_event_source *lost;
	char version[24];
	int is_closing;
	struct virt_thread opener, closer;
	struct opening opening;
};

/* A lost connection is noticed in any thread; this brings it to the loop. */
static int lost_fd = -1;

/* What a worker does for one call. */
struct virt_work {
	virConnectPtr connection;
	const char *name, *xml;
	int (*run)(virDomainPtr d);
	char error[VIRT_ERROR_BYTES];
};

int virt_errno(virConnectPtr connection, char *ret_error)
{
	virErrorPtr e = virGetLastError();

	if (ret_error)
		snprintf(ret_error, VIRT_ERROR_BYTES, "%s",
			 e && e->message ? e->message : "no reason given");
	if (e && e->code == VIR_ERR_NO_DOMAIN)
		return -ENOENT;
	if (e && e->code == VIR_ERR_OPERATION_TIMEOUT)
		return -EINPROGRESS;
	if (e && e->code == VIR_ERR_NO_SUPPORT)
		return -EOPNOTSUPP;
	if (virConnectIsAlive(connection) == 1)
		return -EIO;
	/* The close callback may never come (lost_run). */
	(void)eventfd_write(lost_fd, 1); /* cannot overflow */
	return -ENOTCONN;
}

virConnectPtr virt_connection(struct virt *v)
{
	if (!v->connection || virConnectRef(v->connection) < 0)
		return NULL;
	return v->connection;
}

/* ---- events ---- */

static int on_lifecycle(virConnectPtr c, virDomainPtr d, int event, int detail, void *opaque)
{
	struct virt *v = opaque;
	enum virt_event e;

	(void)c;
	if (event == VIR_DOMAIN_EVENT_STARTED)
		e = VIRT_STARTED;
	else if (event == VIR_DOMAIN_EVENT_SHUTDOWN && detail == VIR_DOMAIN_EVENT_SHUTDOWN_HOST)
		e = VIRT_TERMINATED;
	else if (event == VIR_DOMAIN_EVENT_STOPPED && detail == VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN)
		e = VIRT_SHUTDOWN;
	else if (event == VIR_DOMAIN_EVENT_STOPPED && detail == VIR_DOMAIN_EVENT_STOPPED_DESTROYED)
		e = VIRT_DESTROYED;
	else if (event == VIR_DOMAIN_EVENT_SUSPENDED &&
		 detail == VIR_DOMAIN_EVENT_SUSPENDED_IOERROR)
		e = VIRT_DEVICES;
	else if (event == VIR_DOMAIN_EVENT_STOPPED || event == VIR_DOMAIN_EVENT_CRASHED)
		e = VIRT_CRASHED;
	else
		return 0;
	if (event == VIR_DOMAIN_EVENT_STOPPED)
		virt_device_told(virDomainGetName(d), NULL, 0);
	v->hooks->event(v->userdata, virDomainGetName(d), e);
	return 0;
}

static void on_device_removed(virConnectPtr c, virDomainPtr d, const char *alias, void *opaque)
{
	struct virt *v = opaque;

	(void)c;
	virt_device_told(virDomainGetName(d), alias, 0);
	v->hooks->event(v->userdata, virDomainGetName(d), VIRT_DEVICES);
}

static void on_device_kept(virConnectPtr c, virDomainPtr d, const char *alias, void *opaque)
{
	(void)c, (void)opaque;
	virt_device_told(virDomainGetName(d), alias, 1);
}

static void on_reboot(virConnectPtr c, virDomainPtr d, void *opaque)
{
	struct virt *v = opaque;

	(void)c;
	v->hooks->event(v->userdata, virDomainGetName(d), VIRT_REBOOTED);
}

static void on_close(virConnectPtr c, int reason, void *opaque)
{
	(void)c, (void)reason, (void)opaque;
	(void)eventfd_write(lost_fd, 1); /* cannot overflow */
}

static void on_error(void *userdata, virErrorPtr error)
{
	(void)userdata, (void)error; /* libvirt would print it; callers get it by virt_errno() */
}

/* ---- the connection ---- */

/* (thread) */
static int open_run(void *arg)
{
	struct opening *w = arg;
	unsigned long version = 0;
	OWN(virt_connection_unref) virConnectPtr c = virConnectOpen(w->uri);

	if (!c) {
		virErrorPtr e = virGetLastError();
		snprintf(w->error, sizeof(w->error), "%s",
			 e && e->message ? e->message : "no reason given");
		return -ENOTCONN;
	}
	if (virConnectDomainEventRegisterAny(c, NULL, VIR_DOMAIN_EVENT_ID_LIFECYCLE,
					     VIR_DOMAIN_EVENT_CALLBACK(on_lifecycle), w->virt,
					     NULL) < 0)
		return virt_errno(c, w->error);
	/* The drivers without these do not reboot guests, plug nothing, and cannot be lost. */
	(void)virConnectDomainEventRegisterAny(c, NULL, VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED,
					       VIR_DOMAIN_EVENT_CALLBACK(on_device_removed),
					       w->virt, NULL);
	(void)virConnectDomainEventRegisterAny(c, NULL, VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED,
					       VIR_DOMAIN_EVENT_CALLBACK(on_device_kept), w->virt,
					       NULL);
	(void)virConnectDomainEventRegisterAny(c, NULL, VIR_DOMAIN_EVENT_ID_REBOOT,
					       VIR_DOMAIN_EVENT_CALLBACK(on_reboot), w->virt, NULL);
	(void)virConnectRegisterCloseCallback(c, on_close, NULL, NULL);
	/* A libvirtd that hangs would hold every worker for ever. */
	(void)virConnectSetKeepAlive(c, w->keepalive_sec, KEEPALIVES_MISSED);
	(void)virConnectGetLibVersion(c, &version); /* stays 0 */
	snprintf(w->version, sizeof(w->version), "%lu.%lu.%lu", version / 1000000,
		 version / 1000 % 1000, version % 1000);
	w->connection = give(c);
	return 0;
}

/* (worker, thread) */
static int close_run(void *arg)
{
	virConnectPtr c = arg;

	(void)virConnectUnregisterCloseCallback(c, on_close); /* it may have fired */
	virt_connection_unref(c);
	return 0;
}

/* (fiber) A libvirtd that hangs takes a connection and says nothing: this one is given up, and the
 * next may find another. libvirt watches its socket from the beginning; where even connect() waits,
 * because too many do already, there is no sense in one more. */
static int open_connection(struct virt *v)
{
	struct opening *w = &v->opening;
	int is_late = 0;
	/* It is found dead after one more than those that are missed. */
	unsigned keepalive_sec = (unsigned)(v->patience_usec / 1000000 / (KEEPALIVES_MISSED + 1));

	*w = (struct opening){
		.virt = v, .uri = v->uri, .keepalive_sec = keepalive_sec ? (int)keepalive_sec : 1};
	int r = virt_thread_start(&v->opener, open_run, w);
	if (r < 0) {
		snprintf(w->error, sizeof(w->error), "no thread");
		return r;
	}
	/* Again and again: the first time it may not even have a socket yet. */
	while ((r = virt_thread_wait(&v->opener, v->patience_usec)) < 0) {
		if (r == -ETIMEDOUT) {
			is_late = 1;
			virt_event_hang_up();
		} else {
			(void)fiber_sleep(RETRY_FIRST_USEC); /* no memory: its time is not over */
		}
	}
	if (is_late)
		snprintf(w->error, sizeof(w->error), "libvirt does not answer; it is asked anew");
	return v->opener.result;
}

static void connect_run(void *arg)
{
	struct virt *v = arg;
	const struct opening *w = &v->opening;
	uint64_t wait_usec = RETRY_FIRST_USEC;
	int is_told = 0;

	while (!v->is_closing) {
		int r = open_connection(v);
		if (r == 0) {
			v->connection = w->connection;
			memcpy(v->version, w->version, sizeof(v->version));
			log_info("connected to libvirt", "URI", v->uri, "LIBVIRT", v->version);
			v->hooks->connected(v->userdata);
			/* Lost before it was ours: on_lost() found nothing to close then. */
			if (virConnectIsAlive(v->connection) != 1)
				(void)eventfd_write(lost_fd, 1); /* cannot overflow */
			return;
		}
		if (!is_told)
			log_warning(r, w->error, "URI", v->uri);
		is_told = 1;
		(void)fiber_sleep(wait_usec); /* a shorter wait is no harm */
		wait_usec = wait_usec * 2 < RETRY_LAST_USEC ? wait_usec * 2 : RETRY_LAST_USEC;
	}
}

/* The keep-alive found the connection dead, or libvirtd went. In the first case libvirt's client
 * (9.0) gives up one of the calls under way only: the thread of the next one goes to sleep on the
 * socket, which nobody will write to, and the close callback waits for that. The end of the socket
 * wakes one after the other. No other connection is open or being opened now. */
static void lost_run(void *arg)
{
	struct virt *v = arg;
	virConnectPtr c = v->connection;

	/* Its end may be told twice, and by then the next one be there. */
	if (!c || virConnectIsAlive(c) == 1)
		return;
	v->connection = NULL;
	log_warning(0, "the connection to libvirt is lost; guests run on", "URI", v->uri);
	virt_event_hang_up();
	virt_device_told(NULL, NULL, 0);
	(void)fiber_work(close_run, c); /* always 0 */
	connect_run(v);
}

static int on_lost(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
	eventfd_t n;

	(void)source, (void)revents;
	(void)eventfd_read(fd, &n); /* only to quieten it */
	return fiber_spawn(lost_run, userdata);
}

int virt_new(sd_event *loop, const char *uri, uint64_t patience_usec,
	     const struct virt_hooks *hooks, void *userdata, struct virt **ret_virt)
{
	OWN(virt_free) struct virt *v = calloc(1, sizeof(*v));
	int r;

	if (!v)
		return -ENOMEM;
	*v = (struct virt){
		.uri = uri, .patience_usec = patience_usec, .hooks = hooks, .userdata = userdata};
	lost_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (lost_fd < 0)
		return -errno;
	if ((r = sd_event_add_io(loop, &v->lost, lost_fd, EPOLLIN, on_lost, v)) < 0)
		return r;
	virSetErrorFunc(NULL, on_error);
	if ((r = virt_event_start(loop)) < 0)
		return r;
	struct virt *started = v;
	if ((r = fiber_spawn(connect_run, started)) < 0)
		return r;
	*ret_virt = give(v);
	return 0;
}

static int join(struct virt_thread *t, void (*urge)(void))
{
	for (int i = 0; i < CLOSE_LOOKS; i++) {
		if (urge)
			urge();
		if (virt_thread_join(t, CLOSE_LOOK_USEC) == 0)
			return 1;
	}
	return 0;
}

/* The loop does not run any more, and so nothing finds a connection dead. True when nothing of
 * libvirt's is left to wait for. */
static int close_connection(struct virt *v)
{
	if (v->connection && virt_thread_start(&v->closer, close_run, v->connection) < 0)
		return 0; /* the process's end closes it */
	if (!v->opener.is_running && join(&v->closer, NULL))
		return 1;
	/* Calls under way end as well: the workers can be joined. */
	return join(&v->opener, virt_event_hang_up) && join(&v->closer, virt_event_hang_up);
}

void virt_free(struct virt *v)
{
	if (!v)
		return;
	v->is_closing = 1;
	sd_event_source_disable_unref(v->lost);
	int is_over = close_connection(v);
	virt_event_stop();
	if (!is_over)
		return; /* a thread has it in hands, and the process ends */
	own_fd_close(&lost_fd);
	lost_fd = -1;
	free(v);
}

int virt_is_connected(const struct virt *v)
{
	return v->connection != NULL;
}

const char *virt_version(const struct virt *v)
{
	return v->version;
}

/* ---- calls ---- */

/* (worker) */
static int create_work(void *arg)
{
	struct virt_work *w = arg;
	step("libvirt: a guest's start");
	OWN(virt_domain_unref) virDomainPtr d = virDomainCreateXML(w->connection, w->xml, 0);

	if (d)
		return 0;
	int r = virt_errno(w->connection, w->error);
	OWN(virt_domain_unref) virDomainPtr there = virDomainLookupByName(w->connection, w->name);
	return there ? -EEXIST : r;
}

/* (worker) */
static int domain_work(void *arg)
{
	struct virt_work *w = arg;
	OWN(virt_domain_unref) virDomainPtr d = virDomainLookupByName(w->connection, w->name);
	int r;

	if (!d)
		return virt_errno(w->connection, w->error);
	if ((r = w->run(d)) >= 0)
		return r;
	r = virt_errno(w->connection, w->error);
	/* It may have ended between the two calls: libvirt then says "not running" in several
	 * ways. */
	OWN(virt_domain_unref) virDomainPtr still = virDomainLookupByName(w->connection, w->name);
	return r == -EIO && !still ? -ENOENT : r;
}

static int virt_do(struct virt *v, int (*work)(void *), struct virt_work *w)
{
	OWN(virt_connection_unref) virConnectPtr c = virt_connection(v);

	if (!c)
		return -ENOTCONN;
	w->connection = c;
	return fiber_work(work, w);
}

static int virt_domain_do(struct virt *v, const char *name, int (*run)(virDomainPtr))
{
	struct virt_work w = {.name = name, .run = run};

	return virt_do(v, domain_work, &w);
}

int virt_create(struct virt *v, const char *name, const char *xml,
		char ret_error[static VIRT_ERROR_BYTES])
{
	struct virt_work w = {.name = name, .xml = xml};
	int r = virt_do(v, create_work, &w);

	snprintf(ret_error, VIRT_ERROR_BYTES, "%s", r == -ENOTCONN ? "libvirt is away" : w.error);
	return r;
}

int virt_is_active(struct virt *v, const char *name)
{
	int r = virt_domain_do(v, name, virDomainIsActive);

	return r == -ENOENT ? 0 : r;
}

static int press_power(virDomainPtr d)
{
	return virDomainShutdownFlags(d, VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN);
}

int virt_power_button(struct virt *v, const char *name)
{
	return virt_domain_do(v, name, press_power);
}

static int press_power_and_return(virDomainPtr d)
{
	return virDomainReboot(d, VIR_DOMAIN_REBOOT_ACPI_POWER_BTN);
}

int virt_reboot(struct virt *v, const char *name)
{
	return virt_domain_do(v, name, press_power_and_return);
}

static int press_reset(virDomainPtr d)
{
	return virDomainReset(d, 0);
}

int virt_reset(struct virt *v, const char *name)
{
	return virt_domain_do(v, name, press_reset);
}

/* By a question that any QEMU has an answer to. */
static int ask_status(virDomainPtr d)
{
	OWN(free) char *answer = NULL;

	return virDomainQemuMonitorCommand(d, "{\"execute\":\"query-status\"}", &answer, 0);
}

int virt_has_refused(struct virt *v, const char *name)
{
	for (int i = 0; i < ENDED_LOOKS; i++) {
		int r = virt_domain_do(v, name, ask_status);

		if (r == 0 || r == -EOPNOTSUPP) /* other drivers' guests have no monitor */
			return 1;
		if (r != -EIO)
			return r == -ENOENT ? 0 : r;
		(void)fiber_sleep(ENDED_LOOK_USEC); /* a shorter wait is no harm */
	}
	return -EINPROGRESS;
}

int virt_destroy(struct virt *v, const char *name)
{
	int r = virt_domain_do(v, name, virDomainDestroy);

	return r == -ENOENT ? 0 : r;
}
