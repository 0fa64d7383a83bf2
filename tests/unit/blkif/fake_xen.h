/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stands in for src/xen/gnttab.c and evtchn.c when linked before them: granted pages are an array,
 * an event channel is a counter.
 */
#ifndef BLKBACK_TEST_FAKE_XEN_H
#define BLKBACK_TEST_FAKE_XEN_H

#include "blkback/evtchn.h"
#include "blkback/gnttab.h"

#include <stdbool.h>
#include <stdint.h>

#ifndef FAKE_PAGES /* fuzz targets have few */
#define FAKE_PAGES 1024U
#endif

struct fake_gnttab {
    uint8_t (*pages)[GNTTAB_PAGE_SIZE]; /* granted as grefs 0 to FAKE_PAGES - 1 */
    bool read_only[FAKE_PAGES];
    unsigned
        fail_next;   /* so many of the next copies fail as a whole, after some pieces were done */
    unsigned calls;  /* copies */
    unsigned mapped; /* pages mapped and not unmapped */
    int map_error;
};

struct evtchn {
    int fd; /* -1 where the test has none */
    bool pending;
    unsigned takes;
    unsigned unmasks;
    unsigned notifies;
};

extern struct fake_gnttab fake_gnttab;
extern unsigned fake_evtchns_open;
extern unsigned fake_notifies; /* over all event channels */

/* Blank pages, everything granted writable. */
void fake_xen_reset(void);

struct gnttab *fake_gnttab_handle(void);

/* An event channel without a descriptor, to be closed with evtchn_close(). */
struct evtchn *fake_evtchn_create(void);

#endif
