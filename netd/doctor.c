/* gureum.Doctor: what netd finds about the host. gureum.Reconcile: is all as it should be? */
#include <errno.h>
#include "netd.h"

int doctor(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	OWN(json_decref) json_t *checks = NULL;
	int r = kernel_doctor(&checks);

	(void)c, (void)parameters, (void)f;
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:O}", "Checks", checks);
	return *ret_reply ? 0 : -ENOMEM;
}

int reconcile(struct call *c, json_t *parameters, json_t **ret_reply, struct fault *f)
{
	unsigned n_changes;
	int r = kernel_reconcile(&n_changes, f);

	(void)c, (void)parameters;
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:i}", "Changes", (int)n_changes);
	return *ret_reply ? 0 : -ENOMEM;
}
