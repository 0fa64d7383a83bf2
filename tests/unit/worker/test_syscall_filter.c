/* SPDX-License-Identifier: BSD-2-Clause */
/* Every rule of the filter, each in a process of its own: what is listed works, all else is death.
 */
#include "syscall_filter.h"
#include "testing.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct call {
    const char *name;
    long number;
    long arguments[4];
};

/* The arguments are such that the kernel refuses or does nothing. */
static const struct call listed[] = {
    {"read", SYS_read, {-1}},
    {"pwritev", SYS_pwritev, {-1}},
    {"fdatasync", SYS_fdatasync, {-1}},
    {"fallocate", SYS_fallocate, {-1}},
    {"ftruncate", SYS_ftruncate, {-1}},
    {"io_submit", SYS_io_submit, {0}},
    {"io_uring_enter", SYS_io_uring_enter, {-1}},
    {"io_uring_register of buffers",
     SYS_io_uring_register,
     {-1, IORING_REGISTER_BUFFERS_UPDATE | 1L << 32}},
    {"recvmsg", SYS_recvmsg, {-1}},
    {"sendmsg", SYS_sendmsg, {-1}},
    {"close", SYS_close, {-1}},
    {"fstatfs", SYS_fstatfs, {-1}},
    {"epoll_ctl", SYS_epoll_ctl, {-1}},
    {"madvise", SYS_madvise, {0}},
    {"getpid", SYS_getpid, {0}},
    {"ioctl BLKDISCARD", SYS_ioctl, {-1, BLKDISCARD}},
    {"ioctl BLKGETSIZE64", SYS_ioctl, {-1, (long)BLKGETSIZE64}},
    {"ioctl, the upper half of the request", SYS_ioctl, {-1, BLKROGET | 1L << 32}},
    {"fcntl F_SETFL", SYS_fcntl, {-1, F_SETFL}},
    {"fcntl F_OFD_SETLK", SYS_fcntl, {-1, F_OFD_SETLK}},
    {"mmap of data", SYS_mmap, {0, 0, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS}},
    {"newfstatat of a descriptor", SYS_newfstatat, {-1, 0, 0, AT_EMPTY_PATH}},
};

static const struct call forbidden[] = {
    {"openat", SYS_openat, {-1}},
    {"openat2", SYS_openat2, {-1}},
    {"execve", SYS_execve, {0}},
    {"execveat", SYS_execveat, {-1}},
    {"clone3", SYS_clone3, {0}},
    {"socket", SYS_socket, {-1}},
    {"connect", SYS_connect, {-1}},
    {"dup", SYS_dup, {-1}},
    {"ptrace", SYS_ptrace, {-1}},
    {"kill", SYS_kill, {0, 0}},
    {"tgkill of another process", SYS_tgkill, {1, 1, 0}},
    {"process_vm_writev", SYS_process_vm_writev, {-1}},
    {"preadv2", SYS_preadv2, {-1}},
    {"mprotect", SYS_mprotect, {0, 0, PROT_READ}},
    {"mremap", SYS_mremap, {0}},
    {"pidfd_getfd", SYS_pidfd_getfd, {-1}},
    {"io_uring_setup", SYS_io_uring_setup, {0}},
    {"io_uring_register of another table", SYS_io_uring_register, {-1, IORING_REGISTER_BUFFERS}},
    {"io_uring_register of files", SYS_io_uring_register, {-1, IORING_REGISTER_FILES_UPDATE}},
    {"io_uring_register of a ring without a descriptor",
     SYS_io_uring_register,
     {-1, IORING_REGISTER_BUFFERS_UPDATE | 1L << 31}},
    {"io_setup", SYS_io_setup, {0}},
    {"memfd_create", SYS_memfd_create, {0}},
    {"setresuid", SYS_setresuid, {-1, -1, -1}},
    {"capset", SYS_capset, {0}},
    {"prctl", SYS_prctl, {PR_GET_DUMPABLE}},
    {"seccomp", SYS_seccomp, {-1}},
    {"unshare", SYS_unshare, {0}},
    {"setns", SYS_setns, {-1}},
    {"mount", SYS_mount, {0}},
    {"bpf", SYS_bpf, {-1}},
    {"keyctl", SYS_keyctl, {-1}},
    {"perf_event_open", SYS_perf_event_open, {0}},
    {"userfaultfd", SYS_userfaultfd, {-1}},
    {"ioctl TIOCSTI", SYS_ioctl, {-1, TIOCSTI}},
    {"ioctl BLKRRPART", SYS_ioctl, {-1, BLKRRPART}},
    {"ioctl FS_IOC_SETFLAGS", SYS_ioctl, {-1, (long)FS_IOC_SETFLAGS}},
    {"fcntl F_GETFD", SYS_fcntl, {-1, F_GETFD}},
    {"fcntl F_DUPFD", SYS_fcntl, {-1, F_DUPFD}},
    {"fcntl F_SETOWN", SYS_fcntl, {-1, F_SETOWN}},
    {"mmap of code", SYS_mmap, {0, 0, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS}},
    {"mprotect to code", SYS_mprotect, {0, 0, PROT_EXEC}},
    {"pkey_mprotect", SYS_pkey_mprotect, {0, 0, PROT_EXEC, -1}},
    {"newfstatat of a path", SYS_newfstatat, {-1, 0, 0, 0}},
};

/* How a process ends that confines itself and makes the call. */
static int end_of(const struct call *call)
{
    const pid_t pid = fork();
    int status = 0;

    assert_true(pid >= 0);
    if (pid == 0) {
        if (syscall_filter_install(SANDBOX_LOCAL) < 0)
            _exit(77);
        (void)syscall(call->number, call->arguments[0], call->arguments[1], call->arguments[2],
                      call->arguments[3], 0L, 0L);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void what_is_listed_works(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(listed) / sizeof(listed[0]); i++) {
        const int status = end_of(&listed[i]);

        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
            fail_msg("%s: status %#x", listed[i].name, (unsigned)status);
    }
}

static void all_else_is_death(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++) {
        const int status = end_of(&forbidden[i]);

        if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
            fail_msg("%s: status %#x", forbidden[i].name, (unsigned)status);
    }
}

static void abort_still_aborts(void **state)
{
    int status = 0;
    const pid_t pid = fork();

    (void)state;
    if (pid == 0) {
        if (syscall_filter_install(SANDBOX_LOCAL) == 0)
            abort();
        _exit(77);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

/* A wait with an end is gone on with by a system call of its own. */
static void a_wait_goes_on_after_a_stop(void **state)
{
    int status = 0;
    const pid_t pid = fork();

    (void)state;
    if (pid == 0) {
        if (syscall_filter_install(SANDBOX_LOCAL) < 0)
            _exit(77);
        _exit(poll(NULL, 0, 1000) == 0 ? 0 : 1);
    }
    usleep(200000);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    assert_true(WIFSTOPPED(status));
    assert_int_equal(kill(pid, SIGCONT), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_listed_works),
        cmocka_unit_test(all_else_is_death),
        cmocka_unit_test(abort_still_aborts),
        cmocka_unit_test(a_wait_goes_on_after_a_stop),
    };
    const char *preloaded = getenv("LD_PRELOAD");

    /* Both make system calls of their own. */
    if (SANDBOX_SANITIZED || (preloaded && strstr(preloaded, "vgpreload"))) {
        puts("skipped: a sanitizer or valgrind is beneath");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
