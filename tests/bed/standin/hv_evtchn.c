/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Event channels of the bed.
 *
 * A handle's descriptor is a datagram socket with an abstract name, and an event is a datagram with
 * the port number: so reading the descriptor gives ports as /dev/xen/evtchn does, any process can
 * raise an event without holding a descriptor of the receiver, the descriptor can be passed on and
 * adopted, and the name is gone exactly when the last copy of the descriptor is: that is how the
 * death of a process closes its ends.
 */
#include "hv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <xen/xen.h>

uint64_t hv_link(enum hv_port_state state, uint16_t domid, uint32_t port)
{
    return (uint64_t)state << 48 | (uint64_t)domid << 32 | port;
}

enum hv_port_state hv_link_state(uint64_t link)
{
    return (enum hv_port_state)(link >> 48);
}

uint16_t hv_link_domid(uint64_t link)
{
    return (uint16_t)(link >> 32);
}

uint32_t hv_link_port(uint64_t link)
{
    return (uint32_t)link;
}

static struct hv_port *port_of(const struct hv *hv, uint32_t domid, uint32_t port)
{
    if (domid >= HV_DOMAINS || port >= HV_PORTS || port == 0)
        return NULL;
    return &hv->s->domain[domid].port[port];
}

static socklen_t handle_address(const struct hv *hv, uint32_t handle, struct sockaddr_un *addr)
{
    *addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(addr->sun_path + 1, hv->s->evt_handle[handle].name, HV_NAME_LEN);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + HV_NAME_LEN);
}

/* True while any process has the handle's descriptor. */
static bool handle_lives(const struct hv *hv, uint32_t handle)
{
    struct sockaddr_un addr;
    socklen_t len = handle_address(hv, handle, &addr);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool lives = true;

    if (fd < 0)
        return true;
    if (connect(fd, (struct sockaddr *)&addr, len) && errno == ECONNREFUSED)
        lives = false;
    close(fd);
    return lives;
}

static void free_port(struct hv_port *p)
{
    p->link = hv_link(HV_PORT_FREE, 0, 0);
    p->handle = HV_NONE;
    p->flags = 0;
}

/* Under the lock. The peer, if any, goes back to waiting for the same domain. */
static void close_port(struct hv *hv, uint16_t domid, uint32_t port)
{
    struct hv_port *p = port_of(hv, domid, port), *peer;
    uint64_t link = p->link;

    free_port(p);
    if (hv_link_state(link) != HV_PORT_INTERDOMAIN)
        return;
    peer = port_of(hv, hv_link_domid(link), hv_link_port(link));
    if (peer && peer->link == hv_link(HV_PORT_INTERDOMAIN, domid, port))
        peer->link = hv_link(HV_PORT_UNBOUND, domid, 0);
}

/* Under the lock. */
static void close_handle(struct hv *hv, uint32_t handle)
{
    uint16_t domid = hv->s->evt_handle[handle].domid;
    struct hv_domain *d = &hv->s->domain[domid];

    for (uint32_t i = 1; i < d->port_top; i++)
        if (d->port[i].handle == handle)
            close_port(hv, domid, i);
    hv->s->evt_handle[handle].in_use = 0;
}

static void reap_locked(struct hv *hv)
{
    for (uint32_t i = 0; i < HV_EVT_HANDLES; i++)
        if (hv->s->evt_handle[i].in_use && !handle_lives(hv, i))
            close_handle(hv, i);
}

void hv_evt_reap(struct hv *hv)
{
    hv_lock(hv);
    reap_locked(hv);
    hv_unlock(hv);
}

void hv_evt_close_domain(struct hv *hv, uint16_t domid)
{
    struct hv_domain *d = &hv->s->domain[domid];

    hv_lock(hv);
    for (uint32_t i = 1; i < d->port_top; i++)
        close_port(hv, domid, i);
    hv_unlock(hv);
}

static uint32_t free_handle(struct hv *hv)
{
    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < HV_EVT_HANDLES; i++)
            if (!hv->s->evt_handle[i].in_use)
                return i;
        reap_locked(hv);
    }
    return HV_NONE;
}

static int claim_handle(struct hv *hv, uint16_t domid, int fd, uint32_t *handle)
{
    uint32_t i = free_handle(hv);
    struct hv_evt_handle *h;
    struct sockaddr_un addr;
    struct stat st;
    char name[HV_NAME_LEN + 1];
    socklen_t len;

    if (i == HV_NONE)
        return -ENFILE;
    h = &hv->s->evt_handle[i];
    h->serial++;
    h->domid = domid;
    h->restricted = DOMID_INVALID;
    h->lost = 0;
    snprintf(name, sizeof(name), "bed%08x.%05x.%010x", hv->s->id, i & 0xfffffu, h->serial);
    memcpy(h->name, name, HV_NAME_LEN);
    len = handle_address(hv, i, &addr);
    if (bind(fd, (struct sockaddr *)&addr, len) || fstat(fd, &st))
        return -errno;
    h->inode = st.st_ino;
    h->in_use = 1;
    *handle = i;
    return 0;
}

int hv_evt_open(struct hv *hv, uint16_t domid, bool cloexec, int *fd, uint32_t *handle)
{
    int err, sock = socket(AF_UNIX, SOCK_DGRAM | (cloexec ? SOCK_CLOEXEC : 0), 0);

    if (sock < 0)
        return -errno;
    hv_lock(hv);
    err = claim_handle(hv, domid, sock, handle);
    hv_unlock(hv);
    if (err)
        close(sock);
    else
        *fd = sock;
    return err;
}

/* By fstat(), which a process that has given up everything else may still call. */
int hv_evt_identify(const struct hv *hv, int fd, uint32_t *handle)
{
    struct stat st;

    if (fstat(fd, &st))
        return -errno;
    for (uint32_t i = 0; i < HV_EVT_HANDLES; i++) {
        if (hv->s->evt_handle[i].in_use && hv->s->evt_handle[i].inode == st.st_ino) {
            *handle = i;
            return 0;
        }
    }
    return -ENOTTY;
}

int hv_evt_restrict(struct hv *hv, uint32_t handle, uint16_t domid)
{
    struct hv_evt_handle *h = &hv->s->evt_handle[handle];

    if (h->restricted != DOMID_INVALID)
        return -EACCES;
    if (domid == 0 || domid >= DOMID_FIRST_RESERVED)
        return -EINVAL;
    h->restricted = domid;
    return 0;
}

/* Under the lock. */
static uint32_t free_port_of(struct hv *hv, uint16_t domid)
{
    struct hv_domain *d = &hv->s->domain[domid];

    for (uint32_t i = HV_XENSTORE_PORT + 1; i < HV_PORTS; i++)
        if (hv_link_state(d->port[i].link) == HV_PORT_FREE) {
            if (i >= d->port_top)
                d->port_top = i + 1;
            return i;
        }
    return HV_NONE;
}

int hv_evt_alloc_unbound(struct hv *hv, uint32_t handle, uint16_t remote, uint32_t *port)
{
    const struct hv_evt_handle *h = &hv->s->evt_handle[handle];
    uint32_t i;

    if (h->restricted != DOMID_INVALID && h->restricted != remote)
        return -EACCES;
    if (!hv_domain_alive(hv, remote))
        return -ESRCH;
    hv_lock(hv);
    i = free_port_of(hv, h->domid);
    if (i != HV_NONE) {
        struct hv_port *p = port_of(hv, h->domid, i);

        p->handle = handle;
        p->flags = 0;
        p->link = hv_link(HV_PORT_UNBOUND, remote, 0);
        *port = i;
    }
    hv_unlock(hv);
    return i == HV_NONE ? -ENOSPC : 0;
}

/* The receiver is asked by name; gone means that its process died and nobody has cleaned up yet. */
static void deliver(struct hv *hv, int fd, struct hv_port *p, uint32_t port)
{
    uint32_t handle = p->handle;
    struct sockaddr_un addr;
    struct iovec iov = {.iov_base = &port, .iov_len = sizeof(port)};
    struct msghdr msg = {.msg_name = &addr, .msg_iov = &iov, .msg_iovlen = 1};

    if (handle >= HV_EVT_HANDLES)
        return;
    msg.msg_namelen = handle_address(hv, handle, &addr);
    if (sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
        return;
    if (errno == EAGAIN || errno == ENOBUFS) {
        atomic_fetch_or(&p->flags, HV_EVT_LOST);
        atomic_fetch_add(&hv->s->evt_handle[handle].lost, 1);
    }
}

static void raise_port(struct hv *hv, int fd, uint16_t domid, uint32_t port)
{
    struct hv_port *p = port_of(hv, domid, port);
    uint32_t old = p->flags, new;

    do {
        new = old &HV_EVT_MASKED ? old | HV_EVT_PENDING : old | HV_EVT_MASKED;
    } while (!atomic_compare_exchange_weak(&p->flags, &old, new));
    if (old & HV_EVT_MASKED)
        return;
    atomic_fetch_add_explicit(&hv->s->domain[domid].count.deliveries, 1, memory_order_relaxed);
    deliver(hv, fd, p, port);
}

/* Whoever was bound to the port may have been killed after marking it and before telling its
 * receiver, which Xen does in one. Told twice it sees an event without a reason. */
static void tell_again(struct hv *hv, int fd, uint16_t domid, uint32_t port)
{
    struct hv_port *p = port_of(hv, domid, port);

    if (p->flags & HV_EVT_MASKED)
        deliver(hv, fd, p, port);
}

void hv_evt_redeliver(struct hv *hv, int fd, uint16_t domid, uint32_t port)
{
    struct hv_domain *d = &hv->s->domain[domid];
    uint32_t handle;

    if (port >= HV_PORTS || (handle = d->port[port].handle) >= HV_EVT_HANDLES)
        return;
    if (!atomic_exchange(&hv->s->evt_handle[handle].lost, 0))
        return;
    for (uint32_t i = 1; i < d->port_top; i++)
        if (d->port[i].handle == handle &&
            atomic_fetch_and(&d->port[i].flags, ~HV_EVT_LOST) & HV_EVT_LOST)
            deliver(hv, fd, &d->port[i], i);
}

/* Under the lock: connects local to remote, after making sure that a dead owner does not hold
 * remote. */
static int connect_ports(struct hv *hv, uint16_t domid, uint16_t remote, uint32_t remote_port)
{
    struct hv_port *r = port_of(hv, remote, remote_port);
    uint64_t link;

    if (!r)
        return -EINVAL;
    link = r->link;
    if (hv_link_state(link) == HV_PORT_INTERDOMAIN && hv_link_domid(link) == domid) {
        uint32_t owner = port_of(hv, domid, hv_link_port(link))->handle;

        if (owner < HV_EVT_HANDLES && !handle_lives(hv, owner))
            close_handle(hv, owner);
        link = r->link;
    }
    if (hv_link_state(link) != HV_PORT_UNBOUND || hv_link_domid(link) != domid)
        return -EINVAL;
    return 0;
}

int hv_evt_bind(struct hv *hv, int fd, uint32_t handle, uint16_t remote, uint32_t remote_port,
                uint32_t *port)
{
    const struct hv_evt_handle *h = &hv->s->evt_handle[handle];
    uint32_t i = HV_NONE;
    int err;

    if (h->restricted != DOMID_INVALID && h->restricted != remote)
        return -EACCES;
    if (!hv_domain_alive(hv, remote))
        return -ESRCH;
    hv_lock(hv);
    err = connect_ports(hv, h->domid, remote, remote_port);
    if (!err && (i = free_port_of(hv, h->domid)) == HV_NONE)
        err = -ENOSPC;
    if (!err) {
        struct hv_port *p = port_of(hv, h->domid, i);

        p->handle = handle;
        p->flags = 0;
        p->link = hv_link(HV_PORT_INTERDOMAIN, remote, remote_port);
        port_of(hv, remote, remote_port)->link = hv_link(HV_PORT_INTERDOMAIN, h->domid, i);
        *port = i;
    }
    hv_unlock(hv);
    /* Notifications may have been lost while the remote end was unbound: Xen raises the new port.
     */
    if (!err) {
        raise_port(hv, fd, h->domid, i);
        tell_again(hv, fd, remote, remote_port);
    }
    return err;
}

int hv_evt_bind_virq(struct hv *hv, uint32_t handle, uint32_t virq, uint32_t *port)
{
    const struct hv_evt_handle *h = &hv->s->evt_handle[handle];
    uint32_t i;

    if (h->restricted != DOMID_INVALID)
        return -EACCES;
    hv_lock(hv);
    i = free_port_of(hv, h->domid);
    if (i != HV_NONE) {
        struct hv_port *p = port_of(hv, h->domid, i);

        p->handle = handle;
        p->flags = 0;
        p->link = hv_link(HV_PORT_VIRQ, 0, virq);
        *port = i;
    }
    hv_unlock(hv);
    return i == HV_NONE ? -ENOSPC : 0;
}

int hv_evt_unbind(struct hv *hv, uint16_t domid, uint32_t port)
{
    int err = 0;

    if (!port_of(hv, domid, port))
        return -EINVAL;
    hv_lock(hv);
    if (hv_link_state(port_of(hv, domid, port)->link) == HV_PORT_FREE)
        err = -ENOTCONN;
    else
        close_port(hv, domid, port);
    hv_unlock(hv);
    return err;
}

int hv_evt_notify(struct hv *hv, int fd, uint16_t domid, uint32_t port)
{
    const struct hv_port *p = port_of(hv, domid, port);
    uint64_t link;

    if (!p)
        return -EINVAL;
    hv_spin(hv);
    atomic_fetch_add_explicit(&hv->s->domain[domid].count.notifies, 1, memory_order_relaxed);
    link = p->link;
    if (hv_link_state(link) == HV_PORT_FREE)
        return -ENOTCONN;
    /* to nobody: dropped, as Xen does */
    if (hv_link_state(link) == HV_PORT_INTERDOMAIN)
        raise_port(hv, fd, hv_link_domid(link), hv_link_port(link));
    return 0;
}

int hv_evt_unmask(struct hv *hv, int fd, uint16_t domid, uint32_t port)
{
    struct hv_port *p = port_of(hv, domid, port);
    uint32_t old, new;

    if (!p)
        return -EINVAL;
    hv_spin(hv);
    atomic_fetch_add_explicit(&hv->s->domain[domid].count.unmasks, 1, memory_order_relaxed);
    if (hv_link_state(p->link) == HV_PORT_FREE)
        return -ENOTCONN;
    old = p->flags;
    do {
        if (!(old & HV_EVT_MASKED))
            return 0;
        new = old &HV_EVT_PENDING ? HV_EVT_MASKED : 0;
    } while (!atomic_compare_exchange_weak(&p->flags, &old, new));
    if (old & HV_EVT_PENDING) {
        atomic_fetch_add_explicit(&hv->s->domain[domid].count.deliveries, 1, memory_order_relaxed);
        deliver(hv, fd, p, port);
    }
    return 0;
}

int hv_evt_raise_virq(struct hv *hv, int fd, uint32_t virq)
{
    struct hv_domain *d = &hv->s->domain[0];

    for (uint32_t i = 1; i < d->port_top; i++)
        if (d->port[i].link == hv_link(HV_PORT_VIRQ, 0, virq))
            raise_port(hv, fd, 0, i);
    return 0;
}
