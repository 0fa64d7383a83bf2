/* SPDX-License-Identifier: BSD-2-Clause */
/* What a worker of the model does first, by the order in docs/architecture.md. */

#if REQUESTS == 2
#define no_dead_io() (dead_io[0] + dead_io[1] == 0)
#elif REQUESTS == 3
#define no_dead_io() (dead_io[0] + dead_io[1] + dead_io[2] == 0)
#elif REQUESTS == 4
#define no_dead_io() (dead_io[0] + dead_io[1] + dead_io[2] + dead_io[3] == 0)
#else
#define no_dead_io() (dead_io[0] + dead_io[1] + dead_io[2] + dead_io[3] + dead_io[4] == 0)
#endif

inline fence()
{
#ifdef BUG_NO_FENCE
    skip
#else
    no_dead_io()
#endif
}

/* With an honest frontend nothing is ever refused. */
inline check()
{
    d_step {
        assert(rsp_prod <= ring_rsp_prod && ring_rsp_prod - rsp_prod <= SLOTS);
        for (k : rsp_prod .. ring_rsp_prod - 1) {
            assert(publishing[at(k)] > 0);
            assert(entry[publishing[at(k)] - 1].state == DONE ||
                   entry[publishing[at(k)] - 1].state == FREE)
        }
        k = 0
    }
}

inline free_published()
{
    k = rsp_prod;
    do
    :: atomic { k < ring_rsp_prod -> free_entry(publishing[at(k)] - 1); k++ }
    :: atomic { k == ring_rsp_prod -> k = 0; break }
    od
}

inline retire()
{
#if defined(BUG_NO_PUBLISHING)
    rsp_prod = ring_rsp_prod;
#elif defined(BUG_RECOVER_RSP_PROD_BEFORE_FREE)
    check();
    k = rsp_prod;
    rsp_prod = ring_rsp_prod;
    do
    :: atomic { k < ring_rsp_prod -> free_entry(publishing[at(k)] - 1); k++ }
    :: atomic { k == ring_rsp_prod -> k = 0; break }
    od;
#else
    check();
    free_published();
    rsp_prod = ring_rsp_prod;
#endif
}

inline raise_req_cons()
{
#ifdef BUG_REQ_CONS_NOT_RAISED
    skip
#else
    d_step {
        seq = req_cons;
        for (k : 0 .. ENTRIES - 1) {
            if
#ifdef BUG_RECOVER_REQ_CONS_BY_ONE
            :: !is_free(k) && entry[k].seq + 1 > seq -> seq = entry[k].seq + 1
#else
            :: !is_free(k) && entry[k].seq + entry[k].slots > seq ->
                seq = entry[k].seq + entry[k].slots
#endif
            :: else
            fi
        }
        k = 0
    }
    atomic { req_cons = seq; seq = 0 }
#endif
}

/* All of it private: one step. */
inline sort_out()
{
    d_step {
        ring_req_cons = req_cons;
        ring_rsp_put = rsp_prod;
        for (k : 0 .. ENTRIES - 1) {
            if
            :: entry[k].state == DONE -> answers[answer_count] = k; answer_count++
#ifdef BUG_FLUSH_NOT_REPLAYED
            :: entry[k].state == STARTED && work[entry[k].id] == FLUSH ->
                entry[k].state = DONE; answers[answer_count] = k; answer_count++
#endif
#if !defined(BUG_NO_RANGE_LOCKS) && !defined(BUG_NOT_STARTED_FIRST)
            :: entry[k].state == STARTED -> overlap_acquire(k)
#endif
            :: else
            fi;
#ifdef BUG_BARRIER_FORGOTTEN
            recovered = recovered | bit(k)
#endif
        }
        k = 0
    }
}

inline journal_recover()
{
    fence();
#ifdef BUG_RING_ALONE
    d_step {
        for (k : 0 .. ENTRIES - 1) {
            entry[k].state = FREE
        }
        k = 0;
        req_cons = ring_rsp_prod;
        rsp_prod = ring_rsp_prod
    }
#else
    retire();
    raise_req_cons();
#endif
#ifdef EVENTS
    bound = true;
#endif
    sort_out();
#ifdef EVENTS
#ifndef BUG_NO_NOTIFY_IN_RECOVERY
    event_to_frontend = true;
#endif
#ifndef BUG_NO_LOOK_AFTER_RECOVERY
    awake = true
#endif
#endif
}
