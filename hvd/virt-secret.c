/* Passphrases of volumes, as libvirt's secrets. */
#include "virt-secret.h"

#include <errno.h>
#include <string.h>
#include "domain.h"
#include "fiber.h"
#include "virt-internal.h"

struct secret_work {
	virConnectPtr connection;
	const char *volume_id, *passphrase;
	char error[VIRT_ERROR_BYTES];
};

static void secret_unref(virSecretPtr s)
{
	(void)virSecretFree(s); /* drops a reference */
}
OWN_DEFINE(virSecretPtr, secret_unref);

/* (worker) */
static int set_work(void *arg)
{
	struct secret_work *w = arg;
	char uuid[DOMAIN_UUID_BYTES], xml[512];

	domain_uuid(w->volume_id, uuid);
	snprintf(xml, sizeof(xml),
		 "<secret ephemeral='yes' private='yes'><uuid>%s</uuid><usage type='volume'>"
		 "<volume>%.40s</volume></usage></secret>",
		 uuid, w->volume_id);
	OWN(secret_unref) virSecretPtr s = virSecretDefineXML(w->connection, xml, 0);
	if (!s || virSecretSetValue(s, (const unsigned char *)w->passphrase, strlen(w->passphrase),
				    0) < 0)
		return virt_errno(w->connection, w->error);
	return 0;
}

int virt_secret_set(struct virt *v, const char *volume_id, const char *passphrase,
		    char ret_error[static VIRT_ERROR_BYTES])
{
	OWN(virt_connection_unref) virConnectPtr c = virt_connection(v);
	struct secret_work w = {.connection = c, .volume_id = volume_id, .passphrase = passphrase};
	int r = c ? fiber_work(set_work, &w) : -ENOTCONN;

	snprintf(ret_error, VIRT_ERROR_BYTES, "%s", r == -ENOTCONN ? "libvirt is away" : w.error);
	return r;
}

/* (worker) */
static int forget_work(void *arg)
{
	struct secret_work *w = arg;
	char uuid[DOMAIN_UUID_BYTES];

	domain_uuid(w->volume_id, uuid);
	OWN(secret_unref) virSecretPtr s = virSecretLookupByUUIDString(w->connection, uuid);
	if (s && virSecretUndefine(s) < 0)
		return virt_errno(w->connection, w->error);
	return 0;
}

int virt_secret_forget(struct virt *v, const char *volume_id)
{
	OWN(virt_connection_unref) virConnectPtr c = virt_connection(v);
	struct secret_work w = {.connection = c, .volume_id = volume_id};

	return c ? fiber_work(forget_work, &w) : -ENOTCONN;
}
