/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests of the attacker's, right or wrong, and the answers that they must have. */
#include "attacker.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <xen/io/blkif.h>

#define SILENCE_MS 100u

int reject(struct attacker *a, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(a->reason, sizeof(a->reason), format, arguments);
    va_end(arguments);
    return -1;
}

bool time_over(const struct attacker *a)
{
    return now_ms() >= a->deadline_ms;
}

/* xorshift64 */
uint32_t random_word(struct attacker *a)
{
    a->random ^= a->random << 13;
    a->random ^= a->random >> 7;
    a->random ^= a->random << 17;
    return (uint32_t)(a->random >> 16);
}

uint32_t random_below(struct attacker *a, uint32_t limit)
{
    return random_word(a) % limit;
}

uint8_t *new_page(struct attacker *a, uint32_t *ref)
{
    int64_t got = bed_grant(a->domid, a->backend_domid, 1, false);

    if (got < 0) {
        reject(a, "no page to grant: %s", strerror((int)-got));
        return NULL;
    }
    *ref = (uint32_t)got;
    return bed_page(a->domid, *ref);
}

uint64_t put(struct attacker *a, struct front_request *request)
{
    request->id = a->next_id++ << 20 | 0xabcde;
    front_put(a->queue, request);
    return request->id;
}

int take(struct attacker *a, struct front_response *response)
{
    uint64_t end = now_ms() + ANSWER_MS;

    for (;;) {
        struct pollfd event = {.fd = front_fd(a->queue), .events = POLLIN};
        int got = front_take(a->queue, response);

        if (got)
            return got < 0 ? got : 0;
        if (front_arm(a->queue))
            continue;
        if (now_ms() > end || poll(&event, 1, (int)ANSWER_MS) == 0)
            return reject(a, "no answer within %u s", ANSWER_MS / 1000u);
        front_take_event(a->queue);
    }
}

int expect_silence(struct attacker *a)
{
    uint32_t before = a->words[RSP_PROD];

    pause_ms(SILENCE_MS);
    if (a->words[RSP_PROD] == before)
        return 0;
    return reject(a, "%u answers more than requests", a->words[RSP_PROD] - before);
}

int expect_answer(struct attacker *a, struct front_request *request, uint8_t op, int16_t status)
{
    struct front_response response;
    uint64_t id = put(a, request);

    front_push(a->queue);
    if (take(a, &response))
        return -1;
    a->count++;
    if (response.id == id && response.op == op && response.status == status)
        return 0;
    return reject(a,
                  "operation %u, byte %u, sector %llu: answered with id %llx, operation %u, status "
                  "%d, not %d",
                  request->op, request->byte1, (unsigned long long)request->sector,
                  (unsigned long long)(response.id ^ id), response.op, response.status, status);
}

int healthy_io(struct attacker *a)
{
    uint32_t ref = 0;
    uint8_t *page = new_page(a, &ref);
    struct front_segment segment = {.ref = ref, .first = 0, .last = 7};
    struct front_request request = {
        .op = BLKIF_OP_WRITE, .byte1 = 1, .segments = 1, .segment = &segment};
    uint32_t stamp = random_word(a);
    int err;

    if (!page)
        return -1;
    request.sector = random_below(a, (uint32_t)(a->sectors / 8)) * 8u;
    for (uint32_t i = 0; i < PAGE; i += (uint32_t)sizeof(stamp))
        memcpy(page + i, &stamp, sizeof(stamp));
    err = expect_answer(a, &request, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    memset(page, 0, PAGE);
    request.op = BLKIF_OP_READ;
    if (!err)
        err = expect_answer(a, &request, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    for (uint32_t i = 0; !err && i < PAGE; i += (uint32_t)sizeof(stamp))
        if (memcmp(page + i, &stamp, sizeof(stamp)) != 0)
            err = reject(a, "sector %llu has not what was written to it",
                         (unsigned long long)request.sector);
    bed_grant_end(a->domid, ref);
    return err ? err : expect_silence(a);
}
