/*
 * Configuration: one INI file in the systemd manner for all daemons, /etc/gureum/gureum.conf, then
 * the drop-ins gureum.conf.d/<any>.conf beside it in the order of their names. Every setting is a
 * row of config-table.h: section, name, type, default and one sentence (from which the manual page
 * is made). An unknown section or name, a value of a wrong type, or a number out of its setting's
 * range is an error with file and line: a typo must not be a silent default.
 */
#pragma once

#include <stdint.h>
#include <stdio.h>
#include "own.h"

struct config;

/* Reads `path` and its drop-ins; a missing file is all defaults, one that cannot be read is not. On
 * failure 0 < strlen(ret_error) tells file, line and reason. -EINVAL, -ENOMEM or the errno of
 * reading. */
int config_load(const char *path, struct config **ret_config, char ret_error[static 512]);
void config_free(struct config *c);
OWN_DEFINE(struct config *, config_free);

/* The value; asking for a setting that is not in the table, or by another type, is an assertion. */
const char *config_string(const struct config *c, const char *section, const char *name);
int config_bool(const struct config *c, const char *section, const char *name);
int64_t config_integer(const struct config *c, const char *section, const char *name);
/* A list's words, NULL-terminated, owned by the configuration. */
const char *const *config_list(const struct config *c, const char *section, const char *name);

/* Prints what was understood, one "Name=value" a line by section, defaults marked: `gureum-x
 * --check`. */
void config_print(const struct config *c, FILE *out);
/* Prints every row with its default and sentence in the form of gureum.conf(5)'s example file. */
void config_print_table(FILE *out);
