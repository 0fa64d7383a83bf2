/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory that is there when it is first used: see lazy_memory.h. */
#include "lazy_memory.h"

#include <sys/mman.h>

void *lazy_memory_get(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return memory == MAP_FAILED ? NULL : memory;
}

void lazy_memory_put(void *memory, size_t bytes)
{
    if (memory)
        (void)munmap(memory, bytes);
}
