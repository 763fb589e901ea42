/* UTF-8. */
#include "utf8.h"

#include <string.h>

size_t utf8_take(const char *text, size_t n_left, uint32_t *ret_code)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	const unsigned char *p = (const unsigned char *)text;
	size_t n = *p >= 0xf0 ? 4 : *p >= 0xe0 ? 3 : 2;
	uint32_t code = *p & (0x7f >> n);

	if (*p < 0x80) {
		*ret_code = *p;
		return 1;
	}
	if (*p < 0xc2 || *p > 0xf4 || n > n_left)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (p[i] & 0x3f);
	}
	if (code < least[n] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
		return 0;
	*ret_code = code;
	return n;
}

void utf8_mend(char *text)
{
	uint32_t code;

	for (size_t n_left = strlen(text), n; n_left > 0; text += n, n_left -= n) {
		n = utf8_take(text, n_left, &code);
		if (n == 0) {
			*text = '?';
			n = 1;
		}
	}
}
