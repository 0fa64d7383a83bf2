/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stand-in for libxenevtchn.so.1. The descriptor can be polled, read (four bytes: a port), passed
 * to another process and adopted there with xenevtchn_fdopen(). Writing ports to it, as to
 * /dev/xen/evtchn, does not unmask: use xenevtchn_unmask().
 */
#include "hv.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xenevtchn.h>

struct xenevtchn_handle {
    struct hv *hv;
    int fd;
    uint32_t id; /* HV_NONE until something needs it, when the descriptor was adopted */
};

static int result(int err)
{
    if (!err)
        return 0;
    errno = -err;
    return -1;
}

xenevtchn_handle *xenevtchn_fdopen(struct xentoollog_logger *logger, int fd, unsigned open_flags)
{
    struct hv *hv = hv_get();
    struct xenevtchn_handle *xce;

    (void)logger;
    if (!hv)
        return NULL;
    if (open_flags) {
        errno = EINVAL;
        return NULL;
    }
    xce = calloc(1, sizeof(*xce));
    if (!xce)
        return NULL;
    *xce = (struct xenevtchn_handle){.hv = hv, .fd = fd, .id = HV_NONE};
    return xce;
}

xenevtchn_handle *xenevtchn_open(struct xentoollog_logger *logger, unsigned int flags)
{
    struct hv *hv = hv_get();
    struct xenevtchn_handle *xce;
    uint32_t id;
    int fd, err;

    if (!hv)
        return NULL;
    if (flags & ~(unsigned int)XENEVTCHN_NO_CLOEXEC) {
        errno = EINVAL;
        return NULL;
    }
    err = hv_evt_open(hv, hv->domid, !(flags & XENEVTCHN_NO_CLOEXEC), &fd, &id);
    if (err) {
        errno = -err;
        return NULL;
    }
    xce = xenevtchn_fdopen(logger, fd, 0);
    if (xce)
        xce->id = id;
    else
        close(fd);
    return xce;
}

int xenevtchn_close(xenevtchn_handle *xce)
{
    int rc;

    if (!xce)
        return 0;
    rc = close(xce->fd);
    free(xce);
    return rc;
}

int xenevtchn_fd(xenevtchn_handle *xce)
{
    return xce->fd;
}

int xenevtchn_notify(xenevtchn_handle *xce, evtchn_port_t port)
{
    return result(hv_evt_notify(xce->hv, xce->fd, xce->hv->domid, port));
}

int xenevtchn_unmask(xenevtchn_handle *xce, evtchn_port_t port)
{
    return result(hv_evt_unmask(xce->hv, xce->fd, xce->hv->domid, port));
}

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle *xce)
{
    uint32_t port;
    ssize_t n = read(xce->fd, &port, sizeof(port));

    if (n < 0)
        return -1;
    if (n != sizeof(port))
        return result(-EIO);
    hv_evt_redeliver(xce->hv, xce->fd, xce->hv->domid, port);
    return (xenevtchn_port_or_error_t)port;
}

static int identify(struct xenevtchn_handle *xce)
{
    return xce->id == HV_NONE ? hv_evt_identify(xce->hv, xce->fd, &xce->id) : 0;
}

xenevtchn_port_or_error_t xenevtchn_bind_unbound_port(xenevtchn_handle *xce, uint32_t domid)
{
    uint32_t port;
    int err = domid > UINT16_MAX ? -EINVAL : identify(xce);

    if (!err)
        err = hv_evt_alloc_unbound(xce->hv, xce->id, (uint16_t)domid, &port);
    return err ? result(err) : (xenevtchn_port_or_error_t)port;
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle *xce, uint32_t domid,
                                                     evtchn_port_t remote_port)
{
    uint32_t port;
    int err = domid > UINT16_MAX ? -EINVAL : identify(xce);

    if (!err)
        err = hv_evt_bind(xce->hv, xce->fd, xce->id, (uint16_t)domid, remote_port, &port);
    return err ? result(err) : (xenevtchn_port_or_error_t)port;
}

xenevtchn_port_or_error_t xenevtchn_bind_virq(xenevtchn_handle *xce, unsigned int virq)
{
    uint32_t port;
    int err = identify(xce);

    if (!err)
        err = hv_evt_bind_virq(xce->hv, xce->id, virq, &port);
    return err ? result(err) : (xenevtchn_port_or_error_t)port;
}

int xenevtchn_unbind(xenevtchn_handle *xce, evtchn_port_t port)
{
    return result(hv_evt_unbind(xce->hv, xce->hv->domid, port));
}

int xenevtchn_restrict(xenevtchn_handle *xce, domid_t domid)
{
    int err = identify(xce);

    return result(err ? err : hv_evt_restrict(xce->hv, xce->id, domid));
}
