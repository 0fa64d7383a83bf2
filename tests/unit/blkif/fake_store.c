/* SPDX-License-Identifier: BSD-2-Clause */
/* A store in memory under the test's control: see fake_store.h. */
#include "fake_store.h"

#include "testing.h"

#include <string.h>

static void note(struct fake_store *store, const struct io *io, bool over)
{
    static const char letters[2][5] = {"rwfd", "RWFD"};

    if (store->trace_length + 1 < FAKE_TRACE_MAX)
        store->trace[store->trace_length++] = letters[over][io->operation];
    store->trace[store->trace_length] = '\0';
}

static void carry_out(struct fake_store *store, struct io *io, int result)
{
    uint64_t position = io->offset;

    note(store, io, true);
    io->result = result;
    if (result)
        return;
    if (io->operation == IO_DISCARD) {
        assert_true(position + io->length <= FAKE_DISK_BYTES);
        memset(store->disk + position, FAKE_DISCARDED, io->length);
        store->secure = io->secure;
        store->discard_offset = io->offset;
        store->discard_length = io->length;
    }
    for (unsigned i = 0; i < io->iov_count; i++) {
        const struct iovec *iov = &io->iov[i];

        assert_true(position + iov->iov_len <= FAKE_DISK_BYTES);
        if (io->operation == IO_READ)
            memcpy(iov->iov_base, store->disk + position, iov->iov_len);
        else if (io->operation == IO_WRITE)
            memcpy(store->disk + position, iov->iov_base, iov->iov_len);
        position += iov->iov_len;
    }
}

static enum io_submit submit(struct store *base, struct io *io)
{
    struct fake_store *store = (struct fake_store *)base;

    if (store->at_once) {
        note(store, io, false);
        carry_out(store, io, store->result);
        return IO_DONE;
    }
    if (store->held_count >= store->room) {
        store->refused++;
        return IO_BUSY;
    }
    for (unsigned i = 0; i < store->held_count; i++)
        assert_ptr_not_equal(store->held[i], io);
    note(store, io, false);
    store->held[store->held_count++] = io;
    return IO_QUEUED;
}

static void no_close(struct store *store)
{
    (void)store;
}

static const struct store_driver driver = {.name = "fake", .submit = submit, .close = no_close};

void fake_store_init(struct fake_store *store)
{
    memset(store, 0, sizeof(*store));
    store->base.driver = &driver;
    store->base.caps = (struct store_caps){
        .size = FAKE_DISK_BYTES,
        .sector_size = 512,
        .physical_sector_size = 512,
        .memory_alignment = 1,
        .flush = true,
        .direct = true, /* a flush can be tried again */
        .engine = "fake",
    };
    store->room = FAKE_HELD_MAX;
}

void fake_store_finish(struct fake_store *store, unsigned index, int result)
{
    struct io *io;

    assert_true(index < store->held_count);
    io = store->held[index];
    store->held_count--;
    memmove(store->held + index, store->held + index + 1,
            (store->held_count - index) * sizeof(struct io *));
    carry_out(store, io, result);
    io->done(io);
}

void fake_store_finish_all(struct fake_store *store)
{
    for (unsigned left = store->held_count; left; left--)
        fake_store_finish(store, 0, 0);
}
