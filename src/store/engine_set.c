/* SPDX-License-Identifier: BSD-2-Clause */
/* The engines of one loop thread: made together, committed together. */
#include "blkback/log.h"
#include "blkback/store.h"

#include <errno.h>
#include <string.h>

static struct engine *create_or_null(const struct engine_ops *ops, unsigned depth,
                                     const struct engine_memory *memory)
{
    struct engine *engine = NULL;
    int error = ops->create(depth, memory, &engine);

    if (error) {
        log_debug("engine %s can't be used: %s", ops->name, strerror(-error));
        return NULL;
    }
    return engine;
}

int engine_set_create(unsigned depth, const struct engine_memory *memory, struct engine_set *out)
{
    struct engine_set set = {
        .uring = create_or_null(&engine_uring, depth, memory),
        .aio = create_or_null(&engine_aio, depth, memory),
        .inline_ = create_or_null(&engine_inline, depth, memory),
        .slow = create_or_null(&engine_slow, depth, memory),
    };

    if (!set.inline_) {
        engine_set_destroy(&set);
        return -ENOMEM;
    }
    *out = set;
    return 0;
}

struct engine *engine_set_find(const struct engine_set *engines, const struct engine_ops *ops)
{
    struct engine *const all[] = {engines->uring, engines->aio, engines->inline_, engines->slow};

    for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if (all[i] && all[i]->ops == ops)
            return all[i];
    return NULL;
}

int engine_set_commit(const struct engine_set *engines)
{
    struct engine *const all[] = {engines->uring, engines->aio, engines->inline_, engines->slow};
    int result = 0;

    for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        int error = all[i] ? all[i]->ops->commit(all[i]) : 0;

        /* An error that won't pass outweighs one that will. */
        if (error && (!result || result == -EAGAIN))
            result = error;
    }
    return result;
}

void engine_set_destroy(struct engine_set *engines)
{
    if (!engines)
        return;
    engine_destroy(engines->uring);
    engine_destroy(engines->aio);
    engine_destroy(engines->inline_);
    engine_destroy(engines->slow);
    *engines = (struct engine_set){0};
}
