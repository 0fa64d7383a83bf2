/* SPDX-License-Identifier: BSD-2-Clause */
/* A request in the worker of the model: taken, started, done, published. */

#define head() ring_slot[at(ring_req_cons)]
#ifdef BUG_TAKE_INCOMPLETE
#define head_slots() 1
#else
#define head_slots() (kind_of(head()) == REQUEST -> slots[id_of(head())] : 1)
#endif
#define is_free(t)   (entry[t].state == FREE)
#define is_queued(t) (entry[t].state == TAKEN || entry[t].state == STARTED)

#if ENTRIES == 2
#define any_free() (is_free(0) || is_free(1))
#else
#define any_free() (is_free(0) || is_free(1) || is_free(2))
#endif

#define may_take()                                                                                 \
    (ring_req_cons < ring_req_prod && ring_req_cons + head_slots() <= ring_req_prod && any_free())

inline ring_copy_slots()
{
    assert(kind_of(head()) == REQUEST); /* what is taken as a request is one */
    id = id_of(head());
    count = slots[id];
    for (k : 1 .. count - 1) {
        assert(ring_slot[at(ring_req_cons + k)] == CONTINUATION + id) /* and whole */
    }
    k = 0
}

inline journal_reserve()
{
    tag = 0;
    do
    :: !is_free(tag) -> tag++
    :: else -> break
    od
}

/* Nobody reads the fields of an entry that is FREE: one step. */
inline write_entry()
{
    d_step { entry[tag].id = id; entry[tag].seq = seq; entry[tag].slots = count }
}

#ifdef BUG_REQ_CONS_BY_ONE
#define after_head() (seq + 1)
#else
#define after_head() (seq + count)
#endif

inline journal_take()
{
    seq = req_cons;
#ifdef BUG_REQ_CONS_BEFORE_ENTRY
    req_cons = after_head();
    write_entry();
    entry[tag].state = TAKEN;
#else
    write_entry();
    entry[tag].state = TAKEN;
    req_cons = after_head();
#endif
    d_step { ring_req_cons = req_cons; tag = 0; id = 0; seq = 0; count = 0 }
}

inline queue_take()
{
    atomic {
        awake && may_take() ->
        ring_copy_slots();
        journal_reserve()
    }
    journal_take()
}

/* Nothing overtakes a barrier, and a barrier nothing. */
#ifdef BUG_BARRIER_FORGOTTEN
#define fences(u, t)                                                                               \
    (is_queued(u) && !(recovered & bit(u)) && entry[u].seq < entry[t].seq &&                       \
     (barrier(entry[u].id) || barrier(entry[t].id)))
#else
#define fences(u, t)                                                                               \
    (is_queued(u) && entry[u].seq < entry[t].seq &&                                                \
     (barrier(entry[u].id) || barrier(entry[t].id)))
#endif

#if ENTRIES == 2
#define fenced(t) (fences(0, t) || fences(1, t))
#else
#define fenced(t) (fences(0, t) || fences(1, t) || fences(2, t))
#endif

#define may_start(t) (entry[t].state == TAKEN && !(locked & writes(entry[t].id)) && !fenced(t))

inline overlap_acquire(t)
{
    locked = locked | writes(entry[t].id);
    holding = holding | bit(t)
}

inline overlap_release(t)
{
    if
    :: holding & bit(t) ->
        locked = locked & (SECTORS - writes(entry[t].id));
        holding = holding & (7 - bit(t))
    :: else
    fi
}

inline journal_start(t)
{
    entry[t].state = STARTED
}

inline store_submit(t)
{
    d_step { io[entry[t].id] = work[entry[t].id]; submitted = submitted | bit(t) }
}

inline queue_dispatch(t)
{
    atomic { may_start(t) -> overlap_acquire(t) }
#ifdef BUG_STARTED_AFTER_SUBMIT
    store_submit(t);
    journal_start(t)
#else
    journal_start(t);
    store_submit(t)
#endif
}

/* What was STARTED when the predecessor ended. */
#define to_replay(t) (entry[t].state == STARTED && !(submitted & bit(t)))

inline replay(t)
{
#ifdef BUG_NOT_STARTED_FIRST
    atomic { to_replay(t) && !(locked & writes(entry[t].id)) -> overlap_acquire(t); store_submit(t) }
#else
    atomic { to_replay(t) -> store_submit(t) }
#endif
}

#ifdef BUG_UNLOCK_BEFORE_DONE
#define returned(t) (is_over(t) && !(holding & bit(t)))
#else
#define returned(t) is_over(t)
#endif
#define is_over(t) (entry[t].state == STARTED && (submitted & bit(t)) && io[entry[t].id] == 0)

inline journal_done(t)
{
    entry[t].state = DONE
}

inline queue_finish(t)
{
    atomic { returned(t) -> journal_done(t) }
    d_step {
        overlap_release(t);
        IF_EVENTS(awake = true);
        submitted = submitted & (7 - bit(t));
        answers[answer_count] = t;
        answer_count++
    }
}

#define answer entry[answers[k]]

inline name_slots()
{
#ifdef BUG_NO_PUBLISHING
    skip
#else
    do
    :: atomic {
        k < answer_count ->
        publishing[at(seq)] = answers[k] + 1;
        seq++;
        count++;
        if
#ifdef BUG_PUBLISHING_FIRST_SLOT
        :: true -> seq = seq + answer.slots - 1; count = 0; k++
#else
        :: count == answer.slots -> count = 0; k++
        :: else
#endif
        fi
    }
    :: atomic { k == answer_count -> k = 0; seq = rsp_prod; break }
    od
#endif
}

#ifdef BUG_RING_RSP_PROD_BY_ONE
#define answer_slots() 1
#else
#define answer_slots() answer.slots
#endif

inline ring_put_response()
{
    atomic {
        k < answer_count ->
        /* Only where a request was consumed. */
        assert(inside(ring_rsp_put + answer.slots <= ring_req_cons));
        ring_slot[at(ring_rsp_put)] = RESPONSE + answer.id;
        ring_rsp_put = ring_rsp_put + answer_slots();
        k++
    }
}

inline ring_publish()
{
    ring_rsp_prod = ring_rsp_put
}

/* The fields of a FREE entry mean nothing; alike, they make fewer states. */
inline free_entry(t)
{
    d_step { entry[t].state = FREE; entry[t].id = 0; entry[t].seq = 0; entry[t].slots = 0 }
}

inline free_entries()
{
    do
    :: atomic { k < answer_count -> free_entry(answers[k]); k++ }
    :: atomic { k == answer_count -> k = 0; break }
    od
}

#ifdef BUG_RSP_PROD_BY_ONE
#define published() (rsp_prod + answer_count)
#else
#define published() ring_rsp_put
#endif

#ifdef EVENTS
/* `count`: what ring_must_notify() said. */
inline notify_frontend()
{
    atomic { event_to_frontend = event_to_frontend || count; count = 0; seq = 0 }
}
#endif

inline journal_publish()
{
#ifdef BUG_REUSE_BEFORE_RSP_PROD
    atomic { answer_count > 0 && rsp_prod == ring_rsp_prod -> seq = rsp_prod };
#else
    atomic { answer_count > 0 -> seq = rsp_prod };
#endif
#ifndef BUG_PUBLISHING_AFTER_RSP_PROD
    name_slots();
#endif
    do
    :: ring_put_response()
    :: atomic { k == answer_count -> k = 0; break }
    od;
    ring_publish();
#ifdef BUG_PUBLISHING_AFTER_RSP_PROD
    name_slots();
#endif
#ifdef BUG_RSP_PROD_BEFORE_FREE
    rsp_prod = published();
    free_entries();
#elif defined(BUG_REUSE_BEFORE_RSP_PROD)
    free_entries();
#else
    free_entries();
    rsp_prod = published();
#endif
    atomic {
        for (k : 0 .. ENTRIES - 1) {
            answers[k] = 0
        }
        k = 0;
        answer_count = 0;
#ifndef EVENTS
        seq = 0
    }
#else
        count = (seq < ring_rsp_event && ring_rsp_event <= ring_rsp_prod)
    }
    notify_frontend();
#endif
}

#ifdef EVENTS
/* Nothing to do until an event comes, or I/O returns. `seq` is what was seen of req_prod. */
inline wait_for_event()
{
    atomic {
        awake && !may_take() && answer_count == 0 && !is_over(0) && !is_over(1) ->
        seq = ring_req_prod
    }
    if
    :: any_free() ->
#ifdef BUG_ARM_BEHIND_INCOMPLETE
        ring_req_event = ring_req_cons + 1;
#else
        ring_req_event = seq + 1;
#endif
        atomic { awake = (ring_req_prod != seq); seq = 0 }
    :: else -> atomic { awake = false; seq = 0 }
    fi
}
#endif
