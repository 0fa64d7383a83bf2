/* SPDX-License-Identifier: BSD-2-Clause */
/* A libxentoollog logger that writes to our log. */
#include "xen_logger.h"

#include "blkback/log.h"

#include <stdio.h>

static struct log_limit limit;

static void message(struct xentoollog_logger *logger, xentoollog_level level, int error,
                    const char *context, const char *format, va_list arguments)
    __attribute__((format(printf, 5, 0)));

static void message(struct xentoollog_logger *logger, xentoollog_level level, int error,
                    const char *context, const char *format, va_list arguments)
{
    char text[256];

    (void)logger;
    (void)level;
    (void)error; /* the callers' return codes carry it to the edge that logs the failure */
    (void)vsnprintf(text, sizeof(text), format, arguments);
    /* What fails comes back as an error code and is logged where domain and vdev are known. */
    log_limited(&limit, LOG_LEVEL_DEBUG, "%s: %s", context ? context : "xen", text);
}

static void progress(struct xentoollog_logger *logger, const char *context, const char *doing,
                     int percent, unsigned long done, unsigned long total)
{
    (void)logger;
    (void)context;
    (void)doing;
    (void)percent;
    (void)done;
    (void)total;
}

static void destroy(struct xentoollog_logger *logger)
{
    (void)logger;
}

struct xentoollog_logger *xen_logger(void)
{
    static struct xentoollog_logger logger = {
        .vmessage = message, .progress = progress, .destroy = destroy};

    return &logger;
}
