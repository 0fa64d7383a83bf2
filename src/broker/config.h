/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Configuration: blkbackd.conf and the files of disks.d. A file is taken whole or not at all; what
 * is wrong is said with file, line and reason. Every key is described in conf/blkbackd.conf and
 * blkbackd.conf(5).
 */
#ifndef BLKBACK_BROKER_CONFIG_H
#define BLKBACK_BROKER_CONFIG_H

#include "blkback/log.h"
#include "blkback/target.h"
#include "blkback/worker_protocol.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define CONFIG_PATH_MAX 512U
#define CONFIG_WHY_MAX  1024U

enum config_claim { CLAIM_SCRIPT, CLAIM_ALL };

/* What becomes of a request that the storage fails: the guest is told, or it waits and is tried
 * again. */
enum fault_policy { FAULT_REPORT, FAULT_PAUSE };

/* What can be set globally and again for one disk. */
/* What a disk may do per second, over all its rings; 0: no limit, or the standard burst. */
struct disk_limits {
    uint32_t iops;
    uint32_t iops_burst;
    uint64_t bandwidth; /* bytes */
    uint64_t bandwidth_burst;
    uint32_t weight; /* beside the guest's other disks */
};

struct disk_options {
    enum worker_engine engine;
    bool direct;
    uint32_t sector_size; /* bytes; 0: the device's own, 512 for files */
    uint32_t max_ring_page_order;
    uint32_t max_requests; /* 0: as many as the ring has slots */
    uint32_t max_segments; /* of a request in the ring's slots: over 11 with multi-block requests */
    uint32_t max_indirect_segments; /* 0: none are offered */
    uint32_t max_queues;
    enum worker_grants grants; /* of a frontend that keeps them */
    bool discard;
    enum fault_policy on_no_space;
    enum fault_policy on_error;
    uint32_t reconnects_per_minute; /* 0: any number */
    uint64_t work_per_turn;      /* bytes, of one ring; the worker's others have their turn then */
    uint32_t max_event_delay_ms; /* of events that bring nothing; 0: none */
    uint32_t log_lines_per_minute; /* about the disk, of the broker and of the worker */
    struct disk_limits limits;
};

struct config {
    enum config_claim claim;
    enum log_level log_level;
    char run_dir[CONFIG_PATH_MAX];   /* lock file, control socket */
    char state_dir[CONFIG_PATH_MAX]; /* state files; a small tmpfs */
    char control_socket[CONFIG_PATH_MAX];
    char disks_dir[CONFIG_PATH_MAX];
    char worker[CONFIG_PATH_MAX]; /* the worker's binary; default: beside the broker's own */
    char hook[CONFIG_PATH_MAX];   /* name of the hook script; only its last component is compared */
    uint32_t worker_uid_base; /* a worker's uid and gid are this + domid; 0: stays root (tests) */
    bool worker_sandbox;      /* whether workers are confined beyond their uid */
    uint32_t attach_timeout;  /* seconds the hook's add waits for an image that is in use */
    uint64_t worker_buffer_size; /* bytes of data buffers per worker */
    uint32_t queue_threads;      /* of a worker; 0: as many as CPUs, at most disk.max_queues */
    uint32_t poll_us;            /* how long a worker's thread looks for work before it sleeps */
    uint32_t grant_budget;       /* granted pages that all guests together may keep mapped */
    struct disk_options disk;    /* defaults for every disk */
};

/* How many threads serve the queues of a worker. */
uint32_t config_queue_threads(const struct config *config);

/* One file of disks.d. */
struct disk_config {
    struct target target; /* path or null */
    bool read_only;
    bool shared; /* several writers are wanted, as with mode "w!" */
    struct disk_options options;
};

/*
 * Reads `path` over the built-in defaults. Returns 0, or -errno with "file:line: reason" in `why`
 * (CONFIG_WHY_MAX bytes) and `out` untouched.
 */
int config_load(const char *path, char *why, struct config *out);

/* Reads disks_dir/NAME.conf over the global options. Returns as config_load(). */
int config_load_disk(const struct config *config, const char *name, char *why,
                     struct disk_config *out);

/*
 * Reads every file NAME.conf of disks_dir and writes a line for each that is wrong to `out`; a
 * folder that isn't there has none. Returns 0 with the number of wrong ones, or -errno when the
 * folder can't be read, which is written too.
 */
int config_check_disks(const struct config *config, FILE *out, unsigned *wrong);

#endif
