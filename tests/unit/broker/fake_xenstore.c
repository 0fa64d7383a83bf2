/* SPDX-License-Identifier: BSD-2-Clause */
/* A XenStore in memory, linked in the place of xenstore.c. */
#include "fake_xenstore.h"

#include "blkback/parse.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct fake_node *find(struct xenstore *xs, const char *path)
{
    for (unsigned i = 0; i < FAKE_NODES; i++)
        if (strcmp(xs->nodes[i].path, path) == 0)
            return &xs->nodes[i];
    return NULL;
}

static bool is_below(const char *path, const char *folder)
{
    size_t length = strlen(folder);
    return strncmp(path, folder, length) == 0 && path[length] == '/';
}

static bool exists(const struct xenstore *xs, const char *path)
{
    for (unsigned i = 0; i < FAKE_NODES; i++)
        if (strcmp(xs->nodes[i].path, path) == 0 || is_below(xs->nodes[i].path, path))
            return true;
    return false;
}

static void drop(struct xenstore *xs, const char *path)
{
    for (unsigned i = 0; i < FAKE_NODES; i++)
        if (strcmp(xs->nodes[i].path, path) == 0 || is_below(xs->nodes[i].path, path))
            xs->nodes[i].path[0] = '\0';
}

void fake_set_bytes(struct xenstore *xs, const char *path, const void *value, unsigned length)
{
    struct fake_node *node = find(xs, path);
    if (node == NULL)
        node = find(xs, "");
    if (node == NULL || length >= sizeof(node->value))
        abort();
    snprintf(node->path, sizeof(node->path), "%s", path);
    memcpy(node->value, value, length);
    node->value[length] = '\0';
    node->length = length;
    node->error = 0;
}

void fake_set(struct xenstore *xs, const char *path, const char *value)
{
    if (value == NULL)
        drop(xs, path);
    else
        fake_set_bytes(xs, path, value, (unsigned)strlen(value));
}

void fake_set_error(struct xenstore *xs, const char *path, int error)
{
    fake_set(xs, path, "");
    struct fake_node *node = find(xs, path);
    if (node == NULL)
        abort();
    node->error = error;
}

const char *fake_get(const struct xenstore *xs, const char *path)
{
    for (unsigned i = 0; i < FAKE_NODES; i++)
        if (strcmp(xs->nodes[i].path, path) == 0)
            return xs->nodes[i].value;
    return NULL;
}

int xenstore_open(struct xenstore **out)
{
    *out = calloc(1, sizeof(**out));
    return *out != NULL ? 0 : -ENOMEM;
}

void xenstore_close(struct xenstore *xs)
{
    free(xs);
}

bool xenstore_lost(const struct xenstore *xs)
{
    return xs->dead != 0;
}

int xenstore_reopen(struct xenstore *xs)
{
    xs->dead = 0;
    return 0;
}

int xenstore_fd(const struct xenstore *xs)
{
    (void)xs;
    return -1;
}

int xenstore_hangup_fd(const struct xenstore *xs)
{
    (void)xs;
    return -1;
}

int xenstore_read(struct xenstore *xs, const char *path, char *value, unsigned size)
{
    const struct fake_node *node = find(xs, path);
    xs->requests++;
    if (xs->dead != 0)
        return xs->dead;
    if (node == NULL)
        return -ENOENT;
    if (node->error != 0)
        return node->error;
    if (memchr(node->value, '\0', node->length) != NULL)
        return -EILSEQ;
    if (node->length >= size || node->length > XENSTORE_VALUE_MAX)
        return -E2BIG;
    memcpy(value, node->value, node->length + 1);
    return 0;
}

int xenstore_read_at(struct xenstore *xs, const char *dir, const char *node, char *value,
                     unsigned size)
{
    char path[XENSTORE_PATH_MAX];
    snprintf(path, sizeof(path), "%s/%s", dir, node);
    return xenstore_read(xs, path, value, size);
}

int xenstore_read_u32(struct xenstore *xs, const char *dir, const char *node, uint32_t max,
                      uint32_t *out)
{
    char value[32];
    int error = xenstore_read_at(xs, dir, node, value, sizeof(value));
    if (error == -E2BIG || error == -EILSEQ)
        return -EINVAL;
    return error != 0 ? error : parse_u32(value, max, out);
}

int xenstore_write_at(struct xenstore *xs, const char *dir, const char *node, const char *value)
{
    char path[XENSTORE_PATH_MAX];
    if (xs->dead != 0)
        return xs->dead;
    snprintf(path, sizeof(path), "%s/%s", dir, node);
    fake_set(xs, path, value);
    xs->writes++;
    return 0;
}

int xenstore_printf_at(struct xenstore *xs, const char *dir, const char *node, const char *format,
                       ...)
{
    char value[XENSTORE_VALUE_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(value, sizeof(value), format, arguments);
    va_end(arguments);
    return xenstore_write_at(xs, dir, node, value);
}

int xenstore_remove_at(struct xenstore *xs, const char *dir, const char *node)
{
    char path[XENSTORE_PATH_MAX];
    if (xs->dead != 0)
        return xs->dead;
    snprintf(path, sizeof(path), "%s/%s", dir, node);
    if (exists(xs, path))
        xs->writes++;
    drop(xs, path);
    return 0;
}

/* The name of the i-th node's ancestor, or of itself, in a folder; NULL where it has none. */
static const char *name_in(const struct xenstore *xs, unsigned i, const char *folder,
                           char name[XENSTORE_PATH_MAX])
{
    const char *path = xs->nodes[i].path;
    if (!is_below(path, folder))
        return NULL;
    path += strlen(folder) + 1;
    snprintf(name, XENSTORE_PATH_MAX, "%.*s", (int)strcspn(path, "/"), path);
    return name;
}

static bool named(char *const *names, unsigned count, const char *name)
{
    for (unsigned i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

/* One block of memory, as xs_directory() gives. */
int xenstore_list(struct xenstore *xs, const char *path, char ***names, unsigned *count)
{
    xs->requests++;
    if (xs->dead != 0)
        return xs->dead;
    if (xs->unlisted != 0)
        return xs->unlisted;
    if (!exists(xs, path))
        return -ENOENT;
    char **list = malloc(FAKE_NODES * (sizeof(*list) + XENSTORE_PATH_MAX));
    if (list == NULL)
        return -ENOMEM;
    char *next = (char *)(list + FAKE_NODES);
    unsigned found = 0;
    for (unsigned i = 0; i < FAKE_NODES; i++) {
        const char *name = name_in(xs, i, path, next);
        if (name == NULL || named(list, found, name))
            continue;
        list[found++] = next;
        next += strlen(name) + 1;
    }
    *names = list;
    *count = found;
    return 0;
}

/* Whoever conflicts does so after the body has run, as in xenstored. */
int xenstore_transaction(struct xenstore *xs, int (*body)(struct xenstore *xs, void *context),
                         void *context)
{
    struct fake_node *before = malloc(sizeof(xs->nodes));
    int error;
    if (before == NULL)
        abort();
    for (;;) {
        memcpy(before, xs->nodes, sizeof(xs->nodes));
        unsigned writes = xs->writes;
        xs->transactions++;
        xs->in_transaction = true;
        error = body(xs, context);
        xs->in_transaction = false;
        if (error == 0 && xs->conflicts == 0)
            break;
        memcpy(xs->nodes, before, sizeof(xs->nodes));
        xs->writes = writes;
        if (error != 0)
            break;
        xs->conflicts--;
    }
    free(before);
    return error;
}

int xenstore_watch(struct xenstore *xs, const char *path, const char *token)
{
    (void)path;
    (void)token;
    return xs->dead;
}

int xenstore_unwatch(struct xenstore *xs, const char *path, const char *token)
{
    (void)path;
    (void)token;
    return xs->dead;
}

int xenstore_domain_introduced(struct xenstore *xs, uint32_t domid, bool *out)
{
    (void)domid;
    *out = true;
    return xs->dead;
}

bool xenstore_alive(struct xenstore *xs)
{
    return xs->dead == 0;
}

int xenstore_next_event(struct xenstore *xs, char *path, unsigned path_size, char *token,
                        unsigned token_size)
{
    (void)xs;
    (void)path;
    (void)path_size;
    (void)token;
    (void)token_size;
    return -EAGAIN;
}
