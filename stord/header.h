/*
 * Headers: what a layer's file itself says it stands on. The documents are the truth; QEMU and
 * qemu-img change a header when a merge ends, before all else that belongs to the merge is safe. So
 * a file whose header differs is one whose merge was cut off: what the documents say is whole, and
 * the header is put back before anybody opens it.
 */
#pragma once

#include "daemon.h"

/* (fiber) The header names `backing_path` ("": none). 1, 0 or -errno. */
int header_is(const char *path, const char *backing_path);
/* (fiber) The header names another backing ("": none) from now on. `key`: whose key opens the file,
 * NULL: it is not encrypted. 0; -EBUSY: somebody has it open; -errno. */
int header_rewrite(struct daemon *d, const char *key, const char *path, const char *backing,
		   const char *format);
/* (fiber) Headers are put back after their documents, and a guest's merge has documents brought after
 * its headers: who does either looks and writes within the lock, or the two would each do half.
 * Headers that are put back take it themselves. */
void headers_lock(void);
void headers_unlock(void);
/* (fiber) Its header says what its document says: 1, 0 or -errno; 1 also when there is no file yet.
 */
int header_agrees(struct daemon *d, const char *name);
/* (fiber) The layer's header says what its document says when it returns 0. No guest has the layer
 * open. */
int header_restore(struct daemon *d, const char *name);
/* (fiber) The chain from this layer down has none to put back: 1; 0 or -errno. */
int headers_agree(struct daemon *d, const char *name);
/* (fiber) All of the chain. */
int headers_restore(struct daemon *d, const char *name);
