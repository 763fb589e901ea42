/*
 * Log: one event, one line. Under systemd (JOURNAL_STREAM names our stderr) lines go to the journal with their
 * fields; otherwise to stderr as "<level> message KEY=value". A function either logs or returns an error; lib/
 * returns. Never secrets, never user-data.
 *
 *	log_info("instance started", "INSTANCE", id, "VPC", vpc_id);
 *
 * debug: for us; info: a customer changed something; warning: we coped; error: a person must act.
 */
#pragma once

enum log_level {
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7
};

/* `program` goes in front of each line; GUREUM_LOG=debug in the environment shows debug lines. */
void log_start(const char *program);
/* `error` is 0 or -errno (its text is added). The fields are name, value pairs of strings ended by
 * NULL. */
void log_event(enum log_level level, int error, const char *message, ...) __attribute__((sentinel));

#define log_debug(...)		log_event(LOG_LEVEL_DEBUG, 0, __VA_ARGS__, (char *)0)
#define log_info(...)		log_event(LOG_LEVEL_INFO, 0, __VA_ARGS__, (char *)0)
#define log_warning(error, ...) log_event(LOG_LEVEL_WARNING, error, __VA_ARGS__, (char *)0)
#define log_error(error, ...)	log_event(LOG_LEVEL_ERROR, error, __VA_ARGS__, (char *)0)
