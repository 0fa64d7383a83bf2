/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A session with xenstored, thin over libxenstore: strict reading of nodes, writes, transactions
 * with retry, and watches for an event loop. Paths are relative to the own domain's home unless
 * they begin with '/'.
 */
#ifndef BLKBACK_XENSTORE_H
#define BLKBACK_XENSTORE_H

#include <stdbool.h>
#include <stdint.h>

#define XENSTORE_VALUE_MAX \
    1024U /* longer values are refused (-E2BIG): none of ours has a reason to be */
#define XENSTORE_PATH_MAX 512U

struct xenstore;

/* Returns 0 or -errno (-ENOENT, -ECONNREFUSED: no xenstored). */
int xenstore_open(struct xenstore **out);
void xenstore_close(struct xenstore *xs);

/*
 * Whether the session has ended under us, as a call has found out. From then on every call gives
 * -EPIPE, which says nothing about any node: so what was found out before holds, and nothing may
 * follow from what could not be read.
 */
bool xenstore_lost(const struct xenstore *xs);

/* Another session in the place of one that was lost; watches have to be set again. Returns 0 or
 * -errno, and may be tried again. */
int xenstore_reopen(struct xenstore *xs);

/* For the loop: readable when watch events wait. Another one after xenstore_reopen(). */
int xenstore_fd(const struct xenstore *xs);

/*
 * Reads a node into `value` (`size` bytes, terminated). Returns 0, -ENOENT, -E2BIG when it does not
 * fit, -EILSEQ when it has a NUL inside, or -errno.
 */
int xenstore_read(struct xenstore *xs, const char *path, char *value, unsigned size);
/* The same for "<dir>/<node>". */
int xenstore_read_at(struct xenstore *xs, const char *dir, const char *node, char *value,
                     unsigned size);
/* A strict decimal number, at most `max`; -ENOENT, -EINVAL, -ERANGE. */
int xenstore_read_u32(struct xenstore *xs, const char *dir, const char *node, uint32_t max,
                      uint32_t *out);

int xenstore_write_at(struct xenstore *xs, const char *dir, const char *node, const char *value);
int xenstore_printf_at(struct xenstore *xs, const char *dir, const char *node, const char *format,
                       ...) __attribute__((format(printf, 4, 5)));
/* -ENOENT is success. */
int xenstore_remove_at(struct xenstore *xs, const char *dir, const char *node);

/*
 * Names of a node's children; a calloc'ed array of pointers into one block, freed by one free().
 * Returns 0 (count may be 0), -ENOENT, or -errno.
 */
int xenstore_list(struct xenstore *xs, const char *path, char ***names, unsigned *count);

/*
 * Runs `body` inside a transaction and commits; again from the start when xenstored says EAGAIN (at
 * most 100 times). Writes and reads of the session inside `body` belong to the transaction. `body`
 * returns 0 to commit or -errno to abort, which is passed on.
 */
int xenstore_transaction(struct xenstore *xs, int (*body)(struct xenstore *xs, void *context),
                         void *context);

/*
 * Readable when xenstored has closed the session, which neither makes xenstore_fd() readable nor
 * xenstore_next_event() fail: the library's own thread reads the connection. -1 where the session
 * goes through the kernel's device, which does not tell. Another one after xenstore_reopen().
 */
int xenstore_hangup_fd(const struct xenstore *xs);

/* Whether xenstored still answers. */
bool xenstore_alive(struct xenstore *xs);

/* Whether the domain exists as far as xenstored was told. Returns 0; -EACCES where we may not ask;
 * or -errno. */
int xenstore_domain_introduced(struct xenstore *xs, uint32_t domid, bool *out);

int xenstore_watch(struct xenstore *xs, const char *path, const char *token);
int xenstore_unwatch(struct xenstore *xs, const char *path, const char *token);

/* Takes one watch event without blocking. Returns 0, -EAGAIN when none waits, -EPIPE when the
 * session is lost. */
int xenstore_next_event(struct xenstore *xs, char *path, unsigned path_size, char *token,
                        unsigned token_size);

#endif
