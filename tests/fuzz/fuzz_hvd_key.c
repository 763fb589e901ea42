/* A customer's public key: bytes in any of the forms; what is taken must be read again from what
 * was written of it. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "../../hvd/key_material.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	static const char *const heads[] = {"",
					    "ssh-rsa ",
					    "ssh-ed25519 ",
					    "---- BEGIN SSH2 PUBLIC KEY ----\n",
					    "-----BEGIN PUBLIC KEY-----\n",
					    "-----BEGIN RSA PUBLIC KEY-----\n"};
	OWN(key_material_clear) struct key_material key = {0};
	OWN(key_material_clear) struct key_material again = {0};
	OWN(free) char *text = NULL;
	int n;

	if (n_bytes == 0)
		return 0;
	n = asprintf(&text, "%s%.*s", heads[data[0] % (sizeof heads / sizeof *heads)],
		     (int)n_bytes - 1, (const char *)data + 1);
	if (n < 0 || key_material_parse(text, (size_t)n, &key) < 0)
		return 0;
	if (!key.public_line || !key.fingerprint || strpbrk(key.public_line, "\r\n\"") ||
	    key.private_pem)
		abort();
	if (key_material_parse(key.public_line, strlen(key.public_line), &again) < 0 ||
	    strcmp(again.fingerprint, key.fingerprint) != 0)
		abort();
	return 0;
}
