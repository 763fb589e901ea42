/* Managed prefix lists: to change them, and to read their entries and who refers to them. A changed
 * list is in force when the change is answered. */
#include "prefix-list.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "describe.h"
#include "group.h"

static const struct filter no_filters[] = {{NULL}};

static const struct describe entry_pages = {
	.kind = "prefix-list-version",
	.result = "Entries",
	.filters = no_filters,
	.n_max_low = 1,
	.n_max_high = 100,
};

static const struct describe user_pages = {
	.kind = "prefix-list",
	.result = "PrefixListAssociations",
	.filters = no_filters,
	.n_max_low = 5,
	.n_max_high = 255,
};

/* The list of a request that wants to change it. */
static int get_to_change(const struct call *c, json_t *parameters, const struct doc **ret_list,
			 struct fault *f)
{
	int r = prefix_list_get(c, jstr(parameters, "PrefixListId"), ret_list, f);

	if (r < 0)
		return r;
	if (prefix_list_is_owned_by_aws((*ret_list)->json))
		return fault_set(f, FAULT_OPERATION_NOT_PERMITTED,
				 "The prefix list %s is managed by AWS and cannot be modified",
				 (*ret_list)->id);
	return 0;
}

static int get_version(const struct call *c, const json_t *list, int64_t version,
		       json_t **ret_entries, struct fault *f)
{
	*ret_entries = prefix_list_entries(c->store, list, version);
	if (*ret_entries)
		return 0;
	return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
			 "The specified value for version is not valid. The prefix list %s has no "
			 "version %lld.",
			 jstr(list, "PrefixListId"), (long long)version);
}

int get_managed_prefix_list_entries(struct call *c, json_t *parameters, json_t **ret_reply,
				    struct fault *f)
{
	const struct doc *list = NULL;
	json_t *entries = NULL;
	int r = prefix_list_get(c, jstr(parameters, "PrefixListId"), &list, f);

	if (r == 0)
		r = get_version(c, list->json, jint(parameters, "TargetVersion", 0), &entries, f);
	return r < 0 ? r : describe_list(c, &entry_pages, entries, parameters, ret_reply, f);
}

int get_managed_prefix_list_associations(struct call *c, json_t *parameters, json_t **ret_reply,
					 struct fault *f)
{
	const struct doc *list = NULL;
	int r = prefix_list_get(c, jstr(parameters, "PrefixListId"), &list, f);

	if (r < 0)
		return r;
	OWN(json_decref) json_t *users = prefix_list_users(c, list->id);

	return users ? describe_list(c, &user_pages, users, parameters, ret_reply, f) : -ENOMEM;
}

/* ---- entries ---- */

static int entry_find(const json_t *entries, const char *cidr, size_t *ret_at)
{
	json_t *entry;
	size_t i;

	json_array_foreach ((json_t *)entries, i, entry)
		if (jis(entry, "Cidr", cidr)) {
			*ret_at = i;
			return 1;
		}
	return 0;
}

static int entries_remove(json_t *entries, const json_t *removed, struct fault *f)
{
	json_t *entry;
	size_t i, at;

	json_array_foreach ((json_t *)removed, i, entry) {
		if (!entry_find(entries, jstr(entry, "Cidr"), &at))
			return fault_set(f, FAULT_INVALID_PREFIX_LIST_MODIFICATION,
					 "An entry with the CIDR (%s) does not exist.",
					 jstr(entry, "Cidr"));
		json_array_remove(entries, at);
	}
	return 0;
}

/* An entry that is there gets its new description. */
static int entries_add(json_t *entries, const json_t *added, struct fault *f)
{
	json_t *entry;
	size_t i, at;
	int r = 0;

	json_array_foreach ((json_t *)added, i, entry) {
		if (r < 0 || !entry_find(entries, jstr(entry, "Cidr"), &at)) {
			r |= json_array_append(entries, entry);
			continue;
		}
		if (json_equal(json_array_get(entries, at), entry))
			return fault_set(f, FAULT_INVALID_PREFIX_LIST_MODIFICATION,
					 "An entry with the CIDR (%s) and description (%s) already "
					 "exists.",
					 jstr(entry, "Cidr"), jstr_or(entry, "Description", ""));
		r |= json_array_set(entries, at, entry);
	}
	return r < 0 ? -ENOMEM : 0;
}

static int both_check(const json_t *added, const json_t *removed, struct fault *f)
{
	json_t *entry;
	size_t i, at;

	json_array_foreach ((json_t *)added, i, entry)
		if (entry_find(removed, jstr(entry, "Cidr"), &at))
			return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
					 "Request cannot contain Cidr %s in both "
					 "AddPrefixListEntries and RemovePrefixListEntries",
					 jstr(entry, "Cidr"));
	return 0;
}

static int version_check(const json_t *list, json_t *parameters, struct fault *f)
{
	if (!json_object_get(parameters, "CurrentVersion"))
		return fault_set(f, FAULT_MISSING_PARAMETER,
				 "The request must contain the parameter CurrentVersion");
	if (jint(parameters, "CurrentVersion", 0) != jint(list, "Version", 1))
		return fault_set(f, FAULT_PREFIX_LIST_VERSION_MISMATCH,
				 "The prefix list has the incorrect version number.");
	return 0;
}

/* The entries become the list's next version; `list` is the caller's editable copy. */
static int version_new(const struct call *c, json_t *list, json_t *entries, struct fault *f)
{
	int64_t max = jint(list, "MaxEntries", 0), version = jint(list, "Version", 1);
	int r;

	if ((int64_t)json_array_size(entries) > max)
		return fault_set(
			f, FAULT_PREFIX_LIST_MAX_ENTRIES_EXCEEDED,
			"The number of entries exceeds the maximum number of entries (%lld) "
			"for the prefix list.",
			(long long)max);
	r = jset_new(list, "Version", json_integer(version + 1));
	return r < 0 ? r : prefix_list_version_put(c, list, entries);
}

static int modify_entries(const struct call *c, json_t *list, json_t *parameters, struct fault *f)
{
	OWN(json_decref) json_t *added = NULL;
	OWN(json_decref) json_t *removed = NULL;
	OWN(json_decref) json_t *entries = json_copy(prefix_list_entries(c->store, list, 0));
	int r = version_check(list, parameters, f);

	if (r == 0)
		r = prefix_list_entries_read(list, json_object_get(parameters, "AddEntries"),
					     &added, f);
	if (r == 0)
		r = prefix_list_entries_read(list, json_object_get(parameters, "RemoveEntries"),
					     &removed, f);
	if (r == 0)
		r = both_check(added, removed, f);
	if (r == 0)
		r = entries_remove(entries, removed, f);
	if (r == 0)
		r = entries_add(entries, added, f);
	return r < 0 ? r : version_new(c, list, entries, f);
}

/* ---- size ---- */

/* Whether what refers to the list can hold it as the transaction would leave it. */
static int fits(const struct call *c, const char *user)
{
	const struct doc *d = store_find(c->store, "security-group", user);

	if (d)
		return group_is_within_limits(c, d->json);
	d = store_find(c->store, "route-table", user);
	return !d || prefix_list_routes_count(c, d->json) <= LIMIT_ROUTES_PER_TABLE;
}

/* Up to ten that do not fit, as AWS tells them in StateMessage; "" if all do. */
static void misfits(const struct call *c, const json_t *users, char *ret_text, size_t n_text)
{
	json_t *user;
	size_t i, n = 0, at = 0;

	ret_text[0] = '\0';
	json_array_foreach ((json_t *)users, i, user) {
		const char *id = jstr(user, "ResourceId");

		if (n < 10 && !fits(c, id) && at + strlen(id) + 2 < n_text)
			at += (size_t)snprintf(ret_text + at, n_text - at, "%s%s", n++ ? ", " : "",
					       id);
	}
}

/* AWS takes the request, and shows afterwards that it failed when those that refer to the list
 * cannot hold that many. Source: ModifyManagedPrefixList, MaxEntries. */
static int resize(const struct call *c, const struct doc *d, json_t *list, int64_t max,
		  struct fault *f)
{
	OWN(json_decref) json_t *users = prefix_list_users(c, d->id);
	json_t *old = json_object_get(d->json, "MaxEntries");
	char text[300];
	int r;

	if (max < 1 || max > LIMIT_ENTRIES_PER_PREFIX_LIST ||
	    max < (int64_t)json_array_size(prefix_list_entries(c->store, list, 0)))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%lld) for parameter MaxEntries is invalid. It is at least "
				 "the number of entries and at most %d.",
				 (long long)max, LIMIT_ENTRIES_PER_PREFIX_LIST);
	r = jset_new(list, "MaxEntries", json_integer(max));
	if (r == 0)
		r = txn_replace(c->txn, d, json_incref(list)); /* what fits() looks at */
	if (r < 0)
		return r;
	misfits(c, users, text, sizeof text);
	if (!*text)
		return 0;
	r = json_object_set(list, "MaxEntries", old) < 0 ? -ENOMEM : 0;
	if (r == 0)
		r = jset(list, "State", "modify-failed");
	return r < 0 ? r : jset(list, "StateMessage", text);
}

static int modify_check(json_t *parameters, struct fault *f)
{
	const char *name = jstr(parameters, "PrefixListName");

	if ((json_object_get(parameters, "AddEntries") ||
	     json_object_get(parameters, "RemoveEntries")) &&
	    json_object_get(parameters, "MaxEntries"))
		return fault_set(f, FAULT_INVALID_PARAMETER_COMBINATION,
				 "You cannot modify the entries and the maximum entries for the "
				 "prefix list in the same request.");
	if (name && (!*name || strlen(name) > 255 || strncmp(name, "com.amazonaws", 13) == 0))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE,
				 "Value (%.64s) for parameter PrefixListName is invalid.", name);
	return 0;
}

static int finish(struct call *c, const struct doc *d, json_t *list, json_t **ret_reply)
{
	char id[ID_MAX];
	int r = txn_replace(c->txn, d, json_incref(list));

	snprintf(id, sizeof id, "%s", d->id);
	if (r == 0)
		r = prefix_list_apply(c, id);
	if (r < 0)
		return r;
	*ret_reply = json_pack("{s:O}", "PrefixList", list);
	return *ret_reply ? 0 : -ENOMEM;
}

int modify_managed_prefix_list(struct call *c, json_t *parameters, json_t **ret_reply,
			       struct fault *f)
{
	const char *name = jstr(parameters, "PrefixListName");
	const struct doc *d = NULL;
	int r = get_to_change(c, parameters, &d, f);

	if (r == 0)
		r = modify_check(parameters, f);
	if (r < 0)
		return r;
	OWN(json_decref) json_t *list = doc_edit(d);

	r = jset(list, "State", "modify-complete");
	if (r == 0)
		r = jset(list, "StateMessage", NULL);
	if (r == 0 && (json_object_get(parameters, "AddEntries") ||
		       json_object_get(parameters, "RemoveEntries")))
		r = modify_entries(c, list, parameters, f);
	if (r == 0 && name)
		r = jset(list, "PrefixListName", name);
	if (r == 0 && json_object_get(parameters, "MaxEntries"))
		r = resize(c, d, list, jint(parameters, "MaxEntries", 0), f);
	return r < 0 ? r : finish(c, d, list, ret_reply);
}

int restore_managed_prefix_list_version(struct call *c, json_t *parameters, json_t **ret_reply,
					struct fault *f)
{
	const struct doc *d = NULL;
	json_t *entries = NULL;
	int r = get_to_change(c, parameters, &d, f);

	if (r == 0)
		r = version_check(d->json, parameters, f);
	if (r == 0)
		r = get_version(c, d->json, jint(parameters, "PreviousVersion", 0), &entries, f);
	if (r < 0)
		return r;
	OWN(json_decref) json_t *list = doc_edit(d);

	r = jset(list, "State", "restore-complete");
	if (r == 0)
		r = jset(list, "StateMessage", NULL);
	if (r == 0)
		r = version_new(c, list, entries, f);
	return r < 0 ? r : finish(c, d, list, ret_reply);
}
