/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What tests/bed/frontend/queue.c asks of the bed's hypervisor, done by the real one, through
 * /dev/xen/gntalloc and /dev/xen/evtchn. Descriptors of event channels don't block.
 */
#include "attacker.h"
#include "hv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <xen/xen.h>
/* after its types */
#include <xen/sys/evtchn.h>
#include <xen/sys/gntalloc.h>

#define MOST_PAGES 1024u /* gntalloc's own limit unless told otherwise */

static struct granted {
    uint8_t *memory; /* NULL: free */
    uint64_t index;
    uint32_t ref;
} granted[MOST_PAGES];

static struct hv the_only;
static int gntalloc = -1;

uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

void pause_ms(uint32_t ms)
{
    struct timespec t = {.tv_sec = ms / 1000u, .tv_nsec = (long)(ms % 1000u) * 1000000};

    nanosleep(&t, NULL);
}

struct hv *hv_get(void)
{
    if (gntalloc < 0)
        gntalloc = open("/dev/xen/gntalloc", O_RDWR | O_CLOEXEC);
    return gntalloc < 0 ? NULL : &the_only;
}

static struct granted *find_page(uint32_t ref)
{
    for (uint32_t i = 0; i < MOST_PAGES; i++)
        if (granted[i].memory && granted[i].ref == ref)
            return &granted[i];
    return NULL;
}

static void deallocate(uint64_t index)
{
    struct ioctl_gntalloc_dealloc_gref end = {.index = index, .count = 1};

    ioctl(gntalloc, IOCTL_GNTALLOC_DEALLOC_GREF, &end);
}

/* One page at a time: the kernel's references have no order. */
int64_t bed_grant(uint32_t domid, uint32_t to, uint32_t count, bool readonly)
{
    struct ioctl_gntalloc_alloc_gref ask = {
        .domid = (uint16_t)to, .flags = readonly ? 0 : GNTALLOC_FLAG_WRITABLE, .count = 1};
    struct granted *g = granted;
    void *memory;

    (void)domid;
    while (g < granted + MOST_PAGES && g->memory)
        g++;
    if (count != 1 || g == granted + MOST_PAGES || !hv_get())
        return -ENOSPC;
    if (ioctl(gntalloc, IOCTL_GNTALLOC_ALLOC_GREF, &ask))
        return -errno;
    memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, gntalloc, (off_t)ask.index);
    if (memory == MAP_FAILED) {
        int err = errno;

        deallocate(ask.index);
        return -err;
    }
    *g = (struct granted){.memory = memory, .index = ask.index, .ref = ask.gref_ids[0]};
    return ask.gref_ids[0];
}

/* The kernel waits by itself where the reference is still in use; that can't be seen from here. */
int bed_grant_end(uint32_t domid, uint32_t ref)
{
    struct granted *g = find_page(ref);

    (void)domid;
    if (!g)
        return -EINVAL;
    munmap(g->memory, PAGE);
    deallocate(g->index);
    g->memory = NULL;
    return 0;
}

uint8_t *bed_page(uint32_t domid, uint32_t ref)
{
    struct granted *g = find_page(ref);

    (void)domid;
    return g ? g->memory : NULL;
}

/* The handle is the descriptor. */
int hv_evt_open(struct hv *hv, uint16_t domid, bool cloexec, int *fd, uint32_t *handle)
{
    (void)hv;
    (void)domid;
    *fd = open("/dev/xen/evtchn", O_RDWR | O_NONBLOCK | (cloexec ? O_CLOEXEC : 0));
    *handle = (uint32_t)*fd;
    return *fd < 0 ? -errno : 0;
}

int hv_evt_alloc_unbound(struct hv *hv, uint32_t handle, uint16_t remote, uint32_t *port)
{
    struct ioctl_evtchn_bind_unbound_port ask = {.remote_domain = remote};
    int got = ioctl((int)handle, IOCTL_EVTCHN_BIND_UNBOUND_PORT, &ask);

    (void)hv;
    if (got < 0)
        return -errno;
    *port = (uint32_t)got;
    return 0;
}

/* Nothing to do: the port goes with its descriptor, which is closed next. */
int hv_evt_unbind(struct hv *hv, uint16_t domid, uint32_t port)
{
    (void)hv;
    (void)domid;
    (void)port;
    return 0;
}

int hv_evt_notify(struct hv *hv, int fd, uint16_t domid, uint32_t port)
{
    struct ioctl_evtchn_notify ask = {.port = port};

    (void)hv;
    (void)domid;
    return ioctl(fd, IOCTL_EVTCHN_NOTIFY, &ask) ? -errno : 0;
}

int hv_evt_unmask(struct hv *hv, int fd, uint16_t domid, uint32_t port)
{
    (void)hv;
    (void)domid;
    return write(fd, &port, sizeof(port)) == sizeof(port) ? 0 : -errno;
}
