/* A guest's console: what is found is base64, and stands in what it wrote. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "../../hvd/password.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	char password[PASSWORD_BASE64_MAX + 1];

	if (!password_find((const char *)data, n_bytes, password))
		return 0;
	size_t n = strlen(password);
	if (n == 0 || n % 4 || n > n_bytes ||
	    strspn(password, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=") !=
		    n)
		abort();
	return 0;
}
