/*
 * Import: from a stranger's file to an immutable snapshot. The work itself, without documents:
 * import.c and import-work.c put tasks around it, the unit tests call it with hostile images.
 *
 * The source is copied first (it may change under us), then the copy's header is checked, then
 * qemu-img, confined, checks all of it and copies its contents into a new image that we made: what
 * guests' QEMU will open later was never written by the stranger. Raw files are copied only.
 * Formats of other hypervisors: foreign.h.
 */
#pragma once

#include <stdint.h>

#define IMPORT_REASON_MAX 256

struct import {
	const char *format;    /* "qcow2", "raw", "vmdk", "vpc" (VHD), "vhdx": QEMU's names */
	const char *work_path; /* prefix of temporary files, on the file system of final_path */
	const char *final_path;
	uint64_t max_bytes; /* of the virtual size */
	int is_synced;
	/* Told on the loop as the work goes on; may be NULL. */
	void (*told)(void *userdata, unsigned percent, const char *word);
	void *userdata;
	uint64_t bytes;			/* result: what a guest sees */
	char reason[IMPORT_REASON_MAX]; /* result on failure: a sentence for the customer, "" when
					   it is our own fault */
};

/* Of what is made of it: "raw" stays, all else becomes "qcow2". */
const char *import_layer_format(const char *format);
/* What can be told from the file's beginning, in microseconds. 0 or -EINVAL with the reason,
 * -errno. */
int import_check(struct import *i, int fd);
/* (fiber) The whole of it: when it returns 0 final_path is there, whole, flushed, 0444. Else
 * nothing is left. */
int import_run(struct import *i, int fd);
