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

/* There are as many addresses as systemd holds sockets for us, or else our own. */
static int has_listener(size_t i)
{
	return i == 0 || daemon_listen_fd("http", i) >= 0;
}

static int open_listener(const struct config *c, size_t i)
{
	const char *text = config_string(c, "Api", "Listen");
	int passed = daemon_listen_fd("http", i);
	/* Copied: the daemon frame owns what systemd passed. */
	int fd = passed >= 0 ? fcntl(passed, F_DUPFD_CLOEXEC, 3) : listen_open(text);
	if (passed >= 0 && fd < 0)
		fd = -errno;
	if (fd < 0)
		log_error(fd, "cannot listen", "ADDRESS", text);
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

/* Serves one address. 0, or -errno after logging. */
static int open_http(struct daemon *d, const struct tls_files *tls, size_t i)
{
	OWN(fd_close) int fd = open_listener(d->config, i);
	if (fd < 0)
		return fd;
	struct http_options options = {
		.listen_fd = fd,
		.tls_key = tls->key,
		.tls_certificate = tls->certificate,
		.max_connections = (unsigned)config_integer(d->config, "Api", "MaxConnections"),
		.timeout_sec = (unsigned)config_integer(d->config, "Api", "TimeoutSec"),
		.body_max = FRONT_BODY_MAX,
		.handler = front_handle,
		.userdata = &apid,
	};
	listen_name(fd, apid.address[i], sizeof(apid.address[i]));
	int r = http_new(&options, &apid.http[i]);
	if (r < 0) {
		log_error(r, "cannot serve", "ADDRESS", apid.address[i]);
		return r;
	}
	(void)give(fd);
	apid.n_http++;
	log_info("listening", "ADDRESS", apid.address[i], "TLS", tls->key ? "yes" : "no");
	return 0;
}

static int open_all(struct daemon *d)
{
	OWN(tls_files_clear) struct tls_files tls = {0};
	int r = open_tls(d, &tls);
	for (size_t i = 0; r == 0 && i < ADDRESSES_MAX && has_listener(i); i++)
		r = open_http(d, &tls, i);
	if (r == 0 && has_listener(ADDRESSES_MAX))
		log_warning(0, "more addresses are passed than are served");
	return r;
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
	return open_all(d);
}

static void apid_close(struct daemon *d)
{
	(void)d;
	for (size_t i = 0; i < apid.n_http; i++)
		http_free(apid.http[i]);
	routes_free(apid.routes);
}

/* For the operator's command: what the front door finds. */
static int doctor(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	OWN(json_decref) json_t *checks = json_array();
	(void)c, (void)parameters, (void)f;
	for (size_t i = 0; i < apid.n_http; i++)
		if (json_array_append_new(checks, json_pack("{s:s, s:s, s:s+}", "Name", "endpoint",
							    "State", "ok", "Text", "listening on ",
							    apid.address[i])) < 0)
			return -ENOMEM;
	*ret_reply = json_pack("{s:O}", "Checks", checks);
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
