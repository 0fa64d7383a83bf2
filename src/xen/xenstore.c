/* SPDX-License-Identifier: BSD-2-Clause */
/* A session with xenstored over libxenstore. */
#include "blkback/xenstore.h"

#include "blkback/parse.h"

#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <xenstore.h>

#define TRANSACTION_TRIES 100U

/*
 * Two connections: the library gives one that has watches a thread, through which each of its
 * answers has to pass, at twice the price of a request. What a request says is never older than an
 * event that was taken before it, since xenstored does one thing after the other.
 */
struct xenstore {
    struct xs_handle *handle;     /* for requests; NULL: lost, and not open again */
    struct xs_handle *watches;    /* the same */
    xs_transaction_t transaction; /* of the body that is running, else XBT_NULL */
    unsigned long flags;          /* how it is opened */
    int hangup_fd;                /* of epoll: readable when a connection was closed; -1: none */
    bool lost; /* nothing is asked any more: half a session would give half an answer */
};

/*
 * libxenstore says what went wrong in errno; a failure must never look like success, nor like an
 * answer. These are xenstored's answers (xen/io/xs_wire.h). Whatever else there is came of the
 * connection, which libxenstore has closed then: EINVAL too, which it gives for a request that was
 * under way when xenstored ended (xenstored's own is for malformed paths, which we don't make), and
 * ENOMEM, of ours or of xenstored's, which says nothing of any node.
 */
static int last_error(struct xenstore *xs)
{
    switch (errno) {
    case ENOENT:
    case EACCES:
    case EPERM:
    case EEXIST:
    case EISDIR:
    case ENOTEMPTY:
    case ENOSPC:
    case E2BIG:
    case EROFS:
    case EBUSY:
    case EAGAIN:
    case EISCONN:
    case ENOSYS:
        return -errno;
    default:
        xs->lost = true;
        return -EPIPE;
    }
}

/*
 * The socket first. A session that had it is opened again over it and nothing else: the kernel's
 * device, which libxenstore would turn to, lets a request wait for as long as there is no
 * xenstored.
 */
static int open_handle(unsigned long flags, struct xs_handle **out)
{
    errno = 0;
    *out = xs_open(flags);
    if (*out == NULL)
        return errno > 0 ? -errno : -EIO;
    return 0;
}

/* The library keeps its socket to itself, but its is the first descriptor that it opens, and so the
 * lowest that was free. */
static int lowest_free_descriptor(int any)
{
    const int fd = fcntl(any, F_DUPFD_CLOEXEC, 0);

    if (fd >= 0)
        (void)close(fd);
    return fd;
}

static bool is_connected_to_a_name(int fd)
{
    struct sockaddr_un peer = {.sun_family = AF_UNSPEC};
    socklen_t length = sizeof(peer);

    return getpeername(fd, (struct sockaddr *)&peer, &length) == 0 && peer.sun_family == AF_UNIX &&
           length > offsetof(struct sockaddr_un, sun_path);
}

/* Of that descriptor only its end is an event, not what the library reads. */
static bool tells_of_hangup(int epoll_fd, int fd)
{
    struct epoll_event event = {.events = EPOLLRDHUP};

    return fd >= 0 && is_connected_to_a_name(fd) &&
           epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0;
}

static void close_handles(struct xenstore *xs)
{
    if (xs->handle != NULL)
        xs_close(xs->handle);
    if (xs->watches != NULL)
        xs_close(xs->watches);
    xs->handle = NULL;
    xs->watches = NULL;
    if (xs->hangup_fd >= 0)
        (void)close(xs->hangup_fd);
    xs->hangup_fd = -1;
}

static int open_handles(struct xenstore *xs)
{
    xs->hangup_fd = epoll_create1(EPOLL_CLOEXEC);
    if (xs->hangup_fd < 0)
        return -errno;
    const int first = lowest_free_descriptor(xs->hangup_fd);
    int error = open_handle(xs->flags, &xs->handle);
    const int second = lowest_free_descriptor(xs->hangup_fd);
    if (error == 0)
        error = open_handle(xs->flags, &xs->watches);
    if (error != 0) {
        close_handles(xs);
        return error;
    }
    if (!tells_of_hangup(xs->hangup_fd, first) || !tells_of_hangup(xs->hangup_fd, second)) {
        (void)close(xs->hangup_fd);
        xs->hangup_fd = -1;
    }
    return 0;
}

/*
 * xs_close() cancels the thread that reads events, for which glibc loads libgcc_s when it is first
 * needed, and ends the process when it can't. So it is loaded while there is memory: backtrace()
 * goes through the same door.
 */
static void load_unwinder(void)
{
    void *frame;
    (void)backtrace(&frame, 1);
}

int xenstore_open(struct xenstore **out)
{
    load_unwinder();
    struct xenstore *xs = calloc(1, sizeof(*xs));
    if (xs == NULL)
        return -ENOMEM;
    xs->transaction = XBT_NULL;
    xs->hangup_fd = -1;
    xs->flags = XS_OPEN_SOCKETONLY;
    int error = open_handles(xs);
    if (error != 0) {
        xs->flags = 0;
        error = open_handles(xs);
    }
    if (error != 0) {
        free(xs);
        return error;
    }
    *out = xs;
    return 0;
}

int xenstore_reopen(struct xenstore *xs)
{
    close_handles(xs);
    xs->lost = true;
    int error = open_handles(xs);
    if (error == 0)
        xs->lost = false;
    return error;
}

bool xenstore_lost(const struct xenstore *xs)
{
    return xs->lost;
}

void xenstore_close(struct xenstore *xs)
{
    if (xs == NULL)
        return;
    close_handles(xs);
    free(xs);
}

int xenstore_fd(const struct xenstore *xs)
{
    return xs_fileno(xs->watches);
}

int xenstore_hangup_fd(const struct xenstore *xs)
{
    return xs->hangup_fd;
}

int xenstore_read(struct xenstore *xs, const char *path, char *value, unsigned size)
{
    if (xs->lost)
        return -EPIPE;
    unsigned length = 0;
    char *data = xs_read(xs->handle, xs->transaction, path, &length);
    if (data == NULL)
        return last_error(xs);
    int error = 0;
    if (memchr(data, '\0', length) != NULL) {
        error = -EILSEQ;
    } else if (length >= size || length > XENSTORE_VALUE_MAX) {
        error = -E2BIG;
    } else {
        memcpy(value, data, length);
        value[length] = '\0';
    }
    free(data);
    return error;
}

static int join(const char *dir, const char *node, char path[XENSTORE_PATH_MAX])
{
    int length = snprintf(path, XENSTORE_PATH_MAX, "%s/%s", dir, node);
    return length < 0 || (unsigned)length >= XENSTORE_PATH_MAX ? -ENAMETOOLONG : 0;
}

int xenstore_read_at(struct xenstore *xs, const char *dir, const char *node, char *value,
                     unsigned size)
{
    char path[XENSTORE_PATH_MAX];
    int error = join(dir, node, path);
    return error != 0 ? error : xenstore_read(xs, path, value, size);
}

int xenstore_read_u32(struct xenstore *xs, const char *dir, const char *node, uint32_t max,
                      uint32_t *out)
{
    char value[32]; /* longer than any number of 32 bits, leading zeros aside */
    int error = xenstore_read_at(xs, dir, node, value, sizeof(value));
    if (error == -E2BIG || error == -EILSEQ)
        return -EINVAL;
    return error != 0 ? error : parse_u32(value, max, out);
}

int xenstore_write_at(struct xenstore *xs, const char *dir, const char *node, const char *value)
{
    char path[XENSTORE_PATH_MAX];
    int error = xs->lost ? -EPIPE : join(dir, node, path);
    if (error != 0)
        return error;
    return xs_write(xs->handle, xs->transaction, path, value, (unsigned)strlen(value))
               ? 0
               : last_error(xs);
}

int xenstore_printf_at(struct xenstore *xs, const char *dir, const char *node, const char *format,
                       ...)
{
    char value[XENSTORE_VALUE_MAX];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(value, sizeof(value), format, arguments);
    va_end(arguments);
    if (length < 0 || (unsigned)length >= sizeof(value))
        return -E2BIG;
    return xenstore_write_at(xs, dir, node, value);
}

int xenstore_remove_at(struct xenstore *xs, const char *dir, const char *node)
{
    char path[XENSTORE_PATH_MAX];
    int error = xs->lost ? -EPIPE : join(dir, node, path);
    if (error != 0)
        return error;
    if (xs_rm(xs->handle, xs->transaction, path))
        return 0;
    error = last_error(xs);
    return error == -ENOENT ? 0 : error;
}

int xenstore_list(struct xenstore *xs, const char *path, char ***names, unsigned *count)
{
    if (xs->lost)
        return -EPIPE;
    unsigned found = 0;
    char **list = xs_directory(xs->handle, xs->transaction, path, &found);
    if (list == NULL)
        return last_error(xs);
    *names = list;
    *count = found;
    return 0;
}

int xenstore_transaction(struct xenstore *xs, int (*body)(struct xenstore *xs, void *context),
                         void *context)
{
    for (unsigned i = 0; i < TRANSACTION_TRIES; i++) {
        if (xs->lost)
            return -EPIPE;
        xs->transaction = xs_transaction_start(xs->handle);
        if (xs->transaction == XBT_NULL)
            return last_error(xs);
        int error = body(xs, context);
        xs_transaction_t transaction = xs->transaction;
        xs->transaction = XBT_NULL;
        if (xs->lost)
            return -EPIPE;
        if (error != 0) {
            xs_transaction_end(xs->handle, transaction, true);
            return error;
        }
        if (xs_transaction_end(xs->handle, transaction, false))
            return 0;
        if (errno != EAGAIN)
            return last_error(xs);
    }
    return -EAGAIN;
}

int xenstore_domain_introduced(struct xenstore *xs, uint32_t domid, bool *out)
{
    if (xs->lost)
        return -EPIPE;
    errno = 0;
    bool introduced = xs_is_domain_introduced(xs->handle, domid);
    /* "No" and a failure look the same but for errno. */
    if (!introduced && errno != 0)
        return last_error(xs);
    *out = introduced;
    return 0;
}

int xenstore_watch(struct xenstore *xs, const char *path, const char *token)
{
    if (xs->lost)
        return -EPIPE;
    return xs_watch(xs->watches, path, token) ? 0 : last_error(xs);
}

int xenstore_unwatch(struct xenstore *xs, const char *path, const char *token)
{
    if (xs->lost)
        return -EPIPE;
    return xs_unwatch(xs->watches, path, token) ? 0 : last_error(xs);
}

static bool answers(struct xs_handle *handle)
{
    unsigned length;
    char *value = xs_read(handle, XBT_NULL, "domid", &length);
    bool yes = value != NULL || errno == ENOENT || errno == EACCES;

    free(value);
    return yes;
}

bool xenstore_alive(struct xenstore *xs)
{
    if (!xs->lost)
        xs->lost = !answers(xs->handle) || !answers(xs->watches);
    return !xs->lost;
}

static int copy_text(const char *text, char *out, unsigned size)
{
    size_t length = strlen(text);
    if (length >= size)
        return -E2BIG;
    memcpy(out, text, length + 1);
    return 0;
}

int xenstore_next_event(struct xenstore *xs, char *path, unsigned path_size, char *token,
                        unsigned token_size)
{
    for (;;) {
        if (xs->lost)
            return -EPIPE;
        errno = 0;
        char **event = xs_check_watch(xs->watches);
        if (event == NULL && errno == EAGAIN)
            return -EAGAIN;
        if (event == NULL) {
            xs->lost = true;
            return -EPIPE;
        }
        /* A path too long to be one of ours: its event concerns nobody. */
        bool fits = copy_text(event[XS_WATCH_PATH], path, path_size) == 0 &&
                    copy_text(event[XS_WATCH_TOKEN], token, token_size) == 0;
        free(event);
        if (fits)
            return 0;
    }
}
