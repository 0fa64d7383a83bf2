/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Beneath a worker: does, when a test tells it to, what somebody would who has taken the worker
 * over. The order lies in a file (BLKBACKD_INTRUDER_FILE) that is mapped when the library is
 * loaded.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct order {
    char what[32]; /* empty: nothing to be done; written last */
    _Atomic uint32_t ready;
    _Atomic uint32_t begun;
    _Atomic uint32_t survived;
    _Atomic int32_t error; /* of what survived */
};

static struct order *order;

__attribute__((constructor)) static void set_up(void)
{
    const char *path = getenv("BLKBACKD_INTRUDER_FILE");
    int fd = path && strcmp(program_invocation_short_name, "blkbackd-worker") == 0
                 ? open(path, O_RDWR | O_CLOEXEC)
                 : -1;

    if (fd < 0)
        return;
    order = mmap(NULL, sizeof(*order), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (order == MAP_FAILED)
        order = NULL;
    close(fd);
}

static long try_open(void)
{
    return syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY);
}

static long try_execute(void)
{
    char *const nothing[] = {NULL};

    return syscall(SYS_execve, "/bin/true", nothing, nothing);
}

static long try_fork(void)
{
    return syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0);
}

static long try_socket(void)
{
    return syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
}

static long try_trace(void)
{
    return syscall(SYS_ptrace, PTRACE_ATTACH, (long)getpid(), 0, 0);
}

static long try_kill(void)
{
    return syscall(SYS_kill, -1, 0);
}

static long try_read_memory(void)
{
    char byte = 0;
    struct iovec iov = {&byte, 1};

    return syscall(SYS_process_vm_readv, (long)getpid(), &iov, 1L, &iov, 1L, 0L);
}

static long try_map_code(void)
{
    return syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static long try_make_code(void)
{
    static char page[2 * 4096];
    char *start = (char *)(((uintptr_t)page + 4095) & ~UINT64_C(4095));

    return syscall(SYS_mprotect, start, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
}

static long try_terminal(void)
{
    return syscall(SYS_ioctl, 2, TIOCSTI, "x");
}

static long try_duplicate(void)
{
    return syscall(SYS_fcntl, 2, F_DUPFD, 100);
}

static long try_prctl(void)
{
    return syscall(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0);
}

static long try_namespace(void)
{
    return syscall(SYS_unshare, CLONE_NEWUSER);
}

static long try_mount(void)
{
    return syscall(SYS_mount, "none", "/", "tmpfs", 0, NULL);
}

static long try_ring(void)
{
    struct io_uring_params params = {0};

    return syscall(SYS_io_uring_setup, 8, &params);
}

static long try_root(void)
{
    return syscall(SYS_setresuid, 0, 0, 0);
}

static long try_bpf(void)
{
    return syscall(SYS_bpf, 0, NULL, 0);
}

static long try_path(void)
{
    char buffer[256];

    return syscall(SYS_newfstatat, AT_FDCWD, "/etc/passwd", buffer, 0);
}

static const struct {
    const char *name;
    long (*attempt)(void);
} attempts[] = {
    {"open", try_open},
    {"execute", try_execute},
    {"fork", try_fork},
    {"socket", try_socket},
    {"trace", try_trace},
    {"kill", try_kill},
    {"read another's memory", try_read_memory},
    {"map code", try_map_code},
    {"make code", try_make_code},
    {"push back input", try_terminal},
    {"duplicate", try_duplicate},
    {"prctl", try_prctl},
    {"namespace", try_namespace},
    {"mount", try_mount},
    {"another ring", try_ring},
    {"become root", try_root},
    {"bpf", try_bpf},
    {"look at a path", try_path},
};

static bool ordered(void)
{
    uint32_t yes = 1;

    return order && atomic_compare_exchange_strong(&order->ready, &yes, 0);
}

static void obey(void)
{
    if (!order || strcmp(order->what, "open by the ring") == 0 || !ordered())
        return;
    for (unsigned i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
        if (strcmp(order->what, attempts[i].name) != 0)
            continue;
        order->begun = 1;
        errno = 0;
        order->error = attempts[i].attempt() < 0 ? errno : 0;
        order->survived = 1;
    }
}

int epoll_wait(int epoll, struct epoll_event *events, int count, int timeout)
{
    int (*next)(int, struct epoll_event *, int, int);
    void *symbol = dlsym(RTLD_NEXT, "epoll_wait");

    memcpy(&next, &symbol, sizeof(next));
    int result = next(epoll, events, count, timeout);
    int saved = errno;

    obey();
    errno = saved;
    return result;
}

/* The last entry becomes an attempt to open a file. */
int io_uring_submit(struct io_uring *ring)
{
    int (*next)(struct io_uring *);
    void *symbol = dlsym(RTLD_NEXT, "io_uring_submit");
    struct io_uring_sq *sq = &ring->sq;

    memcpy(&next, &symbol, sizeof(next));
    if (order && strcmp(order->what, "open by the ring") == 0 && sq->sqe_head != sq->sqe_tail &&
        ordered()) {
        struct io_uring_sqe *sqe = &sq->sqes[(sq->sqe_tail - 1) & *sq->kring_mask];
        uint64_t data = sqe->user_data;

        io_uring_prep_openat(sqe, AT_FDCWD, "/", O_RDONLY, 0);
        sqe->user_data = data;
        order->begun = 1;
    }
    return next(ring);
}
