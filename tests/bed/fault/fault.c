/* SPDX-License-Identifier: BSD-2-Clause */
/* What is done to an operation, and the log of operations. */
#include "fault.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 256

static struct fault_control *control;
static int log_fd = -1;
static dev_t image_device;
static ino_t image_inode;
static bool active;
static int events[EVENTS];
static unsigned event_count;
static pthread_mutex_t event_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic uint64_t numbers, counter, random_state = 88172645463325252u;

/* Everything is opened here: later the process may not be allowed to. */
__attribute__((constructor)) static void set_up(void)
{
    const char *file = getenv("BLKBACKD_FAULT_FILE"), *path = getenv("BLKBACKD_FAULT_CONTROL");
    const char *log = getenv("BLKBACKD_FAULT_LOG");
    struct stat st;
    int fd;

    if (!file || stat(file, &st))
        return;
    image_device = st.st_dev;
    image_inode = st.st_ino;
    active = true;
    if (log)
        log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    while (event_count < EVENTS && (events[event_count] = eventfd(0, EFD_CLOEXEC)) >= 0)
        event_count++;
    control = mmap(NULL, sizeof(*control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (control == MAP_FAILED)
        control = NULL;
    close(fd);
}

bool fault_active(void)
{
    return active;
}

int fault_take_event(void)
{
    int event = -1;

    pthread_mutex_lock(&event_lock);
    if (event_count)
        event = events[--event_count];
    pthread_mutex_unlock(&event_lock);
    if (event < 0)
        abort();
    return event;
}

void fault_give_event(int event)
{
    pthread_mutex_lock(&event_lock);
    events[event_count++] = event;
    pthread_mutex_unlock(&event_lock);
}

fault_function fault_next(const char *name)
{
    void *symbol = dlsym(RTLD_NEXT, name);
    fault_function function;

    if (!symbol) {
        fprintf(stderr, "bedfault: no %s\n", name);
        abort();
    }
    memcpy(&function, &symbol, sizeof(function));
    return function;
}

bool fault_watches(int fd)
{
    struct stat st;

    return active && fstat(fd, &st) == 0 && st.st_dev == image_device && st.st_ino == image_inode;
}

bool fault_op_init(struct fault_op *op, enum fault_kind kind, int fd, const struct iovec *iov,
                   int iovcnt, uint64_t offset)
{
    *op = (struct fault_op){.kind = kind, .fd = fd, .iovcnt = iovcnt, .offset = offset};
    op->iov = calloc((size_t)iovcnt + 1, sizeof(*iov));
    if (!op->iov)
        return false;
    for (int i = 0; i < iovcnt; i++) {
        op->iov[i] = iov[i];
        op->length += iov[i].iov_len;
    }
    return true;
}

void fault_op_free(struct fault_op *op)
{
    free(op->iov);
    op->iov = NULL;
}

static uint32_t random_below(uint32_t limit)
{
    uint64_t x = atomic_fetch_add(&random_state, 0x9e3779b97f4a7c15u);

    x ^= x >> 31;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 29;
    return (uint32_t)(x % limit);
}

static bool one_in(_Atomic uint32_t *n)
{
    uint32_t every = *n;

    return every && atomic_fetch_add(&counter, 1) % every == 0;
}

static int decide_error(const struct fault_op *op)
{
    uint32_t left;

    if (!control->error[op->kind])
        return 0;
    if (control->to && op->kind != FAULT_FLUSH &&
        (op->offset >= control->to || op->offset + op->length <= control->from))
        return 0;
    left = control->failures;
    while (left && left != UINT32_MAX &&
           !atomic_compare_exchange_weak(&control->failures, &left, left - 1))
        ;
    if (!left)
        return 0;
    atomic_fetch_add(&control->failed, 1);
    return (int)control->error[op->kind];
}

struct fault_verdict fault_decide(const struct fault_op *op)
{
    struct fault_verdict v = {.length = op->length};

    if (!control) {
        v.plain = true;
        return v;
    }
    v.error = decide_error(op);
    if (!v.error && op->kind != FAULT_FLUSH && op->length > 512 && one_in(&control->short_one_in)) {
        /* whole sectors: an O_DIRECT file is never short by less */
        v.length = (1 + random_below((uint32_t)(op->length / 512 - 1))) * 512ull;
        atomic_fetch_add(&control->shortened, 1);
    }
    /* The test may set it to 0 at any time. */
    const uint32_t longest = control->delay_us;

    if (longest && one_in(&control->delay_one_in)) {
        v.delay_us = 1 + random_below(longest);
        atomic_fetch_add(&control->delayed, 1);
    }
    v.plain = !v.error && v.length == op->length && !v.delay_us && !fault_is_held(op);
    return v;
}

bool fault_is_held(const struct fault_op *op)
{
    return control && control->hold[op->kind];
}

bool fault_outlives(const struct fault_op *op, const struct fault_verdict *verdict)
{
    return control && control->outlive && !verdict->plain && op->kind != FAULT_READ;
}

static void log_line(char what, const struct fault_op *op, const char *rest)
{
    char line[128];
    int n = snprintf(line, sizeof(line), "%c %llu %c %llu %llu%s\n", what,
                     (unsigned long long)op->number, "RWF"[op->kind],
                     (unsigned long long)op -> offset, (unsigned long long)op -> length, rest);

    if (log_fd >= 0 && write(log_fd, line, (size_t)n) != n)
        abort();
}

void fault_log_start(struct fault_op *op)
{
    op->number = atomic_fetch_add(&numbers, 1);
    if (control)
        atomic_fetch_add(&control->seen[op->kind], 1);
    log_line('S', op, "");
}

void fault_log_end(const struct fault_op *op, ssize_t result)
{
    char rest[32];

    snprintf(rest, sizeof(rest), " %zd", result);
    log_line('C', op, rest);
}

/* By system call: the functions of that name are wrapped. */
ssize_t fault_execute(const struct fault_op *op, const struct fault_verdict *verdict)
{
    struct iovec iov[FAULT_IOV_MAX];
    uint64_t left = verdict->length;
    int n = 0;
    long result;

    if (verdict->error)
        return -verdict->error;
    if (op->kind == FAULT_FLUSH) {
        result = syscall(SYS_fdatasync, op->fd);
        return result ? -errno : 0;
    }
    for (; n < op->iovcnt && n < FAULT_IOV_MAX && left; n++) {
        iov[n] = op->iov[n];
        if (iov[n].iov_len > left)
            iov[n].iov_len = left;
        left -= iov[n].iov_len;
    }
    result =
        syscall(op->kind == FAULT_READ ? SYS_preadv : SYS_pwritev, op->fd, iov, n, op->offset, 0);
    return result < 0 ? -errno : result;
}

/* By a system call that a confined worker may make. */
void fault_nap(const struct timespec *nap)
{
    uint32_t nobody = 0;

    syscall(SYS_futex, &nobody, FUTEX_WAIT_PRIVATE, nobody, nap, NULL, 0);
}

static void sleep_us(uint32_t us)
{
    struct timespec ts = {.tv_sec = us / 1000000, .tv_nsec = (long)(us % 1000000) * 1000};

    fault_nap(&ts);
}

void fault_count_held(const struct fault_op *op)
{
    if (fault_is_held(op))
        atomic_fetch_add(&control->held, 1);
}

ssize_t fault_execute_in_place(struct fault_op *op)
{
    struct fault_verdict verdict = fault_decide(op);
    ssize_t result;

    fault_log_start(op);
    if (!fault_outlives(op, &verdict))
        fault_count_held(op);
    if (fault_outlives(op, &verdict)) {
        pid_t pid;
        int fd = fault_outlive(op, &verdict, &pid);

        result = fault_outlive_result(fd, pid);
        fault_log_end(op, result);
        return result;
    }
    while (fault_is_held(op))
        sleep_us(200);
    if (verdict.delay_us)
        sleep_us(verdict.delay_us);
    result = fault_execute(op, &verdict);
    fault_log_end(op, result);
    return result;
}
