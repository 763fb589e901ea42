/*
 * XML bodies in (rest-xml).
 *
 * Theory: expat calls us element by element; a stack of frames follows the model down, one frame
 * per open element. Elements that the model lacks, a second element where one may stand, text
 * between elements, a document type: the parser is stopped, and the body is MalformedXML. So what
 * can be made of a body is bounded by the model and by the body's own length, not by entities.
 */
#include "encode.h"
#include "refuse.h"

#include <errno.h>
#include <expat.h>
#include "../jsonx.h"
#include "../own.h"

#define FRAMES_MAX (AWS_DEPTH_MAX * 2)
#define SEPARATOR  '|' /* expat writes names as "namespace|name" */

/* An open element. */
struct frame {
	const struct aws_member *member; /* NULL: the input itself */
	const struct aws_member *flat;	 /* the flat list whose element this is */
	json_t *value; /* object, array; NULL for a scalar, whose text is collected */
	struct text text;
};

struct reader {
	XML_Parser parser;
	const char *root;		  /* its element's name */
	const struct aws_shape *input;	  /* of the action */
	const struct aws_member *payload; /* the one member that the root is, NULL: the root holds
					     the input's members */
	struct frame frames[FRAMES_MAX];
	unsigned n_frames;
	size_t n_items;
	json_t *result; /* the root's value once it is closed */
	int error;	/* -EINVAL: malformed, -ENOMEM */
};

static void stop(struct reader *r, int error)
{
	if (r->error == 0)
		r->error = error;
	(void)XML_StopParser(r->parser, XML_FALSE); /* stopped twice is stopped */
}

static const char *local_name(const char *name)
{
	const char *at = strrchr(name, SEPARATOR);

	return at ? at + 1 : name;
}

static const struct aws_shape *frame_shape(const struct reader *r, const struct frame *f)
{
	return f->member ? aws_shape_of(f->member) : r->input;
}

/* XML attributes that are members (xsi:type). Others say nothing to us. */
static void read_attributes(struct reader *r, struct frame *f, const char **attributes)
{
	const struct aws_shape *s = frame_shape(r, f);

	for (unsigned i = 0; s->type == AWS_STRUCTURE && i < s->n; i++) {
		const struct aws_member *m = aws_member_at(s, i);
		const char *name = aws_text(m->request), *colon = strchr(name, ':');

		for (const char **a = attributes; (m->flags & AWS_ATTRIBUTE) && *a; a += 2)
			if (strcmp(local_name(*a), colon ? colon + 1 : name) == 0 &&
			    jset_new(f->value, aws_text(m->name), json_string(a[1])) < 0)
				stop(r, -ENOMEM);
	}
}

/* A flat list has no element of its own: what stands there is its element. */
static void push(struct reader *r, const struct aws_member *m, const char **attributes)
{
	int is_flat = m && (m->flags & AWS_FLATTENED) && aws_shape_of(m)->type == AWS_LIST;
	struct frame *f = &r->frames[r->n_frames];

	if (r->n_frames == FRAMES_MAX || ++r->n_items > AWS_ITEMS_MAX) {
		stop(r, -EINVAL);
		return;
	}
	*f = (struct frame){.member = is_flat ? aws_member_at(aws_shape_of(m), 0) : m,
			    .flat = is_flat ? m : NULL};
	const struct aws_shape *s = frame_shape(r, f);

	if (s->type == AWS_STRUCTURE)
		f->value = json_object();
	else if (s->type == AWS_LIST)
		f->value = json_array();
	if (s->type <= AWS_LIST && !f->value) {
		stop(r, -ENOMEM);
		return;
	}
	r->n_frames++;
	read_attributes(r, f, attributes);
}

/* The member that a child element of `f` is. NULL: none may stand here. */
static const struct aws_member *child_of(const struct reader *r, const struct frame *f,
					 const char *name)
{
	const struct aws_shape *s = frame_shape(r, f);
	const struct aws_member *m = NULL;

	if (s->type == AWS_STRUCTURE)
		m = aws_member_find_request(s, name, strlen(name));
	else if (s->type == AWS_LIST && strcmp(aws_text(aws_member_at(s, 0)->request), name) == 0)
		m = aws_member_at(s, 0);
	if (!m || m->location != AWS_BODY || (m->flags & (AWS_ATTRIBUTE | AWS_PAYLOAD)))
		return NULL;
	/* Only a flat list's element may stand twice in a structure. */
	if (s->type == AWS_STRUCTURE && !(m->flags & AWS_FLATTENED) &&
	    json_object_get(f->value, aws_text(m->name)))
		return NULL;
	return m;
}

static void XMLCALL on_start(void *user, const char *qualified, const char **attributes)
{
	struct reader *r = user;
	const char *name = local_name(qualified);
	const struct aws_member *m;

	if (r->error)
		return;
	if (r->n_frames == 0) {
		if (r->result || strcmp(name, r->root) != 0)
			stop(r, -EINVAL);
		else
			push(r, r->payload, attributes);
		return;
	}
	m = child_of(r, &r->frames[r->n_frames - 1], name);
	if (m)
		push(r, m, attributes);
	else
		stop(r, -EINVAL);
}

/* What the element's value is, a new reference; NULL after stop(). */
static json_t *close_value(struct reader *r, struct frame *f)
{
	OWN(text_free) struct text text = f->text;
	json_t *value = give(f->value);

	f->text = (struct text){0};
	if (value)
		return value;
	text_add(&text, "");
	int e = text.is_failed ? -ENOMEM : aws_scalar_read(frame_shape(r, f), text.data, &value);

	if (e < 0)
		stop(r, e);
	return value;
}

static int attach(struct frame *parent, const struct frame *f, json_t *value)
{
	if (json_is_array(parent->value))
		return json_array_append_new(parent->value, value);
	if (!f->flat)
		return json_object_set_new(parent->value, aws_text(f->member->name), value);
	json_t *list = json_object_get(parent->value, aws_text(f->flat->name));

	if (!list) {
		list = json_array();
		if (json_object_set_new(parent->value, aws_text(f->flat->name), list) < 0) {
			json_decref(value);
			return -1;
		}
	}
	return json_array_append_new(list, value);
}

static void XMLCALL on_end(void *user, const char *qualified)
{
	struct reader *r = user;

	(void)qualified; /* expat has seen to it that it is the open one */
	if (r->error || r->n_frames == 0)
		return;
	struct frame *f = &r->frames[--r->n_frames];
	json_t *value = close_value(r, f);

	if (!value)
		return;
	if (r->n_frames == 0) {
		r->result = value;
		return;
	}
	if (attach(&r->frames[r->n_frames - 1], f, value) < 0)
		stop(r, -ENOMEM);
}

static void XMLCALL on_text(void *user, const char *text, int n_bytes)
{
	struct reader *r = user;
	struct frame *f = r->n_frames > 0 ? &r->frames[r->n_frames - 1] : NULL;

	if (r->error || !f)
		return;
	if (!f->value) {
		text_add_bytes(&f->text, text, n_bytes);
		return;
	}
	for (int i = 0; i < n_bytes; i++)
		if (!strchr(" \t\r\n", text[i])) {
			stop(r, -EINVAL);
			return;
		}
}

static void XMLCALL on_doctype(void *user, const char *name, const char *system, const char *public,
			       int has_subset)
{
	(void)name, (void)system, (void)public,
		(void)has_subset; /* whatever it says, no request has one */
	stop(user, -EINVAL);
}

static void find_root(struct reader *r, const struct aws_action *a)
{
	r->root = aws_text(a->input_root);
	for (unsigned i = 0; i < r->input->n; i++)
		if (aws_member_at(r->input, i)->flags & AWS_PAYLOAD) {
			r->payload = aws_member_at(r->input, i);
			r->root = aws_text(r->payload->request);
		}
}

static int read_body(struct reader *r, const char *body, size_t n_bytes)
{
	r->parser = XML_ParserCreateNS(NULL, SEPARATOR);
	if (!r->parser)
		return -ENOMEM;
	XML_SetUserData(r->parser, r);
	XML_SetElementHandler(r->parser, on_start, on_end);
	XML_SetCharacterDataHandler(r->parser, on_text);
	XML_SetStartDoctypeDeclHandler(r->parser, on_doctype);
	int is_good = n_bytes <= INT32_MAX &&
		      XML_Parse(r->parser, body, (int)n_bytes, 1) == XML_STATUS_OK;

	XML_ParserFree(r->parser);
	while (r->n_frames > 0) {
		struct frame *f = &r->frames[--r->n_frames];

		json_decref(f->value);
		text_free(&f->text);
	}
	return r->error ? r->error : is_good && r->result ? 0 : -EINVAL;
}

/* Only the body is here: the members around it are not to be asked for yet. */
static int check_body(const struct aws_action *a, const struct aws_shape *input,
		      const json_t *parameters, struct fault *f)
{
	const char *name;
	json_t *value;
	int r = 0;

	json_object_foreach ((json_t *)parameters, name,
			     value) { /* the macro's iterator wants it changeable */
		if (r == 0)
			r = aws_check_member(a, aws_member_find(input, name, strlen(name)), value,
					     f);
	}
	return r;
}

int aws_decode_xml(const struct aws_action *a, const char *body, size_t n_bytes,
		   json_t **ret_parameters, struct fault *f)
{
	struct reader reader = {.input = aws_shape_at(a->input)};
	OWN(json_decref) json_t *parameters = NULL;
	int r = 0;

	if (reader.input)
		find_root(&reader, a);
	int is_text = reader.payload && aws_shape_of(reader.payload)->type == AWS_STRING;
	int is_stream = reader.payload && aws_shape_of(reader.payload)->type == AWS_BLOB;

	if (n_bytes == 0 || !reader.input || is_stream)
		parameters = json_object();
	else if (is_text) /* a bucket policy */
		reader.result = json_stringn(body, n_bytes);
	else
		r = read_body(&reader, body, n_bytes);
	OWN(json_decref) json_t *result = reader.result;

	if (is_text && n_bytes > 0 && !result)
		r = -EINVAL; /* not UTF-8 */

	if (r == 0 && result)
		parameters = reader.payload
				     ? json_pack("{s:O}", aws_text(reader.payload->name), result)
				     : json_incref(result);
	if (r == 0 && !parameters)
		r = -ENOMEM;
	if (r == 0)
		r = check_body(a, reader.input, parameters, f);
	if (r < 0 && r != -ENOMEM)
		return fault_set(f, FAULT_MALFORMED_XML,
				 "The XML you provided was not well-formed or did not validate "
				 "against our published schema");
	if (r == 0)
		*ret_parameters = give(parameters);
	return r;
}
