/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Preloaded into xenstored: domain 0's ring page and event channel, which the kernel shows as
 * /proc/xen/xsd_kva and /proc/xen/xsd_port, are files of the bed (xsd_kva and xsd_port in
 * BLKBACKD_BED_DIR).
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int (*open_function)(const char *path, int flags, ...);

int open(const char *path, int flags, ...)
{
    static open_function next;
    static const char prefix[] = "/proc/xen/";
    const char *dir = getenv("BLKBACKD_BED_DIR");
    char redirected[PATH_MAX];
    mode_t mode = 0;
    va_list args;

    if (!next) {
        void *symbol = dlsym(RTLD_NEXT, "open");

        memcpy(&next, &symbol, sizeof(symbol));
    }
    if (flags & (O_CREAT | __O_TMPFILE)) {
        va_start(args, flags);
        mode = va_arg(args, mode_t);
        va_end(args);
    }
    if (dir && strncmp(path, prefix, sizeof(prefix) - 1) == 0) {
        snprintf(redirected, sizeof(redirected), "%s/%s", dir, path + sizeof(prefix) - 1);
        path = redirected;
    }
    return next(path, flags, mode);
}
