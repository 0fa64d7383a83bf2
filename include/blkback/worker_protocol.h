/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Messages between the broker and a worker: one fixed-size struct each way over a SOCK_SEQPACKET
 * socket pair, with descriptors attached where said. Each side checks length, magic and version;
 * the broker treats all content from a worker as an attacker's. The worker finds its end of the
 * socket at descriptor WORKER_SOCKET_FD.
 *
 * The messages and what is sent with them; W is the worker, B the broker:
 *
 *     W READY               sealed, may be given vbds; how its sandbox is
 *     B OPEN_STORE          image and slab; without an image the slab alone
 *     W STORE_OPENED        its capabilities
 *     W STORE_FAILED        the reason
 *     B CONNECT_QUEUE       event channel; once for each queue
 *     W QUEUE_CONNECTED     the queue's index
 *     W QUEUE_FAILED        the reason
 *     B FINISH              serve and answer what the rings hold, then as DISCONNECT
 *     B DISCONNECT          all queues of the vbd, at once; behind FINISH both have one answer
 *     W DISCONNECTED        rings unmapped, event channels closed
 *     W DRAINED             and no I/O of it in flight either
 *     B CLOSE_STORE         implies DISCONNECT; no answers but the next
 *     W STORE_CLOSED        descriptors closed, nothing in flight
 *     W RING_BROKEN         the frontend broke its ring, which is served no more
 *     W STORE_ALERT         the store failed and the disk is paused: what was asked of it waits
 *     B RESUME              try again what waits; `error` is -EUCLEAN to do so although a flush
 *                           failed that lost data
 *     W STORE_CONTINUES     the disk is not paused any more; to RESUME the answer is this or
 *                           STORE_ALERT
 *     B CHANGE_STORE        as OPEN_STORE, without a slab; rings may be connected: I/O in flight
 *                           is finished on the old store, then the new one takes its place
 *     W STORE_CHANGED       its capabilities; or STORE_FAILED, and the old one stays
 *     B REFRESH_SIZE        look whether the image has grown
 *     W SIZE                the capabilities; `error` is -ERANGE if it is smaller than before,
 *                           which changes nothing
 *     B LIMITS              what the vbd may do per second; from then on. Comes right behind
 *                           OPEN_STORE, too
 *     B GRANT_BUDGET        in place of `vbd`: granted pages that all vbds of the worker may keep
 *                           mapped together
 *
 * When the broker hangs up, the worker finishes and answers what it has started, takes nothing
 * more, and leaves; the rings and the journal stay as they are for a successor.
 *
 * Each message names its vbd by a number that the broker chose and does not use again in this
 * worker's life.
 */
#ifndef BLKBACK_WORKER_PROTOCOL_H
#define BLKBACK_WORKER_PROTOCOL_H

#include "blkback/state_files.h"

#include <stdbool.h>
#include <stdint.h>

#define WORKER_SOCKET_FD        3
#define WORKER_PROTOCOL_MAGIC   UINT32_C(0x5742444b)
#define WORKER_PROTOCOL_VERSION 7U
#define WORKER_MESSAGE_MAX_FDS  2U

enum worker_message_type {
    WORKER_READY = 1,
    WORKER_OPEN_STORE,
    WORKER_STORE_OPENED,
    WORKER_STORE_FAILED,
    WORKER_CONNECT_QUEUE,
    WORKER_QUEUE_CONNECTED,
    WORKER_QUEUE_FAILED,
    WORKER_DISCONNECT,
    WORKER_DISCONNECTED,
    WORKER_DRAINED,
    WORKER_CLOSE_STORE,
    WORKER_STORE_CLOSED,
    WORKER_RING_BROKEN,
    WORKER_STORE_ALERT,
    WORKER_CHANGE_STORE,
    WORKER_STORE_CHANGED,
    WORKER_REFRESH_SIZE,
    WORKER_SIZE,
    WORKER_GRANT_BUDGET,
    WORKER_FINISH,
    WORKER_RESUME,
    WORKER_STORE_CONTINUES,
    WORKER_LIMITS,
    WORKER_MESSAGE_TYPES
};

enum worker_store_kind {
    WORKER_STORE_NULL = 0,
    WORKER_STORE_FILE = 1, /* and block devices */
    WORKER_STORE_EMPTY = 2 /* a drive without a medium */
};
enum worker_engine {
    WORKER_ENGINE_AUTO = 0,
    WORKER_ENGINE_URING,
    WORKER_ENGINE_AIO,
    WORKER_ENGINE_INLINE
};

struct worker_open_store {
    uint32_t domid;
    uint32_t devid;
    uint32_t kind;   /* enum worker_store_kind */
    uint32_t engine; /* enum worker_engine */
    uint32_t read_only;
    uint32_t direct;      /* use O_DIRECT where the file allows */
    uint32_t sector_size; /* wanted, bytes; 0: the device's own, 512 for files */
    uint32_t fence;       /* 1: take the fence lock on the image before the first I/O */
    uint64_t size;        /* of a null store, bytes */
    uint32_t discard;     /* 1: discards may be offered */
    uint32_t
        discard_granularity; /* block devices: struct discard_limits, which only the broker can */
    uint32_t discard_alignment; /* read */
    uint32_t adopt;             /* 1: the slab is a predecessor's, to be gone on with */
    uint64_t discard_max_bytes;
    uint32_t pause_no_space; /* 1: requests that fail for want of space wait, else they fail */
    uint32_t pause_error;    /* 1: the same for other errors of the store */
    uint32_t log_lines_per_minute; /* of the disk, at most */
    uint32_t pad;                  /* 0 */
    char vdev[32];                 /* for log lines */
};

struct worker_store_opened {
    uint64_t size;        /* bytes; a multiple of sector_size */
    uint32_t sector_size; /* bytes, logical: what is published as `sector-size` */
    uint32_t physical_sector_size;
    uint32_t read_only;
    uint32_t flush; /* 1: can make written data stable */
    uint32_t direct;
    uint32_t discard; /* 1: DISCARD is served; then the next three hold */
    uint32_t discard_secure;
    uint32_t discard_granularity; /* bytes */
    uint32_t discard_alignment;   /* bytes */
    char engine[16];
};

/* What is done with the grants of a frontend that keeps them. */
enum worker_grants {
    WORKER_GRANTS_NOT_KEPT = 0, /* each is copied by the hypervisor */
    WORKER_GRANTS_IN_PLACE = 1, /* they stay mapped, and I/O is done on the guest's pages */
    WORKER_GRANTS_COPIED = 2    /* they stay mapped, and the processor copies */
};

struct worker_connect_queue {
    uint32_t queue; /* index */
    uint32_t queue_count;
    uint32_t abi;        /* enum blkif_abi */
    uint32_t ring_order; /* 1 << ring_order pages */
    uint32_t max_requests;
    uint32_t max_segments; /* per request in the ring's slots; over 11: multi-block requests */
    uint32_t max_indirect_segments; /* per indirect request; 0: not offered */
    uint32_t persistent;            /* enum worker_grants */
    uint32_t local_port;            /* bound on the attached event channel handle */
    uint32_t recover; /* 1: a predecessor served the ring: its journal is gone on with. Nothing
                         begins before all queues are connected */
    uint32_t max_event_delay_ms; /* after events that bring nothing; 0: none */
    uint32_t work_per_turn;      /* bytes, of a ring that shares its thread */
    uint32_t ring_refs[STATE_MAX_RING_PAGES];
};

struct worker_limits {
    uint64_t requests; /* per second, over all queues; 0: no limit */
    uint64_t requests_burst;
    uint64_t bytes; /* the same for bytes of data */
    uint64_t bytes_burst;
    uint32_t weight; /* beside the worker's other vbds */
    uint32_t
        let_through; /* 1: what the rings hold by now does not wait, for the frontend is leaving */
};

struct worker_message {
    uint32_t magic;
    uint16_t version;
    uint16_t type; /* enum worker_message_type */
    uint32_t vbd;
    int32_t error; /* FAILED, BROKEN, ALERT: -errno; RESUME: see there */
    union {
        struct worker_open_store open_store;
        struct worker_store_opened store_opened;
        struct worker_connect_queue connect_queue;
        struct worker_limits limits;
        char text[STATE_TEXT_MAX]; /* FAILED, BROKEN, ALERT: the reason, for people;
                                      READY: the sandbox, as in connection_file */
    } u;
};

/* A blank message of that type. */
struct worker_message worker_message(enum worker_message_type type, uint32_t vbd);

/* Sends it with `fd_count` descriptors (at most WORKER_MESSAGE_MAX_FDS), which stay the caller's.
 * Never waits. Returns 0; -EAGAIN when the other side reads too little; or -errno. */
int worker_message_send(int socket, const struct worker_message *message, const int *fds,
                        unsigned fd_count);

/*
 * Receives one; descriptors come with close-on-exec and are the caller's. Returns 0; -EAGAIN when
 * none waits; -ECONNRESET at hang-up; -EBADMSG for a message of wrong length, magic, version, type
 * or too many descriptors (which are closed). `fds` has WORKER_MESSAGE_MAX_FDS places, unused ones
 * -1. Text is terminated on return.
 */
int worker_message_receive(int socket, struct worker_message *out, int *fds);

/*
 * Locks on an image, as open file description locks of one byte each (F_OFD_SETLK), far past any
 * data. Ownership is the broker's for as long as the disk is attached; the fence is the worker's,
 * on the description its I/O uses, so that it is free only when that I/O is over. See
 * docs/architecture.md, "Locks".
 */
#define IMAGE_LOCK_OWNERSHIP ((int64_t)((UINT64_C(1) << 62) - 1))
int64_t image_fence_offset(uint32_t domid, uint32_t devid);

/* Takes a lock byte without blocking. Returns 0, -EAGAIN when held elsewhere, or -errno. */
int image_lock(int fd, int64_t offset, bool exclusive);
int image_unlock(int fd, int64_t offset);

/* Whether nobody else holds the byte, in any mode. What can't be found out is not free. */
bool image_lock_is_free(int fd, int64_t offset);

#endif
