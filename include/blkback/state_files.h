/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The layout of the two state files of a vbd, which a successor needs to take it over.
 *
 * The connection file is the broker's: who the frontend is and what was negotiated; nothing in it
 * comes from the worker. The slab is the worker's: what was taken from each ring and not answered
 * yet, and the statistics. The order in which the slab is stored to is the journal's (journal.h).
 * Broker and blkbackctl read the slab with pread() and never map it: a worker that was taken over
 * could truncate it under them.
 *
 * Both live on tmpfs, in host byte order: they survive processes, not the host.
 */
#ifndef BLKBACK_STATE_FILES_H
#define BLKBACK_STATE_FILES_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define STATE_VERSION_MAJOR 1U /* readers refuse another major version */
#define STATE_VERSION_MINOR 3U /* readers accept another minor version */

/*
 * A minor version may append fields to the connection file, 0 meaning what held before them, and
 * take `reserved` ones of the slab into use in the same way; each reads the other's. Everything
 * else is a major version, and a pause that guests notice: `blkbackd --check-upgrade` says so
 * before.
 */
#define STATE_MAX_QUEUES     16U
#define STATE_MAX_RING_PAGES 32U
#define STATE_MAX_SLOTS \
    1024U /* of one ring: 32 pages of 112-byte entries, rounded down to a power of two */
#define STATE_TEXT_MAX    256U
#define STATE_SANDBOX_MAX 200U

/* ---- connection file: "<domid>-<devid>.conn" ---- */

#define CONNECTION_MAGIC UINT64_C(0x4e4f43444b434142) /* "BACKDCON" as little-endian bytes */

struct connection_queue {
    uint32_t remote_port;
    uint32_t ring_refs[STATE_MAX_RING_PAGES];
};

struct connection_file {
    uint64_t magic;
    uint16_t version_major;
    uint16_t version_minor;
    uint32_t size;     /* sizeof(struct connection_file) of the writer */
    uint32_t checksum; /* connection_checksum() with this field zero */
    uint32_t domid;
    uint32_t devid;
    uint32_t backend_state; /* XenBus state the broker wrote last */
    uint32_t online;
    uint32_t worker_pid; /* 0: none */
    uint32_t abi;        /* enum blkif_abi; the fields from here to queues hold while connected */
    uint32_t ring_order;
    uint32_t queue_count; /* 0: not connected */
    uint32_t max_requests;
    uint32_t max_segments;
    uint32_t read_only;
    uint32_t sector_size;
    uint32_t direct;            /* image is open with O_DIRECT */
    uint32_t evtchn_restricted; /* 0 where it can't be: domain 0 */
    uint32_t pad;               /* 0: the checksum covers every byte, so there are no hidden ones */
    uint64_t size_bytes;        /* of the disk */
    uint64_t image_device;      /* st_dev (a file) or st_rdev (a device); 0: null store */
    uint64_t image_inode;
    char boot_id[40];
    char domain_uuid[40];
    char class_name[8]; /* "vbd", "vbd3" */
    char vdev[32];      /* "xvda": what the toolstack's `dev` says */
    char engine[16];
    char target[STATE_TEXT_MAX];
    char reason[STATE_TEXT_MAX]; /* why the disk can't be served; empty if it can */
    struct connection_queue queues[STATE_MAX_QUEUES];
    uint32_t max_indirect_segments;  /* while connected */
    uint32_t persistent;             /* the same: granted pages may stay mapped */
    uint32_t removable;              /* a drive; empty while `target` is */
    uint32_t discard;                /* the guest may */
    uint32_t forgotten;              /* XenStore has lost its nodes: no successor can take it up */
    uint32_t pad2;                   /* 0 */
    char sandbox[STATE_SANDBOX_MAX]; /* its worker's: "full", "partial: " and what is left out,
                                        "off"; empty: no worker */
    /* Since minor version 1; of this broker, since it found the disk. */
    uint64_t log_suppressed;   /* lines about the disk that the broker did not log */
    uint64_t connects;         /* times that the frontend was connected */
    uint64_t connects_delayed; /* times that it had to wait: reconnects-per-minute */
    uint64_t states_delayed;   /* looks at its state that had to wait: a storm of changes */
    /* Since minor version 2. */
    uint64_t request_limit; /* per second, over all rings; 0: none */
    uint64_t request_burst; /* at once; 0: a tenth of a second's worth */
    uint64_t byte_limit;    /* the same for bytes of data */
    uint64_t byte_burst;
    uint32_t weight; /* beside other disks of the guest; 0: the standard one */
    uint32_t
        limits_by_hand; /* they were set while the disk was served, and hold until it is gone */
};

/* FNV-1a over the whole struct with `checksum` taken as zero. */
uint32_t connection_checksum(const struct connection_file *connection);

/* Fills magic, version and size, then the checksum. */
void connection_seal(struct connection_file *connection);

/*
 * Reads and checks a connection file: magic, versions, checksum, counts in range, every string
 * terminated. Returns 0; -EBADMSG when it is not one or damaged; -EPROTO for another major version;
 * else errno of the read.
 */
int connection_read(int fd, struct connection_file *out);

/* Writes it under `name` in the folder `dir_fd`, 0600, by a temporary file and rename. Returns 0 or
 * -errno. */
int connection_write(int dir_fd, const char *name, const struct connection_file *connection);

/* ---- slab: "<domid>-<devid>.slab" ---- */

#define SLAB_MAGIC UINT64_C(0x42414c53444b4342) /* "BCKDSLAB" */

enum slab_entry_state { SLAB_FREE = 0, SLAB_TAKEN = 1, SLAB_STARTED = 2, SLAB_DONE = 3 };

/* A data segment of a request, as decoded; also the wire layout of blkif's segments. */
struct slab_segment {
    uint32_t gref;
    uint8_t first_sector; /* of the granted page, in 512-byte units, both inclusive */
    uint8_t last_sector;
    uint16_t pad;
};

/* One request that was taken and not answered. 64 bytes: a cache line. */
struct slab_entry {
    _Atomic uint32_t state; /* enum slab_entry_state, stored with release order */
    uint32_t epoch;         /* of the worker that took it */
    uint64_t seq;           /* free-running number of its first slot */
    uint64_t id;            /* the frontend's, opaque */
    uint64_t sector;        /* 512-byte units */
    uint8_t operation;      /* BLKIF_OP_*, of the inner request for an indirect one */
    uint8_t response_operation;
    int16_t status;    /* BLKIF_RSP_*: the answer, in DONE; other than OKAY in TAKEN: the same,
                          and nothing is to be done */
    uint16_t segments; /* number of */
    uint8_t slots;     /* 1 to 19 */
    uint8_t flags;     /* SLAB_ENTRY_* */
    uint32_t extent;   /* offset of the segments in the file; 0: none */
    uint32_t bytes;    /* of data, all segments together */
    uint64_t discard_sectors; /* of a discard, 512-byte units */
    uint64_t reserved;        /* 0 */
};

#define SLAB_ENTRY_SECURE 1U /* a discard that must erase */

_Static_assert(sizeof(struct slab_entry) == 64, "a slab entry is one cache line");

struct slab_statistics {
    uint64_t reads, writes, flushes, barriers, discards; /* requests answered with OK */
    uint64_t read_bytes, written_bytes;
    uint64_t errors;       /* requests answered with anything else */
    uint64_t merged;       /* requests that went to the store as part of another's I/O */
    uint64_t grant_copies; /* ioctls */
    uint64_t copied_segments;
    uint64_t notifications;  /* sent to the frontend */
    uint64_t wakeups;        /* events received from the frontend */
    uint64_t passes;         /* over the ring */
    uint64_t submissions;    /* batches given to the engine */
    uint64_t flushes_parked; /* flushes that failed and wait */
    /* Since minor version 1. */
    uint64_t fruitless_events;  /* from the frontend, with nothing new in the ring */
    uint64_t events_delayed;    /* of those: after which its next one was left alone for a while */
    uint64_t passes_limited;    /* ended at `work-per-turn` */
    uint64_t buffer_waits;      /* times that the queue had to wait for data buffers */
    uint64_t segments_failed;   /* grant copies that the hypervisor refused, by segment */
    uint64_t maps_failed;       /* grants that could not be mapped, by call */
    uint64_t requests_unmapped; /* copied, though the frontend keeps its grants */
    uint64_t mapped_grants;     /* now */
    uint64_t bytes_in_flight;   /* now: the data of requests that were taken and not answered */
    /* Since minor version 2. */
    uint64_t limit_waits;   /* times that a ring with requests began to wait for the disk's limit */
    uint64_t limit_wait_us; /* how long rings waited for it, microseconds */
    /* Since minor version 3. */
    uint64_t registered; /* transfers by a buffer that is registered with the kernel */
    uint64_t reserved[4];
};

/* One ring's part. Slots are counted free-running in 64 bits; the ring's own 32-bit indices are
 * their low halves. */
struct slab_queue {
    uint32_t slots;          /* of the ring; 0: not connected */
    uint32_t entries_offset; /* of struct slab_entry[entries] in the file */
    uint32_t in_flight;      /* entries not FREE; a hint for status */
    uint32_t entries;        /* requests in flight at most, no more than slots */
    _Atomic uint64_t req_cons;
    _Atomic uint64_t rsp_prod;
    uint16_t publishing[STATE_MAX_SLOTS]; /* entry + 1 whose response is being published in that
                                             slot; 0: none */
    struct slab_statistics statistics;
};

struct slab_header {
    uint64_t magic;
    uint16_t version_major;
    uint16_t version_minor;
    uint32_t queue_count;          /* that were ever connected; `slots` says which are */
    uint32_t epoch;                /* raised by each worker that takes the slab up */
    uint32_t entries_end;          /* where the entries end and the extents begin, bytes */
    uint64_t file_size;            /* what is allocated: no store ever goes beyond it */
    _Atomic uint32_t store_paused; /* requests that the store failed and that wait; 0: not paused */
    _Atomic uint32_t data_lost;    /* a flush through the page cache failed: a later success would
                                      mean nothing */
    uint64_t log_suppressed;       /* lines about the disk that its worker did not log */
    uint64_t reserved[10];
    struct slab_queue queues[STATE_MAX_QUEUES];
};

/* Reads the header with pread() and checks it. Returns 0, -EBADMSG, -EPROTO or errno of the read.
 */
int slab_read_header(int fd, struct slab_header *out);

/* The version in the first bytes of either file, which every version has in the same place. Returns
 * 0, -EBADMSG or errno of the read. */
int state_file_version(int fd, uint16_t *major, uint16_t *minor);

/* Sums the statistics and the requests in flight over all queues. */
void slab_sum(const struct slab_header *header, struct slab_statistics *out, uint32_t *in_flight);

#endif
