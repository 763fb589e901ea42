/* XML bodies: what S3's clients send, and what strangers send. */
#include "tap.h"

#include "aws/aws.h"
#include "jsonx.h"
#include "own.h"

static json_t *parameters;
static struct fault f;

static int decode_bytes(const char *action, const char *body, size_t n_bytes)
{
	json_decref(parameters);
	parameters = NULL;
	memset(&f, 0, sizeof f);
	return aws_decode_xml(aws_action_find(aws_service_find("s3"), action), body, n_bytes,
			      &parameters, &f);
}

static int decode(const char *action, const char *body)
{
	return decode_bytes(action, body, strlen(body));
}

static const char *json(void)
{
	static char *text;

	free(text);
	text = json_dumps(parameters, JSON_COMPACT | JSON_SORT_KEYS);
	return text;
}

static void a_flat_list_gathers_its_elements(void)
{
	is_int(decode("DeleteObjects",
		      "<?xml version=\"1.0\"?>\n<Delete "
		      "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\n"
		      " <Object><Key>a &amp; b</Key></Object> <Quiet>true</Quiet>\n "
		      "<Object><Key>c</Key></Object></Delete>"),
	       0, "decoded");
	is_str(json(),
	       "{\"Delete\":{\"Objects\":[{\"Key\":\"a & b\"},{\"Key\":\"c\"}],\"Quiet\":true}}",
	       "in order");
	is_int(decode("PutBucketTagging",
		      "<Tagging><TagSet><Tag><Key>k</Key><Value/></Tag></TagSet></Tagging>"),
	       0, "no namespace");
	is_str(json(), "{\"Tagging\":{\"TagSet\":[{\"Key\":\"k\",\"Value\":\"\"}]}}",
	       "an empty element is an empty text");
}

static void no_body_is_no_parameters(void)
{
	is_int(decode("CreateBucket", ""), 0, "empty");
	is_str(json(), "{}", "nothing");
	is_int(decode("PutObject", "<any bytes"), 0, "a stream is not looked at");
	is_str(json(), "{}", "nothing");
	is_int(decode("PutBucketPolicy", "{\"a\": 1}"), 0, "a policy is text");
	is_str(jstr(parameters, "Policy"), "{\"a\": 1}", "as it is");
	is_int(decode("PutBucketPolicy", "\xff"), -22, "but UTF-8");
}

static void attributes_that_are_members_are_read(void)
{
	is_int(decode("PutBucketAcl", "<AccessControlPolicy><AccessControlList><Grant><Grantee "
				      "xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" "
				      "xsi:type=\"CanonicalUser\" "
				      "other=\"x\"><ID>1</ID></Grantee></Grant></"
				      "AccessControlList></AccessControlPolicy>"),
	       0, "decoded");
	is_str(jpath_str(json_array_get(jpath(parameters, "AccessControlPolicy.Grants"), 0),
			 "Grantee.Type"),
	       "CanonicalUser", "the type");
}

static void strangers_bodies_are_malformed(void)
{
	const char *const bodies[] = {
		"x",
		"<Delete>",
		"<Delete/><Delete/>",
		"<Remove/>",
		"<Delete><Quiet>true</Quiet><Quiet>true</Quiet></Delete>",
		"<Delete><Quiet>maybe</Quiet></Delete>",
		"<Delete><Color/></Delete>",
		"<Delete>text</Delete>",
		"<Delete><Quiet><Quiet/></Quiet></Delete>",
		"<Delete/>",
		"<!DOCTYPE Delete [<!ENTITY a \"aaaa\"><!ENTITY b "
		"\"&a;&a;\">]><Delete><Object><Key>&b;</Key></Object></Delete>",
		"<!DOCTYPE Delete SYSTEM \"file:///etc/passwd\"><Delete/>",
		"<Delete><Object><Key>&nbsp;</Key></Object></Delete>",
		"<Delete><Object><Key>\xff</Key></Object></Delete>",
		"<Delete><Object><Key>\x01</Key></Object></Delete>",
	};

	for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
		is_int(decode("DeleteObjects", bodies[i]), -22, bodies[i]);
		is_str(f.code, "MalformedXML", "code");
		ok(!parameters, "nothing comes back");
	}
	is_int(decode_bytes("DeleteObjects", "<Delete>\0</Delete>", 18), -22, "a NUL");
}

static void ten_thousand_elements_are_enough(void)
{
	size_t n = 200000;
	OWN(free) char *body = malloc(n * 9 + 32);
	char *at = stpcpy(body, "<Delete>");

	for (size_t i = 0; i < n; i++)
		at = stpcpy(at, "<Object/>");
	strcpy(at, "</Delete>");
	is_int(decode("DeleteObjects", body), -22, "refused");
}

int main(void)
{
	RUN(a_flat_list_gathers_its_elements);
	RUN(no_body_is_no_parameters);
	RUN(attributes_that_are_members_are_read);
	RUN(strangers_bodies_are_malformed);
	RUN(ten_thousand_elements_are_enough);
	json_decref(parameters);
	return tests_done();
}
