/* apid: the front door's main. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include "apid.h"
#include "daemon.h"
#include "front.h"
#include "listen.h"
#include "log.h"
#include "tls.h"

static struct apid apid;

static int check_account(const char *account)
{
	if (strlen(account) == 12 && strspn(account, "0123456789") == 12)
		return 0;
	log_error(0, "[Cloud] Account is not 12 digits", "ACCOUNT", account);
	return -EINVAL;
}

/* The socket that systemd holds, or our own. */
static int open_listener(const struct config *c)
{
	const char *text = config_string(c, "Api", "Listen");
	int passed = daemon_listen_fd("http");
	/* Copied: the daemon frame owns what systemd passed. */
	int fd = passed >= 0 ? fcntl(passed, F_DUPFD_CLOEXEC, 3) : listen_open(text);
	if (fd < 0)
		log_error(passed >= 0 ? -errno : fd, "cannot listen", "ADDRESS", text);
	return fd;
}

static int open_tls(const struct daemon *d, struct tls_files *ret_files)
{
	const char *certificate = config_string(d->config, "Api", "TlsCertificate"),
		   *key = config_string(d->config, "Api", "TlsKey");
	char host[256] = "", port[8];
	if (!config_bool(d->config, "Api", "Tls"))
		return 0;
	(void)listen_split(config_string(d->config, "Api", "Listen"), host, sizeof(host), port,
			   sizeof(port)); /* "" then: no name of its own */
	int r = certificate[0] ? tls_load(certificate, key, ret_files)
			       : tls_make(d->state_dir, host, ret_files);
	if (r < 0)
		log_error(r, "no TLS certificate", "FILE",
			  certificate[0] ? certificate : d->state_dir);
	return r;
}

static int open_http(struct daemon *d)
{
	OWN(tls_files_clear) struct tls_files tls = {0};
	OWN(fd_close) int fd = open_listener(d->config);
	int r = fd < 0 ? fd : open_tls(d, &tls);
	if (r < 0)
		return r;
	struct http_options options = {
		.listen_fd = fd,
		.tls_key = tls.key,
		.tls_certificate = tls.certificate,
		.max_connections = (unsigned)config_integer(d->config, "Api", "MaxConnections"),
		.timeout_sec = (unsigned)config_integer(d->config, "Api", "TimeoutSec"),
		.body_max = FRONT_BODY_MAX,
		.handler = front_handle,
		.userdata = &apid,
	};
	listen_name(fd, apid.address, sizeof(apid.address));
	r = http_new(&options, &apid.http);
	if (r < 0) {
		log_error(r, "cannot serve", "ADDRESS", apid.address);
		return r;
	}
	(void)give(fd);
	log_info("listening", "ADDRESS", apid.address, "TLS", tls.key ? "yes" : "no");
	return 0;
}

static int apid_open(struct daemon *d)
{
	static const char *const owners[] = {"hvd", "netd", "stord", NULL};
	const char *account = config_string(d->config, "Cloud", "Account");
	apid.config = d->config;
	apid.store = d->store;
	int r = check_account(account);
	if (r < 0)
		return r;
	r = credentials_open(d->store, d->state_dir, account);
	if (r < 0) {
		log_error(r, "cannot keep the root credentials", "FOLDER", d->state_dir);
		return r;
	}
	apid.routes = routes_new(owners);
	if (!apid.routes)
		return -ENOMEM;
	return open_http(d);
}

static void apid_close(struct daemon *d)
{
	(void)d;
	http_free(apid.http);
	routes_free(apid.routes);
}

/* For the operator's command: what the front door finds. */
static int doctor(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	(void)c, (void)parameters, (void)f;
	*ret_reply = json_pack("{s:[{s:s, s:s, s:s+}]}", "Checks", "Name", "endpoint", "State",
			       "ok", "Text", "listening on ", apid.address);
	return *ret_reply ? 0 : -ENOMEM;
}

static const struct action actions[] = {
	{"gureum.Doctor", doctor, ACTION_INTERNAL},
	{0},
};

int main(int argc, char **argv)
{
	static const struct daemon_spec spec = {
		.name = "apid",
		.actions = actions,
		.store_version = 1,
		.open = apid_open,
		.close = apid_close,
		.n_workers = 1,
	};
	return daemon_main(&spec, argc, argv);
}
