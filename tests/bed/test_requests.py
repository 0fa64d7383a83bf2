#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""blkbackd: what a request must not be. One answer, ERROR or EOPNOTSUPP, right id and operation, storage untouched."""

import ctypes
import struct

from bedlib.front import (DISCARD, EOPNOTSUPP, ERROR, FLUSH, INDIRECT, OKAY, PAGE, READ, WRITE, WRITE_BARRIER,
                          Wrong)
from bedlib.testing import Cases
from bedlib.vbd import CLOSED, CLOSING

cases = Cases()
ALL_ONES = (1 << 64) - 1


def check_still_good(disk, front):
    """The storage is as it was, the ring goes on, nothing is held."""
    assert front.read(0, 8) == disk.contents[:4096]
    front.none_more()
    disk.check_image()
    front.close()
    disk.check_nothing_mapped()


def each_is(disk, front, expected, requests):
    """Every one of requests (op, sector, segments, options) alone and then all in one push."""
    for op, sector, segments, options in requests:
        status = front.run(op, sector, segments, **options)
        assert status == expected, f"op {op} sector {sector} segments {segments} {options}: status {status}"
    for op, sector, segments, options in requests[:front.slots()]:
        front.put(op, sector, segments, **options)
    front.push()
    statuses = set(front.take_all().values())
    assert statuses == {expected}, statuses


@cases.add
def unknown_operations_are_refused(t):
    """And those that were not offered."""
    disk = t.disk("blkbackd", max_indirect_segments=0, discard="no")
    front = disk.connect()
    page = front.page(b"u" * PAGE)
    each_is(disk, front, EOPNOTSUPP,
            [(op, 0, [(page.ref, 0, 7)], {}) for op in (4, INDIRECT, DISCARD, 7, 8, 127, 128, 255)])
    page.end()
    check_still_good(disk, front)


@cases.over("sectors-beyond-the-end", "x86_64-abi", "x86_32-abi")
def sectors_beyond_the_end(t, abi):
    """Also where the product with 512 wraps: QEMU 7.2 takes sector 2^62 for sector 0."""
    disk = t.disk("blkbackd")
    front = disk.connect(protocol=abi)
    page = front.page(b"e" * PAGE)
    end = front.sectors()
    sectors = (end - 7, end - 1, end, end + 1, 1 << 32, 1 << 54, (1 << 55) - 8, 1 << 55, 1 << 62, (1 << 62) + 8,
               1 << 63, ALL_ONES - 7, ALL_ONES)
    each_is(disk, front, ERROR,
            [(op, s, [(page.ref, 0, 7)], {}) for op in (READ, WRITE, WRITE_BARRIER) for s in sectors])
    assert page.data() == b"e" * PAGE, "the guest's page was written to"
    page.end()
    check_still_good(disk, front)


@cases.add
def a_request_half_beyond_the_end_does_nothing(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    pages = [front.page(b"h" * PAGE) for _ in range(2)]
    refs = [(p.ref, 0, 7) for p in pages]
    each_is(disk, front, ERROR, [(op, front.sectors() - 8, refs, {}) for op in (READ, WRITE)])
    assert all(p.data() == b"h" * PAGE for p in pages)
    check_still_good(disk, front)


@cases.add
def wrong_segment_counts(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    page = front.page(b"c" * PAGE)
    full = [(page.ref, 0, 7)] * 11
    each_is(disk, front, ERROR,
            [(op, 0, [], {}) for op in (READ, WRITE)] +
            [(op, 0, full, {"byte1": n}) for op in (READ, WRITE, WRITE_BARRIER) for n in (12, 13, 32, 128, 255)])
    page.end()
    check_still_good(disk, front)


@cases.add
def wrong_sectors_in_segments(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    page = front.page(b"s" * PAGE)
    bad = [(1, 0), (7, 6), (0, 8), (8, 8), (0, 255), (255, 0), (255, 255), (7, 8)]
    requests = [(op, 0, [(page.ref, *b)], {}) for op in (READ, WRITE, WRITE_BARRIER) for b in bad]
    requests += [(op, 0, [(page.ref, 0, 7)] * 10 + [(page.ref, *b)], {}) for op in (READ, WRITE) for b in bad]
    each_is(disk, front, ERROR, requests)
    assert page.data() == b"s" * PAGE
    page.end()
    check_still_good(disk, front)


@cases.over("bad-reference-at-position", 0, 1, 5, 10)
def bad_reference(t, position):
    """A reference that is not granted, one far out of range, and another domain's."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    other = t.disk(disk.daemon)
    other_front = other.connect()
    foreign = other_front.page(b"foreign!" * 512)
    pages = [front.page(b"g" * PAGE) for _ in range(11)]
    for op in (READ, WRITE):
        for ref in (5, 100000, 0xffffffff, foreign.ref + 5000):
            segments = [(p.ref, 0, 7) for p in pages]
            segments[position] = (ref, 0, 7)
            assert front.run(op, 0, segments) == ERROR, f"op {op} reference {ref}"
    for page in pages:
        page.end()
    check_still_good(disk, front)
    assert foreign.data() == b"foreign!" * 512


@cases.add
def bad_references_leave_others_of_the_batch_alone(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    pages = [front.page(b"\xee" * PAGE) for _ in range(32)]
    bad = set()
    for i, page in enumerate(pages):
        if i % 3 == 0:
            bad.add(front.put(READ, i * 8, [(99999, 0, 7)]))
        else:
            front.put(READ, i * 8, [(page.ref, 0, 7)])
    front.push()
    for ident, status in front.take_all().items():
        assert status == (ERROR if ident in bad else OKAY)
    for i, page in enumerate(pages):
        if i % 3:
            assert page.data() == disk.contents[i * PAGE:(i + 1) * PAGE]
        page.end()
    check_still_good(disk, front)


@cases.add
def a_read_into_a_read_only_grant_fails(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    page = front.page(b"r" * PAGE, readonly=True)
    assert front.run(READ, 0, [(page.ref, 0, 7)]) == ERROR
    assert page.data() == b"r" * PAGE
    assert front.run(WRITE, 8, [(page.ref, 0, 7)]) == OKAY
    disk.contents[4096:8192] = b"r" * PAGE
    page.end()
    check_still_good(disk, front)


@cases.add
def flush_with_odd_fields(t):
    """Linux sets the sector number to -1, NetBSD leaves the count unset."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    each_is(disk, front, OKAY, [(FLUSH, ALL_ONES, [], {}), (FLUSH, 0, [], {"byte1": 255}), (FLUSH, 0, [], {}),
                                (FLUSH, ALL_ONES, [], {"byte1": 255, "handle": 0xffff})])
    check_still_good(disk, front)


@cases.add
def flush_with_data_writes_it(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    page = front.page(b"f" * PAGE, readonly=True)
    assert front.run(FLUSH, 8, [(page.ref, 0, 7)]) == OKAY
    disk.contents[4096:8192] = b"f" * PAGE
    page.end()
    check_still_good(disk, front)


@cases.add
def response_padding_shows_nothing(t):
    """Bytes of the answer's slot beyond the answer are what the guest wrote there, or zero."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    page = front.page()
    raw = bytearray(b"\x5a" * 112)
    struct.pack_into("<BBH", raw, 0, READ, 1, 0)
    struct.pack_into("<QQIBBH", raw, 8, 77, 0, page.ref, 0, 7, 0x5a5a)
    front.put_raw(raw, 77, READ)
    front.push()
    assert front.take_all() == {77: OKAY}
    slot = ctypes.string_at(ctypes.addressof(front.lib.front_queue_memory(front.queue).contents) + 64, 112)
    for i, byte in enumerate(slot):
        if i not in (*range(9), 10, 11):
            assert byte in (0, raw[i]), f"byte {i} of the slot is {byte:#x}"
    page.end()
    check_still_good(disk, front)


@cases.over("request-producer-is", "one too many", "far ahead", "backwards")
def bad_producer(t, what):
    """The ring is not served any more, and the frontend is told why."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    assert front.read(0, 8) == disk.contents[:4096]
    words = ctypes.cast(front.lib.front_queue_memory(front.queue), ctypes.POINTER(ctypes.c_uint32))
    words[0] = {"one too many": front.slots() + 2, "far ahead": 1 << 31, "backwards": 0}[what]
    produced = words[2]
    front.lib.front_notify(front.queue)
    assert disk.vbd.wait_backend(CLOSING, CLOSED) in (CLOSING, CLOSED)
    assert disk.vbd.error(), "no error node"
    assert words[2] == produced, "responses were published on a broken ring"
    disk.vbd.set_front_state(CLOSED)
    disk.vbd.wait_backend(CLOSED)
    front.free(strict=True)
    disk.check_image()
    disk.check_nothing_mapped()


@cases.add
def guest_scribbles_over_the_backends_words(t):
    """rsp_prod and req_event are never read for decisions: other slots are answered as if nothing had happened."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    assert front.read(0, 8) == disk.contents[:4096]
    words = ctypes.cast(front.lib.front_queue_memory(front.queue), ctypes.POINTER(ctypes.c_uint32))
    words[2], words[1] = 0x12345678, 0x9abcdef0
    page = front.page(b"\xee" * PAGE)
    front.put(READ, 8, [(page.ref, 0, 7)])
    front.push()
    front.lib.front_notify(front.queue)
    t.bed.wait_for(lambda: words[2] == 2, "the next response at its place")
    assert page.data() == disk.contents[PAGE:2 * PAGE]
    disk.vbd.set_front_state(CLOSED)
    disk.vbd.wait_backend(CLOSED)


@cases.add
def a_storm_of_events_does_no_harm(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    for _ in range(20000):
        front.lib.front_notify(front.queue)
    check_still_good(disk, front)


@cases.add
def wrong_requests_among_right_ones(t):
    """Depth, bad ones mixed in, nothing lost."""
    disk = t.disk("blkbackd")
    front = disk.connect(order=2)
    pages = [front.page(b"\xee" * PAGE) for _ in range(front.slots())]
    expected = {}
    for turn in range(20):
        for i, page in enumerate(pages):
            kind = (i + turn) % 5
            if kind == 0:
                expected[front.put(READ, front.sectors(), [(page.ref, 0, 7)])] = ERROR
            elif kind == 1:
                expected[front.put(99, 0, [(page.ref, 0, 7)])] = EOPNOTSUPP
            else:
                expected[front.put(READ, i * 8 % 4096, [(page.ref, 0, 7)])] = OKAY
        front.push()
        got = front.take_all()
        if any(expected[i] != s for i, s in got.items()):
            raise Wrong("a status differs from what the request deserves")
    for page in pages:
        page.end()
    check_still_good(disk, front)


if __name__ == "__main__":
    cases.main()
