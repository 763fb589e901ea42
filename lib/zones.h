/*
 * Regions and zones of this cloud, as configured: [Cloud] Regions and ZonesPerRegion. A zone's name
 * is its region's with a letter ("ap-northeast-2a"), its id AWS's short form with a number
 * ("apne2-az1"); both are the same for every account.
 */
#pragma once

#include "config.h"

#define ZONE_NAME_MAX 40
#define ZONE_ID_MAX   24

/* Zones in each region, 1..6. */
int zone_count(const struct config *c);
int region_exists(const struct config *c, const char *region);
/* The name and the id of the i-th zone, i from 0. */
void zone_name(const char *region, int i, char ret_name[static ZONE_NAME_MAX]);
void zone_id(const char *region, int i, char ret_id[static ZONE_ID_MAX]);
/* Which zone of the region has this name or this id; -1: none (also for NULL, and for an unknown
 * region). */
int zone_index(const struct config *c, const char *region, const char *name_or_id);
/* The region has a zone of this name. */
int zone_exists(const struct config *c, const char *region, const char *name);
