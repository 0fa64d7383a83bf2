#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Unmodified QEMU qdisk on the bed: shows that stand-ins and frontend are right, since qdisk is known to be."""

from bedlib.front import ERROR, OKAY, READ
from bedlib.testing import MIB, Cases
from bedlib.vbd import CLOSED, CLOSING
from bedlib.fault import Faults

cases = Cases()


@cases.add
def reads_a_block(t):
    disk = t.disk("qdisk")
    front = disk.connect()
    assert front.read(0, 8) == disk.contents[:4096]
    front.close()
    disk.check_nothing_mapped()


@cases.over("random-io", "x86_64-abi order 0", "x86_64-abi order 4", "x86_32-abi order 0", "x86_32-abi order 4")
def random_io(t, variant):
    abi, _, order = variant.split()
    disk = t.disk("qdisk", size=32 * MIB)
    front = disk.connect(order=int(order), protocol=abi)
    slots = 32 << int(order)
    assert front.slots() == slots, f"{front.slots()} slots"
    done = front.exercise(disk.contents, requests=3000, depth=slots, max_segments=11 if slots < 64 else 2,
                          weights=(45, 45, 5, 0))
    assert min(done.reads, done.writes) > 1000 and done.flushes > 20, f"{done.reads}, {done.writes}, {done.flushes}"
    disk.check_image()
    front.close()
    assert disk.vbd.backend_state() == CLOSED
    disk.check_nothing_mapped()


@cases.add
def counters_add_up(t):
    disk = t.disk("qdisk")
    front = disk.connect()
    before = t.bed.counters()
    for sector in range(0, 80, 8):
        front.read(sector, 8)
    after = t.bed.counters()
    moved = {name: after[name] - before[name] for name in after}
    assert moved["copy_bytes"] == 10 * 4096 and moved["copy_segments"] == 10, moved
    # a response that is seen before the frontend asks for an event needs none
    assert 1 <= moved["notifies"] <= 10 and moved["deliveries"] >= 1, moved
    front.close()


@cases.add
def reconnects(t):
    disk = t.disk("qdisk")
    front = disk.connect()
    front.close()
    front.reset()
    front.connect(order=2)
    front.exercise(disk.contents, requests=300, depth=64, weights=(50, 50, 0, 0))
    disk.check_image()
    front.close()


@cases.add
def forced_close(t):
    disk = t.disk("qdisk")
    front = disk.connect()
    disk.vbd.force_close()
    disk.vbd.wait_backend(CLOSING, CLOSED)
    disk.vbd.set_front_state(CLOSED)
    disk.vbd.wait_backend(CLOSED)
    front.free(strict=True)
    disk.check_nothing_mapped()


@cases.add
def qemu_reads_at_a_wrapping_sector(t):
    """QEMU 7.2's known fault: sector 2^62 times 512 wraps to 0, and the read succeeds."""
    disk = t.disk("qdisk")
    front = disk.connect()
    page = front.page(b"\xee" * 4096)
    status = front.run(READ, 1 << 62, [(page.ref, 0, 7)])
    assert status in (OKAY, ERROR)
    if status == OKAY:
        assert page.data() == disk.contents[:4096]
    page.end()
    front.close()


@cases.add
def storage_errors_are_reported(t):
    """The fault library reaches QEMU's thread pool."""
    faults = None

    def make(path):
        nonlocal faults
        faults = Faults(t.bed, path)
        return faults.environment()

    disk = t.disk("qdisk", faults=make)
    front = disk.connect()
    faults.fail("write", 5, count=1)
    assert front.write(0, b"a" * 4096) == ERROR
    assert front.write(0, b"b" * 4096) == OKAY
    disk.contents[:4096] = b"b" * 4096
    disk.check_image()
    assert [e.kind for e in faults.log() if e.kind == "W"] == ["W", "W"]
    faults.shorten()
    assert front.write(8, b"c" * 8192) == OKAY
    disk.contents[4096:12288] = b"c" * 8192
    disk.check_image()
    front.close()


if __name__ == "__main__":
    cases.main()
