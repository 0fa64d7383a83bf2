/* SPDX-License-Identifier: BSD-2-Clause */
/* The frontend of the model, which keeps to the protocol, and what it may rely on. */

#define room() (SLOTS - (ring_req_prod - rsp_cons))

inline choose_work()
{
#if defined(ANY_WORK)
    if
    :: work[made] = SECTOR_0
    :: work[made] = SECTORS
    :: slots[made] == 1 -> work[made] = FLUSH
    :: work[made] = BARRIER
    fi
#elif defined(OVERLAPPING_WORK)
    if
    :: work[made] = SECTOR_0
    :: work[made] = SECTORS
    fi
#else
    work[made] = SECTOR_0
#endif
}

/* The backend may see a request's slots come one by one. */
inline make_request()
{
    atomic {
        made < REQUESTS && room() > 0 && !killed ->
        if
        :: slots[made] = 1
        :: MOST_SLOTS >= 2 && room() >= 2 -> slots[made] = 2
        :: MOST_SLOTS >= 3 && room() >= 3 -> slots[made] = 3
        fi;
        choose_work();
        before[made] = (work[made] & FLUSH -> consumed : 0);
        more = slots[made] - 1;
        ring_slot[at(ring_req_prod)] = REQUEST + made;
        made++;
        ring_req_prod++
    }
#ifdef EVENTS
    notify_worker();
#endif
    do
    :: atomic {
        more > 0 && !killed ->
        ring_slot[at(ring_req_prod)] = CONTINUATION + made - 1;
        more--;
        ring_req_prod++
    }
#ifdef EVENTS
    notify_worker()
#endif
    :: more == 0 -> break
    od
}

/* RING_PUSH_REQUESTS_AND_CHECK_NOTIFY, RING_FINAL_CHECK_FOR_RESPONSES of xen/io/ring.h */
#ifdef EVENTS
inline notify_worker()
{
    atomic {
        !killed ->
        event_to_worker = event_to_worker || (bound && ring_req_event == ring_req_prod)
    }
}

inline wait_for_response()
{
    atomic { polling && rsp_cons == ring_rsp_prod && !killed -> ring_rsp_event = rsp_cons + 1 }
    atomic { !killed -> polling = (rsp_cons != ring_rsp_prod) }
}
#endif

inline consume_response()
{
    atomic {
        polling && rsp_cons < ring_rsp_prod && !killed ->
        d_step {
            n = ring_slot[at(rsp_cons)];
            assert(kind_of(n) == RESPONSE); /* nothing but responses below rsp_prod */
            n = id_of(n);
            assert(n < made);
            assert(!(consumed & bit(n))); /* a request is answered once */
            assert(has_landed(n));        /* an answered write is there */
            /* What was answered before a flush was made is stable when the flush is answered. */
            for (m : 0 .. REQUESTS - 1) {
                assert(!(before[n] & bit(m)) || !writes(m) || (stable & bit(m)))
            }
            consumed = consumed | bit(n);
            rsp_cons = rsp_cons + slots[n];
            assert(rsp_cons <= ring_rsp_prod); /* responses are as long as their requests */
            n = 0;
            m = 0
        }
    }
}

active proctype frontend()
{
    byte more, m, n;

    do
    :: make_request()
    :: consume_response()
#ifdef EVENTS
    :: wait_for_response()
    :: atomic { event_to_frontend && !killed -> event_to_frontend = false; polling = true }
#endif
    :: made == REQUESTS && consumed == bit(REQUESTS) - 1 -> break
    od
}
