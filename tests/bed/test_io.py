#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""blkbackd: every operation, in every ABI, on every ring order and engine, with every byte compared."""

import time

from bedlib.fault import Faults
from bedlib.front import ERROR, OKAY, READ, WRITE, WRITE_BARRIER
from bedlib.processes import cpu_ticks
from bedlib.testing import MIB, Cases
from bedlib.vbd import CLOSED

cases = Cases()
ABIS = ("x86_64-abi", "x86_32-abi", "native")
ENGINES = ("uring", "aio", "inline")


def matrix(long):
    """(engine, abi, order): everything, or each engine with each ABI, and each order once."""
    everything = [(e, a, o) for e in ENGINES for a in ABIS for o in range(6)]
    if long:
        return everything
    return [c for i, c in enumerate(everything) if i % 6 == i // 6 % 6] + \
        [("uring", "x86_64-abi", 0), ("aio", "x86_32-abi", 4), ("inline", "native", 0)]


def exercise(t, engine, abi, order, **options):
    disk = t.disk("blkbackd", size=32 * MIB, engine=engine, max_ring_page_order=5, **options)
    front = disk.connect(order=order, protocol=None if abi == "native" else abi)
    slots = 32 << order
    assert front.slots() == slots, f"{front.slots()} slots"
    done = front.exercise(disk.contents, requests=4000 if t.long else 1500, depth=slots,
                          max_segments=11 if slots < 128 else 2, weights=(43, 43, 7, 7))
    assert min(done.reads, done.writes) > 300 and min(done.flushes, done.barriers) > 30, \
        f"{done.reads}, {done.writes}, {done.flushes}, {done.barriers}"
    assert front.limit("feature-barrier", 0) == 1 and front.limit("feature-flush-cache", 0) == 1
    disk.check_image()
    front.close()
    assert disk.vbd.backend_state() == CLOSED
    disk.check_nothing_mapped()


@cases.add
def reads_a_block(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    assert front.read(0, 8) == disk.contents[:4096]
    front.close()
    disk.check_nothing_mapped()


@cases.over_long("random-io", *([" ".join(map(str, c)) for c in matrix(long)] for long in (True, False)))
def random_io(t, combination):
    engine, abi, order = combination.split()
    exercise(t, engine, abi, int(order))


@cases.over("buffered", *ENGINES)
def buffered(t, engine):
    exercise(t, engine, "x86_64-abi", 1, direct="no")


@cases.over("direct", *ENGINES)
def direct(t, engine):
    disk = t.disk("blkbackd", image=t.bed.direct_image(16 * MIB), engine=engine)
    front = disk.connect(order=1)
    front.exercise(disk.contents, requests=1000, depth=64, max_segments=5)
    disk.check_image()
    front.close()
    disk.check_nothing_mapped()


@cases.add
def four_kib_sectors(t):
    disk = t.disk("blkbackd", sector_size=4096)
    front = disk.connect()
    assert disk.vbd.get("sector-size") == "4096"
    assert int(disk.vbd.get("sectors")) == len(disk.contents) // 512, "sectors are always counted in units of 512 bytes"
    front.exercise(disk.contents, requests=500, depth=32, alignment=8)
    page = front.page(b"x" * 4096, readonly=True)
    assert front.run(WRITE, 4, [(page.ref, 0, 7)]) == ERROR, "a sector number between two sectors"
    assert front.run(WRITE, 8, [(page.ref, 0, 3)]) == ERROR, "half a sector"
    disk.check_image()
    front.close()


@cases.add
def single_sectors_at_every_position(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    for position in range(8):
        page = front.page(bytes([0x40 + position]) * 4096, readonly=True)
        sector = 1000 + position * 3
        assert front.run(WRITE, sector, [(page.ref, position, position)]) == OKAY
        disk.contents[sector * 512:sector * 512 + 512] = bytes([0x40 + position]) * 512
        page.end()
        into = front.page(b"\xee" * 4096)
        assert front.run(READ, sector, [(into.ref, position, position)]) == OKAY
        expected = bytearray(b"\xee" * 4096)
        expected[position * 512:position * 512 + 512] = bytes([0x40 + position]) * 512
        assert into.data() == expected, "only the segment's sectors are written to the guest's page"
        into.end()
    disk.check_image()
    front.close()


@cases.add
def first_and_last_sector(t):
    disk = t.disk("blkbackd", size=MIB + 512)
    front = disk.connect()
    last = front.sectors() - 1
    assert last == 2048
    for sector in (0, last):
        assert front.write(sector, b"z" * 512) == OKAY
        disk.contents[sector * 512:sector * 512 + 512] = b"z" * 512
        assert front.read(sector, 1) == b"z" * 512
    disk.check_image()
    front.close()


@cases.add
def ids_may_repeat_and_be_anything(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    pages = [front.page(b"\xee" * 4096) for _ in range(6)]
    for page, ident in zip(pages, (0, 0, (1 << 64) - 1, (1 << 64) - 1, 0x8000000000000000, 0)):
        front.put(READ, 8, [(page.ref, 0, 7)], ident=ident)
    front.push()
    assert set(front.take_all().values()) == {OKAY}
    front.none_more()
    for page in pages:
        assert page.data() == disk.contents[4096:8192]
        page.end()
    front.close()


@cases.add
def same_page_many_times(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    page = front.page(b"w" * 4096)
    assert front.run(WRITE, 0, [(page.ref, 0, 7)] * 11) == OKAY
    disk.contents[:11 * 4096] = b"w" * 11 * 4096
    assert front.run(READ, 800, [(page.ref, i % 8, i % 8) for i in range(11)]) == OKAY
    page.end()
    disk.check_image()
    front.close()


@cases.add
def the_ring_itself_as_data(t):
    """Allowed, and safe: the daemon goes on serving others."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    ring = front.lib.front_queue_ref(front.queue, 0)
    assert front.run(WRITE, 0, [(ring, 0, 7)]) == OKAY
    front.put(READ, 0, [(ring, 0, 7)])
    front.push()
    front.lib.front_wait(front.queue, 500)
    other = t.disk(disk.daemon)
    other_front = other.connect()
    assert other_front.read(0, 8) == other.contents[:4096]
    other_front.close()


@cases.add
def read_only_disk(t):
    """Writes are refused before they reach the storage."""
    made = []

    def make(path):
        made.append(Faults(t.bed, path))
        return made[0].environment()

    disk = t.disk("blkbackd", mode="r", faults=make)
    front = disk.connect()
    assert int(disk.vbd.get("info")) & 4, "VDISK_READONLY"
    assert front.read(16, 8) == disk.contents[16 * 512:24 * 512]
    for op in (WRITE, WRITE_BARRIER):
        assert front.write(0, b"n" * 4096, op) == ERROR
    assert made[0].seen("read") == 1 and made[0].seen("write") == 0
    disk.check_image()
    front.close()


@cases.add
def null_store(t):
    disk = t.disk("blkbackd", image=("null:64M", bytearray(64 * MIB)))
    front = disk.connect(order=2)
    assert front.sectors() == 64 * MIB // 512
    front.exercise(disk.contents, requests=1000, depth=128, max_segments=4, weights=(100, 0, 0, 0))
    assert front.write(0, b"n" * 4096) == OKAY and front.flush() == OKAY
    assert front.read(0, 8) == bytes(4096)
    front.close()


@cases.add
def several_disks_of_one_domain(t):
    disk = t.disk("blkbackd")
    others = [t.disk(disk.daemon, domain=disk.vbd.domain, devid=disk.vbd.devid + 16 * i) for i in range(1, 4)]
    fronts = [(d, d.connect()) for d in (disk, *others)]
    assert len(disk.daemon.workers()) == 1, "one worker a domain"
    for d, front in fronts:
        front.exercise(d.contents, requests=300, depth=16)
    for d, front in fronts:
        front.close()
        d.check_image()


@cases.add
def several_domains(t):
    disk = t.disk("blkbackd")
    disks = [disk] + [t.disk(disk.daemon) for _ in range(3)]
    fronts = [(d, d.connect()) for d in disks]
    assert len(disk.daemon.workers()) == 4, "a worker for each domain"
    for d, front in fronts:
        front.exercise(d.contents, requests=300, depth=16)
    for d, front in fronts:
        front.close()
        d.check_image()


@cases.over("looking-for-work", 0, 1000)
def looking_for_work(t, microseconds):
    """Rings are served without events as with them, and a thread that finds nothing sleeps."""
    disk = t.disk("blkbackd", size=16 * MIB, worker={"poll_time": microseconds})
    front = disk.connect()
    for depth in (1, 4, 32):
        assert not front.bench(depth=depth, seconds=0.3).errors
        front.exercise(disk.contents, requests=300, depth=depth)
    time.sleep(0.2)
    worker, = disk.daemon.workers()
    before = cpu_ticks(worker)
    time.sleep(1.5)
    assert cpu_ticks(worker) - before <= 2, f"{cpu_ticks(worker) - before} hundredths of a second while nothing was asked for"
    front.exercise(disk.contents, requests=300, depth=8)
    front.close()
    disk.check_image()


@cases.add
def batches_are_answered_with_few_notifications(t):
    disk = t.disk("blkbackd", size=16 * MIB)
    front = disk.connect()
    before = t.bed.counters()
    b = front.bench(depth=32, seconds=1.0)
    after = t.bed.counters()
    moved = {name: after[name] - before[name] for name in after}
    assert not b.errors and b.ios > 1000
    assert moved["notifies"] < 0.5 * b.ios, f"{moved['notifies']} notifications for {b.ios} I/Os"
    assert moved["copy_calls"] < 0.5 * b.ios, f"{moved['copy_calls']} copies for {b.ios} I/Os"
    assert moved["copy_segments"] == b.ios and moved["mapped_pages"] == 0
    front.close()


if __name__ == "__main__":
    cases.main()
