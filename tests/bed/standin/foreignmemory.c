/* SPDX-License-Identifier: BSD-2-Clause */
/* Stand-in for libxenforeignmemory.so.1: it opens, since QEMU insists, and maps nothing. */
#include <errno.h>
#include <stddef.h>

#define UNAVAILABLE(type, name, value) \
    type name(void);                   \
    type name(void)                    \
    {                                  \
        errno = ENOSYS;                \
        return value;                  \
    }

UNAVAILABLE(void *, xenforeignmemory_map, NULL)
UNAVAILABLE(void *, xenforeignmemory_map2, NULL)
UNAVAILABLE(void *, xenforeignmemory_map_resource, NULL)
UNAVAILABLE(int, xenforeignmemory_unmap, -1)
UNAVAILABLE(int, xenforeignmemory_unmap_resource, -1)
UNAVAILABLE(int, xenforeignmemory_resource_size, -1)
UNAVAILABLE(int, xenforeignmemory_restrict, -1)

void *xenforeignmemory_open(void *logger, unsigned int open_flags);
void *xenforeignmemory_open(void *logger, unsigned int open_flags)
{
    static int handle;

    (void)logger;
    (void)open_flags;
    return &handle;
}

int xenforeignmemory_close(void *fmem);
int xenforeignmemory_close(void *fmem)
{
    (void)fmem;
    return 0;
}
