/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What backend and frontend agree on: the nodes we publish, and the parsing of what the frontend
 * wrote. Pure functions; reading and writing XenStore is frontend_nodes.c's and vbd_publish.c's.
 * docs/xenstore.md is checked against the table of published nodes.
 */
#ifndef BLKBACK_BROKER_NEGOTIATE_H
#define BLKBACK_BROKER_NEGOTIATE_H

#include "blkback/abi.h"
#include "blkback/state_files.h"

#include <stdbool.h>
#include <stdint.h>

#define NEGOTIATE_SEGMENTS 11U /* of the first protocol */
/* With x86_32 rings a block of a multi-block request holds 13 segments whole: the 14th would reach
 * over the slot's 108 bytes. One block is all we take there. */
#define NEGOTIATE_SEGMENTS_X86_32 24U
#define NEGOTIATE_PAGE_BYTES      4096U
#define NEGOTIATE_WHY_MAX         256U
#define NEGOTIATE_VALUE_MAX       32U

/* What we publish. */
struct offer {
    uint32_t max_ring_page_order;
    uint32_t max_requests;
    uint32_t max_segments;
    uint32_t max_request_size; /* bytes */
    uint32_t max_indirect_segments;
    uint32_t max_queues;
    bool persistent;
    bool flush;
    bool store_known; /* the fields from here on hold */
    uint64_t size;    /* of the disk, bytes */
    uint32_t sector_size;
    uint32_t physical_sector_size;
    bool read_only;
    bool cdrom;
    bool discard; /* then the next three hold */
    bool discard_secure;
    uint32_t discard_granularity; /* bytes */
    uint32_t discard_alignment;
};

/* The number of nodes in the table of what is published; each is written before state 2 if it is
 * known then, else before state 4. */
unsigned published_nodes(void);
const char *published_name(unsigned node);

/* Whether a path names one of them, and so says nothing that we don't know. */
bool published_path(const char *path);

/* The value to write. Returns 0; -ENODATA while it isn't known, as the store is not open; -ENOENT
 * when there is to be no such node. */
int published_value(unsigned node, const struct offer *offer, char value[NEGOTIATE_VALUE_MAX]);

/* Whether all that is published of the two is the same. */
bool published_alike(const struct offer *one, const struct offer *other);

/* Whether it may change with the medium or its size, while a frontend is connected. */
bool published_of_medium(unsigned node);

/* What the frontend wrote of one ring, in its directory or, with several, in queue-N below it. */
struct frontend_ring {
    const char *ring_ref;
    const char *ring_refs[STATE_MAX_RING_PAGES]; /* ring-ref0 and so on */
    const char *event_channel;
};

/* What the frontend wrote, NULL where there is no node. Text that is too long or has a NUL in it is
 * given as "". */
struct frontend_nodes {
    const char *protocol;
    const char *ring_page_order;
    const char *num_ring_pages; /* the older scheme; */
    const char *ring_pages;     /* and its first name, 2010 */
    const char *num_queues;
    const char *persistent;
    const char *max_requests;
    const char *max_segments;
    const char *max_request_size;
    struct frontend_ring rings[STATE_MAX_QUEUES]; /* one, or as many as num_queues says */
};

/*
 * The number of rings that the frontend says it has: 1 where it says nothing. Returns 0, or -EINVAL
 * with the reason in `why` for what is no number from 1 to `most`.
 */
int negotiate_queues(const char *num_queues, uint32_t most, char why[NEGOTIATE_WHY_MAX],
                     uint32_t *out);

struct negotiated {
    enum blkif_abi abi;
    bool protocol_missing;
    bool differs; /* the frontend asked for other limits than were settled on, or for none; see
                     negotiate_describe() */
    uint32_t ring_order;
    uint32_t max_requests;
    uint32_t max_segments;
    uint32_t max_request_size;
    uint32_t asked_requests; /* 0: no node */
    uint32_t asked_segments;
    uint32_t asked_size;
    uint32_t max_indirect_segments;
    bool persistent;
    uint32_t queue_count;
    struct connection_queue queues[STATE_MAX_QUEUES]; /* unused ones zero */
};

/*
 * Checks what the frontend wrote and takes the lesser of it and the offer; what is missing has the
 * first protocol's value. Returns 0, or -EINVAL with the reason for people in `why`, which shows
 * the frontend's text escaped.
 */
int negotiate(const struct frontend_nodes *nodes, const struct offer *offer,
              char why[NEGOTIATE_WHY_MAX], struct negotiated *out);

/* For the log: what was offered, asked for and settled on. Returns `text`. */
const char *negotiate_describe(const struct negotiated *settled, const struct offer *offer,
                               char *text, unsigned size);

#endif
