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
#include <linux/fs.h>
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
#include <sys/un.h>
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

/* A thread of its own would be outside of what was counted. */
static long try_thread(void)
{
    static char stack[16384] __attribute__((aligned(16)));

    return syscall(SYS_clone, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD,
                   stack + sizeof(stack), NULL, NULL, 0);
}

static long try_connect(void)
{
    const struct sockaddr_un journal = {.sun_family = AF_UNIX,
                                        .sun_path = "/run/systemd/journal/socket"};

    return syscall(SYS_connect, 3, &journal, sizeof(journal));
}

static long try_join_namespace(void)
{
    return syscall(SYS_setns, 0, 0);
}

static long try_memory_file(void)
{
    return syscall(SYS_memfd_create, "code", 0);
}

static long try_keys(void)
{
    return syscall(SYS_add_key, "user", "k", "v", 1L, -5L);
}

static long try_faults(void)
{
    return syscall(SYS_userfaultfd, 0);
}

static long try_signal_the_broker(void)
{
    return syscall(SYS_tgkill, (long)getppid(), (long)getppid(), 0);
}

static long try_unlock_ring(void)
{
    return syscall(SYS_io_uring_register, 5, IORING_UNREGISTER_FILES, NULL, 0);
}

static long try_devices(void)
{
    return syscall(SYS_ioctl, 0, BLKRRPART);
}

static long try_channel(void)
{
    const unsigned other_domain[2] = {1, 1};

    return syscall(SYS_ioctl, 2, _IOC(_IOC_NONE, 'E', 1, 8), other_domain); /* BIND_INTERDOMAIN */
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

/* Not forbidden: how a worker ends that finds itself broken. */
static long try_abort(void)
{
    abort();
}

static const struct {
    const char *name;
    long (*attempt)(void);
} attempts[] = {
    {"abort", try_abort},
    {"open", try_open},
    {"execute", try_execute},
    {"fork", try_fork},
    {"socket", try_socket},
    {"thread", try_thread},
    {"bind a channel", try_channel},
    {"connect", try_connect},
    {"join a namespace", try_join_namespace},
    {"make a file of memory", try_memory_file},
    {"add a key", try_keys},
    {"handle faults", try_faults},
    {"signal the broker", try_signal_the_broker},
    {"change its ring", try_unlock_ring},
    {"ask a device for more", try_devices},
    {"trace", try_trace},
    {"kill", try_kill},
    {"read other memory", try_read_memory},
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

static bool is_for_the_ring(void)
{
    return strncmp(order->what, "ring: ", 6) == 0;
}

static void obey(void)
{
    if (!order || is_for_the_ring() || !ordered())
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

/* What is asked of io_uring, beyond reading and writing, in the place of a request. */
static bool by_the_ring(const char *what, struct io_uring_sqe *sqe)
{
    static const char *const paths[] = {"/", "/tmp"};
    static struct sockaddr_un address = {.sun_family = AF_UNIX};
    static struct open_how how;
    static struct statx status;
    const uint64_t data = sqe->user_data;

    if (strcmp(what, "ring: open") == 0)
        io_uring_prep_openat(sqe, AT_FDCWD, paths[0], O_RDONLY, 0);
    else if (strcmp(what, "ring: openat2") == 0)
        io_uring_prep_openat2(sqe, AT_FDCWD, paths[0], &how);
    else if (strcmp(what, "ring: connect") == 0)
        io_uring_prep_connect(sqe, 3, (struct sockaddr *)&address, sizeof(address));
    else if (strcmp(what, "ring: socket") == 0)
        io_uring_prep_rw(45 /* IORING_OP_SOCKET */, sqe, AF_INET, NULL, 0, SOCK_STREAM);
    else if (strcmp(what, "ring: unlink") == 0)
        io_uring_prep_unlinkat(sqe, AT_FDCWD, paths[1], 0);
    else if (strcmp(what, "ring: statx") == 0)
        io_uring_prep_statx(sqe, AT_FDCWD, paths[0], 0, STATX_BASIC_STATS, &status);
    else if (strcmp(what, "ring: send") == 0)
        io_uring_prep_send(sqe, 3, "x", 1, 0);
    else if (strcmp(what, "ring: splice") == 0)
        io_uring_prep_splice(sqe, 3, -1, 2, -1, 1, 0);
    else if (strcmp(what, "ring: timeout") == 0)
        io_uring_prep_timeout(sqe, NULL, 0, 0);
    else
        return false;
    sqe->user_data = data;
    return true;
}

/* The last entry becomes what the test says. */
int io_uring_submit(struct io_uring *ring)
{
    int (*next)(struct io_uring *);
    void *symbol = dlsym(RTLD_NEXT, "io_uring_submit");
    struct io_uring_sq *sq = &ring->sq;

    memcpy(&next, &symbol, sizeof(next));
    if (order && is_for_the_ring() && sq->sqe_head != sq->sqe_tail && ordered() &&
        by_the_ring(order->what, &sq->sqes[(sq->sqe_tail - 1) & *sq->kring_mask]))
        order->begun = 1;
    return next(ring);
}
