/* Host doctor: what the rooms of `gureum doctor` share. */
#pragma once

#include <jansson.h>
#include "host.h"

/* Adds {Name, State, Text}. */
void host_finding(json_t *list, const char *check, int is_ok, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* (host-tables.c) Tables of iptables and ebtables that netd leaves alone: what of them drops what
 * guests send. Runs their commands. */
void host_check_tables(json_t *list, const struct host_settings *settings, struct netns *host,
		       int has_ipv6);
