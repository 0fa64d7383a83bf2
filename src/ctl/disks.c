/* SPDX-License-Identifier: BSD-2-Clause */
/* Reading state files: each is opened, read with pread() and closed, so that a worker that hangs
 * does not matter. */
#include "disks.h"

#include "blkback/log.h"
#include "ctl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char connection_suffix[] = ".conn";

const char *ctl_state_name(const struct connection_file *connection)
{
    static const char *const names[] = {"Unknown",     "Initialising",  "InitWait",
                                        "Initialised", "Connected",     "Closing",
                                        "Closed",      "Reconfiguring", "Reconfigured"};

    return connection->backend_state < sizeof(names) / sizeof(names[0])
               ? names[connection->backend_state]
               : "Unknown";
}

static bool filter_fits(const struct ctl_filter *filter, const struct connection_file *connection)
{
    return (!filter->by_domid || connection->domid == filter->domid) &&
           (!filter->by_devid || connection->devid == filter->devid) &&
           (!filter->vdev || strcmp(connection->vdev, filter->vdev) == 0);
}

static void take_sample(int dir_fd, const struct connection_file *connection,
                        struct ctl_sample *out)
{
    struct slab_header *header = malloc(sizeof(*header));
    char name[64];

    memset(out, 0, sizeof(*out));
    (void)snprintf(name, sizeof(name), "%u-%u.slab", connection->domid, connection->devid);
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (header && fd >= 0 && slab_read_header(fd, header) == 0) {
        out->valid = true;
        out->store_paused = header->store_paused != 0;
        out->log_suppressed = header->log_suppressed;
        slab_sum(header, &out->statistics, &out->in_flight);
    }
    if (fd >= 0)
        (void)close(fd);
    free(header);
}

static int append(struct ctl_disks *disks, const struct connection_file *connection)
{
    struct ctl_disk *grown =
        reallocarray(disks->disks, (size_t)disks->count + 1, sizeof(*disks->disks));

    if (!grown)
        return -ENOMEM;
    disks->disks = grown;
    memset(&grown[disks->count], 0, sizeof(*grown));
    grown[disks->count++].connection = *connection;
    return 0;
}

static int take_file(int dir_fd, const char *name, const struct ctl_filter *filter,
                     struct ctl_disks *disks)
{
    struct connection_file connection = {0};
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

    if (fd < 0 && errno == ENOENT)
        return 0; /* detached since the folder was listed */
    int rc = fd < 0 ? -errno : connection_read(fd, &connection);
    if (fd >= 0)
        (void)close(fd);
    if (rc) {
        ctl_complain("%s: %s", name,
                     rc == -EBADMSG  ? "damaged"
                     : rc == -EPROTO ? "written by a version that does not fit this blkbackctl"
                                     : strerror(-rc));
        disks->unreadable++;
        return 0;
    }
    return filter_fits(filter, &connection) ? append(disks, &connection) : 0;
}

static bool is_connection_file(const char *name)
{
    size_t length = strlen(name);

    return name[0] != '.' && length > sizeof(connection_suffix) - 1 &&
           strcmp(name + length - (sizeof(connection_suffix) - 1), connection_suffix) == 0;
}

static int by_domain_and_device(const void *a, const void *b)
{
    const struct connection_file *x = &((const struct ctl_disk *)a)->connection;
    const struct connection_file *y = &((const struct ctl_disk *)b)->connection;

    if (x->domid != y->domid)
        return x->domid < y->domid ? -1 : 1;
    return x->devid == y->devid ? 0 : x->devid < y->devid ? -1 : 1;
}

static int take_folder(DIR *folder, const struct ctl_filter *filter, struct ctl_disks *disks)
{
    const struct dirent *entry;

    errno = 0;
    while ((entry = readdir(folder))) {
        int rc = is_connection_file(entry->d_name)
                     ? take_file(dirfd(folder), entry->d_name, filter, disks)
                     : 0;
        if (rc)
            return rc;
        errno = 0;
    }
    if (errno)
        return -errno;
    if (disks->count > 1)
        qsort(disks->disks, disks->count, sizeof(*disks->disks), by_domain_and_device);
    return 0;
}

/* Bytes per second; 0 where the counter began again. */
static double rate(uint64_t before, uint64_t after, double seconds)
{
    return after > before ? (double)(after - before) / seconds : 0.0;
}

static double now_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void take_samples(int dir_fd, double interval, struct ctl_disks *disks)
{
    struct timespec pause = {.tv_sec = (time_t)interval,
                             .tv_nsec = (long)((interval - (double)(time_t)interval) * 1e9)};
    double start = now_seconds();

    for (unsigned i = 0; i < disks->count; i++)
        take_sample(dir_fd, &disks->disks[i].connection, &disks->disks[i].sample);
    if (interval <= 0 || disks->count == 0)
        return;
    while (nanosleep(&pause, &pause) && errno == EINTR)
        ;
    double seconds = now_seconds() - start;
    for (unsigned i = 0; i < disks->count; i++) {
        struct ctl_disk *disk = &disks->disks[i];
        struct ctl_sample first = disk->sample;

        take_sample(dir_fd, &disk->connection, &disk->sample);
        disk->have_rates = first.valid && disk->sample.valid;
        disk->read_rate =
            rate(first.statistics.read_bytes, disk->sample.statistics.read_bytes, seconds);
        disk->write_rate =
            rate(first.statistics.written_bytes, disk->sample.statistics.written_bytes, seconds);
    }
}

int ctl_disks_read(const char *state_dir, const struct ctl_filter *filter, double interval,
                   struct ctl_disks *out)
{
    struct ctl_disks disks = {0};
    DIR *folder = opendir(state_dir);

    if (!folder)
        return -errno;
    int rc = take_folder(folder, filter, &disks);
    if (rc == 0)
        take_samples(dirfd(folder), interval, &disks);
    (void)closedir(folder);
    if (rc) {
        ctl_disks_free(&disks);
        return rc;
    }
    *out = disks;
    return 0;
}

void ctl_disks_free(struct ctl_disks *disks)
{
    free(disks->disks);
    memset(disks, 0, sizeof(*disks));
}
