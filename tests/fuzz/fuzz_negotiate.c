/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a frontend writes into XenStore, read and settled on. The input is four bytes that choose
 * what is offered, then lines "node=value"; "node!" makes a node that can't be read, and "\0" may
 * be anywhere in a value.
 */
#include "fuzz.h"

#include "../unit/broker/fake_xenstore.h"
#include "frontend_nodes.h"

#include <errno.h>
#include <stdio.h>

#define FRONT     "/local/domain/7/device/vbd/51712"
#define LINES_MAX (FAKE_NODES - 8U)
#define NAME_MAX_ 100U

static struct offer take_offer(struct input *input)
{
    const uint8_t order = input_u8(input);
    const uint8_t segments = input_u8(input);
    const uint8_t flags = input_u8(input);
    const uint8_t queues = input_u8(input);
    const uint32_t most = segments < 11 ? 11 : segments;

    return (struct offer){
        .max_ring_page_order = order % 6U,
        .max_requests = 1U + flags % 64U * 16U,
        .max_segments = most,
        .max_request_size = most * NEGOTIATE_PAGE_BYTES,
        .max_indirect_segments = flags & 1 ? 256 : 0,
        .max_queues = 1U + queues % STATE_MAX_QUEUES,
        .persistent = flags & 2,
        .flush = flags & 4,
        .store_known = flags & 8,
        .size = (uint64_t)queues << 40,
        .sector_size = 512,
        .physical_sector_size = 4096,
        .read_only = flags & 16,
        .cdrom = flags & 32,
        .discard = flags & 64,
        .discard_secure = flags & 128,
        .discard_granularity = 4096,
    };
}

/* "node=value" or "node!". */
static void set_node(struct xenstore *xs, const char *line, size_t length)
{
    const char *equals = memchr(line, '=', length);
    const size_t name = equals ? (size_t)(equals - line) : length;
    char path[XENSTORE_PATH_MAX];

    if (name == 0 || name > NAME_MAX_)
        return;
    (void)snprintf(path, sizeof(path), FRONT "/%.*s", (int)name, line);
    if (equals) {
        size_t value = length - name - 1;

        if (value > XENSTORE_VALUE_MAX + 1)
            value = XENSTORE_VALUE_MAX + 1;
        fake_set_bytes(xs, path, equals + 1, (unsigned)value);
    } else if (line[length - 1] == '!') {
        path[strlen(path) - 1] = '\0';
        fake_set_error(xs, path, -EACCES);
    }
}

static void set_nodes(struct xenstore *xs, struct input *input)
{
    const char *text = (const char *)input->at;
    size_t left = input->left;

    for (unsigned i = 0; i < LINES_MAX && left; i++) {
        const char *end = memchr(text, '\n', left);
        const size_t length = end ? (size_t)(end - text) : left;

        if (length)
            set_node(xs, text, length);
        text += length + (end != NULL);
        left -= length + (end != NULL);
    }
}

static void check_value(const char *value)
{
    CHECK(value == NULL || fuzz_terminated(value, FRONTEND_VALUE_MAX));
}

static void check_nodes(const struct frontend_nodes *nodes)
{
    check_value(nodes->protocol);
    check_value(nodes->ring_page_order);
    check_value(nodes->num_ring_pages);
    check_value(nodes->ring_pages);
    check_value(nodes->num_queues);
    check_value(nodes->persistent);
    check_value(nodes->max_requests);
    check_value(nodes->max_segments);
    check_value(nodes->max_request_size);
    for (unsigned n = 0; n < STATE_MAX_QUEUES; n++) {
        check_value(nodes->rings[n].ring_ref);
        check_value(nodes->rings[n].event_channel);
        for (unsigned i = 0; i < STATE_MAX_RING_PAGES; i++)
            check_value(nodes->rings[n].ring_refs[i]);
    }
}

/* No grant is mapped twice, and no channel bound twice. */
static void check_rings(const struct negotiated *settled)
{
    const uint32_t pages = UINT32_C(1) << settled->ring_order;
    const uint32_t all = pages * settled->queue_count;

    for (uint32_t i = 0; i < all; i++)
        for (uint32_t j = 0; j < i; j++)
            CHECK(settled->queues[i / pages].ring_refs[i % pages] !=
                  settled->queues[j / pages].ring_refs[j % pages]);
    for (uint32_t n = 0; n < settled->queue_count; n++) {
        CHECK(settled->queues[n].remote_port != 0);
        for (uint32_t m = 0; m < n; m++)
            CHECK(settled->queues[n].remote_port != settled->queues[m].remote_port);
    }
}

static void check_settled(const struct negotiated *settled, const struct offer *offer)
{
    char text[480];

    CHECK(settled->abi < BLKIF_ABIS);
    CHECK(settled->ring_order <= offer->max_ring_page_order);
    CHECK(settled->queue_count >= 1 && settled->queue_count <= offer->max_queues);
    CHECK(settled->max_requests >= 1 && settled->max_requests <= offer->max_requests);
    CHECK(settled->max_requests <= blkif_abi_ring_slots(settled->abi, settled->ring_order));
    CHECK(settled->max_segments >= 1 && settled->max_segments <= offer->max_segments);
    CHECK(settled->abi != BLKIF_ABI_X86_32 || settled->max_segments <= NEGOTIATE_SEGMENTS_X86_32);
    CHECK(settled->max_request_size >= 1 && settled->max_request_size <= offer->max_request_size);
    CHECK(settled->max_indirect_segments <= offer->max_indirect_segments);
    CHECK(!settled->persistent || offer->persistent);
    check_rings(settled);
    CHECK(fuzz_printable(negotiate_describe(settled, offer, text, sizeof(text)), sizeof(text)));
}

static void check_published(const struct offer *offer)
{
    for (unsigned i = 0; i < published_nodes(); i++) {
        char value[NEGOTIATE_VALUE_MAX] = "?";
        const int rc = published_value(i, offer, value);

        CHECK(rc == 0 || (rc == -ENODATA && !offer->store_known) ||
              (rc == -ENOENT && !offer->discard));
        CHECK(fuzz_printable(value, sizeof(value)) && (value[0] == '?') == (rc != 0));
        CHECK(published_name(i)[0] != '\0' && (!published_of_medium(i) || rc != -ENOENT));
    }
}

/* Whether its folders may be listed or not, the same is read of a frontend. */
static void check_unlisted(struct xenstore *xs, uint32_t queues, struct frontend_text *text,
                           const struct frontend_nodes *nodes)
{
    static struct frontend_text before;
    struct frontend_nodes again;
    uint32_t state;

    before = *text;
    xs->unlisted = -EACCES;
    CHECK(frontend_nodes_read(xs, FRONT, queues, text, &state, &again) == 0);
    xs->unlisted = 0;
    /* Values lie where they did, in the same order. */
    CHECK(memcmp(&again, nodes, sizeof(again)) == 0);
    CHECK(memcmp(text, &before, sizeof(before)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {.at = data, .left = size};
    const struct offer offer = take_offer(&input);
    struct xenstore *xs;
    static struct frontend_text text;
    struct frontend_nodes nodes;
    struct negotiated settled;
    struct negotiated untouched;
    char why[NEGOTIATE_WHY_MAX] = "";
    uint32_t state = 0;

    CHECK(xenstore_open(&xs) == 0);
    set_nodes(xs, &input);
    check_published(&offer);
    CHECK(frontend_nodes_read(xs, FRONT, offer.max_queues, &text, &state, &nodes) == 0);
    check_nodes(&nodes);
    check_unlisted(xs, offer.max_queues, &text, &nodes);
    memset(&settled, 0x5a, sizeof(settled));
    memset(&untouched, 0x5a, sizeof(untouched));
    const int rc = negotiate(&nodes, &offer, why, &settled);

    if (rc == 0) {
        check_settled(&settled, &offer);
    } else {
        CHECK(rc == -EINVAL && why[0] != '\0' && fuzz_printable(why, sizeof(why)));
        CHECK(memcmp(&settled, &untouched, sizeof(settled)) == 0);
    }
    CHECK(xs->writes == 0);
    xs->dead = -EPIPE;
    CHECK(frontend_nodes_read(xs, FRONT, 1, &text, &state, &nodes) == -EPIPE);
    xenstore_close(xs);
    return 0;
}
