/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory that runs out, at the allocation that the test chose, in the program that it named. */
#include "host.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);

/* Takes one of what is left; false: there is none. */
static int take(_Atomic uint32_t *left)
{
    uint32_t value = atomic_load(left);

    while (value != 0)
        if (atomic_compare_exchange_weak(left, &value, value - 1))
            return 1;
    return 0;
}

static int runs_out(void)
{
    struct host_control *control = host_control();

    if (!control || !control->armed || strcmp(program_invocation_short_name, control->program) != 0)
        return 0;
    if (take(&control->allowed) || !take(&control->failures))
        return 0;
    atomic_fetch_add(&control->refused, 1);
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size)
{
    return runs_out() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return runs_out() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    return runs_out() ? NULL : __libc_realloc(old, size);
}

void *mmap(void *where, size_t length, int protection, int flags, int fd, off_t offset)
{
    if (runs_out())
        return MAP_FAILED;
    return (void *)syscall(SYS_mmap, where, length, protection, flags, fd, offset);
}
