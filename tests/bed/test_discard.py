#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""blkbackd: discards give the image's space back, read as zeroes, and touch nothing else."""

import os

from bedlib.front import DISCARD, ERROR, OKAY, PAGE, READ
from bedlib.testing import Cases, Skip

cases = Cases()
MIB = 1 << 20
SECURE = 1


def connect(t, size=8 * MIB, order=0, protocol="x86_64-abi", **options):
    disk = t.disk("blkbackd", size=size, nodes={"discard-enable": 1}, **options)
    front = disk.connect(order=order, protocol=protocol)
    front.needs("feature-discard")
    return disk, front


def allocated(disk):
    """Bytes of the image on disk, after everything is written back."""
    fd = os.open(disk.path, os.O_RDONLY)
    os.fsync(fd)
    blocks = os.fstat(fd).st_blocks
    os.close(fd)
    return blocks * 512


@cases.over("space-comes-back", "x86_64-abi", "x86_32-abi")
def space_comes_back(t, protocol):
    disk, front = connect(t, protocol=protocol)
    before = allocated(disk)
    assert front.discard(MIB // 512, 4 * MIB // 512) == OKAY
    assert before - allocated(disk) >= 4 * MIB - 64 * 1024, (before, allocated(disk))
    disk.contents[MIB:5 * MIB] = bytes(4 * MIB)
    disk.check_image()
    assert front.read(MIB // 512, 64) == bytes(64 * 512)
    front.close()


@cases.add
def the_whole_disk(t):
    disk, front = connect(t)
    assert front.discard(0, front.sectors()) == OKAY
    assert allocated(disk) <= 64 * 1024, allocated(disk)
    disk.contents[:] = bytes(len(disk.contents))
    disk.check_image()
    assert os.stat(disk.path).st_size == len(disk.contents)
    disk.serves(front)


@cases.add
def a_huge_disk(t):
    """16 TiB at once take no time, and other requests go on."""
    path = f"{t.bed.dir}/huge.img"
    with open(path, "wb") as f:
        try:
            f.truncate(1 << 44)
        except OSError as e:
            raise Skip(f"no file of 16 TiB here: {e}") from e
    front = t.disk("blkbackd", image=(path, b""), nodes={"discard-enable": 1}).connect()
    front.needs("feature-discard")
    assert front.sectors() == 1 << 35
    page = front.page(b"\xee" * PAGE)
    wide = front.put(DISCARD, 0, nr_sectors=1 << 35)
    near = front.put(READ, 1 << 34, [(page.ref, 0, 7)])
    front.push()
    assert front.take_all(timeout=20) == {wide: OKAY, near: OKAY}
    assert page.data() == bytes(PAGE)
    page.end()
    assert front.write((1 << 35) - 8, b"z" * PAGE) == OKAY
    assert front.discard(1 << 34, 1 << 34) == OKAY
    assert front.read((1 << 35) - 8, 8) == bytes(PAGE)
    front.close()


@cases.over("odd-ranges", "1 1", "1 7", "7 2", "3 100", "8 8", "9 15", "15 1000")
def odd_ranges(t, case):
    """Whatever is not a whole unit: each sector inside reads as before or as zeroes, those outside as before."""
    start, count = map(int, case.split())
    disk, front = connect(t)
    assert front.discard(start, count) == OKAY
    with open(disk.path, "rb") as f:
        found = f.read()
    for sector in range(start, start + count):
        now = found[sector * 512:sector * 512 + 512]
        assert now in (bytes(512), disk.contents[sector * 512:sector * 512 + 512]), sector
        disk.contents[sector * 512:sector * 512 + 512] = now
    disk.check_image()
    front.close()


@cases.add
def nothing_at_all(t):
    disk, front = connect(t)
    for sector in (0, 8, front.sectors()):
        assert front.discard(sector, 0) == OKAY, sector
    disk.check_image()
    disk.serves(front)


@cases.add
def beyond_the_end(t):
    disk, front = connect(t)
    sectors = front.sectors()
    for sector, count in ((sectors, 1), (sectors - 1, 2), (0, sectors + 1), (8, (1 << 64) - 8), ((1 << 64) - 1, 1),
                          ((1 << 64) - 1, (1 << 64) - 1), (1 << 55, 8), (0, 1 << 55), (0, (1 << 64) - 1)):
        assert front.discard(sector, count) == ERROR, (sector, count)
    disk.check_image()
    disk.serves(front)


@cases.add
def the_secure_flag_is_ignored_unless_offered(t):
    disk, front = connect(t)
    assert front.limit("discard-secure", 0) == 0  # a file can't promise it
    assert front.discard(0, 8, SECURE) == OKAY
    assert front.discard(64, 64, 0xff) == OKAY
    disk.contents[:PAGE] = bytes(PAGE)
    disk.contents[64 * 512:128 * 512] = bytes(64 * 512)
    disk.check_image()
    front.close()


@cases.over("random", "uring", "aio", "inline")
def random_io(t, engine):
    disk, front = connect(t, engine=engine, order=2)
    done = front.exercise(disk.contents, requests=1500, depth=64, weights=(40, 40, 5, 5), weight_discard=20,
                          max_indirect=front.limit("feature-max-indirect-segments", 0))
    assert done.discards > 30, done.discards
    disk.check_image()
    front.close()
    disk.check_nothing_mapped()


@cases.add
def order_with_overlapping_writes(t):
    """A discard, then after its answer a write, then after its answer a discard again: the last one counts."""
    disk, front = connect(t)
    for n in range(30):
        data = bytes([n + 1]) * PAGE
        assert front.discard(64, 64) == OKAY
        assert front.write(64 + n % 8 * 8, data) == OKAY
        expected = bytearray(64 * 512)
        expected[n % 8 * PAGE:n % 8 * PAGE + PAGE] = data
        assert front.read(64, 64) == expected
    disk.contents[64 * 512:128 * 512] = expected
    disk.check_image()
    front.close()


@cases.add
def a_discard_does_not_hold_up_reads(t):
    """Many discards of everything in flight, and reads among them: all are answered."""
    disk, front = connect(t, order=2)
    page = front.page()
    for _ in range(8):
        for n in range(16):
            front.put(DISCARD, 0, nr_sectors=front.sectors() // 2)
            front.put(0, front.sectors() // 2 + n * 8, [(page.ref, 0, 7)])
        front.push()
        assert set(front.take_all().values()) == {OKAY}
    disk.contents[:len(disk.contents) // 2] = bytes(len(disk.contents) // 2)
    disk.check_image()
    page.end()
    front.close()


@cases.add
def four_kib_sectors(t):
    disk, front = connect(t, sector_size=4096)
    assert front.discard(8, 16) == OKAY
    disk.contents[PAGE:3 * PAGE] = bytes(2 * PAGE)
    disk.check_image()
    front.exercise(disk.contents, requests=400, alignment=8, weight_discard=20)
    disk.check_image()
    front.close()


if __name__ == "__main__":
    cases.main()
