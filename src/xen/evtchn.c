/* SPDX-License-Identifier: BSD-2-Clause */
/* Event channels over libxenevtchn: see evtchn.h. */
#include "blkback/evtchn.h"

#include "xen_logger.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <xenevtchn.h>

struct evtchn {
    xenevtchn_handle *handle;
    evtchn_port_t port;
};

static int restrict_to(xenevtchn_handle *handle, uint32_t domid, bool *restricted)
{
    /* Domain 0 is no valid argument of the kernel's restriction (EINVAL): its channels stay
     * unrestricted. */
    if (domid == 0)
        return 0;
    if (xenevtchn_restrict(handle, (domid_t)domid) == 0) {
        *restricted = true;
        return 0;
    }
    /* Older kernels do not know it; then the handle works as it is and status says so. */
    return errno == ENOTTY || errno == ENOSYS || errno == EOPNOTSUPP ? 0 : -errno;
}

int evtchn_bind(uint32_t domid, uint32_t remote_port, struct evtchn **out, uint32_t *local_port,
                bool *restricted)
{
    struct evtchn *evtchn = calloc(1, sizeof(*evtchn));
    bool is_restricted = false;
    int error;

    if (!evtchn)
        return -ENOMEM;
    evtchn->handle = xenevtchn_open(xen_logger(), 0);
    if (!evtchn->handle) {
        error = -errno;
        goto failed;
    }
    error = restrict_to(evtchn->handle, domid, &is_restricted);
    if (error)
        goto failed;
    const xenevtchn_port_or_error_t port =
        xenevtchn_bind_interdomain(evtchn->handle, domid, remote_port);

    if (port < 0) {
        error = -errno;
        goto failed;
    }
    evtchn->port = (evtchn_port_t)port;
    *out = evtchn;
    *local_port = (uint32_t)port;
    *restricted = is_restricted;
    return 0;

failed:
    evtchn_close(evtchn);
    return error;
}

int evtchn_adopt(int fd, uint32_t local_port, struct evtchn **out)
{
    struct evtchn *evtchn = calloc(1, sizeof(*evtchn));

    if (!evtchn)
        return -ENOMEM;
    /* Nothing pending must not block the loop. */
    const int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        const int error = -errno;

        free(evtchn);
        return error;
    }
    evtchn->handle = xenevtchn_fdopen(xen_logger(), fd, 0);
    if (!evtchn->handle) {
        const int error = -errno;

        free(evtchn);
        return error;
    }
    evtchn->port = local_port;
    *out = evtchn;
    return 0;
}

int evtchn_fd(const struct evtchn *evtchn)
{
    return xenevtchn_fd(evtchn->handle);
}

int evtchn_take(struct evtchn *evtchn)
{
    const xenevtchn_port_or_error_t port = xenevtchn_pending(evtchn->handle);

    if (port < 0)
        return -errno;
    return (evtchn_port_t)port == evtchn->port ? 0 : -EAGAIN;
}

int evtchn_unmask(struct evtchn *evtchn)
{
    return xenevtchn_unmask(evtchn->handle, evtchn->port) < 0 ? -errno : 0;
}

int evtchn_notify(struct evtchn *evtchn)
{
    return xenevtchn_notify(evtchn->handle, evtchn->port) < 0 ? -errno : 0;
}

void evtchn_close(struct evtchn *evtchn)
{
    if (!evtchn)
        return;
    if (evtchn->handle)
        xenevtchn_close(evtchn->handle);
    free(evtchn);
}
