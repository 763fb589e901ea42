/* HTTP: libmicrohttpd on the event loop, a fiber per request (http-exchange.c). */
#include "http-exchange.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include "fiber.h"
#include "log.h"

#define HEADER_MAX (64 * 1024)

/* ---- connections ---- */

static void on_connection(void *userdata, struct MHD_Connection *connection, void **state,
			  enum MHD_ConnectionNotificationCode code)
{
	struct http *h = userdata;
	if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
		deadline_free(*state);
		*state = NULL;
		h->has_closed = 1;
		return;
	}
	const union MHD_ConnectionInfo *info =
		MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct deadline *d = info ? deadline_new(&h->deadlines, info->connect_fd) : NULL;
	if (d)
		deadline_set(d, 2 * h->options.timeout_sec * SECOND);
	*state = d;
}

/* ---- the loop ---- */

/* At its limit of connections libmicrohttpd no longer listens, and it begins again when it is run
 * after one has ended. If the last ones end in one run, nothing else would ever run it. */
static void turn(struct http *h)
{
	MHD_UNSIGNED_LONG_LONG msec;
	h->has_closed = 0;
	(void)MHD_run(h->mhd);
	if (h->has_closed) {
		(void)sd_event_source_set_time_relative(h->timer, 0);
		(void)sd_event_source_set_enabled(h->timer, SD_EVENT_ONESHOT);
		return;
	}
	if (MHD_get_timeout(h->mhd, &msec) != MHD_YES) {
		(void)sd_event_source_set_enabled(h->timer,
						  SD_EVENT_OFF); /* fails on no living source */
		return;
	}
	(void)sd_event_source_set_time_relative(h->timer, msec * 1000u);
	(void)sd_event_source_set_enabled(h->timer, SD_EVENT_ONESHOT);
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
	(void)source, (void)fd, (void)events;
	turn(userdata);
	return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
	(void)source, (void)usec;
	turn(userdata);
	return 0;
}

static void on_log(void *userdata, const char *format, va_list values)
{
	char text[256];
	(void)userdata;
	(void)vsnprintf(text, sizeof(text), format, values);
	text[strcspn(text, "\n")] = '\0';
	log_debug("libmicrohttpd", "TEXT", text);
}

static struct MHD_Daemon *start_mhd(struct http *h)
{
	const struct http_options *o = &h->options;
	unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG |
			 (o->tls_key ? MHD_USE_TLS : 0);
	struct MHD_OptionItem items[16] = {
		{MHD_OPTION_LISTEN_SOCKET, o->listen_fd, NULL},
		{MHD_OPTION_CONNECTION_MEMORY_LIMIT, HEADER_MAX, NULL},
		{MHD_OPTION_CONNECTION_LIMIT, o->max_connections, NULL},
		{MHD_OPTION_CONNECTION_TIMEOUT, o->timeout_sec, NULL},
		{MHD_OPTION_STRICT_FOR_CLIENT, 1, NULL},
		{MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, NULL},
		{MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)exchange_on_completed, h},
		{MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)on_connection, h},
		{MHD_OPTION_URI_LOG_CALLBACK, (intptr_t)exchange_on_uri, h},
		{MHD_OPTION_END, 0, NULL},
	};
	if (o->tls_key) {
		items[9] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)o->tls_key};
		items[10] = (struct MHD_OptionItem){MHD_OPTION_HTTPS_MEM_CERT, 0,
						    (void *)o->tls_certificate};
		items[11] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
	}
	/* The logger stands first: it must be there for what goes wrong with the others. */
	return MHD_start_daemon(flags, 0, NULL, NULL, exchange_on_request, h,
				MHD_OPTION_EXTERNAL_LOGGER, on_log, h, MHD_OPTION_ARRAY, items,
				MHD_OPTION_END);
}

static int join_loop(struct http *h)
{
	sd_event *loop = fiber_loop();
	const union MHD_DaemonInfo *info = MHD_get_daemon_info(h->mhd, MHD_DAEMON_INFO_EPOLL_FD);
	if (!info)
		return -ENOTSUP;
	int r = sd_event_add_io(loop, &h->io, info->epoll_fd, EPOLLIN, on_io, h);
	if (r >= 0)
		r = sd_event_add_time_relative(loop, &h->timer, CLOCK_MONOTONIC, 0, 1000, on_timer,
					       h);
	if (r >= 0)
		r = sd_event_source_set_enabled(h->timer, SD_EVENT_OFF);
	if (r >= 0)
		r = deadlines_start(&h->deadlines, loop, h->options.timeout_sec * SECOND / 2);
	return r;
}

int http_new(const struct http_options *options, struct http **ret_http)
{
	OWN(http_free) struct http *h = calloc(1, sizeof(*h));
	if (!h)
		return -ENOMEM;
	h->options = *options;
	int flags = fcntl(options->listen_fd, F_GETFL);
	/* libmicrohttpd accepts until there is no more: on a blocking socket that would be the end
	 * of the loop. */
	if (flags < 0 || fcntl(options->listen_fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	errno = 0; /* what is wrong with a certificate is no errno */
	h->mhd = start_mhd(h);
	if (!h->mhd)
		return errno ? -errno : -EINVAL;
	int r = join_loop(h);
	if (r < 0) {
		(void)MHD_quiesce_daemon(h->mhd); /* gives the socket back to the caller */
		return r;
	}
	*ret_http = give(h);
	return 0;
}

void http_free(struct http *h)
{
	if (!h)
		return;
	h->io = sd_event_source_disable_unref(h->io);
	h->timer = sd_event_source_disable_unref(h->timer);
	/* A suspended connection cannot be ended; its handler will not run again. */
	for (struct exchange *x = h->first; x; x = x->next)
		if (x->is_suspended)
			MHD_resume_connection(x->connection);
	if (h->mhd)
		MHD_stop_daemon(h->mhd);
	deadlines_stop(&h->deadlines);
	while (h->first)
		exchange_free(h->first);
	free(h);
}
