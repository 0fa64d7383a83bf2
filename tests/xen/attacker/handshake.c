/* SPDX-License-Identifier: BSD-2-Clause */
/* XenBus' handshake from the frontend's side, by libxenstore. */
#include "attacker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What attacks leave in the directory. */
static const char *const leftovers[] = {"ring-ref0",       "ring-ref1",
                                        "ring-page-order", "num-ring-pages",
                                        "ring-pages",      "multi-queue-num-queues",
                                        "queue-0",         "feature-persistent"};

/* Reads below a directory, "" where there is nothing. */
static void read_below(struct attacker *a, const char *where, const char *name, char *text,
                       size_t size)
{
    char path[256];
    char *value;

    snprintf(path, sizeof(path), "%s%s%s", where, *name ? "/" : "", name);
    value = xs_read(a->xs, XBT_NULL, path, NULL);
    snprintf(text, size, "%s", value ? value : "");
    free(value);
}

static uint64_t number_below(struct attacker *a, const char *where, const char *name)
{
    char text[32];

    read_below(a, where, name, text, sizeof(text));
    return strtoull(text, NULL, 10);
}

int handshake_open(struct attacker *a, uint32_t devid)
{
    char mode[16];

    a->xs = xs_open(0);
    if (!a->xs)
        return reject(a, "XenStore: %s", strerror(errno));
    snprintf(a->device, sizeof(a->device), "device/vbd/%u", devid);
    snprintf(a->error, sizeof(a->error), "error/device/vbd/%u/error", devid);
    a->domid = (uint32_t)number_below(a, "domid", "");
    a->backend_domid = (uint32_t)number_below(a, a->device, "backend-id");
    read_below(a, a->device, "backend", a->backend, sizeof(a->backend));
    read_below(a, a->backend, "mode", mode, sizeof(mode));
    a->read_only = mode[0] != 'w';
    return a->backend[0] ? 0 : reject(a, "there is no disk %s", a->device);
}

int write_node(struct attacker *a, const char *name, const char *value)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/%s", a->device, name);
    if (!xs_write(a->xs, XBT_NULL, path, value, (unsigned)strlen(value)))
        return reject(a, "writing %s: %s", path, strerror(errno));
    return 0;
}

int set_state(struct attacker *a, int state)
{
    char text[16];

    snprintf(text, sizeof(text), "%d", state);
    return write_node(a, "state", text);
}

int backend_state(struct attacker *a)
{
    return (int)number_below(a, a->backend, "state");
}

int wait_backend(struct attacker *a, int state, int or_state)
{
    uint64_t end = now_ms() + ANSWER_MS;

    for (;;) {
        int is = backend_state(a);

        if (is == state || is == or_state)
            return 0;
        if (now_ms() > end)
            return reject(a, "the backend stays in state %d, not %d", is, state);
        pause_ms(50);
    }
}

static bool write_all(struct attacker *a, xs_transaction_t t, const struct node *nodes,
                      uint32_t count)
{
    char path[128];

    for (uint32_t i = 0; i < count; i++) {
        snprintf(path, sizeof(path), "%s/%s", a->device, nodes[i].name);
        if (!nodes[i].value)
            xs_rm(a->xs, t, path);
        else if (!xs_write(a->xs, t, path, nodes[i].value, (unsigned)strlen(nodes[i].value)))
            return false;
    }
    return true;
}

static int make_ring(struct attacker *a)
{
    if (a->queue)
        return 0;
    a->queue = front_queue_new(a->domid, a->backend_domid, 0, FRONT_ABI_X86_64);
    if (!a->queue)
        return reject(a, "no ring: %s", strerror(errno));
    a->words = (volatile uint32_t *)(void *)front_queue_memory(a->queue);
    return 0;
}

int offer_ring(struct attacker *a, const struct node *changed, uint32_t count)
{
    char ref[16], port[16];
    const struct node usual[] = {
        {"protocol", "x86_64-abi"}, {"ring-ref", ref}, {"event-channel", port}, {"state", "3"}};
    struct node none = {.value = NULL};
    int err = make_ring(a);

    if (err)
        return err;
    snprintf(ref, sizeof(ref), "%u", front_queue_ref(a->queue, 0));
    snprintf(port, sizeof(port), "%u", front_queue_port(a->queue));
    for (;;) {
        xs_transaction_t t = xs_transaction_start(a->xs);
        bool fine = t != XBT_NULL;

        for (uint32_t i = 0; fine && a->untidy && i < sizeof(leftovers) / sizeof(leftovers[0]);
             i++) {
            none.name = leftovers[i];
            write_all(a, t, &none, 1);
        }
        fine = fine && write_all(a, t, usual, sizeof(usual) / sizeof(usual[0])) &&
               write_all(a, t, changed, count);
        if (xs_transaction_end(a->xs, t, !fine) && fine) {
            a->untidy = count > 0;
            return 0;
        }
        if (!fine || errno != EAGAIN)
            return reject(a, "the nodes can't be written: %s", strerror(errno));
    }
}

/* Back to where a backend waits for a frontend. */
int await_frontend(struct attacker *a)
{
    int err = 0;

    xs_rm(a->xs, XBT_NULL, a->error);
    if (backend_state(a) != INIT_WAIT)
        err = set_state(a, INITIALISING);
    return err ? err : wait_backend(a, INIT_WAIT, INIT_WAIT);
}

int connect_disk(struct attacker *a)
{
    int err = await_frontend(a);

    if (!err)
        err = offer_ring(a, NULL, 0);
    if (!err)
        err = wait_backend(a, CONNECTED, CONNECTED);
    if (!err)
        err = set_state(a, CONNECTED);
    a->sectors = number_below(a, a->backend, "sectors");
    return err;
}

int expect_refusal(struct attacker *a)
{
    char text[200];
    int err = wait_backend(a, CLOSING, CLOSED);

    if (err)
        return err;
    read_below(a, a->error, "", text, sizeof(text));
    return text[0] ? 0 : reject(a, "the backend closed without saying why");
}

int leave_disk(struct attacker *a)
{
    int err = set_state(a, CLOSED);

    if (!err)
        err = wait_backend(a, CLOSED, CLOSED);
    front_queue_free(a->queue);
    a->queue = NULL;
    a->words = NULL;
    a->unanswered = 0;
    return err ? err : await_frontend(a);
}
