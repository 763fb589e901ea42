/* Tools on layers: qemu-img, confined to the files of one chain. */
#pragma once

#include "daemon.h"
#include "run.h"

/* (fiber) The files it may touch are those of the chain from `name` down; the first n_written it
 * may write. As confine_qemu_img_chain(). */
int layer_tool(struct daemon *d, const char *name, unsigned n_written, int key_fd, int stop_fd,
	       const char *const *arguments, struct run_result *ret_result);
