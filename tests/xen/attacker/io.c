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

struct front_request plain_request(struct attacker *a, uint8_t op, struct front_segment *segment)
{
    *segment = (struct front_segment){.ref = a->page_ref, .first = 0, .last = 7};
    return (struct front_request){.op = op, .byte1 = 1, .segments = 1, .segment = segment};
}

int put_either(struct attacker *a, struct front_request *request, uint8_t op, int16_t status,
               int16_t or_status)
{
    if (!request->id)
        request->id = a->next_id++ << 20 | 0xabcde;
    if (a->unanswered == RING_SLOTS || front_put(a->queue, request))
        return reject(a, "the ring is full");
    a->expected[a->unanswered++] =
        (struct expected){.id = request->id, .op = op, .status = status, .or_status = or_status};
    request->id = 0;
    return 0;
}

int put(struct attacker *a, struct front_request *request, uint8_t op, int16_t status)
{
    return put_either(a, request, op, status, status);
}

static int take(struct attacker *a, struct front_response *response)
{
    uint64_t end = now_ms() + ANSWER_MS;

    for (;;) {
        struct pollfd event = {.fd = front_fd(a->queue), .events = POLLIN};

        if (front_take(a->queue, response))
            return 0;
        if (front_arm(a->queue))
            continue;
        if (now_ms() > end || poll(&event, 1, (int)ANSWER_MS) == 0)
            return reject(a, "%u requests have no answer within %u s", a->unanswered,
                          ANSWER_MS / 1000u);
        front_take_event(a->queue);
    }
}

static int check_answer(struct attacker *a, const struct front_response *got)
{
    for (uint32_t i = 0; i < a->unanswered; i++) {
        struct expected *e = &a->expected[i];

        if (e->id != got->id)
            continue;
        if (e->op != got->op || (e->status != got->status && e->or_status != got->status))
            return reject(a, "request %llx: operation %u has status %d; expected %u, %d",
                          (unsigned long long)e->id, got->op, got->status, e->op, e->status);
        *e = a->expected[--a->unanswered];
        a->count++;
        return 0;
    }
    return reject(a, "an answer to %llx, which was not asked", (unsigned long long)got->id);
}

int settle(struct attacker *a)
{
    struct front_response response;

    front_push(a->queue);
    while (a->unanswered)
        if (take(a, &response) || check_answer(a, &response))
            return -1;
    return 0;
}

int expect_answer(struct attacker *a, struct front_request *request, uint8_t op, int16_t status)
{
    return put(a, request, op, status) ? -1 : settle(a);
}

int expect_silence(struct attacker *a)
{
    uint32_t before = a->words[RSP_PROD];

    pause_ms(SILENCE_MS);
    if (a->words[RSP_PROD] == before)
        return 0;
    return reject(a, "%u answers more than requests", a->words[RSP_PROD] - before);
}

int healthy_io(struct attacker *a)
{
    struct front_segment segment;
    struct front_request request = plain_request(a, BLKIF_OP_WRITE, &segment);
    uint32_t stamp = a->read_only ? 0 : random_word(a);
    int err = 0;

    request.sector = random_below(a, (uint32_t)(a->sectors / 8)) * 8u;
    for (uint32_t i = 0; i < PAGE; i += (uint32_t)sizeof(stamp))
        memcpy(a->page + i, &stamp, sizeof(stamp));
    if (!a->read_only)
        err = expect_answer(a, &request, BLKIF_OP_WRITE, BLKIF_RSP_OKAY);
    memset(a->page, 0xee, PAGE);
    request.op = BLKIF_OP_READ;
    if (!err)
        err = expect_answer(a, &request, BLKIF_OP_READ, BLKIF_RSP_OKAY);
    for (uint32_t i = 0; !err && i < PAGE; i += (uint32_t)sizeof(stamp))
        if (memcmp(a->page + i, &stamp, sizeof(stamp)) != 0)
            err = reject(a, "sector %llu does not have what it should",
                         (unsigned long long)request.sector);
    return err ? err : expect_silence(a);
}
