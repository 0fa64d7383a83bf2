/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A malicious frontend for a guest on real Xen. It speaks to the kernel's /dev/xen devices from a
 * user's program; rings and slots are those of the bed's frontend (tests/bed/frontend), over the
 * real grant table and event channels instead of the bed's.
 *
 * Functions return 0, or a negative number after reject() has kept the reason.
 */
#ifndef XEN_ATTACKER_H
#define XEN_ATTACKER_H

#include "front.h"

#include <stdbool.h>
#include <stdint.h>
#include <xenstore.h>

#define PAGE         4096u
#define RING_SLOTS   32u
#define SLOT_SIZE    112u
#define SLOTS_OFFSET 64u
#define ANSWER_MS    20000u /* an emulated host beside others is slow */

/* States of XenBus. */
enum { INITIALISING = 1, INIT_WAIT, INITIALISED, CONNECTED, CLOSING, CLOSED };

/* Shared words of the ring, in their order. */
enum { REQ_PROD, REQ_EVENT, RSP_PROD, RSP_EVENT };

struct attacker {
    struct xs_handle *xs;
    char device[64]; /* the frontend directory, below the domain's own */
    char backend[160];
    char error[96]; /* where the backend says why */
    uint32_t domid, backend_domid;
    uint32_t other;     /* a healthy guest, 0: none is known */
    uint32_t other_ref; /* a reference that is in use there */
    struct front_queue *queue;
    volatile uint32_t *words; /* of its ring */
    uint64_t sectors, next_id, random;
    bool read_only;
    bool untidy;          /* there are nodes that an attack has left */
    uint8_t *page, *list; /* of its own, granted: data, and segments of indirect requests */
    uint32_t page_ref, list_ref;
    struct expected {
        uint64_t id;
        uint8_t op;
        int16_t status, or_status;
    } expected[RING_SLOTS]; /* what was put and is not answered */
    uint32_t unanswered;
    uint64_t deadline_ms; /* until then an attack goes on */
    uint64_t count;       /* what an attack counts, for its report */
    char reason[300];     /* why an attack did not end as it must */
};

/* machine.c */
uint64_t now_ms(void);
void pause_ms(uint32_t ms);

/* handshake.c: the frontend's directory. */
struct node {
    const char *name;
    const char *value; /* NULL: it is missing */
};
int handshake_open(struct attacker *a, uint32_t devid);
int write_node(struct attacker *a, const char *name, const char *value);
int set_state(struct attacker *a, int state);
/* 0 where there is no state. */
int backend_state(struct attacker *a);
/* Waits for either of two states. */
int wait_backend(struct attacker *a, int state, int or_state);
/* From Closed, or at first: to where the backend waits for a frontend. */
int await_frontend(struct attacker *a);
/* Makes a ring when there is none, and writes all nodes, some of them otherwise, in one
 * transaction with the state Initialised. */
int offer_ring(struct attacker *a, const struct node *changed, uint32_t count);
int connect_disk(struct attacker *a);
/* The backend must refuse what it was shown: Closing or Closed, with a reason. */
int expect_refusal(struct attacker *a);
/* To Closed, from wherever it is; gives the ring up. */
int leave_disk(struct attacker *a);

/* io.c: requests, with every answer checked. */
int reject(struct attacker *a, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool time_over(const struct attacker *a);
uint32_t random_below(struct attacker *a, uint32_t limit);
uint32_t random_word(struct attacker *a);
/* A request without effect: one page at sector 0. */
struct front_request plain_request(struct attacker *a, uint8_t op, struct front_segment *segment);
/* Puts without publishing: it is to be answered with that operation and one of two statuses. */
int put_either(struct attacker *a, struct front_request *request, uint8_t op, int16_t status,
               int16_t or_status);
int put(struct attacker *a, struct front_request *request, uint8_t op, int16_t status);
/* Publishes what was put and takes exactly the answers that were expected. */
int settle(struct attacker *a);
/* put() and settle() */
int expect_answer(struct attacker *a, struct front_request *request, uint8_t op, int16_t status);
int expect_silence(struct attacker *a);
/* Writes and reads as a healthy guest does, and compares. */
int healthy_io(struct attacker *a);

enum outcome {
    STOPS,     /* the ring is refused; the disk can be connected anew */
    SERVES,    /* the same ring is served as before */
    SCRIBBLES, /* the ring is no longer of use, but the backend goes on */
    ENDS,      /* the backend closes; nothing is refused */
    ON_NODES,  /* the attack connects and leaves by itself */
    GONE,      /* nothing is left of the disk */
};

struct attack {
    const char *name;
    int (*run)(struct attacker *a);
    enum outcome outcome;
    const char *about;
};

extern const struct attack ring_attacks[], timing_attacks[], grant_attacks[], node_attacks[];

#endif
