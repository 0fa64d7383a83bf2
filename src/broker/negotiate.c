/* SPDX-License-Identifier: BSD-2-Clause */
/* Parsing what a frontend wrote, strictly: a guest's text is a number in range, or the connection
 * is refused. */
#include "negotiate.h"

#include "blkback/log.h"
#include "blkback/parse.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SHOWN_MAX 40U /* bytes of a guest's text in a message */

static int refuse(char why[NEGOTIATE_WHY_MAX], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static int refuse(char why[NEGOTIATE_WHY_MAX], const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(why, NEGOTIATE_WHY_MAX, format, arguments);
    va_end(arguments);
    return -EINVAL;
}

/* A number that must be there, within [min, max]. */
static int need_number(const char *name, const char *text, uint32_t min, uint32_t max,
                       char why[NEGOTIATE_WHY_MAX], uint32_t *out)
{
    char shown[SHOWN_MAX];
    uint32_t value;

    if (text == NULL)
        return refuse(why, "%s is missing", name);
    if (parse_u32(text, UINT32_MAX, &value) != 0) {
        return refuse(why, "%s is not a number: \"%s\"", name,
                      log_escape(text, shown, sizeof(shown)));
    }
    if (value < min || value > max)
        return refuse(why, "%s is %u, must be %u to %u", name, value, min, max);
    *out = value;
    return 0;
}

/* Log2 of a number of pages, or -1 when it is not a power of two. */
static int order_of(uint32_t pages)
{
    for (int order = 0; order < 32; order++)
        if (pages == UINT32_C(1) << order)
            return order;
    return -1;
}

static int parse_ring_order(const struct frontend_nodes *nodes, const struct offer *offer,
                            char why[NEGOTIATE_WHY_MAX], uint32_t *order)
{
    const char *pages_text =
        nodes->num_ring_pages != NULL ? nodes->num_ring_pages : nodes->ring_pages;
    const char *pages_name = nodes->num_ring_pages != NULL ? "num-ring-pages" : "ring-pages";
    uint32_t pages = 1;
    uint32_t found = 0;

    if (pages_text != NULL) {
        int error = need_number(pages_name, pages_text, 1,
                                UINT32_C(1) << offer->max_ring_page_order, why, &pages);
        if (error != 0)
            return error;
        if (order_of(pages) < 0)
            return refuse(why, "%s is %u, not a power of two", pages_name, pages);
        found = (uint32_t)order_of(pages);
    }
    if (nodes->ring_page_order != NULL) {
        int error = need_number("ring-page-order", nodes->ring_page_order, 0,
                                offer->max_ring_page_order, why, &found);
        if (error != 0)
            return error;
        if (pages_text != NULL && pages != UINT32_C(1) << found)
            return refuse(why, "ring-page-order %u and %s %u disagree", found, pages_name, pages);
    }
    *order = found;
    return 0;
}

/*
 * The grant references of a ring's pages. A frontend that says nothing of the ring's size means
 * `ring-ref`, whatever ring-refN a former one left. The frontends of 2010, and those with one page,
 * wrote `ring-ref` in the place of ring-ref0.
 */
static int parse_ring_refs(const struct frontend_ring *ring, bool sized, uint32_t pages,
                           char why[NEGOTIATE_WHY_MAX], struct connection_queue *queue)
{
    for (uint32_t i = 0; i < pages; i++) {
        char name[24];
        snprintf(name, sizeof(name), "ring-ref%u", i);
        const char *text = sized ? ring->ring_refs[i] : NULL;
        bool plain = i == 0 && text == NULL;
        if (plain)
            text = ring->ring_ref;
        int error =
            need_number(plain ? "ring-ref" : name, text, 0, UINT32_MAX, why, &queue->ring_refs[i]);
        if (error != 0)
            return error;
        for (uint32_t j = 0; j < i; j++) {
            if (queue->ring_refs[j] == queue->ring_refs[i]) {
                return refuse(why, "%s and ring-ref%u are the same grant %u", name, j,
                              queue->ring_refs[i]);
            }
        }
    }
    return need_number("event-channel", ring->event_channel, 1, UINT32_MAX, why,
                       &queue->remote_port);
}

/* What two rings share would be served twice at once. */
static int check_pair(const struct negotiated *settled, uint32_t m, uint32_t n,
                      char why[NEGOTIATE_WHY_MAX])
{
    const struct connection_queue *a = &settled->queues[m];
    const struct connection_queue *b = &settled->queues[n];
    uint32_t pages = UINT32_C(1) << settled->ring_order;

    if (a->remote_port == b->remote_port) {
        return refuse(why, "queue-%u and queue-%u have the same event channel %u", m, n,
                      a->remote_port);
    }
    for (uint32_t i = 0; i < pages * pages; i++) {
        if (a->ring_refs[i / pages] == b->ring_refs[i % pages]) {
            return refuse(why, "queue-%u and queue-%u have the same grant %u", m, n,
                          a->ring_refs[i / pages]);
        }
    }
    return 0;
}

static int check_rings_differ(const struct negotiated *settled, char why[NEGOTIATE_WHY_MAX])
{
    int error = 0;

    for (uint32_t n = 1; n < settled->queue_count; n++)
        for (uint32_t m = 0; m < n && error == 0; m++)
            error = check_pair(settled, m, n, why);
    return error;
}

static int parse_rings(const struct frontend_nodes *nodes, char why[NEGOTIATE_WHY_MAX],
                       struct negotiated *settled)
{
    bool sized = nodes->ring_page_order != NULL || nodes->num_ring_pages != NULL ||
                 nodes->ring_pages != NULL;
    uint32_t pages = UINT32_C(1) << settled->ring_order;
    char reason[NEGOTIATE_WHY_MAX] = "";

    for (uint32_t n = 0; n < settled->queue_count; n++) {
        if (parse_ring_refs(&nodes->rings[n], sized, pages, reason, &settled->queues[n]) == 0)
            continue;
        if (settled->queue_count == 1)
            return refuse(why, "%s", reason);
        return refuse(why, "queue-%u: %.200s", n, reason);
    }
    return check_rings_differ(settled, why);
}

int negotiate_queues(const char *num_queues, uint32_t most, char why[NEGOTIATE_WHY_MAX],
                     uint32_t *out)
{
    if (num_queues == NULL) {
        *out = 1;
        return 0;
    }
    return need_number("multi-queue-num-queues", num_queues, 1, most, why, out);
}

/* Grants stay mapped only when both sides say so: else a frontend takes them back. */
static int parse_persistent(const struct frontend_nodes *nodes, const struct offer *offer,
                            char why[NEGOTIATE_WHY_MAX], bool *out)
{
    uint32_t asked = 0;
    if (nodes->persistent != NULL) {
        int error =
            need_number("feature-persistent", nodes->persistent, 0, UINT32_MAX, why, &asked);
        if (error != 0)
            return error;
    }
    *out = offer->persistent && asked != 0;
    return 0;
}

/* An optional limit: the lesser of what the frontend wrote and what we can, or `missing`. */
static int parse_limit(const char *name, const char *text, uint32_t most, uint32_t missing,
                       char why[NEGOTIATE_WHY_MAX], uint32_t limits[2])
{
    uint32_t asked = 0;

    if (text != NULL) {
        int error = need_number(name, text, 1, UINT32_MAX, why, &asked);
        if (error != 0)
            return error;
    }
    uint32_t wanted = text != NULL ? asked : missing;
    limits[0] = asked;
    limits[1] = wanted < most ? wanted : most;
    return 0;
}

static uint32_t lesser(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static int parse_limits(const struct frontend_nodes *nodes, const struct offer *offer,
                        char why[NEGOTIATE_WHY_MAX], struct negotiated *settled)
{
    uint32_t slots = blkif_abi_ring_slots(settled->abi, settled->ring_order);
    uint32_t requests[2];
    uint32_t segments[2];
    uint32_t size[2];

    /* Frontends older than max-requests have a ring of one page, those which never heard of it use
     * all of theirs. */
    int error = parse_limit("max-requests", nodes->max_requests, lesser(offer->max_requests, slots),
                            slots, why, requests);
    if (error == 0) {
        error = parse_limit("max-request-segments", nodes->max_segments, offer->max_segments,
                            NEGOTIATE_SEGMENTS, why, segments);
    }
    if (error == 0) {
        error = parse_limit("max-request-size", nodes->max_request_size, offer->max_request_size,
                            NEGOTIATE_SEGMENTS * NEGOTIATE_PAGE_BYTES, why, size);
    }
    if (error != 0)
        return error;
    settled->asked_requests = requests[0];
    settled->max_requests = requests[1];
    settled->asked_segments = segments[0];
    settled->max_segments = settled->abi == BLKIF_ABI_X86_32
                                ? lesser(segments[1], NEGOTIATE_SEGMENTS_X86_32)
                                : segments[1];
    settled->asked_size = size[0];
    settled->max_request_size = size[1];
    return 0;
}

static int parse_abi(const struct frontend_nodes *nodes, char why[NEGOTIATE_WHY_MAX],
                     struct negotiated *settled)
{
    char shown[SHOWN_MAX];

    settled->protocol_missing = nodes->protocol == NULL;
    if (blkif_abi_parse(nodes->protocol, &settled->abi) != 0) {
        return refuse(why, "unknown protocol \"%s\"",
                      log_escape(nodes->protocol, shown, sizeof(shown)));
    }
    return 0;
}

/* Whether a value that a frontend wrote, or left out, differs from what was settled on. */
static bool limits_differ(const struct negotiated *settled, const struct offer *offer)
{
    return settled->max_requests != offer->max_requests ||
           settled->max_segments != offer->max_segments ||
           settled->max_request_size != offer->max_request_size ||
           settled->ring_order != offer->max_ring_page_order ||
           settled->queue_count != offer->max_queues || settled->persistent != offer->persistent ||
           (settled->asked_requests != 0 && settled->asked_requests != settled->max_requests) ||
           (settled->asked_segments != 0 && settled->asked_segments != settled->max_segments) ||
           (settled->asked_size != 0 && settled->asked_size != settled->max_request_size);
}

int negotiate(const struct frontend_nodes *nodes, const struct offer *offer,
              char why[NEGOTIATE_WHY_MAX], struct negotiated *out)
{
    struct negotiated settled;

    memset(&settled, 0, sizeof(settled));
    int error = parse_abi(nodes, why, &settled);
    if (error == 0)
        error = negotiate_queues(nodes->num_queues, offer->max_queues, why, &settled.queue_count);
    if (error == 0)
        error = parse_ring_order(nodes, offer, why, &settled.ring_order);
    if (error == 0)
        error = parse_rings(nodes, why, &settled);
    if (error == 0)
        error = parse_limits(nodes, offer, why, &settled);
    if (error == 0)
        error = parse_persistent(nodes, offer, why, &settled.persistent);
    if (error != 0)
        return error;
    settled.max_indirect_segments = offer->max_indirect_segments; /* asked for by using them */
    settled.differs = limits_differ(&settled, offer);
    *out = settled;
    return 0;
}

static const char *asked_text(uint32_t asked, char text[16])
{
    if (asked == 0)
        return "-";
    snprintf(text, 16, "%u", asked);
    return text;
}

const char *negotiate_describe(const struct negotiated *settled, const struct offer *offer,
                               char *text, unsigned size)
{
    char requests[16];
    char segments[16];
    char bytes[16];

    snprintf(text, size,
             "ring pages offered %u, settled %u; requests offered %u, asked %s, settled %u; "
             "segments offered %u, asked %s, settled %u; request size offered %u, asked %s, "
             "settled %u; queues offered %u, settled %u; persistent grants offered %s, settled %s; "
             "indirect segments offered %u",
             1U << offer->max_ring_page_order, 1U << settled->ring_order, offer->max_requests,
             asked_text(settled->asked_requests, requests), settled->max_requests,
             offer->max_segments, asked_text(settled->asked_segments, segments),
             settled->max_segments, offer->max_request_size, asked_text(settled->asked_size, bytes),
             settled->max_request_size, offer->max_queues, settled->queue_count,
             offer->persistent ? "yes" : "no", settled->persistent ? "yes" : "no",
             offer->max_indirect_segments);
    return text;
}
