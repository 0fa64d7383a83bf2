/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * State files of any contents: the connection file, and the slab's header as broker and blkbackctl
 * read it. Each begins as a right one, is changed in some places and cut or made longer; a flag
 * makes its checksum right again, so that what is behind that is reached.
 */
#include "fuzz.h"

#include "blkback/state_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* What another version's file would be told apart by; a file that reads well has ours. */
static void check_version(int fd, bool reads_well)
{
    uint16_t major = 0;
    uint16_t minor = 0;
    const int rc = state_file_version(fd, &major, &minor);

    CHECK(rc == 0 || (rc == -EBADMSG && !reads_well));
    CHECK(!reads_well || major == STATE_VERSION_MAJOR);
}

static void check_connection(const struct connection_file *connection)
{
    CHECK(connection->queue_count <= STATE_MAX_QUEUES && connection->ring_order <= 5);
    CHECK(fuzz_terminated(connection->boot_id, sizeof(connection->boot_id)));
    CHECK(fuzz_terminated(connection->domain_uuid, sizeof(connection->domain_uuid)));
    CHECK(fuzz_terminated(connection->class_name, sizeof(connection->class_name)));
    CHECK(fuzz_terminated(connection->vdev, sizeof(connection->vdev)));
    CHECK(fuzz_terminated(connection->engine, sizeof(connection->engine)));
    CHECK(fuzz_terminated(connection->target, sizeof(connection->target)));
    CHECK(fuzz_terminated(connection->reason, sizeof(connection->reason)));
}

static void read_connection(int fd)
{
    struct connection_file connection;
    struct connection_file untouched;

    memset(&connection, 0x5a, sizeof(connection));
    memset(&untouched, 0x5a, sizeof(untouched));
    const int rc = connection_read(fd, &connection);

    check_version(fd, rc == 0);

    if (rc == 0) {
        check_connection(&connection);
    } else {
        CHECK(rc == -EBADMSG || rc == -EPROTO);
        CHECK(memcmp(&connection, &untouched, sizeof(connection)) == 0);
    }
}

/* What is written is what was to be written, whatever it is, and reads as that. */
static void write_connection(const struct connection_file *connection)
{
    static int folder_fd = -1;
    struct connection_file back;

    if (folder_fd < 0)
        folder_fd = open(fuzz_folder(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(connection_write(folder_fd, "7-51712.conn", connection) == 0);
    const int fd = openat(folder_fd, "7-51712.conn", O_RDONLY | O_CLOEXEC);

    CHECK(fd >= 0);
    if (connection_read(fd, &back) == 0)
        CHECK(memcmp(&back, connection, sizeof(back)) == 0);
    (void)close(fd);
}

static void fuzz_connection(struct input *input, uint8_t flags)
{
    struct connection_file files[2];
    size_t size = sizeof(files[0]);

    memset(files, 0, sizeof(files));
    files[0].queue_count = 1;
    input_patches(input, files, sizeof(files[0]), input_u8(input));
    if (flags & 2)
        connection_seal(&files[0]);
    if (flags & 4)
        size = input_u16(input) % (sizeof(files) + 1);
    const int fd = fuzz_file(files, size);

    read_connection(fd);
    (void)close(fd);
    if (flags & 8)
        write_connection(&files[0]);
}

static void check_slab(const struct slab_header *header)
{
    struct slab_statistics sum;
    uint32_t in_flight;

    CHECK(header->magic == SLAB_MAGIC && header->version_major == STATE_VERSION_MAJOR);
    CHECK(header->queue_count <= STATE_MAX_QUEUES && header->entries_end <= header->file_size);
    for (uint32_t i = 0; i < header->queue_count; i++) {
        const struct slab_queue *queue = &header->queues[i];

        if (queue->slots == 0)
            continue;
        CHECK(queue->slots <= STATE_MAX_SLOTS && (queue->slots & (queue->slots - 1)) == 0);
        CHECK(queue->entries <= queue->slots);
        CHECK(queue->entries_offset >= sizeof(*header));
        CHECK(queue->entries_offset + (uint64_t)queue->entries * sizeof(struct slab_entry) <=
              header->file_size);
    }
    slab_sum(header, &sum, &in_flight);
}

static void fuzz_slab(struct input *input, uint8_t flags)
{
    struct slab_header *header = calloc(1, sizeof(*header));
    struct slab_header *read = malloc(sizeof(*read));
    size_t size = sizeof(*header);

    CHECK(header != NULL && read != NULL);
    header->magic = SLAB_MAGIC;
    header->version_major = STATE_VERSION_MAJOR;
    header->queue_count = 1;
    header->file_size = sizeof(*header) + 4096;
    header->queues[0].slots = header->queues[0].entries = 32;
    header->queues[0].entries_offset = sizeof(*header);
    input_patches(input, header, sizeof(*header), input_u8(input));
    if (flags & 4)
        size = input_u16(input) % (size + 1);
    const int fd = fuzz_file(header, size);
    const int rc = slab_read_header(fd, read);

    CHECK(rc == 0 || rc == -EBADMSG || rc == -EPROTO);
    check_version(fd, rc == 0);
    if (rc == 0)
        check_slab(read);
    (void)close(fd);
    free(read);
    free(header);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {.at = data, .left = size};
    const uint8_t flags = input_u8(&input);
    struct connection_file connection;

    if (flags & 1)
        fuzz_slab(&input, flags);
    else
        fuzz_connection(&input, flags);
    CHECK(connection_read(-1, &connection) == -EBADF);
    return 0;
}
