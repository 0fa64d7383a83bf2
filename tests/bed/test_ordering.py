#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""blkbackd: flush, barrier and overlapping writes, seen from beneath: what reached the storage in which order."""

import time

from bedlib.fault import Faults
from bedlib.front import FLUSH, OKAY, PAGE, READ, WRITE, WRITE_BARRIER
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


def writes_at(log, sector):
    return [e for e in log if e.kind == "W" and e.offset == sector * 512]


@cases.over("log-shows-every-operation", *ENGINES)
def log_shows_every_operation(t, engine):
    """Guards the other cases: when the fault library does not see the I/O, they would show nothing."""
    disk, faults, front = faulty_disk(t, engine)
    assert front.write(24, b"a" * PAGE) == OKAY and front.flush() == OKAY
    front.read(48, 8)
    log = faults.log()
    assert len(writes_at(log, 24)) == 1, log
    assert [e for e in log if e.kind == "F"], log
    assert [e for e in log if e.kind == "R" and e.offset == 48 * 512], log
    disk.contents[24 * 512:32 * 512] = b"a" * PAGE
    disk.check_image()
    front.close()


@cases.over("flush-covers-answered-writes", *ENGINES)
def flush_covers_answered_writes(t, engine):
    """When a flush is answered, one was done that began after the end of every write answered before it was sent."""
    disk, faults, front = faulty_disk(t, engine)
    faults.delay(3000, one_in=2)
    pages = [front.page(bytes([i]) * PAGE, readonly=True) for i in range(32)]
    for turn in range(5):
        for i, page in enumerate(pages):
            front.put(WRITE, (turn * 32 + i) * 16, [(page.ref, 0, 7)])  # apart, or they would be merged
        front.push()
        assert set(front.take_all().values()) == {OKAY}
        assert front.flush() == OKAY
        log = faults.log()
        ends = [e.end for e in log if e.kind == "W"]
        assert len(ends) == 32 * (turn + 1) and None not in ends
        assert any(e.kind == "F" and e.start > max(ends) and e.end is not None and e.result == 0 for e in log), \
            "no flush began after the writes and is done"
    front.close()


@cases.over("flush-waits-for-the-storage", "uring", "aio")
def flush_waits_for_the_storage(t, engine):
    disk, faults, front = faulty_disk(t, engine)
    faults.hold("flush")
    front.put(FLUSH)
    front.push()
    if engine == "aio":
        # fdatasync is a call that blocks there: nothing is answered meanwhile
        assert front.take(0.3) is None
    else:
        page = front.page(b"\xee" * PAGE)
        ident = front.put(READ, 0, [(page.ref, 0, 7)])
        front.push()
        response = front.take(2.0)
        assert response is not None and response.id == ident, "reads go on while a flush is slow"
        assert front.take(0.3) is None, "the flush was answered before the storage was done"
    faults.release("flush")
    assert set(front.take_all().values()) == {OKAY}
    front.close()


def barrier_case(t, engine, hold):
    """Two writes, a barrier with data, two writes behind it, in one push. Where the engine is asynchronous the first
    writes are held, so that everything that does not wait for them would pass them."""
    disk, faults, front = faulty_disk(t, engine)
    if hold:
        faults.hold("write")
    else:
        faults.delay(2000)
    pages = [front.page(bytes([0x61 + i]) * PAGE, readonly=True) for i in range(5)]
    ops = (WRITE, WRITE, WRITE_BARRIER, WRITE, WRITE)
    for i, (op, page) in enumerate(zip(ops, pages)):
        front.put(op, 800 + i * 80, [(page.ref, 0, 7)])
        disk.contents[(800 + i * 80) * 512:(808 + i * 80) * 512] = page.data()
    front.push()
    if hold:
        t.bed.wait_for(lambda: faults.seen("write") >= 2, "the two writes")
        time.sleep(0.2)
        assert faults.seen("write") == 2, "the barrier or what is behind it did not wait"
        faults.release("write")
    assert set(front.take_all().values()) == {OKAY}
    log = faults.log()
    before, barrier, behind = ([writes_at(log, 800 + i * 80)[0] for i in n] for n in ((0, 1), (2,), (3, 4)))
    flushes = [e for e in log if e.kind == "F" and e.start > barrier[0].end and e.end < min(b.start for b in behind)]
    assert max(b.end for b in before) < barrier[0].start, "the barrier's data was written before what is in front of it"
    assert flushes, f"no flush between the barrier's data and what is behind it: {log}"
    disk.check_image()
    front.close()


@cases.over("barrier-orders-writes", *ENGINES)
def barrier_orders_writes(t, engine):
    barrier_case(t, engine, hold=False)


@cases.over("barrier-waits-for-held-writes", "uring", "aio")
def barrier_waits(t, engine):
    barrier_case(t, engine, hold=True)


@cases.over("empty-barrier", *ENGINES)
def empty_barrier(t, engine):
    disk, faults, front = faulty_disk(t, engine)
    assert front.write(0, b"q" * PAGE) == OKAY
    assert front.run(WRITE_BARRIER, 0, []) == OKAY
    log = faults.log()
    assert any(e.kind == "F" and e.start > writes_at(log, 0)[0].end for e in log), "a barrier without data flushes"
    front.close()


@cases.over("overlapping-writes-keep-their-order", "uring", "aio")
def overlapping_writes(t, engine):
    """The later of two writes to the same place in flight together is what stays."""
    disk, faults, front = faulty_disk(t, engine)
    faults.delay(2000)
    pages = [front.page(bytes([i]) * PAGE, readonly=True) for i in range(32)]
    for turn in range(3):
        for page in pages:
            front.put(WRITE, turn * 8, [(page.ref, 0, 7)])
        front.push()
        assert set(front.take_all().values()) == {OKAY}
        disk.contents[turn * PAGE:(turn + 1) * PAGE] = bytes([31]) * PAGE
    disk.check_image()
    front.close()


@cases.over("answers-out-of-order", "uring", "aio")
def answers_out_of_order(t, engine):
    """A slow request does not hold up others, and everything arrives at its place."""
    disk, faults, front = faulty_disk(t, engine, size=16 * MIB)
    faults.delay(3000, one_in=3)
    done = front.exercise(disk.contents, requests=1500, depth=64, max_segments=4, weights=(46, 46, 4, 4))
    assert done.reordered > 50, f"only {done.reordered} answers came out of order"
    faults.calm()
    disk.check_image()
    front.close()
    disk.check_nothing_mapped()


if __name__ == "__main__":
    cases.main()
