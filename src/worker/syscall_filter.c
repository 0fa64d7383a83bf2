/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The system calls of a confined worker: see syscall_filter.h. Everything is open and every thread
 * runs before the filter is there, so it lists what moves data, waits, and manages memory; nothing
 * that opens, executes, makes threads or sockets, or reaches other processes. A call with a
 * request or a mode among its arguments is listed with those that are used.
 */
#include "syscall_filter.h"

#include "blkback/worker_ioctls.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Requests and modes are 32 bits to the kernel, whatever the upper half says. */
#define LOW_WORD UINT32_MAX

/* With any arguments. Each is used, which tests/bed/test_calls.py holds this to. */
static const int allowed[] = {
    /* data; pread64 of slabs, too */
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(pread64),
    SCMP_SYS(pwrite64),
    SCMP_SYS(preadv),
    SCMP_SYS(pwritev),
    SCMP_SYS(fdatasync),
    SCMP_SYS(fallocate),
    SCMP_SYS(ftruncate),
    SCMP_SYS(io_submit),
    SCMP_SYS(io_getevents),
    SCMP_SYS(io_uring_enter),
    /* the broker's messages, with their descriptors */
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendmsg),
    SCMP_SYS(close),
    /* what a descriptor is; the C library may ask by newfstatat instead, below */
    SCMP_SYS(fstat),
    SCMP_SYS(fstatfs),
/* waiting, by what the machine has of two that are alike */
#ifdef __NR_epoll_wait
    SCMP_SYS(epoll_wait),
#else
    SCMP_SYS(epoll_pwait),
#endif
    SCMP_SYS(epoll_ctl),
#ifdef __NR_poll
    SCMP_SYS(poll),
#else
    SCMP_SYS(ppoll),
#endif
    SCMP_SYS(futex),
    SCMP_SYS(sched_yield),
    SCMP_SYS(restart_syscall),
    /* memory; mmap is below */
    SCMP_SYS(munmap),
    SCMP_SYS(madvise),
    SCMP_SYS(brk),
    /* time, where the clock can't be read without a call */
    SCMP_SYS(clock_gettime),
    /* signals and the end: abort() asks who it is. A thread may still be on its way back from the
     * signal by which it was told to change its user. */
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
};

static const unsigned long block_ioctls[] = {BLKGETSIZE64, BLKSSZGET,  BLKPBSZGET,
                                             BLKROGET,     BLKDISCARD, BLKSECDISCARD};

static const unsigned long fcntl_commands[] = {F_GETFL, F_SETFL, F_OFD_SETLK};

/* What a sanitized build is denied, which starts programs to name what it found. */
static const int denied[] = {
    SCMP_SYS(socket),       SCMP_SYS(connect),         SCMP_SYS(bind),
    SCMP_SYS(listen),       SCMP_SYS(mount),           SCMP_SYS(umount2),
    SCMP_SYS(bpf),          SCMP_SYS(perf_event_open), SCMP_SYS(init_module),
    SCMP_SYS(finit_module), SCMP_SYS(keyctl),          SCMP_SYS(add_key),
    SCMP_SYS(setns),        SCMP_SYS(unshare),         SCMP_SYS(io_uring_setup),
};

static int allow_one(scmp_filter_ctx filter, int call, struct scmp_arg_cmp comparison)
{
    return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, call, 1, &comparison);
}

/* Where an argument is one of several numbers. */
static int allow_values(scmp_filter_ctx filter, int call, unsigned argument,
                        const unsigned long *values, size_t count)
{
    int error = 0;

    for (size_t i = 0; !error && i < count; i++)
        error = allow_one(filter, call,
                          SCMP_CMP(argument, SCMP_CMP_MASKED_EQ, LOW_WORD, values[i] & LOW_WORD));
    return error;
}

/* Where a flag has to be, or must not be, among an argument's. */
static int allow_flag(scmp_filter_ctx filter, int call, unsigned argument, unsigned long flag,
                      bool set)
{
    return allow_one(filter, call, SCMP_CMP(argument, SCMP_CMP_MASKED_EQ, flag, set ? flag : 0UL));
}

static int allow_with_arguments(scmp_filter_ctx filter)
{
    int error = allow_values(filter, SCMP_SYS(ioctl), 1, worker_ioctls, worker_ioctl_count);

    if (!error)
        error = allow_values(filter, SCMP_SYS(ioctl), 1, block_ioctls, COUNT(block_ioctls));
    if (!error)
        error = allow_values(filter, SCMP_SYS(fcntl), 1, fcntl_commands, COUNT(fcntl_commands));
    /* Memory is never executable. */
    if (!error)
        error = allow_flag(filter, SCMP_SYS(mmap), 2, PROT_EXEC, false);
    /* Of descriptors, not of paths: with an empty root there are none to be found. */
    if (!error)
        error = allow_flag(filter, SCMP_SYS(newfstatat), 3, AT_EMPTY_PATH, true);
    if (!error)
        error = allow_flag(filter, SCMP_SYS(statx), 2, AT_EMPTY_PATH, true);
    /* Data buffers, in the table that the ring was made with; all else the ring refuses, too. */
    if (!error)
        error = allow_values(filter, SCMP_SYS(io_uring_register), 1,
                             (unsigned long[]){IORING_REGISTER_BUFFERS_UPDATE}, 1);
    /* The end by abort(): signals to nobody else. */
    if (!error)
        error = allow_values(filter, SCMP_SYS(tgkill), 0, (unsigned long[]){(unsigned)getpid()}, 1);
    return error;
}

static int list_all(scmp_filter_ctx filter, uint32_t action, const int *calls, size_t count)
{
    int error = 0;

    for (size_t i = 0; !error && i < count; i++)
        error = seccomp_rule_add_array(filter, action, calls[i], 0, NULL);
    return error;
}

/* The system calls of a profile: a new one adds its own to these. */
static int list_calls(scmp_filter_ctx filter, enum sandbox_profile profile)
{
    int error = 0;

    if (SANDBOX_SANITIZED)
        return list_all(filter, SCMP_ACT_KILL_PROCESS, denied, COUNT(denied));
    error = list_all(filter, SCMP_ACT_ALLOW, allowed, COUNT(allowed));
    if (!error)
        error = allow_with_arguments(filter);
    switch (profile) {
    case SANDBOX_LOCAL:
        break;
    }
    return error;
}

static int set_attributes(scmp_filter_ctx filter)
{
    int error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);

    if (!error)
        error = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    /* A tree instead of a chain of comparisons: older kernels go through it at every call. */
    if (!error)
        error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    return error;
}

int syscall_filter_install(enum sandbox_profile profile)
{
    scmp_filter_ctx filter =
        seccomp_init(SANDBOX_SANITIZED ? SCMP_ACT_ALLOW : SCMP_ACT_KILL_PROCESS);
    int error = 0;

    if (!filter)
        return -ENOSYS;
    error = set_attributes(filter);
    if (!error)
        error = list_calls(filter, profile);
    if (!error)
        error = seccomp_load(filter);
    seccomp_release(filter);
    return error;
}
