/* qemu-img on a chain of layers. */
#include "layer-tool.h"

#include <errno.h>
#include "confine.h"
#include "layer.h"
#include "stord.h"

int layer_tool(struct daemon *d, const char *name, unsigned n_written, int key_fd, int stop_fd,
	       const char *const *arguments, struct run_result *ret_result)
{
	char(*paths)[FILE_PATH_MAX] = calloc(CONFINE_CHAIN_MAX, sizeof *paths);
	OWN(free) void *owned = paths;
	OWN(free) struct confined_file *files = calloc(CONFINE_CHAIN_MAX, sizeof *files);
	size_t n = 0;

	if (!paths || !files)
		return -ENOMEM;
	for (; name && n < CONFINE_CHAIN_MAX; n++) {
		const struct doc *l = layer_find(d->store, name);

		file_path(d, name, paths[n]);
		files[n] = (struct confined_file){paths[n], n < n_written};
		name = l ? jstr(l->json, "Backing") : NULL;
	}
	return confine_qemu_img_chain(files, n, key_fd, stop_fd, arguments, ret_result);
}
