/* SPDX-License-Identifier: BSD-2-Clause */
/* The frontend's half of a ring and its event channel. */
#include "front.h"
#include "hv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xen/io/blkif.h>
#include <xen/xen.h>

#define RING_HEADER 64u

struct ring_words {
    _Atomic uint32_t req_prod, req_event, rsp_prod, rsp_event;
};

/* A request of several slots: its answer takes as many. */
struct several {
    uint64_t id;
    uint32_t slots;
};

struct front_queue {
    struct hv *hv;
    struct ring_words *words;
    uint8_t *slots;
    uint32_t domid, backend, pages, first_ref;
    uint32_t slot_count, slot_size;
    enum front_abi abi;
    uint32_t req_prod, rsp_cons; /* private */
    int fd;
    uint32_t handle, port, timeout_ms;
    uint32_t several_count;
    struct several several[FRONT_MAX_SLOTS / 2];
};

static uint32_t slots_of(uint32_t pages, uint32_t slot_size)
{
    uint32_t n = (pages * HV_PAGE - RING_HEADER) / slot_size, power = 1;

    while (power * 2 <= n)
        power *= 2;
    return power;
}

static int make_ring(struct front_queue *q)
{
    int64_t ref = bed_grant(q->domid, q->backend, q->pages, false);

    if (ref < 0)
        return (int)ref;
    q->first_ref = (uint32_t)ref;
    q->words = (struct ring_words *)(void *)bed_page(q->domid, q->first_ref);
    q->slots = (uint8_t *)q->words + RING_HEADER;
    q->words->req_event = 1;
    q->words->rsp_event = 1;
    return 0;
}

struct front_queue *front_queue_new(uint32_t domid, uint32_t backend, uint32_t order, uint32_t abi)
{
    struct hv *hv = hv_get();
    struct front_queue *q;
    int err;

    if (!hv || abi > FRONT_ABI_X86_32 || 1u << order > FRONT_MAX_RING_PAGES) {
        errno = EINVAL;
        return NULL;
    }
    q = calloc(1, sizeof(*q));
    if (!q)
        return NULL;
    q->hv = hv;
    q->domid = domid;
    q->backend = backend;
    q->abi = abi;
    q->pages = 1u << order;
    q->slot_size = front_slot_size(abi);
    q->slot_count = slots_of(q->pages, q->slot_size);
    err = make_ring(q);
    if (!err)
        err = hv_evt_open(hv, (uint16_t)domid, true, &q->fd, &q->handle);
    if (!err)
        err = hv_evt_alloc_unbound(hv, q->handle, (uint16_t)backend, &q->port);
    if (err) {
        free(q);
        errno = -err;
        return NULL;
    }
    return q;
}

int front_queue_free(struct front_queue *q)
{
    int mapped = 0;

    if (!q)
        return 0;
    hv_evt_unbind(q->hv, (uint16_t)q->domid, q->port);
    close(q->fd);
    for (uint32_t i = 0; i < q->pages; i++)
        mapped += bed_grant_end(q->domid, q->first_ref + i) > 0;
    free(q);
    return mapped;
}

uint32_t front_queue_slots(const struct front_queue *q)
{
    return q->slot_count;
}

uint32_t front_queue_ref(const struct front_queue *q, uint32_t page)
{
    return q->first_ref + page;
}

uint32_t front_queue_port(const struct front_queue *q)
{
    return q->port;
}

uint32_t front_queue_domid(const struct front_queue *q)
{
    return q->domid;
}

uint32_t front_queue_backend(const struct front_queue *q)
{
    return q->backend;
}

uint32_t front_queue_free_slots(const struct front_queue *q)
{
    return q->slot_count - (q->req_prod - q->rsp_cons);
}

uint8_t *front_queue_memory(struct front_queue *q)
{
    return (uint8_t *)q->words;
}

static uint8_t *slot_at(const struct front_queue *q, uint32_t index)
{
    return q->slots + (size_t)(index & (q->slot_count - 1)) * q->slot_size;
}

int front_remember_slots(struct front_queue *q, uint64_t id, uint32_t slots)
{
    if (q->several_count == sizeof(q->several) / sizeof(q->several[0]))
        return -ENOSPC;
    q->several[q->several_count++] = (struct several){.id = id, .slots = slots};
    return 0;
}

/* Slots of the request that is answered now. */
static uint32_t recall_slots(struct front_queue *q, uint64_t id)
{
    for (uint32_t i = 0; i < q->several_count; i++)
        if (q->several[i].id == id) {
            uint32_t slots = q->several[i].slots;

            q->several[i] = q->several[--q->several_count];
            return slots;
        }
    return 1;
}

int front_put(struct front_queue *q, const struct front_request *request)
{
    uint32_t slots = request->slots ? request->slots : front_slots_of(request->segments);
    int err = 0;

    if (request->op == BLKIF_OP_INDIRECT && !request->slots)
        slots = 1;
    if (front_queue_free_slots(q) < slots)
        return -ENOSPC;
    if (slots > 1)
        err = front_remember_slots(q, request->id, slots);
    if (err)
        return err;
    for (uint32_t i = 0; i < slots; i++)
        front_encode(q->abi, request, i, slot_at(q, q->req_prod++));
    return 0;
}

int front_put_raw(struct front_queue *q, const void *bytes, uint32_t size)
{
    if (!front_queue_free_slots(q))
        return -ENOSPC;
    if (size > q->slot_size)
        return -EINVAL;
    memcpy(slot_at(q, q->req_prod), bytes, size);
    q->req_prod++;
    return 0;
}

int front_notify(struct front_queue *q)
{
    return hv_evt_notify(q->hv, q->fd, (uint16_t)q->domid, q->port);
}

static int publish(struct front_queue *q, uint32_t old, uint32_t new)
{
    uint32_t event;

    atomic_store_explicit(&q->words->req_prod, new, memory_order_release);
    /* pairs with the backend's barrier between setting req_event and its last look at req_prod */
    atomic_thread_fence(memory_order_seq_cst);
    event = atomic_load_explicit(&q->words->req_event, memory_order_relaxed);
    if (new - event >= new - old)
        return 0;
    front_notify(q);
    return 1;
}

int front_push(struct front_queue *q)
{
    return publish(q, atomic_load_explicit(&q->words->req_prod, memory_order_relaxed), q->req_prod);
}

int front_push_slots(struct front_queue *q, uint32_t slots)
{
    uint32_t old = atomic_load_explicit(&q->words->req_prod, memory_order_relaxed);

    return slots > q->req_prod - old ? -EINVAL : publish(q, old, old + slots);
}

static bool response_there(const struct front_queue *q)
{
    return atomic_load_explicit(&q->words->rsp_prod, memory_order_acquire) != q->rsp_cons;
}

int front_take(struct front_queue *q, struct front_response *response)
{
    uint32_t slots;

    if (!response_there(q))
        return 0;
    front_decode(slot_at(q, q->rsp_cons), response);
    slots = q->several_count ? recall_slots(q, response->id) : 1;
    if (atomic_load_explicit(&q->words->rsp_prod, memory_order_relaxed) - q->rsp_cons < slots)
        return -EPROTO;
    q->rsp_cons += slots;
    return 1;
}

static void set_timeout(struct front_queue *q, uint32_t timeout_ms)
{
    struct timeval tv = {.tv_sec = timeout_ms / 1000, .tv_usec = (timeout_ms % 1000) * 1000};

    if (q->timeout_ms == timeout_ms)
        return;
    if (timeout_ms == 0)
        tv.tv_usec = 1;
    setsockopt(q->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
    q->timeout_ms = timeout_ms;
}

bool front_arm(struct front_queue *q)
{
    atomic_store_explicit(&q->words->rsp_event, q->rsp_cons + 1, memory_order_relaxed);
    /* pairs with the backend's barrier between storing rsp_prod and reading rsp_event */
    atomic_thread_fence(memory_order_seq_cst);
    return response_there(q);
}

int front_fd(const struct front_queue *q)
{
    return q->fd;
}

void front_take_event(struct front_queue *q)
{
    uint32_t port;

    if (read(q->fd, &port, sizeof(port)) == sizeof(port))
        hv_evt_unmask(q->hv, q->fd, (uint16_t)q->domid, port);
}

int front_wait(struct front_queue *q, uint32_t timeout_ms)
{
    for (;;) {
        uint32_t port;

        if (front_arm(q))
            return 1;
        set_timeout(q, timeout_ms);
        if (read(q->fd, &port, sizeof(port)) != sizeof(port)) {
            if (errno == EINTR)
                continue;
            return response_there(q) ? -ETIME : 0;
        }
        hv_evt_unmask(q->hv, q->fd, (uint16_t)q->domid, port);
    }
}
