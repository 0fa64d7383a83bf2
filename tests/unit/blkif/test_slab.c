/* SPDX-License-Identifier: BSD-2-Clause */
/* A vbd's slab file: laid out, allocated before use, seen alike by those who read it. */
#include "blkback/slab.h"
#include "testing.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool interrupted; /* as posix_fallocate() may be */

/* In the place of the library's. */
int posix_fallocate(int fd, off_t from, off_t bytes)
{
    static unsigned calls;

    if (interrupted && (bytes > 256 << 10 || calls++ % 2 == 0))
        return EINTR;
    return syscall(SYS_fallocate, fd, 0, from, bytes) < 0 ? errno : 0;
}

static off_t size_of(int fd)
{
    struct stat status;

    assert_int_equal(fstat(fd, &status), 0);
    return status.st_size;
}

static void it_can_be_read_as_soon_as_it_is_open(void **state)
{
    struct slab slab = {0};
    struct slab_header header;
    const int fd = memfd_create("slab", MFD_CLOEXEC);
    (void)state;

    assert_int_equal(slab_open(fd, &slab), 0);
    assert_int_equal(slab_read_header(fd, &header), 0);
    assert_int_equal(header.epoch, 1);
    assert_int_equal(header.queue_count, 0);
    assert_int_equal(header.file_size, size_of(fd));
    slab_close(&slab);
    slab_close(&slab);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
}

static void the_next_worker_is_of_another_epoch(void **state)
{
    struct slab slab = {0};
    const int fd = memfd_create("slab", MFD_CLOEXEC);
    const int kept = dup(fd);
    uint32_t offset = 0;
    (void)state;

    assert_int_equal(slab_open(fd, &slab), 0);
    assert_int_equal(slab_reserve(&slab, 1000, &offset), 0);
    memset(slab_at(&slab, offset), 0xff, 1000);
    slab_close(&slab);
    assert_int_equal(slab_open(kept, &slab), 0);
    assert_int_equal(slab.header->epoch, 2);
    /* Nothing of its predecessor's shines through. */
    assert_int_equal(slab_reserve(&slab, 1000, &offset), 0);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(((uint8_t *)slab_at(&slab, offset))[i], 0);
    slab_close(&slab);
}

static void what_is_reserved_is_apart_aligned_and_in_the_file(void **state)
{
    struct slab slab = {0};
    uint32_t first = 0, second = 0;
    const int fd = memfd_create("slab", MFD_CLOEXEC);
    (void)state;

    assert_int_equal(slab_open(fd, &slab), 0);
    assert_int_equal(slab_reserve(&slab, 100, &first), 0);
    assert_int_equal(slab_reserve(&slab, 1, &second), 0);
    assert_true(first >= sizeof(struct slab_header));
    assert_true(second >= first + 100);
    assert_int_equal(first % 64, 0);
    assert_int_equal(second % 64, 0);
    assert_int_equal(slab.header->file_size, size_of(fd));
    /* It is the file that is written to. */
    uint8_t byte = 0;
    *(uint8_t *)slab_at(&slab, second) = 0x5a;
    assert_int_equal(pread(fd, &byte, 1, second), 1);
    assert_int_equal(byte, 0x5a);
    slab_close(&slab);
}

static void it_goes_back_to_the_header(void **state)
{
    struct slab slab = {0};
    uint32_t offset = 0, again = 0;
    const int fd = memfd_create("slab", MFD_CLOEXEC);
    struct slab_header header;
    (void)state;

    assert_int_equal(slab_open(fd, &slab), 0);
    const off_t empty = size_of(fd);
    slab.header->queue_count = 1;
    slab.header->queues[0].statistics.reads = 17;
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(slab_reserve(&slab, 1 << 20, &offset), 0);
        assert_true(i == 0 || offset == again);
        again = offset;
        slab_reset(&slab);
        assert_int_equal(size_of(fd), empty);
        assert_int_equal(slab_read_header(fd, &header), 0);
    }
    /* What was counted stays visible between connections. */
    struct slab_statistics sum;
    uint32_t in_flight = 99;
    slab_sum(&header, &sum, &in_flight);
    assert_int_equal(sum.reads, 17);
    assert_int_equal(in_flight, 0);
    slab_close(&slab);
}

static void more_than_the_largest_slab_is_refused(void **state)
{
    struct slab slab = {0};
    uint32_t offset = 7;
    (void)state;

    assert_int_equal(slab_open(memfd_create("slab", MFD_CLOEXEC), &slab), 0);
    assert_int_equal(slab_reserve(&slab, UINT32_MAX - 64, &offset), -ENOSPC);
    assert_int_equal(offset, 7);
    slab_close(&slab);
}

static void what_is_no_slab_is_laid_out_anew(void **state)
{
    struct slab slab = {0};
    const int fd = memfd_create("slab", MFD_CLOEXEC);
    struct slab_header header;
    (void)state;

    memset(&header, 0xff, sizeof(header));
    assert_int_equal(write(fd, &header, sizeof(header)), (ssize_t)sizeof(header));
    assert_int_equal(slab_open(fd, &slab), 0);
    assert_int_equal(slab_read_header(fd, &header), 0);
    assert_int_equal(header.epoch, 1);
    slab_close(&slab);
}

/* A full tmpfs is an error where there is somebody to tell, never SIGBUS. */
static void a_full_tmpfs_refuses_and_what_there_was_stays_usable(void **state)
{
    char folder[] = "/tmp/slab-test-XXXXXX";
    char path[64];
    struct slab slab = {0};
    struct stat status;
    struct statvfs room;
    uint32_t offset = 0, more = 0;
    int fd;
    (void)state;

    assert_non_null(mkdtemp(folder));
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("none", folder, "tmpfs", 0, "size=256k") < 0) {
        (void)rmdir(folder);
        skip();
    }
    (void)snprintf(path, sizeof(path), "%s/slab", folder);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(slab_open(fd, &slab), 0);
    assert_int_equal(slab_reserve(&slab, 64 << 10, &offset), 0);
    assert_int_equal(slab_reserve(&slab, 256 << 10, &more), -ENOSPC);
    memset(slab_at(&slab, offset), 1, 64 << 10);
    assert_int_equal(slab_reserve(&slab, 4 << 10, &more), 0);
    memset(slab_at(&slab, more), 1, 4 << 10);
    /* Not to the last byte: connection files need some. A refusal takes nothing. */
    while (slab_reserve(&slab, 4 << 10, &more) == 0) {
    }
    assert_int_equal(fstat(fd, &status), 0);
    assert_int_equal(status.st_size, slab.allocated);
    assert_int_equal(statvfs(path, &room), 0);
    assert_in_range(room.f_bavail * room.f_frsize, 16 << 10, 24 << 10);
    slab_close(&slab);
    /* No room for the header even: the descriptor stays the caller's. */
    (void)snprintf(path, sizeof(path), "%s/filler", folder);
    const int filler = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    for (off_t end = 4096; posix_fallocate(filler, 0, end) == 0;)
        end += 4096;
    (void)snprintf(path, sizeof(path), "%s/second", folder);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(slab_open(fd, &slab), -ENOSPC);
    assert_int_equal(close(fd), 0);
    assert_int_equal(close(filler), 0);
    assert_int_equal(umount2(folder, MNT_DETACH), 0);
    assert_int_equal(rmdir(folder), 0);
}

/* As a tmpfs of Linux 6.1 is by signals, or by completions of io_uring: when they come often, in
 * all that takes long, and now and then in what does not. */
static void interruptions_do_not_matter(void **state)
{
    struct slab slab = {0};
    const int fd = memfd_create("slab", MFD_CLOEXEC);
    const int kept = dup(fd);
    uint32_t offset = 0;
    (void)state;

    interrupted = true;
    assert_int_equal(slab_open(fd, &slab), 0);
    assert_int_equal(slab_reserve(&slab, 4 << 20, &offset), 0);
    assert_int_equal(slab.allocated, size_of(fd));
    assert_int_equal(((uint8_t *)slab_at(&slab, offset))[(4 << 20) - 1], 0);
    slab_close(&slab);
    assert_int_equal(slab_adopt(kept, &slab), 0);
    assert_int_equal(slab.allocated, size_of(kept));
    interrupted = false;
    slab_close(&slab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_can_be_read_as_soon_as_it_is_open),
        cmocka_unit_test(the_next_worker_is_of_another_epoch),
        cmocka_unit_test(what_is_reserved_is_apart_aligned_and_in_the_file),
        cmocka_unit_test(it_goes_back_to_the_header),
        cmocka_unit_test(more_than_the_largest_slab_is_refused),
        cmocka_unit_test(what_is_no_slab_is_laid_out_anew),
        cmocka_unit_test(a_full_tmpfs_refuses_and_what_there_was_stays_usable),
        cmocka_unit_test(interruptions_do_not_matter),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
