/* Configuration: one table of settings, one INI reader, drop-ins. */
#include "config.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>

enum type { TYPE_STRING, TYPE_BOOL, TYPE_INTEGER, TYPE_LIST };

static const struct setting {
	const char *section, *name;
	enum type type;
	int64_t from, to; /* of integers */
	const char *standard, *sentence;
} settings[] = {
#define STRING		  TYPE_STRING, 0, 0
#define BOOL		  TYPE_BOOL, 0, 0
#define LIST		  TYPE_LIST, 0, 0
#define INTEGER(from, to) TYPE_INTEGER, from, to
#define SETTING(section, name, type, standard, sentence)                                           \
	{#section, #name, type, standard, sentence},
#include "config-table.h"
#undef SETTING
#undef INTEGER
#undef LIST
#undef BOOL
#undef STRING
};
#define N_SETTINGS (sizeof settings / sizeof settings[0])

struct config {
	char *value[N_SETTINGS];  /* NULL: the default */
	char **words[N_SETTINGS]; /* of lists, made when loading */
};

static size_t find(const char *section, const char *name)
{
	for (size_t i = 0; i < N_SETTINGS; i++)
		if (!strcmp(settings[i].section, section) && !strcmp(settings[i].name, name))
			return i;
	return N_SETTINGS;
}

static char *strip(char *text)
{
	char *end;

	text += strspn(text, " \t");
	for (end = text + strlen(text); end > text && strchr(" \t\r\n", end[-1]); end--)
		end[-1] = '\0';
	return text;
}

static int parse_bool(const char *text)
{
	static const char *const yes[] = {"yes", "true", "on", "1"}, *const no[] = {"no", "false",
										    "off", "0"};

	for (size_t i = 0; i < 4; i++) {
		if (!strcasecmp(text, yes[i]))
			return 1;
		if (!strcasecmp(text, no[i]))
			return 0;
	}
	return -EINVAL;
}

static int parse_integer(const char *text, int64_t *ret_number)
{
	char *end;

	errno = 0;
	*ret_number = strtoll(text, &end, 10);
	return errno || end == text || *end ? -EINVAL : 0;
}

/* 0 or -EINVAL with a reason. */
static int value_check(const struct setting *s, const char *text, char reason[static 256])
{
	int64_t number;

	if (s->type == TYPE_BOOL && parse_bool(text) < 0)
		return snprintf(reason, 256, "'%.60s' is no yes or no for %s", text, s->name),
		       -EINVAL;
	if (s->type != TYPE_INTEGER)
		return 0;
	if (parse_integer(text, &number) < 0)
		return snprintf(reason, 256, "'%.60s' is no number for %s", text, s->name), -EINVAL;
	if (number < s->from || number > s->to)
		return snprintf(reason, 256,
				"%s is from %" PRId64 " to %" PRId64 ", which '%.60s' is not",
				s->name, s->from, s->to, text),
		       -EINVAL;
	return 0;
}

/* One line of a file. *section is the one we are in. Returns 0 or -EINVAL with a reason. */
static int take_line(struct config *c, char *line, char section[static 64], char reason[static 256])
{
	char *equals, *name, *value;
	size_t i;

	line = strip(line);
	if (!*line || *line == '#' || *line == ';')
		return 0;
	if (*line == '[') {
		size_t n = strlen(line);

		if (line[n - 1] != ']' || n - 2 >= 64)
			return snprintf(reason, 256, "a section reads [Name]"), -EINVAL;
		(void)snprintf(section, 64, "%.*s", (int)n - 2, line + 1);
		return 0;
	}
	equals = strchr(line, '=');
	if (!equals)
		return snprintf(reason, 256, "neither [Section] nor Name=value"), -EINVAL;
	*equals = '\0';
	name = strip(line);
	value = strip(equals + 1);
	i = find(section, name);
	if (i == N_SETTINGS)
		return snprintf(reason, 256, "no setting '%.60s' in section [%.60s]", name,
				section),
		       -EINVAL;
	if (value_check(&settings[i], value, reason) < 0)
		return -EINVAL;
	free(c->value[i]);
	c->value[i] = strdup(value);
	return c->value[i] ? 0 : -ENOMEM;
}

static int read_file(struct config *c, const char *path, char error[static 512])
{
	char section[64] = "", reason[256] = "out of memory";
	OWN(free) char *line = NULL;
	size_t n_line = 0;
	OWN(fclose) FILE *file = fopen(path, "re");
	int r;

	if (!file) {
		r = -errno;
		(void)snprintf(error, 512, "%s: %s", path, strerror(-r));
		return r;
	}
	for (unsigned number = 1; errno = 0, getline(&line, &n_line, file) >= 0; number++) {
		r = take_line(c, line, section, reason);
		if (r < 0) {
			(void)snprintf(error, 512, "%.200s:%u: %s", path, number, reason);
			return r;
		}
	}
	if (ferror(file)) { /* a directory, a disk's error: not the end of the file */
		r = errno ? -errno : -EIO;
		(void)snprintf(error, 512, "%.200s: %s", path, strerror(-r));
		return r;
	}
	return 0;
}

static int is_conf(const struct dirent *d)
{
	size_t n = strlen(d->d_name);

	return n > 5 && d->d_name[0] != '.' && !strcmp(d->d_name + n - 5, ".conf");
}

static int read_drop_ins(struct config *c, const char *path, char error[static 512])
{
	char directory[4096], file[4400];
	struct dirent **names = NULL;
	int n, r = 0;

	(void)snprintf(directory, sizeof directory, "%s.d", path);
	n = scandir(directory, &names, is_conf, alphasort);
	if (n < 0 && errno != ENOENT) {
		r = -errno;
		(void)snprintf(error, 512, "%.200s: %s", directory, strerror(-r));
		return r;
	}
	for (int i = 0; i < n; i++) {
		(void)snprintf(file, sizeof file, "%s/%s", directory, names[i]->d_name);
		if (r == 0)
			r = read_file(c, file, error);
		free(names[i]);
	}
	free(names);
	return r;
}

static char **split(const char *text)
{
	char **words = calloc(strlen(text) / 2 + 2, sizeof *words);
	OWN(free) char *copy = strdup(text);
	size_t n = 0;
	char *rest = NULL;

	if (!words || !copy) {
		free(words);
		return NULL;
	}
	for (char *w = strtok_r(copy, " \t", &rest); w; w = strtok_r(NULL, " \t", &rest))
		words[n++] = strdup(w);
	return words;
}

static const char *text_of(const struct config *c, size_t i)
{
	return c->value[i] ? c->value[i] : settings[i].standard;
}

int config_load(const char *path, struct config **ret_config, char ret_error[static 512])
{
	OWN(config_free) struct config *c = calloc(1, sizeof *c);
	int r;

	ret_error[0] = '\0';
	if (!c)
		return -ENOMEM;
	r = read_file(c, path, ret_error);
	if (r == -ENOENT)
		r = 0;
	if (r == 0)
		r = read_drop_ins(c, path, ret_error);
	if (r < 0)
		return r;
	ret_error[0] = '\0';
	for (size_t i = 0; i < N_SETTINGS; i++) {
		if (settings[i].type != TYPE_LIST)
			continue;
		c->words[i] = split(text_of(c, i));
		if (!c->words[i])
			return -ENOMEM;
	}
	*ret_config = give(c);
	return 0;
}

void config_free(struct config *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < N_SETTINGS; i++) {
		free(c->value[i]);
		for (char **w = c->words[i]; w && *w; w++)
			free(*w);
		free(c->words[i]);
	}
	free(c);
}

static size_t must_find(const char *section, const char *name, enum type type)
{
	size_t i = find(section, name);

	assert(i < N_SETTINGS && settings[i].type == type);
	return i;
}

const char *config_string(const struct config *c, const char *section, const char *name)
{
	return text_of(c, must_find(section, name, TYPE_STRING));
}

int config_bool(const struct config *c, const char *section, const char *name)
{
	return parse_bool(text_of(c, must_find(section, name, TYPE_BOOL)));
}

int64_t config_integer(const struct config *c, const char *section, const char *name)
{
	int64_t number = 0;

	(void)parse_integer(text_of(c, must_find(section, name, TYPE_INTEGER)),
			    &number); /* checked when loaded */
	return number;
}

const char *const *config_list(const struct config *c, const char *section, const char *name)
{
	return (const char *const *)c->words[must_find(section, name, TYPE_LIST)];
}

void config_print(const struct config *c, FILE *out)
{
	for (size_t i = 0; i < N_SETTINGS; i++) {
		if (i == 0 || strcmp(settings[i].section, settings[i - 1].section) != 0)
			fprintf(out, "%s[%s]\n", i ? "\n" : "", settings[i].section);
		fprintf(out, "%s=%s%s\n", settings[i].name, text_of(c, i),
			c->value[i] ? "" : "  # default");
	}
}

void config_print_table(FILE *out)
{
	for (size_t i = 0; i < N_SETTINGS; i++) {
		if (i == 0 || strcmp(settings[i].section, settings[i - 1].section) != 0)
			fprintf(out, "%s[%s]\n", i ? "\n" : "", settings[i].section);
		fprintf(out, "# %s", settings[i].sentence);
		if (settings[i].type == TYPE_INTEGER)
			fprintf(out, " From %" PRId64 " to %" PRId64 ".", settings[i].from,
				settings[i].to);
		fprintf(out, "\n#%s=%s\n", settings[i].name, settings[i].standard);
	}
}
