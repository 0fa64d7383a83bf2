/* SPDX-License-Identifier: BSD-2-Clause */
/* What the hypervisor says of a domain. libxenctrl has no stable ABI; only this file calls it. */
#include "blkback/domain_info.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xenctrl.h>

struct domain_info_source {
    xc_interface *xc;
};

/* libxenctrl reports on stderr by itself; the caller gets an error code and logs where it matters.
 */
static void say_nothing(struct xentoollog_logger *logger, xentoollog_level level, int errnoval,
                        const char *context, const char *format, va_list arguments)
{
    (void)logger;
    (void)level;
    (void)errnoval;
    (void)context;
    (void)format;
    (void)arguments;
}

static void show_no_progress(struct xentoollog_logger *logger, const char *context,
                             const char *doing_what, int percent, unsigned long done,
                             unsigned long total)
{
    (void)logger;
    (void)context;
    (void)doing_what;
    (void)percent;
    (void)done;
    (void)total;
}

static void destroy_nothing(struct xentoollog_logger *logger)
{
    (void)logger;
}

static struct xentoollog_logger silent_logger = {
    .vmessage = say_nothing,
    .progress = show_no_progress,
    .destroy = destroy_nothing,
};

int domain_info_open(struct domain_info_source **out)
{
    struct domain_info_source *source = calloc(1, sizeof(*source));
    if (source == NULL)
        return -ENOMEM;
    errno = 0;
    source->xc = xc_interface_open(&silent_logger, &silent_logger, 0);
    if (source->xc == NULL) {
        int error = errno == EPERM || errno == EACCES ? -EPERM : -ENOENT;
        free(source);
        return error;
    }
    *out = source;
    return 0;
}

void domain_info_close(struct domain_info_source *source)
{
    if (source == NULL)
        return;
    xc_interface_close(source->xc);
    free(source);
}

static void format_uuid(const uint8_t *bytes, char out[40])
{
    char *at = out;
    for (unsigned i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *at++ = '-';
        at += snprintf(at, 3, "%02x", bytes[i]);
    }
}

#if XEN_DOMCTL_INTERFACE_VERSION >= 0x00000016 /* Xen 4.18 */
static int query(xc_interface *xc, uint32_t domid, struct domain_info *out)
{
    xc_domaininfo_t info;
    if (xc_domain_getinfo_single(xc, domid, &info) != 0)
        return errno > 0 ? -errno : -EIO;
    *out = (struct domain_info){
        .paused = (info.flags & XEN_DOMINF_paused) != 0,
        .dying = (info.flags & XEN_DOMINF_dying) != 0,
        .shutdown = (info.flags & XEN_DOMINF_shutdown) != 0,
        .never_ran = info.cpu_time == 0,
    };
    format_uuid(info.handle, out->uuid);
    return 0;
}
#else
static int query(xc_interface *xc, uint32_t domid, struct domain_info *out)
{
    xc_dominfo_t info;
    int found = xc_domain_getinfo(xc, domid, 1, &info);
    if (found < 0)
        return errno > 0 ? -errno : -EIO;
    if (found == 0 || info.domid != domid) /* it answers with the next one that exists */
        return -ESRCH;
    *out = (struct domain_info){
        .paused = info.paused != 0,
        .dying = info.dying != 0,
        .shutdown = info.shutdown != 0 || info.crashed != 0,
        .never_ran = info.cpu_time == 0,
    };
    format_uuid(info.handle, out->uuid);
    return 0;
}
#endif

int domain_info_get(struct domain_info_source *source, uint32_t domid, struct domain_info *out)
{
    if (source == NULL)
        return -EPERM;
    struct domain_info info = {.paused = false};
    int error = query(source->xc, domid, &info);
    if (error == -EACCES)
        error = -EPERM;
    if (error == 0)
        *out = info;
    return error;
}
