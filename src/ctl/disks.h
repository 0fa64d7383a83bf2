/* SPDX-License-Identifier: BSD-2-Clause */
/* The disks that the state files tell of. */
#ifndef BLKBACK_CTL_DISKS_H
#define BLKBACK_CTL_DISKS_H

#include "blkback/state_files.h"

#include <stdbool.h>
#include <stddef.h>

struct ctl_sample {
    bool valid; /* the slab could be read */
    bool store_paused;
    uint32_t in_flight;
    uint64_t log_suppressed; /* by the worker */
    struct slab_statistics statistics;
};

struct ctl_disk {
    struct connection_file connection;
    struct ctl_sample sample;
    bool have_rates;
    double read_rate, write_rate; /* bytes per second */
};

/* Which disks are asked for. */
struct ctl_filter {
    bool by_domid, by_devid;
    uint32_t domid, devid;
    const char *vdev; /* NULL: any */
};

struct ctl_disks {
    struct ctl_disk *disks; /* sorted by domain and device */
    unsigned count;
    unsigned unreadable; /* files that were complained about */
};

/*
 * Reads all state files in `state_dir` that fit the filter, twice and `interval` seconds apart for
 * the rates (0: once, without rates). Returns 0 or -errno (-ENOENT: there is no such folder).
 */
int ctl_disks_read(const char *state_dir, const struct ctl_filter *filter, double interval,
                   struct ctl_disks *out);
void ctl_disks_free(struct ctl_disks *disks);

/* "[DOMID [VDEV]]", VDEV being a name or a number, or a backend path. Returns 0 or -EINVAL. `out`
 * comes zeroed. */
int ctl_parse_disk(int count, char **words, struct ctl_filter *out);

/* "Connected" and so on, of the backend. */
const char *ctl_state_name(const struct connection_file *connection);

/* One of the counters of a slab. */
struct ctl_counter {
    const char *member; /* its name for programs */
    const char *name;   /* and for people */
    enum { CTL_COUNTS, CTL_COUNTS_BYTES, CTL_COUNTS_MICROSECONDS } kind;
    size_t offset; /* in struct slab_statistics */
};

/* All of them in the order in which they are shown: the first for NULL, NULL after the last. */
const struct ctl_counter *ctl_next_counter(const struct ctl_counter *counter);
uint64_t ctl_counter_value(const struct ctl_counter *counter, const struct slab_statistics *of);

/* What the daemon is found to be. */
struct ctl_daemon {
    bool running;
    uint32_t pid;
    char version[32];
};

void ctl_print_table(const struct ctl_disks *disks);
void ctl_print_details(const struct ctl_disk *disk);
/* Returns 0 or -ENOMEM. */
int ctl_print_json(const struct ctl_daemon *daemon, const struct ctl_disks *disks);

#endif
