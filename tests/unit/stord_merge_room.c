/* Which merges wait for room on a full disk: the disk's free space is what the test says. */
#include "tap.h"
#include "../../stord/layer.h"
#include "../../stord/merge-room.h"
#include "jsonx.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define MIB 1048576

static struct daemon daemon_;
static char dir[] = "/tmp/gureum-merge-room-XXXXXX";
static unsigned long room_bytes;

int statvfs(const char *path, struct statvfs *ret_fs)
{
	(void)path;
	*ret_fs = (struct statvfs){.f_bavail = room_bytes, .f_frsize = 1};
	return 0;
}

static void file_new(const char *name)
{
	char path[FILE_PATH_MAX], bytes[4096];

	memset(bytes, 'x', sizeof bytes);
	file_path(&daemon_, name, path);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	for (unsigned i = 0; i < MIB / sizeof bytes; i++)
		if (write(fd, bytes, sizeof bytes) != sizeof bytes)
			exit(1);
	if (fsync(fd) < 0 || close(fd) < 0) /* it has its blocks */
		exit(1);
}

static void begin(void)
{
	char path[64], error[512];

	if (!mkdtemp(dir))
		exit(1);
	snprintf(daemon_.state_dir, sizeof daemon_.state_dir, "%s", dir);
	snprintf(path, sizeof path, "%s/none.conf", dir);
	static struct config *config;
	if (config_load(path, &config, error) < 0)
		exit(1);
	daemon_.config = config;
	snprintf(path, sizeof path, "%s/state.db", dir);
	if (store_open(path, 1, NULL, &daemon_.store) < 0)
		exit(1);
	OWN(txn_free) struct txn *t = txn_new(daemon_.store);
	if (layer_put(t, "under", "qcow2", MIB, NULL) < 0 ||
	    layer_put(t, "over", "qcow2", MIB, "under") < 0 || txn_commit(t) < 0)
		exit(1);
	file_new("under");
	file_new("over");
}

static const struct merge without = {.under = "under", .over = "over", .is_commit = 1},
			  within = {.under = "under",
				    .over = "over",
				    .is_commit = 1,
				    .instance_id = "i-0000000000000000a"};

/* All of its data is there, and what found no room is the documents: they give the room back. */
static void a_guests_merge_waits_for_no_room(void)
{
	room_bytes = 0;
	is_int(merge_room_begin(&daemon_, &within), 1, "it begins");
	merge_room_end(&daemon_, &within, -ENOSPC);
	is_int(merge_room_begin(&daemon_, &within), 1, "and again, without any room");
	merge_room_end(&daemon_, &within, -EAGAIN);
}

static void a_merge_without_a_guest_waits_for_room(void)
{
	room_bytes = 0;
	is_int(merge_room_begin(&daemon_, &without), 1, "it begins");
	merge_room_end(&daemon_, &without, -ENOSPC);
	is_int(merge_room_begin(&daemon_, &without), 0, "not again while there is as little");
	room_bytes = MIB / 2;
	is_int(merge_room_begin(&daemon_, &without), 0, "nor with half of what it needs");
	is_int(merge_room_begin(&daemon_, &within), 1, "a guest that has it meanwhile may");
	merge_room_end(&daemon_, &within, -EIO);
	room_bytes = 8 * MIB;
	is_int(merge_room_begin(&daemon_, &without), 1, "with enough it begins");
	merge_room_end(&daemon_, &without, 0);
	room_bytes = 0;
	is_int(merge_room_begin(&daemon_, &without), 1, "what was done waits for nothing");
	merge_room_end(&daemon_, &without, -ECANCELED);
}

int main(void)
{
	char command[64];

	begin();
	RUN(a_guests_merge_waits_for_no_room);
	RUN(a_merge_without_a_guest_waits_for_room);
	store_free(daemon_.store);
	config_free((struct config *)daemon_.config);
	snprintf(command, sizeof command, "rm -rf %s", dir);
	return tests_done() | (system(command) != 0);
}
