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

struct apid {
	const struct config *config;
	struct store *store;
	struct routes *routes;
	struct http *http;
	char address[80]; /* where it listens */
};
