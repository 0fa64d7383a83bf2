/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A kernel that does less than it is asked for. The engines' calls are changed on their way down
 * (ld --wrap), so what is transferred is real.
 */
#ifndef TEST_STORE_FAULTY_KERNEL_H
#define TEST_STORE_FAULTY_KERNEL_H

#include <stdbool.h>
#include <stddef.h>

/* What goes wrong, and what was seen. All zero: nothing. */
struct faulty_kernel {
    size_t at_most;         /* bytes per attempt; 0: no limit */
    unsigned taken_at_most; /* I/Os per submission; 0: no limit */
    int error;              /* of the next `errors` attempts */
    unsigned errors;
    int submit_error; /* of the next `submit_errors` submissions */
    unsigned submit_errors;
    unsigned good_submissions; /* before the errors begin */
    unsigned events_at_first;  /* Linux AIO: reported at once, the others one call later; 0: all */
    bool no_fdsync;            /* Linux AIO's flush is refused */
    int create_error;
    unsigned refused_flags; /* of io_uring */
    bool no_opcodes;
    int no_table;       /* io_uring's error for a table of buffers that is empty */
    int register_error; /* io_uring's for changing it */
    unsigned attempts, submissions, syncs, registrations;
};

extern struct faulty_kernel kernel;

#endif
