/*
 * Confinement: tools that read strangers' images run where they can do little harm if an image
 * takes them over.
 *
 * stord starts itself as "stord --confined READ WRITE BYTES:PARENT PROGRAM ARGS…", and that child, still
 * single-threaded, gives up its rights and becomes the program: no new privileges, a list of
 * permitted system calls (no sockets, no other processes, no mounts), Landlock to READ and WRITE
 * where the kernel has it, no file over BYTES, limits of memory and time, the user nobody if it was
 * root. lib/run adds an empty network namespace. What a kernel lacks is done without; the list of
 * system calls must work.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define CONFINED_UID 65534

/* This process was started as a confined child. */
int confine_is(int argc, char **argv);
/* Becomes the program; returns (an exit status) only on failure, said on stderr. */
int confine_main(int argc, char **argv);

struct run_result;

#define CONFINE_CHAIN_MAX 64
/* A file of ours that a tool works on. */
struct confined_file {
	const char *path;
	int is_written;
};
/* (fiber) Runs qemu-img on layers of our own. They belong to us and to QEMU's user, so the child
 * stays who we are; files (at most CONFINE_CHAIN_MAX), system calls and time (confine_seconds) are tied
 * as for a stranger's image: a guest that took over its QEMU may have written these headers. key_fd: the
 * tool inherits it (volume-key.h); stop_fd: as in struct run; -1: none. */
int confine_qemu_img_chain(const struct confined_file *files, size_t n_files, int key_fd,
			   int stop_fd, const char *const *arguments,
			   struct run_result *ret_result);
/* How many seconds more than for a stranger's image it may take, of the clock and of processors: what
 * is copied between layers is as much as they have, and cut off it begins from the start. */
uint64_t confine_seconds(const struct confined_file *files, size_t n_files);
/* (fiber) Runs qemu-img with these arguments (NULL-terminated) on a worker. `read_path` and
 * `write_path` ("-": none) are all it may touch, and are opened before it starts; run as root, they
 * must belong to CONFINED_UID. 0 with its exit status in *ret_result, -errno. */
int confine_qemu_img(const char *read_path, const char *write_path, uint64_t max_file_bytes,
		     const char *const *arguments, struct run_result *ret_result);
