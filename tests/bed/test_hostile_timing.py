#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""blkbackd under guests that change rings, pages and grants while they are served, with a healthy neighbour beside them."""

import ctypes
import random
import struct
import time

from bedlib.front import ERROR, INDIRECT, OKAY, PAGE, READ, WRITE
from bedlib.hostile import SLOT, leave, serves_the_next, words_of
from bedlib.neighbour import meanwhile, resident, untouched
from bedlib.testing import MIB, Cases
from bedlib.vbd import CLOSED, CLOSING, CONNECTED

cases = Cases()
HOW = {
    "direct": ({}, {}),
    "indirect": ({}, {}),
    "persistent": ({"persistent_grants": "yes"}, {"persistent": True}),
    "persistent-copied": ({"persistent_grants": "copy"}, {"persistent": True}),
    "multi-block": ({}, {"extra": {"max-requests": 64, "max-request-segments": 128, "max-request-size": 128 * PAGE}}),
}


def requests_of(kind, refs, rng):
    """Slots with requests of a kind, nearly right, right and senseless."""
    shapes = []
    for _ in range(300):
        slot = bytearray(rng.randbytes(SLOT))
        slot[0] = rng.choice((READ, WRITE, WRITE, 2, 3, 5, rng.randrange(256)))
        slot[1] = rng.choice((1, 11, rng.randrange(12, 60)) if kind == "multi-block" else (0, 1, 11, 12))
        slot[16:24] = rng.choice((0, 8, 4096, 1 << 62)).to_bytes(8, "little")
        for at in range(24, SLOT, 8):
            slot[at:at + 8] = segment(refs, rng)
        if kind == "indirect" and rng.random() < 0.8:
            slot[0:4] = struct.pack("=BBH", INDIRECT, rng.choice((READ, WRITE, 3, INDIRECT)),
                                    rng.choice((0, 1, 64, 256, 257, 0xffff)))
            slot[24:56] = struct.pack("=8I", *(rng.choice(refs) for _ in range(8)))
        shapes.append(bytes(slot))
    return shapes


def segment(refs, rng):
    return struct.pack("=I2s2s", rng.choice(refs + [rng.getrandbits(32)]),
                       rng.choice((b"\0\x07", b"\0\x07", b"\x07\0", b"\x03\x03", b"\0\xff")), b"\0\0")


@cases.over("slots-and-pages-change", *HOW)
def slots_and_pages_change(t, kind):
    """All that the guest shares is rewritten while it is served; it takes no answers either."""
    options, asks = HOW[kind]
    disk = t.disk("blkbackd", **options)
    with untouched(disk):
        front, rng = disk.connect(**asks), random.Random(7)
        pages = [front.page() for _ in range(24)]
        refs = [page.ref for page in pages]
        base = ctypes.addressof(front.lib.front_queue_memory(front.queue).contents) + 64
        slots, words = front.slots(), words_of(front)
        shapes = requests_of(kind, refs, rng)
        lists = [b"".join(segment(refs, rng) for _ in range(256)) for _ in range(8)]

        def rewrite():
            for i in range(slots):
                ctypes.memmove(base + i * SLOT, rng.choice(shapes), SLOT)
            rng.choice(pages).fill(rng.choice(lists))

        before = resident(disk.daemon.workers()[0])
        with meanwhile(rewrite):
            passes, end = 0, time.monotonic() + 4
            while time.monotonic() < end:
                answered = words[2]
                words[0] = (answered + slots) & 0xffffffff
                front.lib.front_notify(front.queue)
                time.sleep(0.001)
                passes += words[2] != answered
                assert disk.vbd.backend_state() == CONNECTED
        assert passes > 20, f"only {passes} passes"
        assert resident(disk.daemon.workers()[0]) - before < 64 * MIB
        leave(disk, front, pages)
        serves_the_next(disk)


@cases.add
def a_list_of_segments_changes_while_it_is_copied(t):
    """Right and wrong lists by turns in the page of an indirect read: a page of neither is never written to."""
    disk = t.disk("blkbackd")
    with untouched(disk):
        front = disk.connect()
        listed, other = front.page(), front.page(b"k" * PAGE)
        pages = [front.page(b"\xee" * PAGE) for _ in range(64)]
        right = b"".join(struct.pack("=IBBH", page.ref, 0, 7, 0) for page in pages)
        narrow = b"".join(struct.pack("=IBBH", page.ref, 3, 3, 0) for page in pages)
        wrong = b"".join(struct.pack("=IBBH", 999999, 9, 3, 0xffff) for _ in pages)
        listed.fill(right)

        def rewrite():
            for text in (wrong, right, narrow, right):
                listed.fill(text)

        statuses = set()
        with meanwhile(rewrite):
            for turn in range(2000):
                ident = front.put_indirect(READ, turn * 8 % 4096, count=64, refs=[listed.ref])
                front.push()
                statuses.add(front.take_all()[ident])
        assert statuses == {OKAY, ERROR}, statuses
        assert other.data() == b"k" * PAGE
        disk.check_image()
        for page in (*pages, listed, other):
            page.end()
        disk.serves(front)


@cases.over("producer-runs-away", "jumps", "backwards", "random")
def producer_runs_away(t, how):
    """While right requests are served, the producer is written by somebody else: the ring stops for good, with a reason."""
    disk = t.disk("blkbackd")
    with untouched(disk):
        for turn in range(5):
            front = disk.connect() if not turn else disk.frontend()
            if turn:
                front.reset()
                front.connect()
            words, rng = words_of(front), random.Random(turn)
            assert front.read(0, 8) == disk.contents[:PAGE]

            def forge():
                words[0] = {"jumps": words[2] + 33 + rng.randrange(1 << 30), "backwards": words[2] - 1 - rng.randrange(1 << 30),
                            "random": rng.getrandbits(32)}[how] & 0xffffffff
                front.lib.front_notify(front.queue)

            with meanwhile(forge):
                assert disk.vbd.wait_backend(CLOSING, CLOSED) in (CLOSING, CLOSED)
                stopped = words[2]
                time.sleep(0.05)
                assert words[2] == stopped, "responses were published on a stopped ring"
            assert disk.vbd.error(), "no error node"
            leave(disk, front)
        disk.check_image()
        serves_the_next(disk)


@cases.over("grants-end-under-requests", "direct", "persistent")
def grants_end_under_requests(t, kind):
    """References are revoked, or granted to another domain, between request and copy: an error of that request."""
    options, asks = HOW[kind]
    disk = t.disk("blkbackd", **options)
    with untouched(disk):
        front = disk.connect(**asks)
        for turn in range(300):
            pages = [front.page(b"\xee" * PAGE) for _ in range(16)]
            ids = [front.put(READ, i * 8, [(page.ref, 0, 7)]) for i, page in enumerate(pages)]
            before = turn % 4 < 2  # else it is open which comes first
            revoked = set(pages[turn % 2::2])
            if not before:
                front.push()
            for page in revoked:
                front.lib.bed_grant_end(front.domid, page.ref)
            if before:
                front.push()
            answers = front.take_all()
            for i, (ident, page) in enumerate(zip(ids, pages)):
                expected = {OKAY} if page not in revoked else {ERROR} if before else {OKAY, ERROR}
                assert answers[ident] in expected, f"status {answers[ident]}, not of {expected}"
                if answers[ident] == OKAY:
                    assert page.data() == disk.contents[i * PAGE:(i + 1) * PAGE]
            if kind == "direct":
                for page in pages:
                    page.end()
        front.none_more()
        disk.check_image()
        leave(disk, front)
        serves_the_next(disk)


@cases.add
def references_of_every_wrong_kind(t):
    """Not granted, ended, read-only, to another domain, another guest's own, out of range: none is ever used."""
    disk = t.disk("blkbackd")
    with untouched(disk) as neighbour:
        front, lib, own = disk.connect(), t.bed.lib, disk.vbd.domain.domid
        secret = neighbour.front.page(b"\x5e" * PAGE)
        ended = lib.bed_grant(own, 0, 1, False)
        lib.bed_grant_end(own, ended)
        to_other = lib.bed_grant(own, neighbour.disk.vbd.domain.domid, 1, False)
        readonly = lib.bed_grant(own, 0, 1, True)
        foreign = next(r for r in range(secret.ref, secret.ref + 4000) if r not in (to_other, readonly)) + 4000
        good = [front.page(b"g" * PAGE) for _ in range(10)]
        for op in (READ, WRITE):
            for ref in (ended, to_other, foreign, 0, 99999, 0x7fffffff, 0xffffffff, *([readonly] if op == READ else [])):
                for place in (0, 5, 10):
                    refs = [(p.ref, 0, 7) for p in good]
                    refs.insert(place, (ref, 0, 7))
                    assert front.run(op, 0, refs) == ERROR, (op, ref, place)
        assert secret.data() == b"\x5e" * PAGE
        secret.end()
        for ref in (to_other, readonly):
            assert lib.bed_grant_end(own, ref) == 0, "a reference is held"
        disk.check_image()
        for page in good:
            page.end()
        disk.serves(front)


@cases.add
def storms_of_events(t):
    """Without requests, from two CPUs: a neighbour goes on, and the storm's own disk too."""
    disk = t.disk("blkbackd")
    with untouched(disk) as neighbour:
        front = disk.connect()

        def notify():
            front.lib.front_notify(front.queue)

        with meanwhile(notify), meanwhile(notify):
            before, end = neighbour.done, time.monotonic() + 3
            while time.monotonic() < end:
                assert front.read(0, 8) == disk.contents[:PAGE]
            assert neighbour.done > before, "the neighbour stood still"
        disk.serves(front)


@cases.add
def storms_of_events_are_delayed(t):
    """Without requests the worker wakes up some dozen times a second; a request is served within the delay, and ends it."""
    disk = t.disk("blkbackd", max_event_delay=50)
    with untouched(disk):
        front = disk.connect()

        def notify():
            front.lib.front_notify(front.queue)

        assert front.read(0, 8) == disk.contents[:PAGE]
        before, waits = disk.counted("wakeups"), []
        with meanwhile(notify), meanwhile(notify):
            time.sleep(2)
            woken = disk.counted("wakeups") - before
            for _ in range(20):
                time.sleep(0.3)  # until the delay is at its longest again
                start = time.monotonic()
                assert front.read(0, 8) == disk.contents[:PAGE]
                waits.append(time.monotonic() - start)
        assert 20 < woken < 150, f"woken up {woken} times in 2 s"
        assert disk.counted("events_delayed") > 20 and disk.counted("fruitless_events") > 20, disk.status()
        assert sorted(waits)[10] < 0.08, f"half of the requests waited longer than {sorted(waits)[10] * 1000:.0f} ms"
        disk.serves(front)


if __name__ == "__main__":
    cases.main()
