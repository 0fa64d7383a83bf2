/* SPDX-License-Identifier: BSD-2-Clause */
/* A XenStore in memory, linked in the place of xenstore.c. */
#ifndef FAKE_XENSTORE_H
#define FAKE_XENSTORE_H

#include "blkback/xenstore.h"

#define FAKE_NODES 128U

struct xenstore {
    struct fake_node {
        char path[XENSTORE_PATH_MAX]; /* empty: free */
        char value[2 * XENSTORE_VALUE_MAX];
        unsigned length;
        int error; /* what reading it gives instead */
    } nodes[FAKE_NODES];
    unsigned writes;       /* and removals, since the beginning */
    unsigned conflicts;    /* so many transactions are to be begun again */
    unsigned transactions; /* that were begun */
    unsigned requests;     /* reads and lists, since the beginning */
    int unlisted;          /* -errno of every list, once set */
    bool in_transaction;
    int dead; /* -errno of everything, once set */
};

/* Sets a node as somebody else would; NULL removes it and what is below. */
void fake_set(struct xenstore *xs, const char *path, const char *value);
void fake_set_bytes(struct xenstore *xs, const char *path, const void *value, unsigned length);
void fake_set_error(struct xenstore *xs, const char *path, int error);

/* NULL: no such node. */
const char *fake_get(const struct xenstore *xs, const char *path);

#endif
