/* Reading libvirt's XML. */
#pragma once

#include <libxml/tree.h>
#include <stdio.h>
#include <string.h>

/* The first element of this name, NULL if there is none. */
static inline xmlNode *xml_child(const xmlNode *parent, const char *name)
{
	for (xmlNode *n = parent ? parent->children : NULL; n; n = n->next)
		if (n->type == XML_ELEMENT_NODE && strcmp((const char *)n->name, name) == 0)
			return n;
	return NULL;
}

/* "" where there is none; cut off where the room ends. */
static inline void xml_attribute(const xmlNode *node, const char *name, char *ret_value,
				 size_t n_bytes)
{
	xmlChar *value = node ? xmlGetProp((xmlNode *)node, BAD_CAST name) : NULL;

	snprintf(ret_value, n_bytes, "%s", value ? (const char *)value : "");
	xmlFree(value);
}
