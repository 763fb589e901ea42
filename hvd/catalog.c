/* The catalog's rows, joined. */
#include "catalog.h"

#include "image-work.h"

const struct action catalog_actions[] = {
#define ACTION(name, handler, flags) {name, handler, flags},
#include "catalog-table.h"
#undef ACTION
	{NULL},
};

int catalog_open(struct daemon *d)
{
	int r = image_leave_start(d);

	if (r == 0)
		r = image_parts_start(d);
	if (r == 0)
		r = image_work_resume(d);
	image_bin_start(d);
	return r == 0 ? import_image_resume(d) : r;
}

void catalog_close(struct daemon *d)
{
	(void)d; /* the documents are the store's; nothing else is held */
}
