/* Log: to the journal with fields when systemd reads our stderr, to stderr as one line otherwise.
 */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#define FIELDS_MAX 16

static const char *program = "gureum";
static int to_journal = -1;
static int shows_debug = -1;

/* JOURNAL_STREAM is "device:inode" of the stderr that systemd gave us; a redirected stderr no
 * longer matches. */
static int stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	struct stat st;
	char own[64];

	if (!stream || fstat(STDERR_FILENO, &st) < 0)
		return 0;
	(void)snprintf(own, sizeof own, "%lu:%lu", (unsigned long)st.st_dev,
		       (unsigned long)st.st_ino);
	return strcmp(own, stream) == 0;
}

void log_start(const char *name)
{
	const char *level = getenv("GUREUM_LOG");

	program = name;
	to_journal = stderr_is_journal();
	shows_debug = level && strcmp(level, "debug") == 0;
}

static const char *level_word(enum log_level level)
{
	switch (level) {
	case LOG_LEVEL_ERROR:
		return "error";
	case LOG_LEVEL_WARNING:
		return "warning";
	case LOG_LEVEL_INFO:
		return "info";
	default:
		return "debug";
	}
}

/* A line break in a value would let a customer forge a log line. */
static void one_line(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = ' ';
}

static void write_stderr(enum log_level level, const char *message, char fields[][512],
			 size_t n_fields)
{
	char line[4096];
	size_t n = 0;

	n += (size_t)snprintf(line, sizeof line, "%s: %s: %s", program, level_word(level), message);
	for (size_t i = 0; i < n_fields && n < sizeof line - 2; i++)
		n += (size_t)snprintf(line + n, sizeof line - n, " %s", fields[i]);
	if (n > sizeof line - 2)
		n = sizeof line - 2;
	line[n] = '\0';
	one_line(line);
	line[n] = '\n';
	(void)!write(STDERR_FILENO, line, n + 1); /* nowhere to complain */
}

static void write_journal(enum log_level level, const char *message, char fields[][512],
			  size_t n_fields)
{
	char text[1024], priority[16];
	struct iovec iov[FIELDS_MAX + 3];
	size_t n = 0;

	(void)snprintf(text, sizeof text, "MESSAGE=%s", message);
	(void)snprintf(priority, sizeof priority, "PRIORITY=%d", (int)level);
	iov[n++] = (struct iovec){text, strlen(text)};
	iov[n++] = (struct iovec){priority, strlen(priority)};
	for (size_t i = 0; i < n_fields; i++)
		iov[n++] = (struct iovec){fields[i], strlen(fields[i])};
	(void)sd_journal_sendv(iov, (int)n); /* nowhere to complain */
}

void log_event(enum log_level level, int error, const char *message, ...)
{
	char fields[FIELDS_MAX][512];
	size_t n_fields = 0;
	va_list arguments;

	if (to_journal < 0)
		log_start(program);
	if (level == LOG_LEVEL_DEBUG && !shows_debug)
		return;
	if (error)
		(void)snprintf(fields[n_fields++], sizeof fields[0], "ERROR=%s",
			       strerror(abs(error)));
	va_start(arguments, message);
	for (const char *name; n_fields < FIELDS_MAX && (name = va_arg(arguments, const char *));) {
		const char *value = va_arg(arguments, const char *);

		(void)snprintf(fields[n_fields++], sizeof fields[0], "%s=%s", name,
			       value ? value : "");
	}
	va_end(arguments);
	if (to_journal)
		write_journal(level, message, fields, n_fields);
	else
		write_stderr(level, message, fields, n_fields);
}
