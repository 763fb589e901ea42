/* Snapshots written by blocks that nobody completes: how long they are waited for, and what is left
 * of them then. */
#include "tap.h"

#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "../../stord/direct.h"
#include "../../stord/files.h"
#include "fiber.h"
#include "hold.h"

#define MINUTE UINT64_C(60000000)

static const struct action actions[] = {
	{"ebs.CompleteSnapshot", direct_complete, 0},
	{"ebs.PutSnapshotBlock", direct_put_block, 0},
	{"ebs.StartSnapshot", direct_start, ACTION_CLIENT_TOKEN},
	{NULL},
};
static const struct daemon_spec spec = {.name = "stord", .actions = actions};
static char dir[] = "/tmp/gureum-direct-XXXXXX";
static struct daemon *d;
static struct fault fault;

static const char *call(const char *method, const char *json, int fd, json_t **ret_reply)
{
	OWN(json_decref) json_t *p = json_loads(json, 0, NULL), *reply = NULL;
	struct rpc_request r = {.method = method,
				.parameters = p,
				.ctx = {.account = "123456789012", .region = "us-east-1"}};

	if (fd >= 0)
		fds_add(&r.in, dup(fd));
	fault = (struct fault){0};
	int error = action_dispatch(d, &r, &reply, &fault);

	fds_close(&r.in);
	if (ret_reply)
		*ret_reply = give(reply);
	return error < 0 ? fault.code : "";
}

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void start(const char *more, char ret_id[static 40])
{
	OWN(json_decref) json_t *reply = NULL;
	char json[128];

	snprintf(json, sizeof json, "{\"VolumeSize\":1%s}", more);
	is_str(call("ebs.StartSnapshot", json, -1, &reply), "", "started");
	snprintf(ret_id, 40, "%s", jstr_or(reply, "SnapshotId", ""));
}

static const char *state(const char *id)
{
	return jstr_or(store_find(d->store, "snapshot", id)->json, "State", "");
}

static int has_file(const char *id)
{
	char name[FILE_NAME_MAX], path[FILE_PATH_MAX];

	file_snapshot_name(id, "qcow2", name);
	file_path(d, name, path);
	return file_exists(path);
}

static void put(const char *id)
{
	/* SHA-256 of 512 KiB of zeros. */
	static const char sum[] = "B4VNL+8pega6gWheZgwzLeNtXRjVRpJ9MNqtbX/aFUE=";
	uint8_t unused[32];
	int fd = memfd_create("block", 0);
	char json[256];

	ok(sum_parse(sum, unused) == 0, "a checksum");
	(void)!ftruncate(fd, DIRECT_BLOCK);
	snprintf(json, sizeof json,
		 "{\"SnapshotId\":\"%s\",\"BlockIndex\":0,\"DataLength\":524288,\"Checksum\":\"%"
		 "s\"}",
		 id, sum);
	is_str(call("ebs.PutSnapshotBlock", json, fd, NULL), "", "put");
	close(fd);
}

static void an_hour_unless_told_otherwise(void)
{
	char id[40], quick[40];
	uint64_t begun = now();

	start("", id);
	start(",\"Timeout\":10", quick);
	direct_expire(d, begun + 9 * MINUTE);
	is_str(state(quick), "pending", "ten minutes are not over");
	direct_expire(d, begun + 11 * MINUTE);
	is_str(state(quick), "error", "now they are");
	ok(!has_file(quick), "and its file is gone");
	is_str(state(id), "pending", "the other has an hour");
	direct_expire(d, begun + 59 * MINUTE);
	is_str(state(id), "pending", "still");
	direct_expire(d, now() + 61 * MINUTE);
	is_str(state(id), "error", "and no more");
	ok(jstr(store_find(d->store, "snapshot", id)->json, "StateMessage") != NULL,
	   "with a reason");
}

static void a_block_is_a_sign_of_life(void)
{
	char id[40];

	start(",\"Timeout\":10", id);
	put(id);
	uint64_t after = now();

	direct_expire(d, after + 9 * MINUTE);
	is_str(state(id), "pending", "counted from the last block");
	direct_expire(d, now() + 11 * MINUTE);
	is_str(state(id), "error", "none came");
}

static uint64_t looked_at;

static void look(void *arg)
{
	(void)arg;
	direct_expire(d, looked_at);
}

static void a_block_that_is_being_put_as_time_ends_counts(void)
{
	char id[40];

	start(",\"Timeout\":10", id);
	looked_at = now() + 10 * MINUTE;
	struct hold *h = hold_enter(id); /* as who puts a block has it */

	is_int(fiber_spawn(look, NULL), 0, "its time is over");
	direct_wait_more(id);
	hold_leave(h);
	(void)fiber_sleep(1000);
	is_str(state(id), "pending", "it goes on");
	put(id);
	direct_expire(d, now() + 11 * MINUTE);
	is_str(state(id), "error", "until no more come");
}

static void what_is_completed_is_not_waited_for(void)
{
	char id[40], json[128];

	start(",\"Timeout\":10", id);
	put(id);
	snprintf(json, sizeof json, "{\"SnapshotId\":\"%s\",\"ChangedBlocksCount\":1}", id);
	is_str(call("ebs.CompleteSnapshot", json, -1, NULL), "", "completed");
	direct_expire(d, now() + 100 * MINUTE);
	is_str(state(id), "completed", "for good");
	ok(has_file(id), "with its file");
}

static void run_all(void *arg)
{
	(void)arg;
	if (files_open(d) < 0)
		exit(1);
	RUN(an_hour_unless_told_otherwise);
	RUN(a_block_is_a_sign_of_life);
	RUN(a_block_that_is_being_put_as_time_ends_counts);
	RUN(what_is_completed_is_not_waited_for);
	sd_event_exit(d->loop, 0);
}

int main(void)
{
	static struct config *config;
	char error[512], path[128];

	if (!mkdtemp(dir))
		return 1;
	snprintf(path, sizeof path, "%s/none.conf", dir);
	d = daemon_get();
	d->spec = &spec;
	if (config_load(path, &config, error) < 0 || sd_event_default(&d->loop) < 0 ||
	    fiber_start(d->loop, 2) < 0)
		return 1;
	d->config = config;
	snprintf(d->state_dir, sizeof d->state_dir, "%s", dir);
	snprintf(path, sizeof path, "%s/state.db", dir);
	if (store_open(path, 1, NULL, &d->store) < 0 || fiber_spawn(run_all, NULL) < 0 ||
	    sd_event_loop(d->loop) < 0)
		return 1;
	fiber_stop();
	store_free(d->store);
	config_free(config);
	sd_event_unref(d->loop);
	snprintf(path, sizeof path, "rm -rf %s", dir);
	return tests_done() | (system(path) != 0);
}
