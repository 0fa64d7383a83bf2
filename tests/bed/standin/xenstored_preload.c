/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Preloaded into xenstored. Domain 0's ring page and event channel, which the kernel shows as
 * /proc/xen/xsd_kva and /proc/xen/xsd_port, are files of the bed (xsd_kva and xsd_port in
 * BLKBACKD_BED_DIR). The requests of each process are counted in its file xsd_requests: pairs of a
 * process id and a count, of 32 bits each.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xen/io/xs_wire.h>

#define PROCESSES   256U /* that can be counted; others are not */
#define CONNECTIONS 1024

struct requests {
    uint32_t pid; /* 0: free */
    uint32_t count;
};

/* By descriptor: what xenstored has taken of the message that comes, and whose it is. */
static struct connection {
    struct requests *of; /* NULL: not counted */
    struct xsd_sockmsg header;
    size_t header_taken;
    size_t body_left;
} connections[CONNECTIONS];

static void *next_of(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

static const char *bed_path(const char *name, char path[PATH_MAX])
{
    const char *dir = getenv("BLKBACKD_BED_DIR");

    if (!dir || snprintf(path, PATH_MAX, "%s/%s", dir, name) >= PATH_MAX)
        return NULL;
    return path;
}

typedef int (*open_function)(const char *path, int flags, ...);

static open_function next_open(void)
{
    static open_function next;

    if (!next) {
        void *symbol = next_of("open");

        memcpy(&next, &symbol, sizeof(symbol));
    }
    return next;
}

int open(const char *path, int flags, ...)
{
    static const char prefix[] = "/proc/xen/";
    char redirected[PATH_MAX];
    mode_t mode = 0;
    va_list args;

    if (flags & (O_CREAT | __O_TMPFILE)) {
        va_start(args, flags);
        mode = va_arg(args, mode_t);
        va_end(args);
    }
    if (strncmp(path, prefix, sizeof(prefix) - 1) == 0 &&
        bed_path(path + sizeof(prefix) - 1, redirected))
        path = redirected;
    return next_open()(path, flags, mode);
}

/* ---- counting requests ---- */

static struct requests *map_requests(void)
{
    static struct requests *table;
    const size_t size = PROCESSES * sizeof(*table);
    char path[PATH_MAX];

    if (table || !bed_path("xsd_requests", path))
        return table;
    const int fd = next_open()(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);

    if (fd >= 0 && ftruncate(fd, (off_t)size) == 0) {
        void *mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

        table = mapped == MAP_FAILED ? NULL : mapped;
    }
    if (fd >= 0)
        (void)close(fd);
    return table;
}

static struct requests *requests_of(uint32_t pid)
{
    struct requests *table = map_requests();

    for (unsigned i = 0; table && i < PROCESSES; i++) {
        if (table[i].pid == 0)
            table[i].pid = pid;
        if (table[i].pid == pid)
            return &table[i];
    }
    return NULL;
}

typedef int (*accept_function)(int fd, struct sockaddr *address, socklen_t *length);

int accept(int fd, __SOCKADDR_ARG address, socklen_t *length)
{
    static accept_function next;
    struct ucred peer;
    socklen_t size = sizeof(peer);

    if (!next) {
        void *symbol = next_of("accept");

        memcpy(&next, &symbol, sizeof(symbol));
    }
    const int new = next(fd, address.__sockaddr__, length);

    if (new >= 0 && new < CONNECTIONS) {
        connections[new] = (struct connection){.of = NULL};
        if (getsockopt(new, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0)
            connections[new].of = requests_of((uint32_t)peer.pid);
    }
    return new;
}

/* xenstored reads a message's header, then its body, each by itself. */
static void count(struct connection *connection, const char *data, size_t length)
{
    if (connection->body_left > 0) {
        connection->body_left -= length < connection->body_left ? length : connection->body_left;
        return;
    }
    if (connection->header_taken + length > sizeof(connection->header))
        return;
    memcpy((char *)&connection->header + connection->header_taken, data, length);
    connection->header_taken += length;
    if (connection->header_taken < sizeof(connection->header))
        return;
    connection->header_taken = 0;
    connection->body_left = connection->header.len;
    connection->of->count++;
}

typedef ssize_t (*read_function)(int fd, void *data, size_t size);

ssize_t read(int fd, void *data, size_t size)
{
    static read_function next;

    if (!next) {
        void *symbol = next_of("read");

        memcpy(&next, &symbol, sizeof(symbol));
    }
    const ssize_t length = next(fd, data, size);

    if (length > 0 && fd >= 0 && fd < CONNECTIONS && connections[fd].of)
        count(&connections[fd], data, (size_t)length);
    return length;
}
