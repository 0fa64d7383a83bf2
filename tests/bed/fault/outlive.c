/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Operations that go on when the process that asked for them is killed, as those in the kernel and
 * in a disk's queue do: by a process of their own, which holds nothing but the file description. It
 * has the data as it was when they were handed over.
 */
#include "fault.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define GIVE_UP_US 60000000u /* a test that failed has left it held */
#define NAP_US     200u

static void nap(uint32_t us)
{
    struct timespec ts = {.tv_sec = us / 1000000, .tv_nsec = (long)(us % 1000000) * 1000};

    nanosleep(&ts, NULL);
}

static void close_all_but(int one, int other)
{
    const unsigned low = (unsigned)(one < other ? one : other);
    const unsigned high = (unsigned)(one < other ? other : one);

    if (low > 0)
        (void)syscall(SYS_close_range, 0u, low - 1, 0u);
    if (high > low + 1)
        (void)syscall(SYS_close_range, low + 1, high - 1, 0u);
    (void)syscall(SYS_close_range, high + 1, ~0u, 0u);
}

static void carry_out(const struct fault_op *op, const struct fault_verdict *verdict, int report)
{
    uint32_t waited = 0;

    close_all_but(op->fd, report);
    for (; fault_is_held(op) && waited < GIVE_UP_US; waited += NAP_US)
        nap(NAP_US);
    nap(verdict->delay_us);
    if (waited < GIVE_UP_US) {
        const ssize_t result = fault_execute(op, verdict);

        (void)signal(SIGPIPE, SIG_IGN);
        if (write(report, &result, sizeof(result)) < 0)
            _exit(1); /* nobody is there any more */
    }
    _exit(0);
}

int fault_outlive(const struct fault_op *op, const struct fault_verdict *verdict, pid_t *pid)
{
    int ends[2];

    if (pipe(ends))
        abort();
    *pid = fork();
    if (*pid < 0)
        abort();
    if (*pid == 0)
        carry_out(op, verdict, ends[1]);
    close(ends[1]);
    fault_count_held(op); /* only now: the caller may be killed for it */
    return ends[0];
}

ssize_t fault_outlive_result(int fd, pid_t pid)
{
    ssize_t result;

    if (read(fd, &result, sizeof(result)) != sizeof(result))
        result = -EIO;
    close(fd);
    (void)waitpid(pid, NULL, 0);
    return result;
}
