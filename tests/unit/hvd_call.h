/* The catalog behind the real dispatcher, in a store of its own; stord and netd are served by the
 * test. Included by tests/unit/hvd_*.c. */
#pragma once

#include "tap.h"
#include "../../hvd/catalog.h"
#include "fiber.h"
#include "jsonx.h"

static const struct daemon_spec spec = {.name = "hvd", .actions = catalog_actions};
static struct daemon *d;
static struct fault fault;
static uid_t caller_uid = 1000;
static char hvd_dir[] = "/tmp/gureum-hvd-test-XXXXXX";

static void hvd_store_open(void)
{
	char path[128];

	snprintf(path, sizeof path, "%s/state.db", hvd_dir);
	if (store_open(path, 1, NULL, &d->store) < 0)
		exit(1);
}

/* "" or the fault's code. */
static inline const char *call_as(const char *account, const char *method, json_t *parameters,
				  json_t **ret_reply)
{
	OWN(json_decref) json_t *p = parameters, *reply = NULL;
	struct rpc_request r = {.method = method,
				.parameters = p,
				.ctx = {.region = "us-east-1"},
				.uid = caller_uid};

	fault = (struct fault){0};
	snprintf(r.ctx.account, sizeof r.ctx.account, "%s", account);
	int error = action_dispatch(d, &r, &reply, &fault);

	if (ret_reply)
		*ret_reply = give(reply);
	return error < 0 ? fault.code : "";
}

static inline const char *call(const char *method, const char *json, json_t **ret_reply)
{
	json_error_t why;
	json_t *p = json_loads(json, 0, &why);

	if (!p)
		printf("# %s in %s\n", why.text, json);
	return call_as("123456789012", method, p, ret_reply);
}

/* Serves `handler` as the daemon of this name. */
static inline struct rpc_server *hvd_peer_start(const char *name, rpc_handler handler)
{
	char path[160];
	struct rpc_server *server = NULL;

	snprintf(path, sizeof path, "%s/%s.sock", hvd_dir, name);
	if (rpc_server_new(rpc_listen(path), handler, NULL, &server) < 0)
		exit(1);
	return server;
}

static void (*hvd_tests)(void);

static void hvd_fiber(void *arg)
{
	(void)arg;
	hvd_tests();
	sd_event_exit(d->loop, 0);
}

/* Runs the tests on a fiber, with a loop. Returns main's status. */
static inline int hvd_main(void (*tests)(void))
{
	static struct config *config;
	char error[512], path[128];

	if (!mkdtemp(hvd_dir))
		return 1;
	snprintf(path, sizeof path, "%s/none.conf", hvd_dir);
	d = daemon_get();
	d->spec = &spec;
	if (config_load(path, &config, error) < 0 || sd_event_default(&d->loop) < 0 ||
	    fiber_start(d->loop, 2) < 0)
		return 1;
	d->config = config;
	snprintf(d->state_dir, sizeof d->state_dir, "%s", hvd_dir);
	snprintf(d->runtime_dir, sizeof d->runtime_dir, "%s", hvd_dir);
	hvd_store_open();
	hvd_tests = tests;
	if (fiber_spawn(hvd_fiber, NULL) < 0 || sd_event_loop(d->loop) < 0)
		return 1;
	fiber_stop();
	store_free(d->store);
	config_free(config);
	sd_event_unref(d->loop);
	snprintf(path, sizeof path, "rm -rf %s", hvd_dir);
	return tests_done() | (system(path) != 0);
}
