/*
 * Pages: MaxResults and NextToken, checked once for all kinds. Used by describe.c.
 *
 * A NextToken is a position and a MAC over position, action, account, region and all other
 * parameters, by a key that the daemon keeps in its store (kind "_secret"): tokens outlive
 * restarts, and cannot be made up or moved to another question.
 */
#pragma once

#include "describe.h"

struct page {
	int64_t n_max;	/* 0: all */
	uint64_t after; /* position of the last one shown before, 0: none */
};

/* Reads the page that the parameters ask for; InvalidParameterValue, InvalidParameterCombination,
 * InvalidNextToken. */
int page_parse(const struct call *c, const struct describe *d, const json_t *parameters,
	       struct page *ret_page, struct fault *f);
/* The token that continues after `position`; malloced, NULL out of memory. */
char *page_token(const struct call *c, const json_t *parameters, uint64_t position);
