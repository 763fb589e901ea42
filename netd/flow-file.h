/*
 * Flow files: where lines end up. A flow log's file is <StateDirectory>/netd/flow-logs/<id>.log;
 * full, it becomes <id>.log.1 and so on, and the oldest goes, so that all together are never larger
 * than what was set. The files of deleted flow logs stay for their readers, but only the newest.
 */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include "own.h"

#define FLOW_FILE_PARTS	  4 /* of one log: the one written, and older ones */
#define FLOW_FILE_ORPHANS 16

struct flow_file {
	char path[512];
	FILE *file;
	uint64_t n_bytes, n_max; /* of one part */
	int error;		 /* the first; nothing is written after it */
};
/* Opens to append. `n_max` is for all parts together. Failure is in `error`. */
void flow_file_open(struct flow_file *f, const char *directory, const char *id, uint64_t n_max);
void flow_file_write(struct flow_file *f, const char *text, size_t n);
/* 0 or the first -errno. */
int flow_file_close(struct flow_file *f);
/* When something was last written to the log: seconds, 0: never. */
int64_t flow_file_time(const char *directory, const char *id);
/* Removes files of logs for which is_known() is 0, but for the newest FLOW_FILE_ORPHANS. */
void flow_file_clean(const char *directory, int (*is_known)(const char *id, void *arg), void *arg);
