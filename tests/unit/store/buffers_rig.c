/* SPDX-License-Identifier: BSD-2-Clause */
/* An io_uring with data buffers: see buffers_rig.h. */
#include "buffers_rig.h"

#include "faulty_kernel.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

struct buffers_rig rig;

char *buffer(unsigned index)
{
    return (char *)rig.memory.start + index * BUFFER;
}

struct engine *make(const struct engine_memory *memory)
{
    struct engine *engine = NULL;

    if (engine_uring.create(8, memory, &engine))
        skip();
    return engine;
}

int set_up(void **state)
{
    (void)state;
    kernel = (struct faulty_kernel){0};
    rig.memory =
        (struct engine_memory){.start = mmap(NULL, BUFFERS * BUFFER, PROT_READ | PROT_WRITE,
                                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
                               .bytes = BUFFERS * BUFFER,
                               .buffer_bytes = BUFFER};
    assert_true(rig.memory.start != MAP_FAILED);
    assert_true(image_make(IMAGE_DIRECT, 2 * MIB, &rig.image));
    rig.fd = image_open(&rig.image, O_RDWR | O_DIRECT);
    rig.engine = NULL;
    return 0;
}

int tear_down(void **state)
{
    (void)state;
    kernel = (struct faulty_kernel){0};
    engine_destroy(rig.engine);
    (void)munmap(rig.memory.start, BUFFERS * BUFFER);
    close(rig.fd);
    image_remove(&rig.image);
    return 0;
}

int run(struct test_io *t, bool *registered)
{
    assert_int_equal(engine_uring.submit(rig.engine, rig.fd, &t->io), IO_QUEUED);
    assert_int_equal(engine_uring.commit(rig.engine), 0);
    engine_drain(rig.engine);
    *registered = t->io.registered;
    return t->io.result;
}

bool transfer(enum io_operation operation, uint64_t offset, void *data, size_t length)
{
    struct test_io t;
    bool registered = false;

    test_io_set(&t, operation, offset, data, length);
    assert_int_equal(run(&t, &registered), 0);
    return registered;
}

bool use_bytes(unsigned index, size_t bytes)
{
    for (unsigned i = 0; i < MANY; i++)
        if (transfer(IO_READ, 0, buffer(index), bytes))
            return true;
    return false;
}

bool use(unsigned index)
{
    return use_bytes(index, BUFFER);
}
