/*
 * apid: the front door. Requests come in by HTTP (http.h), are believed or not (auth.h), decoded by
 * AWS's models (lib/aws), handed as JSON to the daemon that owns the action (route.h) or answered
 * here (local.h), encoded and sent back (front.h). Holds no resources of its own but access keys.
 */
#pragma once

#include "auth.h"
#include "config.h"
#include "http.h"
#include "route.h"
#include "store.h"

#define ADDRESSES_MAX 4

struct apid {
	const struct config *config;
	struct store *store;
	struct routes *routes;
	struct http *http[ADDRESSES_MAX];
	char address[ADDRESSES_MAX][80]; /* where they listen */
	size_t n_http;
};
