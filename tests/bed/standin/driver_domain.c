/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Preloaded beneath a backend, makes it one of a driver domain: its paths in XenStore are its own
 * domain's, though its connection is domain 0's, and what such a domain may not do is refused.
 *
 *   BLKBACKD_BED_DOMID  which domain it is in
 *   BLKBACKD_BED_DENY   what is refused, of: hypercalls (libxenctrl's), release (the watch on
 *                       domains that end), introduced (the question whether a domain exists)
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xenctrl.h>
#include <xenstore.h>

#define PATH_BYTES 4096

static bool denied(const char *what)
{
    const char *list = getenv("BLKBACKD_BED_DENY");

    return list && strstr(list, what);
}

static void next(const char *name, void *function, size_t size)
{
    void *symbol = dlsym(RTLD_NEXT, name);

    if (!symbol)
        abort();
    memcpy(function, &symbol, size);
}

#define NEXT(name)            \
    __typeof__(&(name)) real; \
    next(#name, &real, sizeof(real))

/* As xenstored does with a relative path of that domain's connection. */
static const char *own(const char *path, char buffer[PATH_BYTES])
{
    const char *domid = getenv("BLKBACKD_BED_DOMID");

    if (path[0] == '/' || path[0] == '@' || !domid)
        return path;
    (void)snprintf(buffer, PATH_BYTES, "/local/domain/%s/%s", domid, path);
    return buffer;
}

void *xs_read(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned int *len)
{
    char buffer[PATH_BYTES];
    NEXT(xs_read);

    return real(h, t, own(path, buffer), len);
}

bool xs_write(struct xs_handle *h, xs_transaction_t t, const char *path, const void *data,
              unsigned int len)
{
    char buffer[PATH_BYTES];
    NEXT(xs_write);

    return real(h, t, own(path, buffer), data, len);
}

bool xs_rm(struct xs_handle *h, xs_transaction_t t, const char *path)
{
    char buffer[PATH_BYTES];
    NEXT(xs_rm);

    return real(h, t, own(path, buffer));
}

char **xs_directory(struct xs_handle *h, xs_transaction_t t, const char *path, unsigned int *num)
{
    char buffer[PATH_BYTES];
    NEXT(xs_directory);

    return real(h, t, own(path, buffer), num);
}

bool xs_watch(struct xs_handle *h, const char *path, const char *token)
{
    char buffer[PATH_BYTES];
    NEXT(xs_watch);

    if (path[0] == '@' && denied("release")) {
        errno = EACCES;
        return false;
    }
    return real(h, own(path, buffer), token);
}

bool xs_unwatch(struct xs_handle *h, const char *path, const char *token)
{
    char buffer[PATH_BYTES];
    NEXT(xs_unwatch);

    return real(h, own(path, buffer), token);
}

bool xs_is_domain_introduced(struct xs_handle *h, unsigned int domid)
{
    NEXT(xs_is_domain_introduced);

    if (denied("introduced")) {
        errno = EACCES;
        return false;
    }
    return real(h, domid);
}

int xc_domain_getinfo(xc_interface *xch, uint32_t first_domid, unsigned int max_doms,
                      xc_dominfo_t *info)
{
    NEXT(xc_domain_getinfo);

    if (denied("hypercalls")) {
        errno = EPERM;
        return -1;
    }
    return real(xch, first_domid, max_doms, info);
}
