/*
 * One merge: the data's way and, when it is there, the documents'. merge.c chooses it and holds who
 * would notice. Everything here can be cut off and begun again: the documents change last, when all
 * is on the disk, and header.h puts back what was half done.
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
/* (fiber) 1: the header of *ret_layer says that a guest has done it. 0. -errno. */
int merge_is_in_headers(struct daemon *d, const struct merge *m,
			char ret_layer[static FILE_NAME_MAX]);
/* (fiber) Its guest did it while nobody here looked: what remains. As merge_run. */
int merge_finish(struct daemon *d, const struct merge *m);
/* (fiber) Ends one that is under way: the guest's part, or soon the copying without a guest. */
void merge_stop(struct daemon *d, const struct merge *m);
