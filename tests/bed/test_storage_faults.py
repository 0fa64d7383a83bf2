#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""blkbackd on bad storage: short transfers, errors, a failing flush, a truncated image."""

import errno
import os

from bedlib.fault import Faults
from bedlib.front import ERROR, FLUSH, OKAY, PAGE, READ, WRITE
from bedlib.testing import MIB, Cases

cases = Cases()
ENGINES = ("uring", "aio", "inline")


def faulty_disk(t, engine, **options):
    """A disk with the fault library beneath it: (disk, faults, frontend)."""
    made = []

    def make(path):
        made.append(Faults(t.bed, path))
        return made[0].environment()

    disk = t.disk("blkbackd", faults=make, engine=engine, **options)
    t.bed.on_close(made[0].calm)
    return disk, made[0], disk.connect(order=1)


@cases.over("short-transfers-are-continued", *ENGINES)
def short_transfers(t, engine):
    disk, faults, front = faulty_disk(t, engine, size=16 * MIB)
    faults.shorten(one_in=1)
    done = front.exercise(disk.contents, requests=600, depth=32, weights=(50, 50, 0, 0))
    assert done.errors == 0
    assert faults.control.shortened > 500, "the fault library cut nothing short"
    faults.calm()
    disk.check_image()
    front.close()
    disk.check_nothing_mapped()


@cases.over("an-io-error-is-that-requests-alone", *ENGINES)
def io_error(t, engine):
    disk, faults, front = faulty_disk(t, engine)
    for op in (READ, WRITE):
        faults.fail("read" if op == READ else "write", errno.EIO, start=80 * 512, end=88 * 512)
        pages = [front.page(b"i" * PAGE) for _ in range(20)]
        ids = [front.put(op, i * 8, [(p.ref, 0, 7)]) for i, p in enumerate(pages)]
        front.push()
        statuses = front.take_all()
        assert [statuses[i] for i in ids] == [ERROR if n == 10 else OKAY for n in range(20)]
        faults.calm()
        for page in pages:
            page.end()
    disk.contents[:20 * PAGE] = b"i" * 10 * PAGE + disk.contents[10 * PAGE:11 * PAGE] + b"i" * 9 * PAGE
    disk.check_image()
    assert front.read(80, 8) == disk.contents[10 * PAGE:11 * PAGE], "afterwards it works again"
    front.close()
    disk.check_nothing_mapped()


@cases.over("random-errors-lose-nothing", *ENGINES)
def random_errors(t, engine):
    """What was answered with OKAY is there, under errors, cuts and delays together."""
    disk, faults, front = faulty_disk(t, engine, size=16 * MIB)
    faults.shorten(one_in=5)
    faults.delay(500, one_in=7)
    faults.fail("read", errno.EIO, start=MIB, end=2 * MIB)
    done = front.exercise(disk.contents, requests=800, depth=32, weights=(100, 0, 0, 0), tolerate_errors=1)
    assert 5 < done.errors < 400, f"{done.errors} errors"
    faults.calm()
    faults.shorten(one_in=3)
    done = front.exercise(disk.contents, requests=500, depth=32, weights=(40, 60, 0, 0), seed=5)
    faults.calm()
    disk.check_image()
    front.close()
    disk.check_nothing_mapped()


@cases.over("a-failed-flush-is-tried-again", *ENGINES)
def failed_flush(t, engine):
    """Linux' frontend would take a failed flush for success and never flush again. With O_DIRECT it can be repeated."""
    disk, faults, front = faulty_disk(t, engine, image=t.bed.direct_image(8 * MIB))
    faults.fail("flush", errno.EIO)
    front.put(FLUSH)
    front.push()
    assert front.take(0.5) is None, "a flush that fails was answered"
    page = front.page(b"k" * PAGE, readonly=True)
    front.put(WRITE, 8, [(page.ref, 0, 7)])
    front.push()
    assert front.take(0.3) is None, "the ring was served though its flush is outstanding"
    faults.calm()
    assert set(front.take_all(30.0).values()) == {OKAY}
    disk.contents[PAGE:2 * PAGE] = b"k" * PAGE
    assert front.write(0, b"p" * PAGE) == OKAY and front.flush() == OKAY
    disk.contents[:PAGE] = b"p" * PAGE
    disk.check_image()
    front.close()


@cases.over("a-failed-flush-of-buffered-data-is-never-answered", *ENGINES)
def failed_flush_buffered(t, engine):
    """The page cache has forgotten which pages failed, so a second flush proves nothing. The disk can be detached."""
    disk, faults, front = faulty_disk(t, engine, direct="no")
    faults.fail("flush", errno.EIO, count=1)
    front.put(FLUSH)
    front.push()
    assert front.take(2.5) is None, "a flush that failed was answered"
    disk.vbd.force_close()
    disk.vbd.wait_backend(5, 6)
    disk.vbd.set_front_state(6)
    disk.vbd.wait_backend(6)
    front.free(strict=True)
    disk.check_nothing_mapped()


@cases.over("a-full-disk-is-never-success", *ENGINES)
def full_disk(t, engine):
    disk, faults, front = faulty_disk(t, engine)
    faults.fail("write", errno.ENOSPC)
    page = front.page(b"d" * PAGE, readonly=True)
    front.put(WRITE, 0, [(page.ref, 0, 7)])
    front.push()
    response = front.take(1.0)
    assert response is None or response.status == ERROR, "a write that was not done was answered with OKAY"
    faults.calm()
    if response is None:
        assert set(front.take_all(30.0).values()) == {OKAY}
        disk.contents[:PAGE] = b"d" * PAGE
    disk.check_image()
    assert front.write(8, b"D" * PAGE) == OKAY
    front.close()


@cases.over("a-truncated-image-gives-errors", *ENGINES)
def truncated_image(t, engine):
    """Not zeros, and no crash."""
    disk = t.disk("blkbackd", engine=engine)
    front = disk.connect()
    os.truncate(disk.path, MIB)
    page = front.page(b"t" * PAGE)
    assert front.run(READ, 2 * MIB // 512, [(page.ref, 0, 7)]) == ERROR
    assert front.run(READ, MIB // 512 - 4, [(page.ref, 0, 7)]) == ERROR, "half of it is there"
    assert front.read(0, 8) == disk.contents[:PAGE]
    page.end()
    front.close()


@cases.over("slow-storage-does-not-stop-detaching", "uring", "aio")
def slow_storage(t, engine):
    """A forced close while a write is stuck: the guest's pages are given back, the disk's end comes when it is done."""
    disk, faults, front = faulty_disk(t, engine)
    faults.hold("write")
    page = front.page(b"l" * PAGE, readonly=True)
    front.put(WRITE, 0, [(page.ref, 0, 7)])
    front.push()
    t.bed.wait_for(lambda: faults.seen("write") == 1, "the write at the storage")
    disk.vbd.domain.destroy()
    disk.vbd.xs.rm(disk.vbd.front)
    disk.wait_for_nothing_mapped()
    faults.release("write")
    disk.vbd.force_close()
    disk.vbd.wait_backend(6, timeout=10)
    front.free()


@cases.over("a-detached-disk-answers-what-it-was-asked", "uring", "aio")
def detached_disk_answers(t, engine):
    """Linux goes to Closed with requests in flight and waits for their answers; without them it never lets go."""
    disk, faults, front = faulty_disk(t, engine)
    faults.hold("write")
    pages = [front.page(bytes([i + 1]) * PAGE, readonly=True) for i in range(24)]
    for i, page in enumerate(pages[:16]):
        front.put(WRITE, i * 16, [(page.ref, 0, 7)])
    front.push()
    t.bed.wait_for(lambda: faults.seen("write") == 16, "the writes at the storage")
    disk.vbd.force_close()
    disk.vbd.set_front_state(6)
    for i, page in enumerate(pages[16:], 16):  # and these are still in the ring when it says so
        front.put(WRITE, i * 16, [(page.ref, 0, 7)])
    front.push()
    faults.release("write")
    assert set(front.take_all().values()) == {OKAY}
    disk.vbd.wait_backend(6, timeout=10)
    disk.wait_for_nothing_mapped()
    front.free()


if __name__ == "__main__":
    cases.main()
