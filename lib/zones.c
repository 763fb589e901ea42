/* Regions and zones, from the configuration. */
#include "zones.h"

#include <stdio.h>
#include <string.h>

int zone_count(const struct config *c)
{
	return (int)config_integer(c, "Cloud", "ZonesPerRegion");
}

int region_exists(const struct config *c, const char *region)
{
	for (const char *const *r = config_list(c, "Cloud", "Regions"); region && r && *r; r++)
		if (strcmp(*r, region) == 0)
			return 1;
	return 0;
}

void zone_name(const char *region, int i, char ret_name[static ZONE_NAME_MAX])
{
	snprintf(ret_name, ZONE_NAME_MAX, "%.31s%c", region, 'a' + i);
}

/* AWS's abbreviation: the area as it is, of each compass word the first letter ("northeast": ne),
 * the number. */
void zone_id(const char *region, int i, char ret_id[static ZONE_ID_MAX])
{
	static const char *const words[] = {"north", "south", "east", "west", "central", "gov"};
	char out[ZONE_ID_MAX] = "";
	size_t n = strcspn(region, "-");
	const char *at = region + n;

	n = n < 8 ? n : 8;
	memcpy(out, region, n);
	while (*at && n < 14) {
		size_t k = 0, n_words = sizeof words / sizeof *words;

		at += *at == '-';
		while (k < n_words && strncmp(at, words[k], strlen(words[k])) != 0)
			k++;
		if (*at == '\0')
			break;
		out[n++] = *at;
		at += k < n_words ? strlen(words[k]) : 1;
	}
	out[n] = '\0';
	snprintf(ret_id, ZONE_ID_MAX, "%.14s-az%d", out, (i + 1) % 10);
}

static int zone_is(const char *region, int i, const char *text, int may_be_id)
{
	char name[ZONE_NAME_MAX], id[ZONE_ID_MAX];

	zone_name(region, i, name);
	zone_id(region, i, id);
	return strcmp(name, text) == 0 || (may_be_id && strcmp(id, text) == 0);
}

static int zone_find(const struct config *c, const char *region, const char *text, int may_be_id)
{
	if (!text || !region_exists(c, region))
		return -1;
	for (int i = 0; i < zone_count(c); i++)
		if (zone_is(region, i, text, may_be_id))
			return i;
	return -1;
}

int zone_index(const struct config *c, const char *region, const char *name_or_id)
{
	return zone_find(c, region, name_or_id, 1);
}

int zone_exists(const struct config *c, const char *region, const char *name)
{
	return zone_find(c, region, name, 0) >= 0;
}
