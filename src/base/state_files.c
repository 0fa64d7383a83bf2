/* SPDX-License-Identifier: BSD-2-Clause */
/* Reading and writing the connection file, reading the slab's header; what is read is checked
 * before anyone uses it. */
#include "blkback/state_files.h"

#include "blkback/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What version 1.0 wrote; a later minor version may append, never shorten. */
#define CONNECTION_BYTES_MIN 2864U
#define CONNECTION_BYTES_MAX (2U * sizeof(struct connection_file))

_Static_assert(sizeof(struct connection_file) >= CONNECTION_BYTES_MIN, "layout of version 1.0");
_Static_assert(offsetof(struct connection_file, size_bytes) == 80, "no hidden padding");

#define FNV_OFFSET UINT32_C(2166136261)
#define FNV_PRIME  UINT32_C(16777619)

static uint32_t fnv1a(uint32_t hash, const unsigned char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        hash = (hash ^ bytes[i]) * FNV_PRIME;
    return hash;
}

/* Of `size` bytes that begin as a connection file does, the checksum's own bytes taken as zero. */
static uint32_t checksum_of(const unsigned char *bytes, size_t size)
{
    static const unsigned char zero[sizeof(uint32_t)];
    const size_t at = offsetof(struct connection_file, checksum);
    uint32_t hash = fnv1a(FNV_OFFSET, bytes, at);

    hash = fnv1a(hash, zero, sizeof(zero));
    return fnv1a(hash, bytes + at + sizeof(zero), size - at - sizeof(zero));
}

uint32_t connection_checksum(const struct connection_file *connection)
{
    return checksum_of((const unsigned char *)connection, sizeof(*connection));
}

void connection_seal(struct connection_file *connection)
{
    connection->magic = CONNECTION_MAGIC;
    connection->version_major = STATE_VERSION_MAJOR;
    connection->version_minor = STATE_VERSION_MINOR;
    connection->size = sizeof(*connection);
    connection->checksum = connection_checksum(connection);
}

/* Reads up to `size` bytes from the start of the file. Returns how many there were, or -errno. */
static ssize_t read_start(int fd, void *buffer, size_t size)
{
    size_t used = 0;

    while (used < size) {
        ssize_t got = pread(fd, (char *)buffer + used, size - used, (off_t)used);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        used += (size_t)got;
    }
    return (ssize_t)used;
}

static bool terminated(const char *text, size_t size)
{
    return memchr(text, '\0', size) != NULL;
}

static bool connection_valid(const struct connection_file *connection)
{
    return connection->queue_count <= STATE_MAX_QUEUES && connection->ring_order < 32U &&
           UINT32_C(1) << connection->ring_order <= STATE_MAX_RING_PAGES &&
           terminated(connection->boot_id, sizeof(connection->boot_id)) &&
           terminated(connection->domain_uuid, sizeof(connection->domain_uuid)) &&
           terminated(connection->class_name, sizeof(connection->class_name)) &&
           terminated(connection->vdev, sizeof(connection->vdev)) &&
           terminated(connection->engine, sizeof(connection->engine)) &&
           terminated(connection->target, sizeof(connection->target)) &&
           terminated(connection->reason, sizeof(connection->reason)) &&
           terminated(connection->sandbox, sizeof(connection->sandbox));
}

int connection_read(int fd, struct connection_file *out)
{
    unsigned char bytes[CONNECTION_BYTES_MAX];
    struct connection_file connection = {0};
    ssize_t got = read_start(fd, bytes, sizeof(bytes));

    if (got < 0)
        return (int)got;
    size_t size = (size_t)got;
    if (size < CONNECTION_BYTES_MIN)
        return -EBADMSG;
    memcpy(&connection, bytes, size < sizeof(connection) ? size : sizeof(connection));
    if (connection.magic != CONNECTION_MAGIC)
        return -EBADMSG;
    if (connection.version_major != STATE_VERSION_MAJOR)
        return -EPROTO;
    if (connection.size != size || connection.checksum != checksum_of(bytes, size) ||
        !connection_valid(&connection))
        return -EBADMSG;
    *out = connection;
    return 0;
}

static int write_all(int fd, const void *buffer, size_t size)
{
    size_t used = 0;

    while (used < size) {
        ssize_t put = write(fd, (const char *)buffer + used, size - used);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -errno;
        used += (size_t)put;
    }
    return 0;
}

int connection_write(int dir_fd, const char *name, const struct connection_file *connection)
{
    char temporary[64];
    int length = snprintf(temporary, sizeof(temporary), ".%s.new", name);

    if (length < 0 || (size_t)length >= sizeof(temporary) || strchr(name, '/'))
        return -EINVAL;
    /* One left by a writer that was killed half-way. */
    if (unlinkat(dir_fd, temporary, 0) && errno != ENOENT)
        return -errno;
    int fd = openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    int rc = write_all(fd, connection, sizeof(*connection));
    if (close(fd) && rc == 0)
        rc = -errno;
    if (rc == 0 && renameat(dir_fd, temporary, dir_fd, name))
        rc = -errno;
    if (rc)
        (void)unlinkat(dir_fd, temporary, 0);
    return rc;
}

static bool slab_queue_valid(const struct slab_queue *queue, uint64_t file_size)
{
    uint32_t slots = queue->slots;

    if (slots == 0)
        return true;
    return slots <= STATE_MAX_SLOTS && (slots & (slots - 1U)) == 0 && queue->entries <= slots &&
           queue->entries_offset >= sizeof(struct slab_header) &&
           range_within(queue->entries_offset, (uint64_t)queue->entries * sizeof(struct slab_entry),
                        file_size);
}

int slab_read_header(int fd, struct slab_header *out)
{
    struct slab_header header;
    ssize_t got = read_start(fd, &header, sizeof(header));

    if (got < 0)
        return (int)got;
    if ((size_t)got < sizeof(header) || header.magic != SLAB_MAGIC)
        return -EBADMSG;
    if (header.version_major != STATE_VERSION_MAJOR)
        return -EPROTO;
    if (header.queue_count > STATE_MAX_QUEUES || header.file_size < sizeof(header) ||
        header.entries_end > header.file_size)
        return -EBADMSG;
    for (uint32_t i = 0; i < header.queue_count; i++)
        if (!slab_queue_valid(&header.queues[i], header.file_size))
            return -EBADMSG;
    memcpy(out, &header, sizeof(header));
    return 0;
}

int state_file_version(int fd, uint16_t *major, uint16_t *minor)
{
    struct {
        uint64_t magic;
        uint16_t major;
        uint16_t minor;
        uint32_t rest;
    } start;
    ssize_t got = read_start(fd, &start, sizeof(start));

    if (got < 0)
        return (int)got;
    if ((size_t)got < sizeof(start) ||
        (start.magic != CONNECTION_MAGIC && start.magic != SLAB_MAGIC))
        return -EBADMSG;
    *major = start.major;
    *minor = start.minor;
    return 0;
}

/* A slab's statistics are counters and nothing else, the reserved ones zero. */
static void add_counters(struct slab_statistics *sum, const struct slab_statistics *part)
{
    uint64_t to[sizeof(*sum) / sizeof(uint64_t)];
    uint64_t from[sizeof(*part) / sizeof(uint64_t)];

    memcpy(to, sum, sizeof(to));
    memcpy(from, part, sizeof(from));
    for (unsigned i = 0; i < sizeof(to) / sizeof(to[0]); i++)
        to[i] += from[i];
    memcpy(sum, to, sizeof(to));
}

void slab_sum(const struct slab_header *header, struct slab_statistics *out, uint32_t *in_flight)
{
    struct slab_statistics sum = {0};
    uint32_t flying = 0;
    uint32_t count =
        header->queue_count <= STATE_MAX_QUEUES ? header->queue_count : STATE_MAX_QUEUES;

    for (uint32_t i = 0; i < count; i++) {
        flying += header->queues[i].in_flight;
        add_counters(&sum, &header->queues[i].statistics);
    }
    *out = sum;
    *in_flight = flying;
}
