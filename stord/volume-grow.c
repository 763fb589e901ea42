/* A volume's file becomes larger. */
#include "volume-grow.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "confine.h"
#include "fiber.h"
#include "files.h"
#include "host.h"
#include "layer.h"
#include "log.h"
#include "run.h"
#include "stord.h"
#include "volume-key.h"

/* ---- where no guest has it ---- */

struct lengthening {
	const char *path;
	int64_t bytes;
};

static int lengthen_work(void *arg)
{
	const struct lengthening *l = arg;
	struct stat st;

	if (stat(l->path, &st) < 0)
		return -errno;
	return st.st_size < l->bytes && truncate(l->path, l->bytes) < 0 ? -errno : 0;
}

/* No guest has the file open, and none gets it while the volume is held. */
static int grow_file(struct daemon *d, const char *layer, int64_t gib)
{
	char paths[CONFINE_CHAIN_MAX][FILE_PATH_MAX], bytes[24];
	struct confined_file files[CONFINE_CHAIN_MAX] = {0};
	OWN(run_result_clear) struct run_result result = {0};
	const struct doc *l = layer_find(d->store, layer);
	int is_raw = l && strcmp(jstr_or(l->json, "Format", ""), "raw") == 0;
	char l_key[ID_MAX];
	size_t n = 0;

	snprintf(l_key, sizeof l_key, "%s", l ? jstr_or(l->json, "Key", "") : "");
	for (; l && n < CONFINE_CHAIN_MAX; l = layer_find(d->store, jstr(l->json, "Backing"))) {
		file_path(d, l->id, paths[n]);
		files[n] = (struct confined_file){.path = paths[n], .is_written = n == 0};
		n++;
	}
	if (n == 0 || l)
		return -EINVAL;
	if (l_key[0])
		return volume_key_grow_image(d, l_key, paths[0], gib * GIB);
	if (is_raw) {
		struct lengthening raw = {.path = paths[0], .bytes = gib * GIB};

		return fiber_work(lengthen_work, &raw);
	}
	snprintf(bytes, sizeof bytes, "%lld", (long long)(gib * GIB));
	const char *const arguments[] = {"resize", "-q", "-f", "qcow2", paths[0], bytes, NULL};
	int r = confine_qemu_img_chain(files, n, -1, -1, arguments, &result);

	if (r == 0 && result.status != 0) {
		log_warning(0, "qemu-img does not grow a volume", "FILE", paths[0], "REASON",
			    result.err);
		r = -EIO;
	}
	return r;
}

/* ---- where a guest has it ---- */

int volume_ask_guests(const struct doc *volume, json_t *more)
{
	OWN(json_decref) json_t *ask = more;
	OWN(json_decref) json_t *list = json_incref(json_object_get(volume->json, "Attachments"));
	struct context ctx = {0};
	char id[ID_MAX];
	int n_live = 0, r = ask ? jset(ask, "VolumeId", volume->id) : -ENOMEM;
	json_t *attachment;
	size_t i;

	snprintf(id, sizeof id, "%s", volume->id);
	snprintf(ctx.account, sizeof ctx.account, "%s", volume->account);
	snprintf(ctx.region, sizeof ctx.region, "%s", volume->region);
	id_uuid(ctx.request);
	json_array_foreach (list, i, attachment) {
		OWN(json_decref) json_t *reply = NULL;
		struct fault f = {0};

		if (r == 0)
			r = jset(ask, "InstanceId", jstr(attachment, "InstanceId"));
		if (r < 0)
			return r;
		r = host_ask(&ctx, "gureum.ApplyVolume", ask, &reply, &f);
		if (r < 0)
			log_warning(r, "a guest's volume was not changed", "VOLUME_ID", id, "CODE",
				    f.code, "REASON", f.message);
		if (r < 0)
			return fault_is(&f, FAULT_INCORRECT_STATE) ? -EBUSY : -EAGAIN;
		n_live += jbool(reply, "Live", 0);
	}
	return r < 0 ? r : n_live > 0;
}

static int grow(struct daemon *d, const char *id, int64_t gib)
{
	const struct doc *volume = store_find(d->store, "volume", id);

	if (jint(volume->json, "Size", 0) >= gib)
		return 0;
	int r = volume_prepare(d, id);

	volume = store_find(d->store, "volume", id);
	if (r == 0)
		r = volume ? volume_ask_guests(volume,
					       json_pack("{s:I}", "Bytes", (json_int_t)(gib * GIB)))
			   : -ENOENT;
	if (r != 0)
		return r < 0 ? r : 0;
	volume = store_find(d->store, "volume", id);
	OWN(json_decref) json_t *layer = json_incref(json_object_get(volume->json, "_Layer"));

	return grow_file(d, json_string_value(layer), gib);
}

/* What the file itself says. */
static int is_so_large(struct daemon *d, const char *id, int64_t gib)
{
	const struct doc *volume = store_find(d->store, "volume", id);
	int64_t bytes = 0;

	return volume && layer_file_bytes(d, jstr_or(volume->json, "_Layer", ""), &bytes) == 0 &&
	       bytes >= gib * GIB;
}

int volume_grow(struct daemon *d, const char *volume_id, int64_t gib)
{
	int r = grow(d, volume_id, gib);

	return r < 0 && r != -EAGAIN && is_so_large(d, volume_id, gib) ? 0 : r;
}
