/* SPDX-License-Identifier: BSD-2-Clause */
/* Reading what a frontend wrote, once and in one transaction together with its state. */
#include "frontend_nodes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reading {
    const char *dir;
    char **names; /* what is in the folder that is being read; NULL: could not be listed */
    unsigned count;
    uint32_t max_queues;
    char (*values)[FRONTEND_VALUE_MAX];
    unsigned used;
    uint32_t state;
    struct frontend_nodes *nodes;
};

static void forget_names(struct reading *reading)
{
    free(reading->names);
    reading->names = NULL;
}

/* Most nodes that we know are not there. A list spares asking for each; without one each is. */
static int list_names(struct xenstore *xs, struct reading *reading, const char *dir)
{
    forget_names(reading);
    int error = xenstore_list(xs, dir, &reading->names, &reading->count);
    if (error != 0)
        reading->names = NULL;
    return xenstore_lost(xs) ? error : 0;
}

static bool known_missing(const struct reading *reading, const char *name)
{
    if (reading->names == NULL)
        return false;
    for (unsigned i = 0; i < reading->count; i++)
        if (strcmp(reading->names[i], name) == 0)
            return false;
    return true;
}

static int read_node(struct xenstore *xs, struct reading *reading, const char *dir,
                     const char *name, const char **value)
{
    char *text = reading->values[reading->used];
    if (known_missing(reading, name))
        return 0;
    int error = xenstore_read_at(xs, dir, name, text, FRONTEND_VALUE_MAX);
    switch (error) {
    case 0:
        break;
    /* What is no valid value of any node, and names the reason when it is refused. */
    case -E2BIG:
        *value = "(too long)";
        return 0;
    case -EILSEQ:
        *value = "(not text)";
        return 0;
    case -ENOENT:
    case -EACCES: /* the guest has taken our right to read it: as if it weren't there */
        return 0;
    default:
        return error;
    }
    reading->used++;
    *value = text;
    return 0;
}

static int read_ring(struct xenstore *xs, struct reading *reading, const char *dir,
                     struct frontend_ring *ring)
{
    int error = read_node(xs, reading, dir, "ring-ref", &ring->ring_ref);
    if (error == 0)
        error = read_node(xs, reading, dir, "event-channel", &ring->event_channel);
    for (unsigned i = 0; error == 0 && i < STATE_MAX_RING_PAGES; i++) {
        char name[24];
        snprintf(name, sizeof(name), "ring-ref%u", i);
        error = read_node(xs, reading, dir, name, &ring->ring_refs[i]);
        if (i > 0 && ring->ring_refs[i] == NULL)
            break; /* what follows a gap is never used; page 0 may be in `ring-ref` */
    }
    return error;
}

static int read_rings(struct xenstore *xs, struct reading *reading)
{
    char why[NEGOTIATE_WHY_MAX];
    uint32_t count;

    if (negotiate_queues(reading->nodes->num_queues, reading->max_queues, why, &count) != 0)
        return 0; /* for negotiate() to refuse */
    if (count == 1)
        return read_ring(xs, reading, reading->dir, &reading->nodes->rings[0]);
    int error = 0;
    for (uint32_t i = 0; error == 0 && i < count; i++) {
        char dir[XENSTORE_PATH_MAX];
        snprintf(dir, sizeof(dir), "%s/queue-%u", reading->dir, i);
        error = list_names(xs, reading, dir);
        if (error == 0)
            error = read_ring(xs, reading, dir, &reading->nodes->rings[i]);
    }
    return error;
}

static int read_in_transaction(struct xenstore *xs, void *context)
{
    struct reading *reading = context;
    struct frontend_nodes *nodes = reading->nodes;
    const struct {
        const char *name;
        const char **value;
    } single[] = {
        {"protocol", &nodes->protocol},
        {"ring-page-order", &nodes->ring_page_order},
        {"num-ring-pages", &nodes->num_ring_pages},
        {"ring-pages", &nodes->ring_pages},
        {"multi-queue-num-queues", &nodes->num_queues},
        {"feature-persistent", &nodes->persistent},
        {"max-requests", &nodes->max_requests},
        {"max-request-segments", &nodes->max_segments},
        {"max-request-size", &nodes->max_request_size},
    };

    *nodes = (struct frontend_nodes){.protocol = NULL};
    reading->used = 0;
    reading->state = 0;
    int error = list_names(xs, reading, reading->dir);
    for (unsigned i = 0; error == 0 && i < sizeof(single) / sizeof(single[0]); i++)
        error = read_node(xs, reading, reading->dir, single[i].name, single[i].value);
    if (error == 0)
        error = read_rings(xs, reading);
    if (error == 0)
        (void)xenstore_read_u32(xs, reading->dir, "state", UINT32_MAX, &reading->state);
    return error;
}

int frontend_nodes_read(struct xenstore *xs, const char *dir, uint32_t max_queues,
                        struct frontend_text *text, uint32_t *state, struct frontend_nodes *nodes)
{
    struct frontend_nodes read;
    struct reading reading = {
        .dir = dir, .max_queues = max_queues, .values = text->values, .nodes = &read};
    int error = xenstore_transaction(xs, read_in_transaction, &reading);
    forget_names(&reading);
    if (error != 0)
        return error;
    *state = reading.state;
    *nodes = read;
    return 0;
}
