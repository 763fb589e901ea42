/* Tags keep AWS's limits; a call that is refused has changed nothing. */
#include "tap.h"
#include "tags.h"
#include "jsonx.h"

#include <unistd.h>

static struct store *store;
static struct txn *txn;
static struct fault fault;
static struct context ctx = {.account = "123456789012", .region = "us-east-1"};

static int is_shared(const json_t *resource, const char *account)
{
	return jarray_has(json_object_get(resource, "With"), account);
}

static int is_visible(const struct call *c, const struct doc *doc)
{
	return is_shared(doc->json, c->ctx->account);
}

static const struct tags_kind kinds[] = {
	{"volume", "volume", "vol", FAULT_INVALID_VOLUME_NOT_FOUND},
	{"snapshot", "snapshot", "snap", FAULT_INVALID_SNAPSHOT_NOT_FOUND, is_visible},
	{NULL}};

typedef int (*tags_call)(struct call *c, const struct tags_kind *k, json_t *p, json_t **ret_reply,
			 struct fault *f);

/* "" or the fault's code; committed only when it went well, as dispatch does. */
static const char *run(tags_call what, const char *json, json_t **ret_reply)
{
	OWN(txn_free) struct txn *t = txn_new(store);
	struct call c = {.method = "ec2.Tags", .ctx = &ctx, .store = store, .txn = t};
	OWN(json_decref) json_t *p = json_loads(json, 0, NULL), *reply = NULL;

	memset(&fault, 0, sizeof fault);
	if (what(&c, kinds, p, &reply, &fault) < 0)
		return fault.code;
	txn_commit(t);
	if (ret_reply)
		*ret_reply = give(reply);
	return "";
}

static void fresh(void)
{
	txn_put(txn, "volume", "vol-00000001", ctx.account, ctx.region,
		json_loads("{\"Tags\":[{\"Key\":\"Name\",\"Value\":\"old\"},{\"Key\":\"aws:own\","
			   "\"Value\":\"kept\"}]}",
			   0, NULL));
	txn_put(txn, "volume", "vol-00000002", "999999999999", ctx.region, json_object());
	txn_put(txn, "snapshot", "snap-00000001", ctx.account, ctx.region, json_object());
	txn_commit(txn);
}

static const char *tags_of(const char *kind, const char *id)
{
	static char text[4096];
	size_t i;
	json_t *tag;

	text[0] = '\0';
	json_array_foreach (json_object_get(store_find(store, kind, id)->json, "Tags"), i, tag)
		snprintf(text + strlen(text), sizeof text - strlen(text), "%s=%s;",
			 jstr(tag, "Key"), jstr(tag, "Value"));
	return text;
}

static void tags_are_added_and_replaced(void)
{
	fresh();
	is_str(run(tags_create,
		   "{\"Resources\":[\"vol-00000001\",\"snap-00000001\",\"vol-00000001\"],\"Tags\":["
		   "{\"Key\":\"Name\",\"Value\":\"new\"},"
		   "{\"Key\":\"env\"}]}",
		   NULL),
	       "", "taken");
	is_str(tags_of("volume", "vol-00000001"), "Name=new;aws:own=kept;env=;",
	       "replaced and added");
	is_str(tags_of("snapshot", "snap-00000001"), "Name=new;env=;", "another kind");
}

static void one_bad_resource_refuses_all(void)
{
	fresh();
	is_str(run(tags_create,
		   "{\"Resources\":[\"vol-00000001\",\"vol-00000009\"],\"Tags\":[{\"Key\":\"a\"}]}",
		   NULL),
	       "InvalidVolume.NotFound", "unknown");
	is_str(run(tags_create,
		   "{\"Resources\":[\"vol-00000001\",\"vol-00000002\"],\"Tags\":[{\"Key\":\"a\"}]}",
		   NULL),
	       "InvalidVolume.NotFound", "another account's");
	is_str(run(tags_create,
		   "{\"Resources\":[\"vol-00000001\",\"junk\"],\"Tags\":[{\"Key\":\"a\"}]}", NULL),
	       "InvalidID", "no id");
	is_str(tags_of("volume", "vol-00000001"), "Name=old;aws:own=kept;", "nothing changed");
	is_str(run(tags_create, "{\"Resources\":[],\"Tags\":[{\"Key\":\"a\"}]}", NULL),
	       "MissingParameter", "no resources");
	is_str(run(tags_create, "{\"Resources\":[\"vol-00000001\"]}", NULL), "MissingParameter",
	       "no tags");
}

static const char *with_tag(const char *key, const char *value)
{
	OWN(json_decref)
	json_t *p = json_pack("{s:[s], s:[{s:s, s:s}]}", "Resources", "vol-00000001", "Tags", "Key",
			      key, "Value", value);
	OWN(free) char *text = json_dumps(p, 0);

	return run(tags_create, text, NULL);
}

static void limits_are_those_of_aws(void)
{
	char key[500], value[900];

	fresh();
	memset(key, 'k', 129);
	key[129] = '\0';
	is_str(with_tag(key, ""), "InvalidParameterValue", "a key of 129");
	key[128] = '\0';
	is_str(with_tag(key, ""), "", "a key of 128");
	key[0] = '\0';
	for (int i = 0; i < 128; i++)
		strcat(key, "구");
	is_str(with_tag(key, ""), "", "characters count, not bytes");
	memset(value, 'v', 257);
	value[257] = '\0';
	is_str(with_tag("a", value), "InvalidParameterValue", "a value of 257");
	value[256] = '\0';
	is_str(with_tag("a", value), "", "a value of 256");
	is_str(with_tag("", "x"), "InvalidParameterValue", "an empty key");
	is_str(with_tag("aws:x", "x"), "InvalidParameterValue", "a reserved key");
	is_str(run(tags_create,
		   "{\"Resources\":[\"vol-00000001\"],\"Tags\":[{\"Key\":\"a\"},{\"Key\":\"a\"}]}",
		   NULL),
	       "InvalidParameterValue", "a key twice");
	fresh();
	for (int i = 0; i < 49; i++) {
		snprintf(key, sizeof key, "key%d", i);
		with_tag(key, "");
	}
	is_str(with_tag("one-more", ""), "TagLimitExceeded", "the 51st; aws: keys do not count");
	is_str(with_tag("key7", "changed"), "", "a change of one of 50");
}

static void tags_go_by_key_or_by_value(void)
{
	fresh();
	is_str(run(tags_delete,
		   "{\"Resources\":[\"vol-00000001\"],\"Tags\":[{\"Key\":\"Name\",\"Value\":"
		   "\"other\"}]}",
		   NULL),
	       "", "another value");
	is_str(tags_of("volume", "vol-00000001"), "Name=old;aws:own=kept;", "stays");
	run(tags_delete,
	    "{\"Resources\":[\"vol-00000001\"],\"Tags\":[{\"Key\":\"Name\",\"Value\":\"old\"}]}",
	    NULL);
	is_str(tags_of("volume", "vol-00000001"), "aws:own=kept;", "by its value");
	fresh();
	run(tags_delete, "{\"Resources\":[\"vol-00000001\"],\"Tags\":[{\"Key\":\"Name\"}]}", NULL);
	is_str(tags_of("volume", "vol-00000001"), "aws:own=kept;", "by key alone");
	fresh();
	run(tags_delete, "{\"Resources\":[\"vol-00000001\"]}", NULL);
	is_str(tags_of("volume", "vol-00000001"), "aws:own=kept;", "all but AWS's own");
	is_str(run(tags_delete,
		   "{\"Resources\":[\"vol-00000001\"],\"Tags\":[{\"Key\":\"aws:own\"}]}", NULL),
	       "InvalidParameterValue", "AWS's own");
}

static size_t described(const char *json)
{
	OWN(json_decref) json_t *reply = NULL;

	return *run(tags_describe, json, &reply) ? 99
						 : json_array_size(json_object_get(reply, "Tags"));
}

static void tags_are_described(void)
{
	fresh();
	run(tags_create,
	    "{\"Resources\":[\"snap-00000001\"],\"Tags\":[{\"Key\":\"Name\",\"Value\":\"s\"}]}",
	    NULL);
	is_int(described("{}"), 3, "all of the caller's");
	is_int(described("{\"Filters\":[{\"Name\":\"resource-type\",\"Values\":[\"snapshot\"]}]}"),
	       1, "by type");
	is_int(described("{\"Filters\":[{\"Name\":\"resource-id\",\"Values\":[\"vol-*\"]}]}"), 2,
	       "by id");
	is_int(described("{\"Filters\":[{\"Name\":\"key\",\"Values\":[\"Name\"]},{\"Name\":"
			 "\"value\",\"Values\":[\"old\"]}]}"),
	       1, "by key and value");
	is_int(described("{\"Filters\":[{\"Name\":\"tag:Name\",\"Values\":[\"s\"]}]}"), 1,
	       "by tag");
	is_int(described("{\"Filters\":[{\"Name\":\"colour\",\"Values\":[\"s\"]}]}"), 99,
	       "an unknown filter");
}

/* The snapshot is shared with these, a JSON array. */
static void share(const char *with)
{
	const struct doc *old = store_find(store, "snapshot", "snap-00000002");
	json_t *json = old ? doc_edit(old) : json_pack("{s:[]}", "Tags");

	json_object_set_new(json, "With", json_loads(with, 0, NULL));
	tags_forget(json, is_shared);
	txn_put(txn, "snapshot", "snap-00000002", "999999999999", ctx.region, json);
	txn_commit(txn);
}

#define SHARED	   "{\"Resources\":[\"snap-00000002\"]"
#define WITH(k, v) SHARED ",\"Tags\":[{\"Key\":\"" k "\",\"Value\":\"" v "\"}]}"

static const char *as(const char *account, tags_call what, const char *json)
{
	const char *code;

	snprintf(ctx.account, sizeof ctx.account, "%s", account);
	code = run(what, json, NULL);
	snprintf(ctx.account, sizeof ctx.account, "123456789012");
	return code;
}

static const char *given_by(const char *account)
{
	json_t *tag = json_array_get(
		tags_given_by(store_find(store, "snapshot", "snap-00000002"), account), 0);

	return jstr_or(tag, "Value", "none");
}

static void what_is_shared_has_tags_of_each_account(void)
{
	share("[]");
	is_str(run(tags_create, WITH("a", "b"), NULL), "InvalidSnapshot.NotFound", "not shared");
	share("[\"123456789012\",\"111111111111\"]");
	is_str(run(tags_create, WITH("a", "mine"), NULL), "", "shared");
	is_str(as("111111111111", tags_create, WITH("a", "theirs")), "", "and with another");
	is_str(as("999999999999", tags_create, WITH("a", "owner's")), "", "whose it is");
	is_str(as("222222222222", tags_create, WITH("a", "x")), "InvalidSnapshot.NotFound", "not");
	is_str(given_by("123456789012"), "mine", "each has its own");
	is_str(given_by("111111111111"), "theirs", "each has its own");
	is_str(given_by("999999999999"), "owner's", "each has its own");
	is_int(described(
		       "{\"Filters\":[{\"Name\":\"resource-id\",\"Values\":[\"snap-00000002\"]}]}"),
	       1, "and sees no other");
	is_int(described("{\"Filters\":[{\"Name\":\"value\",\"Values\":[\"theirs\"]}]}"), 0,
	       "and sees no other");
	is_str(run(tags_delete, SHARED "}", NULL), "", "taken away");
	is_str(given_by("123456789012"), "none", "gone");
	is_str(given_by("111111111111"), "theirs", "and no other");
	is_str(given_by("999999999999"), "owner's", "and no other");
}

static void the_end_of_a_share_is_the_end_of_its_tags(void)
{
	share("[\"123456789012\",\"111111111111\"]");
	run(tags_create, WITH("a", "mine"), NULL);
	share("[\"111111111111\"]");
	is_str(given_by("123456789012"), "none", "not seen, not kept");
	is_str(given_by("111111111111"), "theirs", "whoever sees it keeps his");
	share("[\"123456789012\"]");
	is_str(given_by("123456789012"), "none", "a new share begins without");
	ok(!json_object_get(store_find(store, "snapshot", "snap-00000002")->json, TAGS_OTHERS),
	   "nothing of it is left");
	is_str(given_by("999999999999"), "owner's", "the owner's stay");
}

static const char *specified(const char *json)
{
	static const char *const allowed[] = {"volume", "instance", NULL};
	OWN(json_decref) json_t *p = json_loads(json, 0, NULL), *tags = NULL;
	static char text[64];

	memset(&fault, 0, sizeof fault);
	if (tags_from_specifications(p, "volume", allowed, &tags, &fault) < 0)
		return fault.code;
	snprintf(text, sizeof text, "%zu", json_array_size(tags));
	return text;
}

static void specifications_are_checked(void)
{
	is_str(specified("{}"), "0", "none");
	is_str(specified("{\"TagSpecifications\":[{\"ResourceType\":\"volume\",\"Tags\":[{\"Key\":"
			 "\"a\",\"Value\":\"b\"}]},"
			 "{\"ResourceType\":\"instance\",\"Tags\":[{\"Key\":\"a\"},{\"Key\":\"b\"}]"
			 "}]}"),
	       "1", "its own type's");
	is_str(specified("{\"TagSpecifications\":[{\"ResourceType\":\"vpc\",\"Tags\":[{\"Key\":"
			 "\"a\"}]}]}"),
	       "InvalidParameterValue", "a type not for this");
	is_str(specified("{\"TagSpecifications\":[{\"Tags\":[{\"Key\":\"a\"}]}]}"),
	       "InvalidParameterValue", "no type");
	is_str(specified("{\"TagSpecifications\":[{\"ResourceType\":\"volume\",\"Tags\":[]}]}"),
	       "InvalidParameterValue", "no tags");
	is_str(specified("{\"TagSpecifications\":[{\"ResourceType\":\"volume\",\"Tags\":[{\"Key\":"
			 "\"a\"}]},"
			 "{\"ResourceType\":\"volume\",\"Tags\":[{\"Key\":\"a\"}]}]}"),
	       "InvalidParameterValue", "a type twice");
	is_str(specified("{\"TagSpecifications\":[{\"ResourceType\":\"instance\",\"Tags\":[{"
			 "\"Key\":\"aws:a\"}]}]}"),
	       "InvalidParameterValue", "bad tags for another type");
}

int main(void)
{
	char dir[] = "/tmp/gureum-tags-XXXXXX", text[128];

	if (!mkdtemp(dir))
		return 1;
	snprintf(text, sizeof text, "%s/state.db", dir);
	if (store_open(text, 1, NULL, &store) < 0 || !(txn = txn_new(store)))
		return 1;
	RUN(tags_are_added_and_replaced);
	RUN(one_bad_resource_refuses_all);
	RUN(limits_are_those_of_aws);
	RUN(tags_go_by_key_or_by_value);
	RUN(tags_are_described);
	RUN(what_is_shared_has_tags_of_each_account);
	RUN(the_end_of_a_share_is_the_end_of_its_tags);
	RUN(specifications_are_checked);
	txn_free(txn);
	store_free(store);
	snprintf(text, sizeof text, "rm -rf %s", dir);
	return system(text) != 0 || tests_done();
}
