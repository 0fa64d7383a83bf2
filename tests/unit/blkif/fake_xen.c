/* SPDX-License-Identifier: BSD-2-Clause */
/* Granted pages and event channels without a hypervisor: see fake_xen.h. */
#include "fake_xen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xen/grant_table.h>

struct gnttab {
    int unused;
};

struct fake_gnttab fake_gnttab;
unsigned fake_evtchns_open;
unsigned fake_notifies;

#define ALL_PAGES ((size_t)FAKE_PAGES * GNTTAB_PAGE_SIZE)

/* The pages are a file's, so that any of them can be mapped anew at any place. */
static int pages_fd = -1;

void fake_xen_reset(void)
{
    if (pages_fd < 0) {
        const int fd = memfd_create("granted", MFD_CLOEXEC);

        /* Out of the way of descriptors that a program wants at a certain number. */
        pages_fd = fcntl(fd, F_DUPFD_CLOEXEC, 100);
        (void)close(fd);
    } else {
        (void)munmap(fake_gnttab.pages, ALL_PAGES);
        if (ftruncate(pages_fd, 0) < 0)
            abort();
    }
    if (ftruncate(pages_fd, (off_t)ALL_PAGES) < 0)
        abort();
    fake_gnttab = (struct fake_gnttab){
        .pages = mmap(NULL, ALL_PAGES, PROT_READ | PROT_WRITE, MAP_SHARED, pages_fd, 0)};
    if (fake_gnttab.pages == MAP_FAILED)
        abort();
    fake_evtchns_open = 0;
    fake_notifies = 0;
}

struct gnttab *fake_gnttab_handle(void)
{
    static struct gnttab handle;

    return &handle;
}

int gnttab_open(struct gnttab **out)
{
    *out = fake_gnttab_handle();
    return 0;
}

void gnttab_close(struct gnttab *gnttab)
{
    (void)gnttab;
}

int gnttab_map(struct gnttab *gnttab, uint32_t domid, const uint32_t *refs, unsigned count,
               void **out)
{
    (void)gnttab;
    (void)domid;
    if (fake_gnttab.map_error)
        return fake_gnttab.map_error;
    for (unsigned i = 0; i < count; i++)
        if (refs[i] >= FAKE_PAGES || fake_gnttab.read_only[refs[i]])
            return -EINVAL;
    uint8_t *address =
        mmap(NULL, (size_t)count * GNTTAB_PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    for (unsigned i = 0; i < count; i++)
        if (mmap(address + (size_t)i * GNTTAB_PAGE_SIZE, GNTTAB_PAGE_SIZE, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_FIXED, pages_fd, (off_t)refs[i] * GNTTAB_PAGE_SIZE) == MAP_FAILED)
            abort();
    fake_gnttab.mapped += count;
    *out = address;
    return 0;
}

void gnttab_unmap(struct gnttab *gnttab, void *address, unsigned count)
{
    (void)gnttab;
    if (!address)
        return;
    (void)munmap(address, (size_t)count * GNTTAB_PAGE_SIZE);
    fake_gnttab.mapped -= count;
}

static void copy_piece(struct gnttab_piece *piece)
{
    uint8_t *page;

    if (piece->gref >= FAKE_PAGES) {
        piece->status = GNTST_bad_gntref;
        return;
    }
    if (piece->offset + piece->length > GNTTAB_PAGE_SIZE) {
        piece->status = GNTST_bad_copy_arg;
        return;
    }
    page = fake_gnttab.pages[piece->gref] + piece->offset;
    if (piece->to_guest && fake_gnttab.read_only[piece->gref]) {
        piece->status = GNTST_permission_denied;
        return;
    }
    if (piece->to_guest)
        memcpy(page, piece->local, piece->length);
    else
        memcpy(piece->local, page, piece->length);
    piece->status = GNTST_okay;
}

int gnttab_copy_batch(struct gnttab *gnttab, uint32_t domid, struct gnttab_piece *pieces,
                      unsigned count)
{
    (void)gnttab;
    (void)domid;
    fake_gnttab.calls++;
    if (count > GNTTAB_COPY_MAX)
        abort();
    if (fake_gnttab.fail_next) {
        fake_gnttab.fail_next--;
        for (unsigned i = 0; i < count; i++)
            pieces[i].status = GNTST_general_error;
        return -EFAULT;
    }
    for (unsigned i = 0; i < count; i++)
        copy_piece(&pieces[i]);
    return 0;
}

struct evtchn *fake_evtchn_create(void)
{
    struct evtchn *evtchn = calloc(1, sizeof(*evtchn));

    evtchn->fd = -1;
    fake_evtchns_open++;
    return evtchn;
}

int evtchn_adopt(int fd, uint32_t local_port, struct evtchn **out)
{
    if (local_port == 0)
        return -EINVAL;
    *out = fake_evtchn_create();
    (*out)->fd = fd;
    return 0;
}

int evtchn_fd(const struct evtchn *evtchn)
{
    return evtchn->fd;
}

int evtchn_take(struct evtchn *evtchn)
{
    uint64_t events;

    if (evtchn->fd >= 0 && read(evtchn->fd, &events, sizeof(events)) == (ssize_t)sizeof(events))
        evtchn->pending = true;
    if (!evtchn->pending)
        return -EAGAIN;
    evtchn->pending = false;
    evtchn->takes++;
    return 0;
}

int evtchn_unmask(struct evtchn *evtchn)
{
    evtchn->unmasks++;
    return 0;
}

int evtchn_notify(struct evtchn *evtchn)
{
    evtchn->notifies++;
    fake_notifies++;
    return 0;
}

void evtchn_close(struct evtchn *evtchn)
{
    if (!evtchn)
        return;
    if (evtchn->fd >= 0)
        (void)close(evtchn->fd);
    fake_evtchns_open--;
    free(evtchn);
}
