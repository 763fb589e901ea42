/*
 * UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* How many of the n_left bytes (at least one) at `text` are one character, whose code point is in
 * *ret_code; 0: they begin with none. */
size_t utf8_take(const char *text, size_t n_left, uint32_t *ret_code);
/* Every byte of the string that belongs to no character becomes a question mark. */
void utf8_mend(char *text);
