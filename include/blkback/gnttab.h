/* SPDX-License-Identifier: BSD-2-Clause */
/* Granted pages, thin over libxengnttab: mapping a ring, and copying data in batches. */
#ifndef BLKBACK_GNTTAB_H
#define BLKBACK_GNTTAB_H

#include <stddef.h>
#include <stdint.h>

#define GNTTAB_PAGE_SIZE 4096U

struct gnttab;

/* Opens gntdev. Returns 0 or -errno. */
int gnttab_open(struct gnttab **out);
void gnttab_close(struct gnttab *gnttab);

/*
 * Maps `count` pages of a domain, writable and contiguous, in the order of `refs`. All or nothing.
 * Returns 0 or -errno.
 */
int gnttab_map(struct gnttab *gnttab, uint32_t domid, const uint32_t *refs, unsigned count,
               void **out);
void gnttab_unmap(struct gnttab *gnttab, void *address, unsigned count);

/* One piece of a copy between a granted page and our memory. */
struct gnttab_piece {
    void *local;
    uint32_t gref;
    uint16_t offset;   /* within the granted page, bytes */
    uint16_t length;   /* bytes; offset + length <= GNTTAB_PAGE_SIZE */
    int16_t status;    /* set by gnttab_copy(): 0 when copied, else an error */
    uint16_t to_guest; /* 1: local → granted page */
};

/* The pieces that one call takes at most. */
#define GNTTAB_COPY_MAX 512U

/*
 * Copies `count` pieces (at most GNTTAB_COPY_MAX) in one ioctl and sets the status of each.
 * Statuses are errors before the call, and count only if it succeeds: gntdev sets "okay" when it
 * queues a piece and leaves the rest unexecuted when it fails. Returns 0 when the ioctl was carried
 * out (look at each status), else -errno and every status is an error.
 */
int gnttab_copy_batch(struct gnttab *gnttab, uint32_t domid, struct gnttab_piece *pieces,
                      unsigned count);

#endif
