/* SPDX-License-Identifier: BSD-2-Clause */
/* The store of the model: carries out I/O in any order, also that of a worker that died. */

/* The data of write `n` comes to sector `s`. */
inline land(s, n)
{
    if
    :: content[s] != n + 1 ->
        assert(!(landed[s] & bit(n))); /* no write is undone by an earlier one */
        for (k : 0 .. REQUESTS - 1) {
            /* what follows a barrier comes when that is over */
            assert(!(k < n && barrier(k)) || (stable & bit(k)));
            /* what goes before a barrier is stable before it */
            assert(!(k < n && barrier(n) && writes(k)) || (stable & bit(k)))
        }
        content[s] = n + 1;
        landed[s] = landed[s] | bit(n)
    :: else
    fi;
    k = 0
}

inline flush()
{
    for (k : 0 .. REQUESTS - 1) {
        if
        :: k < made && writes(k) && has_landed(k) -> stable = stable | bit(k)
        :: else
        fi
    }
    k = 0
}

#define step_of_store(left, n)                                                                     \
    :: atomic { left[n] & PREFLUSH && !killed -> d_step { flush(); left[n] = left[n] & 7 } }        \
    :: atomic { (left[n] & 9) == SECTOR_0 && !killed -> d_step { land(0, n); left[n] = left[n] & 14 } } \
    :: atomic { (left[n] & 10) == SECTOR_1 && !killed -> d_step { land(1, n); left[n] = left[n] & 13 } } \
    :: atomic { left[n] == FLUSH && !killed -> d_step { flush(); left[n] = 0 } }

active proctype store()
{
    byte k;

end:
    do
    step_of_store(io, 0)
    step_of_store(io, 1)
    step_of_store(dead_io, 0)
    step_of_store(dead_io, 1)
#if REQUESTS > 2
    step_of_store(io, 2)
    step_of_store(dead_io, 2)
#endif
#if REQUESTS > 3
    step_of_store(io, 3)
    step_of_store(dead_io, 3)
#endif
#if REQUESTS > 4
    step_of_store(io, 4)
    step_of_store(dead_io, 4)
#endif
    od
}
