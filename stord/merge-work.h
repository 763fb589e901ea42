/*
 * One merge: the data's way and, when it is there, the documents'. merge.c chooses it and holds who
 * would notice. Everything here can be cut off and begun again; what an earlier attempt finished is
 * seen in the files' headers.
 */
#pragma once

#include "daemon.h"
#include "files.h"
#include "id.h"

struct merge {
	char under[FILE_NAME_MAX]; /* the spare layer; is_long: the lowest, which stays */
	char over[FILE_NAME_MAX];  /* the layer on it; is_long: the active one */
	int is_commit;		   /* over's data goes into under, else under's into over */
	int is_long;		   /* all between the two goes into over */
	/* the running guest whose QEMU does it, "": qemu-img, with everybody held */
	char instance_id[ID_MAX], volume_id[ID_MAX];
};

/* (fiber) 0: done, documents too. -ECANCELED: something came in between. -errno. */
int merge_run(struct daemon *d, const struct merge *m);
/* (fiber) Ends the guest's part of one that is under way. */
void merge_stop(struct daemon *d, const struct merge *m);
/* (worker) The file's header says that it stands on `backing` ("": on nothing). Also -errno. */
int header_stands_on(const char *path, const char *backing);
