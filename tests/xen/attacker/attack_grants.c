/* SPDX-License-Identifier: BSD-2-Clause */
/* Attacks by what is granted. */
#include "attacker.h"

#include <string.h>
#include <xen/io/blkif.h>

#define REVOKED 16u

/* A full request with one wrong reference. */
static int put_wrong(struct attacker *a, uint8_t op, uint32_t ref, uint32_t place)
{
    struct front_segment segment[FRONT_SEGMENTS_PER_REQUEST];
    struct front_request request = {.op = op,
                                    .byte1 = FRONT_SEGMENTS_PER_REQUEST,
                                    .segments = FRONT_SEGMENTS_PER_REQUEST,
                                    .segment = segment};

    for (uint32_t i = 0; i < FRONT_SEGMENTS_PER_REQUEST; i++)
        segment[i] = (struct front_segment){.ref = a->page_ref, .first = 0, .last = 7};
    segment[place].ref = ref;
    return put(a, &request, op, BLKIF_RSP_ERROR);
}

/* As data at the first, a middle and the last place, and as the list of an indirect request. */
static int wrong_everywhere(struct attacker *a, uint32_t ref, bool readable)
{
    for (uint32_t place = 0; place < FRONT_SEGMENTS_PER_REQUEST; place += 5)
        if (put_wrong(a, BLKIF_OP_READ, ref, place) ||
            (!readable && put_wrong(a, BLKIF_OP_WRITE, ref, place)))
            return -1;
    if (!readable) {
        struct front_request request = {
            .op = BLKIF_OP_INDIRECT, .byte1 = BLKIF_OP_READ, .handle = 20, .indirect_refs = 1};

        request.indirect_ref[0] = ref;
        if (put(a, &request, BLKIF_OP_READ, BLKIF_RSP_ERROR))
            return -1;
    }
    return settle(a);
}

static int bad_references(struct attacker *a)
{
    const uint32_t never[] = {0x7fffffff, 0xffffffff, 99999, random_word(a) | 1u << 28};
    int64_t to_other = bed_grant(a->domid, a->other, 1, false);
    int64_t read_only = bed_grant(a->domid, a->backend_domid, 1, true);
    int64_t ended = bed_grant(a->domid, a->backend_domid, 1, false);
    int err = 0;

    if (!a->other || to_other < 0 || read_only < 0 || ended < 0)
        return reject(a, "this needs another guest, and pages");
    bed_grant_end(a->domid, (uint32_t)ended);
    for (uint32_t i = 0; !err && i < sizeof(never) / sizeof(never[0]); i++)
        err = wrong_everywhere(a, never[i], false);
    if (!err)
        err = wrong_everywhere(a, (uint32_t)to_other, false);
    if (!err)
        err = wrong_everywhere(a, (uint32_t)ended, false);
    /* a number that means something there, and nothing here */
    if (!err && !bed_page(a->domid, a->other_ref))
        err = wrong_everywhere(a, a->other_ref, false);
    if (!err)
        err = wrong_everywhere(a, (uint32_t)read_only, true);
    bed_grant_end(a->domid, (uint32_t)to_other);
    bed_grant_end(a->domid, (uint32_t)read_only);
    return err;
}

/* Read into its last sector only: there are the last slots, which nothing uses by then. */
static int ring_as_data(struct attacker *a)
{
    struct front_segment segment;
    struct front_request request = plain_request(a, BLKIF_OP_WRITE, &segment);

    segment.ref = front_queue_ref(a->queue, 0);
    for (uint32_t i = 0; i < RING_SLOTS / 2; i++)
        if (put(a, &request, BLKIF_OP_WRITE, BLKIF_RSP_OKAY))
            return -1;
    if (settle(a))
        return -1;
    segment.first = segment.last = 7;
    request.op = BLKIF_OP_READ;
    return expect_answer(a, &request, BLKIF_OP_READ, BLKIF_RSP_OKAY);
}

static int one_page_everywhere(struct attacker *a)
{
    struct front_segment segment[FRONT_SEGMENTS_PER_REQUEST];
    struct front_request request = {.byte1 = FRONT_SEGMENTS_PER_REQUEST,
                                    .segments = FRONT_SEGMENTS_PER_REQUEST,
                                    .segment = segment};

    for (uint32_t i = 0; i < FRONT_SEGMENTS_PER_REQUEST; i++)
        segment[i] = (struct front_segment){.ref = a->page_ref, .first = 0, .last = 7};
    for (uint32_t i = 0; i < RING_SLOTS; i++) {
        request.op = i % 2 ? BLKIF_OP_READ : BLKIF_OP_WRITE;
        request.sector = i / 2 * 16;
        if (put(a, &request, request.op, BLKIF_RSP_OKAY))
            return -1;
    }
    return settle(a);
}

/* Half of them, before the requests are published or right after. */
static int revoked(struct attacker *a, bool before, const uint32_t *ref)
{
    struct front_segment segment;

    for (uint32_t i = 0; i < REVOKED; i++) {
        struct front_request request = plain_request(a, BLKIF_OP_READ, &segment);
        int16_t status = i % 2 && before ? BLKIF_RSP_ERROR : BLKIF_RSP_OKAY;

        segment.ref = ref[i];
        request.sector = i * 8;
        if (put_either(a, &request, BLKIF_OP_READ, status, i % 2 ? BLKIF_RSP_ERROR : status))
            return -1;
    }
    if (!before)
        front_push(a->queue);
    for (uint32_t i = 1; i < REVOKED; i += 2)
        bed_grant_end(a->domid, ref[i]);
    return settle(a);
}

static int revoked_in_flight(struct attacker *a)
{
    for (uint32_t turn = 0; turn < 6 || !time_over(a); turn++) {
        uint32_t ref[REVOKED];
        int err;

        for (uint32_t i = 0; i < REVOKED; i++) {
            int64_t got = bed_grant(a->domid, a->backend_domid, 1, false);

            if (got < 0)
                return reject(a, "no page to grant: %s", strerror((int)-got));
            ref[i] = (uint32_t)got;
        }
        err = revoked(a, turn % 3 == 0, ref);
        for (uint32_t i = 0; i < REVOKED; i += 2)
            bed_grant_end(a->domid, ref[i]);
        if (err)
            return err;
    }
    return 0;
}

const struct attack grant_attacks[] = {
    {"bad-references", bad_references, SERVES, "never granted, ended, read-only, of or to another"},
    {"ring-as-data", ring_as_data, SERVES, "the ring's page as data"},
    {"one-page-everywhere", one_page_everywhere, SERVES, "one reference in all segments"},
    {"revoked-in-flight", revoked_in_flight, SERVES, "references end under their requests"},
    {NULL, NULL, STOPS, NULL},
};
