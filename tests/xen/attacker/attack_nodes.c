/* SPDX-License-Identifier: BSD-2-Clause */
/* Attacks by what is in XenStore. */
#include "attacker.h"
#include "hv.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define STORM       150u
#define FLIPS       20u
#define FLOOD_NODES 200u
#define SETTLE_MS   300u

/* One offer that must be refused; the disk is where it was afterwards. */
static int refused(struct attacker *a, const struct node *changed, uint32_t count)
{
    int err = await_frontend(a);

    if (!err)
        err = offer_ring(a, changed, count);
    if (!err)
        err = expect_refusal(a);
    if (!err) {
        a->count++;
        return leave_disk(a);
    }
    return reject(a, "%s=%.20s: not refused (state %d)", changed[0].name,
                  changed[0].value ? changed[0].value : "(missing)", backend_state(a));
}

static int each_refused(struct attacker *a, const char *name, const char *const *values,
                        uint32_t count)
{
    int err = 0;

    for (uint32_t i = 0; !err && i < count; i++) {
        const struct node node = {name, values[i]};

        err = refused(a, &node, 1);
    }
    return err;
}

static int nonsense(struct attacker *a, const char *name)
{
    char longest[1024];
    const char *const values[] = {NULL, "", "abc", "-1", "1x", "4294967296", "%s%n/..", longest};

    memset(longest, '9', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    return each_refused(a, name, values, sizeof(values) / sizeof(values[0]));
}

static int ring_reference(struct attacker *a)
{
    return nonsense(a, "ring-ref");
}

static int event_channel(struct attacker *a)
{
    return nonsense(a, "event-channel");
}

/* Of XenStore and the console, which are bound; none; never used; bound to another domain. */
static int channels_of_others(struct attacker *a)
{
    char to_other[16], of_other[16];
    const char *const values[] = {"0", "1", "2", "4095", "99999999", to_other, of_other};
    uint32_t handle = 0, port = 0;
    int fd = -1, err = hv_evt_open(hv_get(), 0, true, &fd, &handle);

    if (!err)
        err = hv_evt_alloc_unbound(hv_get(), handle, (uint16_t)a->other, &port);
    if (err || !a->other)
        return reject(a, "no channel to another guest: %d", err);
    snprintf(to_other, sizeof(to_other), "%u", port);
    snprintf(of_other, sizeof(of_other), "%u", port + 1000u);
    err = each_refused(a, "event-channel", values, sizeof(values) / sizeof(values[0]));
    close(fd);
    return err;
}

static int unmappable_rings(struct attacker *a)
{
    int64_t read_only = bed_grant(a->domid, a->backend_domid, 1, true);
    int64_t to_other = bed_grant(a->domid, a->other, 1, false);
    char first[16], second[16], theirs[16];
    const char *const values[] = {"99999", "2147483647", "4294967295", first, second, theirs};
    int err;

    if (read_only < 0 || to_other < 0)
        return reject(a, "nothing can be granted");
    snprintf(first, sizeof(first), "%u", (uint32_t)read_only);
    snprintf(second, sizeof(second), "%u", (uint32_t)to_other);
    snprintf(theirs, sizeof(theirs), "%u", a->other_ref);
    err = each_refused(a, "ring-ref", values,
                       sizeof(values) / sizeof(values[0]) - (bed_page(0, a->other_ref) ? 1 : 0));
    bed_grant_end(a->domid, (uint32_t)read_only);
    bed_grant_end(a->domid, (uint32_t)to_other);
    return err;
}

static int impossible_rings(struct attacker *a)
{
    char ref[16];
    const struct node twice[] = {
        {"ring-page-order", "1"}, {"ring-ref0", ref}, {"ring-ref1", ref}, {"ring-ref", NULL}};
    const struct node single[] = {{"ring-page-order", "6"},
                                  {"ring-page-order", "64"},
                                  {"ring-page-order", "-1"},
                                  {"num-ring-pages", "3"},
                                  {"num-ring-pages", "4294967296"},
                                  {"protocol", "vax"},
                                  {"multi-queue-num-queues", "0"},
                                  {"multi-queue-num-queues", "1000"},
                                  {"multi-queue-num-queues", "4294967297"},
                                  {"multi-queue-num-queues", "-1"}};
    int err = 0;

    for (uint32_t i = 0; !err && i < sizeof(single) / sizeof(single[0]); i++)
        err = refused(a, &single[i], 1);
    if (!err)
        err = offer_ring(a, NULL, 0); /* for a reference */
    if (!err) {
        snprintf(ref, sizeof(ref), "%u", front_queue_ref(a->queue, 0));
        err = leave_disk(a);
    }
    return err ? err : refused(a, twice, sizeof(twice) / sizeof(twice[0]));
}

static int state_storm(struct attacker *a)
{
    static const char *const states[] = {"1", "2", "3",  "4", "5",   "6",
                                         "7", "0", "99", "",  "abc", "-4"};
    int err = await_frontend(a);

    if (!err)
        err = offer_ring(a, NULL, 0);
    do {
        for (uint32_t i = 0; !err && i < STORM; i++, a->count++)
            err =
                write_node(a, "state", states[random_below(a, sizeof(states) / sizeof(states[0]))]);
    } while (!err && !time_over(a));
    return err ? err : leave_disk(a);
}

static int connects_and_closes(struct attacker *a)
{
    for (uint32_t turn = 0; turn < 3 || !time_over(a); turn++, a->count++)
        if (connect_disk(a) || leave_disk(a))
            return -1;
    return 0;
}

/* The same ring once more is no news; another one takes the first one's place. */
static int initialised_twice(struct attacker *a)
{
    struct front_queue *former = a->queue;
    int err = set_state(a, INITIALISED);

    pause_ms(SETTLE_MS);
    if (!err)
        err = set_state(a, CONNECTED);
    if (!err)
        err = healthy_io(a);
    a->queue = NULL;
    if (!err)
        err = offer_ring(a, NULL, 0);
    /* only then: two states in a row may be seen as the last one */
    if (!err)
        err = healthy_io(a);
    if (!err)
        err = set_state(a, CONNECTED);
    front_queue_free(former);
    return err;
}

static int state_removed(struct attacker *a)
{
    char path[96];

    snprintf(path, sizeof(path), "%s/state", a->device);
    xs_rm(a->xs, XBT_NULL, path);
    return wait_backend(a, CLOSING, CLOSED);
}

/* Right and wrong ones by turns: connected with right ones, or refused. */
static int nodes_change(struct attacker *a)
{
    for (uint32_t turn = 0; turn < 3 || !time_over(a); turn++) {
        char ref[16];
        int err = await_frontend(a);

        if (!err)
            err = offer_ring(a, NULL, 0);
        for (uint32_t i = 0; !err && i < FLIPS; i++) {
            snprintf(ref, sizeof(ref), "%u", i % 2 ? front_queue_ref(a->queue, 0) : random_word(a));
            err = write_node(a, "ring-ref", ref);
            if (!err)
                err = write_node(a, "event-channel", i % 4 < 2 ? "1" : "abc");
            a->count++;
        }
        if (!err)
            err = leave_disk(a);
        if (err)
            return err;
    }
    return 0;
}

static int nodes_of_connected(struct attacker *a)
{
    static const char *const names[] = {"ring-ref",
                                        "event-channel",
                                        "protocol",
                                        "ring-page-order",
                                        "multi-queue-num-queues",
                                        "backend",
                                        "virtual-device",
                                        "device-type",
                                        "mode",
                                        "params"};
    int err = 0;

    for (uint32_t i = 0; !err && i < sizeof(names) / sizeof(names[0]); i++)
        err = write_node(a, names[i], "%n%n%n/../../1");
    if (!err)
        err = healthy_io(a);
    a->untidy = true;
    return err ? err : write_node(a, "backend", a->backend);
}

static int flood_of_nodes(struct attacker *a)
{
    char name[32], path[96];
    int err = 0;

    for (uint32_t i = 0; !err && i < FLOOD_NODES; i++, a->count++) {
        snprintf(name, sizeof(name), "flood/%u/%u/x", i % 7, i);
        err = write_node(a, name, "1");
    }
    snprintf(path, sizeof(path), "%s/flood", a->device);
    xs_rm(a->xs, XBT_NULL, path);
    return err ? err : healthy_io(a);
}

static int directory_removed(struct attacker *a)
{
    xs_rm(a->xs, XBT_NULL, a->device);
    return wait_backend(a, CLOSED, CLOSED);
}

const struct attack node_attacks[] = {
    {"ring-reference", ring_reference, ON_NODES, "no number, none, too large a one"},
    {"event-channel", event_channel, ON_NODES, "the same of the event channel"},
    {"channels-of-others", channels_of_others, ON_NODES, "bound, unused, of or to another"},
    {"unmappable-rings", unmappable_rings, ON_NODES, "never granted, read-only, of or to another"},
    {"impossible-rings", impossible_rings, ON_NODES, "orders, queues, protocols, one page twice"},
    {"state-storm", state_storm, ON_NODES, "states and other words, hundreds of them"},
    {"connects-and-closes", connects_and_closes, ON_NODES, "without end"},
    {"initialised-twice", initialised_twice, SERVES, "with the same ring, and with another"},
    {"state-removed", state_removed, ENDS, "the state node of a connected disk"},
    {"nodes-change", nodes_change, ON_NODES, "right and wrong nodes by turns while they are read"},
    {"nodes-of-connected", nodes_of_connected, SERVES, "nonsense in the nodes of a connected ring"},
    {"flood-of-nodes", flood_of_nodes, SERVES, "trees of nodes below the disk's"},
    {"directory-removed", directory_removed, GONE, "the disk's whole directory"},
    {NULL, NULL, STOPS, NULL},
};
