/* Ids: random, in AWS's form. */
#include "id.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define HEX_LONG  17
#define HEX_SHORT 8 /* ids made before 2016 are still written so in examples and scripts */

static const char hex_alphabet[] = "0123456789abcdef";

static void random_bytes(uint8_t *bytes, size_t n)
{
	/* Up to 256 bytes getrandom() is neither short nor interrupted once the kernel's pool is
	 * up. */
	ssize_t got = getrandom(bytes, n, 0);

	assert(n <= 256 && got == (ssize_t)n);
	(void)got;
}

void id_new(const char *prefix, char ret_id[static ID_MAX])
{
	uint8_t b[9];
	char hex[sizeof b * 2 + 1];

	assert(strlen(prefix) + 1 + HEX_LONG < ID_MAX);
	random_bytes(b, sizeof b);
	for (size_t i = 0; i < sizeof b; i++)
		snprintf(hex + i * 2, 3, "%02x", b[i]);
	snprintf(ret_id, ID_MAX, "%s-%.*s", prefix, HEX_LONG, hex);
}

static size_t hex_digits(const char *text)
{
	return strspn(text, hex_alphabet);
}

int id_is(const char *id, const char *prefix)
{
	size_t n = strlen(prefix);

	if (!id || strncmp(id, prefix, n) != 0 || id[n] != '-')
		return 0;
	const char *hex = id + n + 1;
	size_t n_hex = hex_digits(hex);

	return hex[n_hex] == '\0' && (n_hex == HEX_LONG || n_hex == HEX_SHORT);
}

void id_uuid(char ret_uuid[static ID_MAX])
{
	uint8_t b[16];

	random_bytes(b, sizeof b);
	b[6] = (b[6] & 0x0f) | 0x40; /* RFC 4122: version 4, variant 1 */
	b[8] = (b[8] & 0x3f) | 0x80;
	snprintf(ret_uuid, ID_MAX,
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
		 b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
		 b[15]);
}

void id_link_name(char letter, const char *id, char ret_name[static 16])
{
	static const char base32[] = "abcdefghijklmnopqrstuvwxyz234567";
	const char *hex = strrchr(id, '-');
	unsigned __int128 value = 0;

	for (hex = hex ? hex + 1 : id; *hex; hex++) {
		const char *digit = strchr(hex_alphabet, *hex);

		value = value << 4 | (digit ? (unsigned)(digit - hex_alphabet) : 0);
	}
	ret_name[0] = letter;
	for (int i = 14; i >= 1; i--, value >>= 5)
		ret_name[i] = base32[value & 31];
	ret_name[15] = '\0';
}
