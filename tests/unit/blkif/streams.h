/* SPDX-License-Identifier: BSD-2-Clause */
/* Streams of random requests, right and wrong ones, and what the answer to each must be. */
#ifndef BLKBACK_TEST_STREAMS_H
#define BLKBACK_TEST_STREAMS_H

#include "disk_model.h"
#include "rig.h"

#define STREAM_REQUESTS 128U /* under way in one queue */
#define STREAM_SEGMENTS 256U
#define STREAM_POISON   0xee

/* A request from when it is put into the ring until it is answered. */
struct stream_request {
    bool busy;
    bool scribbled; /* its list of segments was overwritten after it was copied */
    uint8_t queue;
    uint8_t operation; /* that is echoed */
    int16_t status;    /* that it must be answered with */
    uint64_t id;
    uint64_t sector;
    uint64_t sectors;
    uint64_t change; /* number in the model; 0: it changes nothing */
    uint64_t issued_at;
    uint32_t last_slot; /* free-running */
    unsigned segments;
    unsigned pages;     /* that it has: of the first `segments` of them data */
    uint32_t list_page; /* of an indirect one; 0: none */
    uint32_t page[STREAM_SEGMENTS + 1];
    struct slab_segment segment[STREAM_SEGMENTS];
    uint64_t before[STREAM_SEGMENTS * 8]; /* a read: what the model said then */
};

struct stream {
    uint64_t random;
    struct rig *rig;
    struct disk_model model;
    struct {
        uint8_t operation;
        uint64_t end;   /* sector behind it */
    } last[RIG_QUEUES]; /* what was put last: a neighbour may follow */
    unsigned queues;
    unsigned busy;
    unsigned issued, answered;
    unsigned free_pages;
    uint16_t free_page[FAKE_PAGES];
    struct stream_request request[RIG_QUEUES][STREAM_REQUESTS];
};

/* Uniform in [0, below). */
uint64_t stream_random(struct stream *stream, uint64_t below);
/* True once in `in` times. */
bool stream_chance(struct stream *stream, unsigned in);

/*
 * Puts a request into the ring of `queue`, right or wrong, not pushed. Returns false when there is
 * no room for it in ring or pages.
 */
bool stream_put(struct stream *stream, unsigned queue);

/* Gives back the pages of one that was answered. */
void stream_release(struct stream *stream, struct stream_request *request);

#endif
