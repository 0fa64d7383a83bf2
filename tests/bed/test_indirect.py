#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""blkbackd: indirect requests, whose segments are in pages of their own; as Linux and later FreeBSD send them."""

from bedlib.front import DISCARD, EOPNOTSUPP, ERROR, FLUSH, INDIRECT, OKAY, PAGE, READ, WRITE, WRITE_BARRIER
from bedlib.testing import Cases

cases = Cases()
MIB = 1 << 20
MOST = 256
PROTOCOLS = ("x86_64-abi", "x86_32-abi")


def connect(t, size=8 * MIB, needs=MOST, order=0, protocol="x86_64-abi", **options):
    disk = t.disk("blkbackd", size=size, **options)
    front = disk.connect(order=order, protocol=protocol)
    front.needs("feature-max-indirect-segments", needs)
    return disk, front


def run(front, op, sector, segments, **options):
    """Its status; the answer's operation is checked to be the inner one."""
    ident = front.put_indirect(op, sector, segments, **options)
    front.push()
    return front.take_all()[ident]


def whole(pages):
    return [(page.ref, 0, 7) for page in pages]


def end(pages):
    for page in pages:
        page.end()


@cases.over("segments", 1, 11, 12, 32, 255, 256)
def segments(t, count):
    for protocol in PROTOCOLS:
        disk, front = connect(t, protocol=protocol)
        pages = [front.page(bytes([n % 251 + 1]) * PAGE, readonly=True) for n in range(count)]
        assert run(front, WRITE, 24, whole(pages)) == OKAY
        expected = b"".join(page.data() for page in pages)
        end(pages)
        disk.contents[24 * 512:24 * 512 + len(expected)] = expected
        disk.check_image()
        into = [front.page() for _ in range(count)]
        assert run(front, READ, 24, whole(into)) == OKAY
        assert b"".join(page.data() for page in into) == expected
        end(into)
        front.close()
        disk.check_nothing_mapped()
        disk.daemon.stop()


@cases.over("random", "0 x86_64-abi", "2 x86_64-abi", "5 x86_64-abi", "3 x86_32-abi")
def random_io(t, case):
    order, protocol = case.split()
    disk, front = connect(t, order=int(order), protocol=protocol)
    done = front.exercise(disk.contents, requests=600, depth=256, max_indirect=MOST)
    assert done.indirect > 150, done.indirect
    disk.check_image()
    front.close()
    disk.check_nothing_mapped()


@cases.over("engine", "uring", "aio", "inline")
def engine(t, name):
    disk, front = connect(t, engine=name)
    front.exercise(disk.contents, requests=300, depth=32, max_indirect=MOST)
    disk.check_image()
    front.close()


@cases.add
def parts_of_pages_in_any_order(t):
    disk, front = connect(t)
    pages = [front.page(b"\xee" * PAGE) for _ in range(64)]
    segments = [(page.ref, n % 8, min(7, n % 8 + n % 3)) for n, page in enumerate(reversed(pages))]
    assert run(front, READ, 5, segments) == OKAY
    at = 5 * 512
    for page, (_, first, last) in zip(reversed(pages), segments):
        size = (last - first + 1) * 512
        expected = b"\xee" * (first * 512) + disk.contents[at:at + size] + b"\xee" * ((7 - last) * 512)
        assert page.data() == expected
        at += size
    end(pages)
    front.close()


@cases.add
def one_page_as_every_segment(t):
    disk, front = connect(t)
    page = front.page(b"o" * PAGE)
    assert run(front, WRITE, 0, [(page.ref, 0, 7)] * MOST) == OKAY
    disk.contents[:MOST * PAGE] = b"o" * (MOST * PAGE)
    disk.check_image()
    assert run(front, READ, MOST * 8, [(page.ref, 0, 7)] * MOST) == OKAY
    page.end()
    front.close()


@cases.add
def the_limit_is_the_offered_one(t):
    disk, front = connect(t, needs=32, max_indirect_segments=32)
    assert front.limit("feature-max-indirect-segments", 0) == 32
    pages = [front.page() for _ in range(33)]
    assert run(front, READ, 0, whole(pages[:32])) == OKAY
    assert run(front, READ, 0, whole(pages)) == ERROR
    assert run(front, READ, 0, whole(pages[:32])) == OKAY
    end(pages)
    disk.check_image()
    front.close()


@cases.add
def not_offered_is_not_supported(t):
    disk = t.disk("blkbackd", max_indirect_segments=0)
    front = disk.connect()
    assert front.limit("feature-max-indirect-segments", 0) == 0
    page = front.page()
    assert run(front, READ, 0, [(page.ref, 0, 7)]) == EOPNOTSUPP
    page.end()
    disk.serves(front)


@cases.over("wrong", *PROTOCOLS)
def wrong(t, protocol):
    """Each gets its one answer, with the inner operation, and nothing else happens."""
    disk, front = connect(t, protocol=protocol)
    pages = [front.page(b"w" * PAGE) for _ in range(20)]
    good, sectors = whole(pages), front.sectors()
    readonly = front.page(readonly=True)
    listed = front.page()
    for op in (WRITE_BARRIER, FLUSH, DISCARD, 4, INDIRECT, 7, 255):
        assert run(front, op, 0, good) in (ERROR, EOPNOTSUPP), op
    for options in ({"count": 0}, {"count": MOST + 1}, {"count": 0xffff}, {"refs": [0]}, {"refs": [999999]},
                    {"refs": [0xffffffff]}):
        assert run(front, WRITE, 0, good, **options) == ERROR, options
    for segments in (good[:19] + [(pages[0].ref, 7, 0)], good[:19] + [(pages[0].ref, 0, 8)],
                     [(pages[0].ref, 255, 255)] + good, good[:10] + [(999999, 0, 7)] + good[11:]):
        assert run(front, WRITE, 0, segments) == ERROR, segments
    for sector in (sectors, sectors - 8, (1 << 64) - 8, 1 << 55, 1 << 63):
        assert run(front, WRITE, sector, good) == ERROR, sector
    assert run(front, READ, 0, good[:5] + [(readonly.ref, 0, 7)] + good[6:]) == ERROR
    # segments that are not there: the page of them is all zero
    assert run(front, WRITE, 0, [], count=20, refs=[listed.ref]) == ERROR
    disk.check_image()
    end(pages + [readonly, listed])
    disk.serves(front)


@cases.add
def a_read_only_disk_is_not_written(t):
    disk, front = connect(t, mode="r")
    page = front.page(b"x" * PAGE)
    assert run(front, WRITE, 0, [(page.ref, 0, 7)] * 20) == ERROR
    assert run(front, READ, 0, [(page.ref, 0, 7)] * 20) == OKAY
    disk.check_image()
    page.end()
    front.close()


@cases.add
def both_schemes_side_by_side(t):
    """One frontend may use slots and pages alike."""
    disk = t.disk("blkbackd")
    front = disk.connect(order=2, extra={"max-requests": 64, "max-request-segments": 255,
                                         "max-request-size": 255 * PAGE})
    front.needs("feature-max-indirect-segments", MOST)
    done = front.exercise(disk.contents, requests=800, depth=128, max_segments=255, max_indirect=MOST)
    assert done.indirect > 50 and done.multi_block > 50, (done.indirect, done.multi_block)
    disk.check_image()
    front.close()
    disk.check_nothing_mapped()


@cases.add
def the_list_may_change_after_it_was_taken(t):
    """Once the answer is there, and also while the request is served: never more than the request's own pages change."""
    disk, front = connect(t)
    listed, pages, other = front.page(), [front.page() for _ in range(64)], front.page(b"k" * PAGE)
    import struct
    mine = b"".join(struct.pack("=IBBH", page.ref, 0, 7, 0) for page in pages)
    theirs = b"".join(struct.pack("=IBBH", 999999, 9, 3, 0xffff) for _ in pages)
    for _ in range(200):
        listed.fill(mine)
        ident = front.put_indirect(READ, 0, count=64, refs=[listed.ref])
        front.push()
        listed.fill(theirs)
        assert front.take_all()[ident] in (OKAY, ERROR)
    assert other.data() == b"k" * PAGE
    end(pages + [listed, other])
    disk.serves(front)


if __name__ == "__main__":
    cases.main()
