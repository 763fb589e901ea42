/*
 * Ids as AWS makes them: a prefix, a dash, 17 hex digits ("i-0abc…"); UUIDs for requests.
 */
#pragma once

#include "fault.h"

#define ID_MAX 40 /* bytes, with the NUL */

/* A new random id: id_new("vpc", id) → "vpc-0f3…". Never fails (getrandom). */
void id_new(const char *prefix, char ret_id[static ID_MAX]);
/* `id` is prefix, dash, and 8 or 17 lower-case hex digits. */
int id_is(const char *id, const char *prefix);
/* A random UUID in lower case, 36 characters. */
void id_uuid(char ret_uuid[static ID_MAX]);
/* The short name of an id for kernel names: one letter and 14 base32 characters of the 17 hex
 * digits, e.g. a link name of at most 15 characters. `letter` names the kind of link. */
void id_link_name(char letter, const char *id, char ret_name[static 16]);
