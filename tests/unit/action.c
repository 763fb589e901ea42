/* Dispatch: what a row gets for nothing: transaction, ClientToken, the announcement. */
#include "tap.h"
#include "daemon.h"
#include "fiber.h"
#include "jsonx.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static struct daemon d;
static int n_runs;

static int make(struct call *c, json_t *p, json_t **ret_reply, struct fault *f)
{
	char id[32];

	snprintf(id, sizeof id, "thing-%d", ++n_runs);
	txn_put(c->txn, "thing", id, c->ctx->account, c->ctx->region, json_object());
	if (jbool(p, "Slow", 0))
		(void)fiber_sleep(20000);
	if (jbool(p, "Fail", 0))
		return fault_set(f, FAULT_INVALID_PARAMETER_VALUE, "as told");
	if (jbool(p, "Break", 0)) {
		fds_add(c->out, open("/dev/null", O_RDONLY | O_CLOEXEC));
		return -EIO;
	}
	*ret_reply = json_pack("{s:s}", "Id", id);
	return 0;
}

static int nothing(struct call *c, json_t *p, json_t **ret_reply, struct fault *f)
{
	(void)c, (void)p, (void)ret_reply, (void)f;
	return 0;
}

static const struct action actions[] = {{"ec2.Make", make, ACTION_CLIENT_TOKEN},
					{"ec2.MakeAnyway", make, 0},
					{"ec2.Nothing", nothing, 0},
					{"gureum.Inside", nothing, ACTION_INTERNAL},
					{NULL}};
static const char *const prefixes[] = {"thing", NULL};
static const struct daemon_spec spec = {.name = "tested", .actions = actions, .prefixes = prefixes};

static const char *call_as(const char *account, const char *method, const char *json,
			   json_t **ret_reply)
{
	static struct fault f;
	OWN(json_decref) json_t *p = json_loads(json, 0, NULL), *reply = NULL;
	struct rpc_request r = {.method = method, .parameters = p, .ctx = {.region = "us-east-1"}};

	f = (struct fault){0};
	snprintf(r.ctx.account, sizeof r.ctx.account, "%s", account);
	int error = action_dispatch(&d, &r, &reply, &f);

	if (r.out.n > 0)
		return "descriptors left";
	if (ret_reply)
		*ret_reply = give(reply);
	return error < 0 ? f.code : "";
}

static const char *call(const char *method, const char *json, json_t **ret_reply)
{
	return call_as("123456789012", method, json, ret_reply);
}

static void an_answer_is_stored_a_refusal_is_not(void)
{
	size_t n = store_count(d.store, "thing");

	is_str(call("ec2.MakeAnyway", "{}", NULL), "", "made");
	is_int(store_count(d.store, "thing"), n + 1, "stored");
	is_str(call("ec2.MakeAnyway", "{\"Fail\":true}", NULL), "InvalidParameterValue", "refused");
	is_str(call("ec2.MakeAnyway", "{\"Break\":true}", NULL), "InternalError",
	       "an error without words");
	is_int(store_count(d.store, "thing"), n + 1, "nothing stored");
	is_str(call("ec2.Unknown", "{}", NULL), "InvalidAction", "no such row");
	OWN(json_decref) json_t *reply = NULL;

	is_str(call("ec2.Nothing", "{}", &reply), "", "no reply");
	ok(json_is_object(reply), "is the empty object");
}

static void a_daemon_tells_what_it_can(void)
{
	OWN(json_decref) json_t *reply = NULL;

	is_str(call("gureum.Describe", "{}", &reply), "", "asked");
	is_int(json_array_size(json_object_get(reply, "Actions")), 3, "public rows");
	ok(jarray_has(json_object_get(reply, "Actions"), "ec2.Make"), "by name");
	ok(!jarray_has(json_object_get(reply, "Actions"), "gureum.Inside"), "not the internal");
	ok(jarray_has(json_object_get(reply, "Prefixes"), "thing"), "prefixes");
}

static void a_token_makes_once(void)
{
	OWN(json_decref) json_t *one = NULL, *two = NULL;
	int n = n_runs;

	is_str(call("ec2.Make", "{\"ClientToken\":\"t/1\",\"A\":1,\"B\":2}", &one), "", "first");
	is_str(call("ec2.Make", "{\"B\":2,\"A\":1,\"ClientToken\":\"t/1\"}", &two), "", "again");
	ok(json_equal(one, two), "the same answer");
	is_int(n_runs, n + 1, "one run");
	is_str(call("ec2.Make", "{\"ClientToken\":\"t/1\",\"A\":2,\"B\":2}", NULL),
	       "IdempotentParameterMismatch", "others");
	is_str(call_as("999999999999", "ec2.Make", "{\"ClientToken\":\"t/1\",\"A\":2}", NULL), "",
	       "another account's is another");
	is_str(call("ec2.Make", "{\"A\":1}", NULL), "", "no token");
	is_str(call("ec2.Make", "{\"A\":1,\"ClientToken\":\"\"}", NULL), "",
	       "an empty token is none");
	is_int(n_runs, n + 4, "each ran");
	is_str(call("ec2.Make",
		    "{\"ClientToken\":"
		    "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}",
		    NULL),
	       "InvalidParameterValue", "65 characters");
}

static void a_refused_token_can_be_used_again(void)
{
	int n = n_runs;

	is_str(call("ec2.Make", "{\"ClientToken\":\"bad\",\"Fail\":true}", NULL),
	       "InvalidParameterValue", "refused");
	is_str(call("ec2.Make", "{\"ClientToken\":\"bad\",\"Fail\":false}", NULL), "",
	       "then right");
	is_int(n_runs, n + 2, "both ran");
}

static char ids[2][32];
static const char *together;
static int n_done;
static struct fiber *waiting;

static void at_once(void *arg)
{
	OWN(json_decref) json_t *reply = NULL;

	(void)arg;
	const char *code = call("ec2.Make", together, &reply);

	snprintf(ids[n_done++ % 2], sizeof ids[0], "%s", *code ? code : jstr(reply, "Id"));
	if (n_done == 2 && waiting)
		fiber_wake(waiting);
}

static void run_together(const char *json)
{
	together = json;
	n_done = 0;
	waiting = fiber_self();
	fiber_spawn(at_once, NULL);
	fiber_spawn(at_once, NULL);
	while (n_done < 2)
		fiber_wait();
}

static void two_at_once_make_one(void)
{
	int n = n_runs;

	run_together("{\"ClientToken\":\"both\",\"Slow\":true}");
	is_int(n_runs, n + 1, "one run");
	is_str(ids[0], ids[1], "the same answer");
	run_together("{\"ClientToken\":\"fails\",\"Slow\":true,\"Fail\":true}");
	is_int(n_runs, n + 3, "the second tries when the first failed");
	is_str(ids[1], "InvalidParameterValue", "and is refused by itself");
}

static void tokens_are_not_remembered_without_end(void)
{
	OWN(txn_free) struct txn *t = txn_new(d.store);
	OWN(json_decref) json_t *first = NULL, *again = NULL, *other = NULL;
	char id[64];

	is_str(call("ec2.Make", "{\"ClientToken\":\"first\"}", &first), "", "made");
	is_str(call_as("210987654321", "ec2.Make", "{\"ClientToken\":\"theirs\"}", &other), "",
	       "another account's");
	for (int i = 0; i < ACTION_TOKENS_MAX; i++) {
		snprintf(id, sizeof id, "many %d", i);
		txn_put(t, "_token", id, "123456789012", "us-east-1",
			json_pack("{s:I}", "Expires", (json_int_t)INT64_MAX));
	}
	is_int(txn_commit(t), 0, "very many");
	size_t n = store_count(d.store, "_token");

	for (int i = 0; i < 10; i++) {
		snprintf(id, sizeof id, "{\"ClientToken\":\"more-%d\"}", i);
		is_str(call("ec2.Make", id, NULL), "", "one more");
	}
	is_int(store_count(d.store, "_token"), n, "for each that comes one goes");
	is_str(call("ec2.Make", "{\"ClientToken\":\"first\"}", &again), "", "the first again");
	ok(strcmp(jstr(first, "Id"), jstr(again, "Id")) != 0, "is new: it was the oldest");
	json_decref(again);
	again = NULL;
	is_str(call_as("210987654321", "ec2.Make", "{\"ClientToken\":\"theirs\"}", &again), "",
	       "the other account's again");
	is_str(jstr(other, "Id"), jstr(again, "Id"), "is what it was");
	is_str(call_as("210987654321", "ec2.Make", "{\"ClientToken\":\"their second\"}", NULL), "",
	       "it has room for more");
	json_decref(again);
	again = NULL;
	is_str(call_as("210987654321", "ec2.Make", "{\"ClientToken\":\"theirs\"}", &again), "",
	       "its first again");
	is_str(jstr(other, "Id"), jstr(again, "Id"), "is what it was");
}

static void a_token_is_forgotten_after_a_day(void)
{
	int n = n_runs;

	call("ec2.Make", "{\"ClientToken\":\"old\"}", NULL);
	OWN(txn_free) struct txn *t = txn_new(d.store);

	store_each (d.store, "_token", doc) {
		json_t *j = doc_edit(doc);

		jset_new(j, "Expires", json_integer(1));
		txn_replace(t, doc, j);
	}
	txn_commit(t);
	is_str(call("ec2.Make", "{\"ClientToken\":\"old\",\"Other\":1}", NULL), "",
	       "it may mean something else");
	is_int(n_runs, n + 2, "ran");
	is_int(store_count(d.store, "_token"), 1, "and the old ones are gone");
}

static void a_text_that_documents_keep_has_a_bound(void)
{
	OWN(json_decref) json_t *p = json_pack("{s:s}", "Description", "four");
	struct fault f = {0};

	is_int(text_limit(p, "Description", 4, &f), 0, "as long as it may be");
	is_int(text_limit(p, "Absent", 0, &f), 0, "none");
	ok(text_limit(p, "Description", 3, &f) < 0, "too long");
	is_str(f.code, "InvalidParameterValue", "and it is said");
}

static void a_count_says_no_less_than_it_may(void)
{
	OWN(json_decref) json_t *p = json_pack("{s:i s:i}", "None", 0, "Less", -1);
	struct fault f = {0};

	is_int(count_check(p, "Absent", 1, &f), 0, "absent");
	is_int(count_check(p, "None", 0, &f), 0, "none, where that may be");
	ok(count_check(p, "None", 1, &f) < 0, "none, where it may not");
	is_str(f.code, "InvalidParameterValue", "and it is said");
	ok(count_check(p, "Less", 0, &f) < 0, "less than none");
}

static void tests(void *arg)
{
	(void)arg;
	RUN(an_answer_is_stored_a_refusal_is_not);
	RUN(a_daemon_tells_what_it_can);
	RUN(a_token_makes_once);
	RUN(a_refused_token_can_be_used_again);
	RUN(two_at_once_make_one);
	RUN(a_token_is_forgotten_after_a_day);
	RUN(tokens_are_not_remembered_without_end);
	RUN(a_text_that_documents_keep_has_a_bound);
	RUN(a_count_says_no_less_than_it_may);
	sd_event_exit(fiber_loop(), 0);
}

int main(void)
{
	char dir[] = "/tmp/gureum-action-XXXXXX", text[128];
	sd_event *loop = NULL;

	if (!mkdtemp(dir) || sd_event_new(&loop) < 0 || fiber_start(loop, 1) < 0)
		return 1;
	snprintf(text, sizeof text, "%s/state.db", dir);
	d.spec = &spec;
	d.loop = loop;
	if (store_open(text, 1, NULL, &d.store) < 0 || fiber_spawn(tests, NULL) < 0)
		return 1;
	sd_event_loop(loop);
	fiber_stop();
	store_free(d.store);
	sd_event_unref(loop);
	snprintf(text, sizeof text, "rm -rf %s", dir);
	return system(text) != 0 || tests_done();
}
