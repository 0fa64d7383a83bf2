#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""blkbackd: requests that take several slots, FreeBSD's extension of 2010: up to 255 segments over 19 slots."""

from bedlib.front import DISCARD, EOPNOTSUPP, ERROR, FLUSH, OKAY, PAGE, READ, WRITE, WRITE_BARRIER
from bedlib.testing import Cases

cases = Cases()
MIB = 1 << 20
MOST = 255


def asks(segments=MOST, requests=256):
    """What FreeBSD's frontend of 2010 writes besides its ring."""
    return {"max-requests": requests, "max-request-segments": segments, "max-request-size": segments * PAGE}


def connect(t, order=2, segments=MOST, size=8 * MIB, protocol="x86_64-abi", **options):
    disk = t.disk("blkbackd", size=size, **options)
    front = disk.connect(order=order, scheme="freebsd" if order else "plain", protocol=protocol, extra=asks(segments))
    front.needs("max-request-segments", segments)
    return disk, front


def pages_of(front, count, readonly=False):
    return [front.page(bytes([n % 251 + 1]) * PAGE, readonly) for n in range(count)]


def whole(pages):
    return [(page.ref, 0, 7) for page in pages]


def end(pages):
    for page in pages:
        page.end()


@cases.over("segments", 1, 11, 12, 25, 26, 39, 40, 128, 254, 255)
def segments(t, count):
    """A write and a read of so many pages: the counts at which a slot more is needed are among them."""
    disk, front = connect(t)
    pages = pages_of(front, count, readonly=True)
    assert front.run(WRITE, 16, whole(pages)) == OKAY
    expected = b"".join(page.data() for page in pages)
    end(pages)
    disk.contents[16 * 512:16 * 512 + len(expected)] = expected
    disk.check_image()
    into = pages_of(front, count)
    assert front.run(READ, 16, whole(into)) == OKAY
    assert b"".join(page.data() for page in into) == expected
    end(into)
    front.none_more()
    front.close()
    disk.check_nothing_mapped()


@cases.over("random", "0 x86_64-abi", "1 x86_64-abi", "2 x86_64-abi", "5 x86_64-abi", "3 x86_32-abi")
def random_io(t, case):
    order, protocol = case.split()
    most = MOST if protocol == "x86_64-abi" else 24
    disk, front = connect(t, int(order), MOST, protocol=protocol)
    done = front.exercise(disk.contents, requests=600, depth=256, max_segments=most)
    assert done.multi_block > 50, done.multi_block
    disk.check_image()
    front.close()
    disk.check_nothing_mapped()


@cases.add
def wraps_around_the_end_of_the_ring(t):
    """19 slots in a ring of 32: every position of a request's first slot, so every way to wrap."""
    disk, front = connect(t, order=0)
    pages = pages_of(front, MOST)
    for n in range(64):
        sector = n * 8
        assert front.run(READ, sector, whole(pages)) == OKAY
        data = b"".join(page.data() for page in pages)
        assert data == disk.contents[sector * 512:sector * 512 + MOST * PAGE], f"request {n}"
        if n % 2:
            assert front.flush() == OKAY  # one slot: shifts what follows
    end(pages)
    front.close()


@cases.add
def every_slot_counts_when_it_comes_in_parts(t):
    """A request is not looked at until its last slot is there; a smaller one before it is answered."""
    disk, front = connect(t, order=1)
    pages = pages_of(front, 128)
    few = pages_of(front, 3)
    slots = front.lib.front_slots_of(128)
    assert slots == 10
    for published in range(1, slots):
        first = front.put(READ, 8, whole(few))
        front.put(READ, 64, whole(pages))
        assert front.lib.front_push_slots(front.queue, 1 + published) >= 0
        front.lib.front_notify(front.queue)
        answer = front.take()
        assert answer.id == first and answer.status == OKAY
        front.none_more(0.02)
        front.push()  # with an event only if it was asked for
        assert list(front.take_all().values()) == [OKAY]
        data = b"".join(page.data() for page in pages)
        assert data == disk.contents[64 * 512:64 * 512 + 128 * PAGE]
        for page in pages:
            page.fill(bytes(PAGE))
    end(pages + few)
    front.close()


@cases.add
def slots_one_by_one(t):
    """Every slot of a request published on its own, without an event of ours unless it was asked for."""
    disk, front = connect(t, order=1)
    pages = pages_of(front, MOST)
    for n in range(20):
        front.put(READ, n * 8, whole(pages))
        for _ in range(front.lib.front_slots_of(MOST)):
            assert front.lib.front_push_slots(front.queue, 1) >= 0
        assert list(front.take_all().values()) == [OKAY]
        assert pages[200].data() == disk.contents[n * PAGE + 200 * PAGE:][:PAGE]
    end(pages)
    front.close()


@cases.add
def answers_advance_by_the_slots_of_failures_too(t):
    """After each kind of failure the ring is still in step."""
    disk, front = connect(t, size=4 * MIB)
    pages = pages_of(front, 100)
    good = whole(pages)
    sectors = front.sectors()
    wrong = [(READ, sectors - 8, good), (READ, 0, good[:99] + [(pages[0].ref, 7, 0)]),
             (READ, 0, good[:50] + [(999999, 0, 7)] + good[51:]), (WRITE, sectors, good),
             (WRITE_BARRIER, 0, good[:99] + [(pages[0].ref, 0, 8)]), (READ, 0, [(999999, 0, 7)] * 100)]
    for op, sector, segments in wrong:
        assert front.run(op, sector, segments) == ERROR, (op, sector)
        assert front.run(READ, 80, good) == OKAY
        assert pages[99].data() == disk.contents[80 * 512 + 99 * PAGE:][:PAGE]
    disk.check_image()
    end(pages)
    front.close()


@cases.add
def more_segments_than_settled_on(t):
    """ERROR, and all the slots that the count claims are taken."""
    disk, front = connect(t, segments=40)
    pages = pages_of(front, 60)
    for count in (41, 42, 54, 60):
        assert front.run(READ, 0, whole(pages)[:count]) == ERROR
        assert front.run(READ, 0, whole(pages)[:40]) == OKAY
    disk.check_image()
    end(pages)
    front.close()


@cases.over("eleven-or-less-mean-nothing", 11, 1)
def eleven_or_less_mean_nothing(t, count):
    """Later FreeBSD frontends write the keys to every backend: a request of theirs has one slot, whatever it claims."""
    disk = t.disk("blkbackd")
    front = disk.connect(order=1, extra=asks(count))
    page = front.page()
    assert front.run(READ, 0, [(page.ref, 0, 7)], byte1=40) == ERROR
    assert front.run(READ, 0, [(page.ref, 0, 7)]) == OKAY
    page.end()
    front.exercise(disk.contents, requests=200, max_segments=count)
    disk.check_image()
    front.close()


@cases.add
def flushes_have_one_slot_whatever_they_claim(t):
    disk, front = connect(t)
    pages = pages_of(front, 30)
    for count in (0, 12, 255):
        assert front.run(FLUSH, 0, byte1=count, slots=1) == OKAY
        assert front.run(READ, 0, whole(pages)) == OKAY
    assert front.run(DISCARD, 0, byte1=255, nr_sectors=0) in (OKAY, EOPNOTSUPP)
    assert front.run(READ, 0, whole(pages)) == OKAY
    end(pages)
    disk.check_image()
    front.close()


@cases.add
def a_request_that_can_not_fit_stops_the_ring(t):
    """A producer so far ahead that the rest of a request would lie beyond what the ring holds."""
    disk, front = connect(t, order=0)
    pages = pages_of(front, 14)
    # 31 slots that are complete, and the first of a request that needs ten: 41 can never be there at once
    for _ in range(31):
        front.put(READ, 0, whole(pages[:1]))
    front.put(READ, 0, whole(pages[:1]), byte1=128, slots=1)
    front.push()
    seen = 0
    while front.take(1.0) is not None:
        seen += 1
    assert seen in (0, 31), seen
    other = t.disk(disk.daemon)
    other.serves(other.connect())
    front.free()


@cases.over("engine", "uring", "aio", "inline")
def engine(t, name):
    disk, front = connect(t, engine=name)
    front.exercise(disk.contents, requests=200, depth=64, max_segments=MOST)
    disk.check_image()
    front.close()


@cases.add
def limits_of_the_configuration_are_offered(t):
    disk = t.disk("blkbackd", max_request_segments=100, max_requests=7)
    front = disk.connect(order=4, extra=asks())
    assert front.limit("max-request-segments", 0) == 100
    assert front.limit("max-request-size", 0) == 100 * PAGE
    assert front.limit("max-requests", 0) == 7
    done = front.exercise(disk.contents, requests=300, depth=64, max_segments=100)
    assert done.multi_block
    disk.check_image()
    front.close()


if __name__ == "__main__":
    cases.main()
