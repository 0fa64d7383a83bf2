#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""blkbackd: every frontend there is, by name: the keys it writes, the order of its states, the form of its rings and
requests, its habits."""

import time

from bedlib.front import FLUSH, OKAY, PAGE, READ, WRITE, WRITE_BARRIER, Frontend
from bedlib.testing import MIB, Cases
from bedlib.vbd import CLOSED, CLOSING, CONNECTED, INIT_WAIT, INITIALISED, INITIALISING, Vbd

cases = Cases()
ALL_ONES = (1 << 64) - 1


def offered(vbd, *names):
    """The backend's numbers, which must be there by now."""
    values = [vbd.get(name) for name in names]
    assert None not in values, f"not published yet: {dict(zip(names, values))}"
    return [int(value) for value in values]


def sizes_are_there(vbd):
    """What all frontends read when they see Connected."""
    sectors, size, _ = offered(vbd, "sectors", "sector-size", "info")
    assert sectors > 0 and size in (512, 4096)
    return sectors


class Early:
    """A disk whose frontend does not wait for anybody: the hook is asked after it has written its state."""

    def __init__(self, t, daemon=None):
        self.daemon = daemon or t.blkbackd()
        self.vbd = Vbd(t.new_domain(), self.daemon.backend_class)
        self.path, self.contents = t.bed.image(4 * MIB, f"early-{self.vbd.domain.domid}.img")
        self.vbd.create(self.daemon.nodes(self.path))

    def connect(self, state, protocol="x86_64-abi"):
        front = Frontend(self.vbd)
        front.make_queue(0, protocol)
        front.publish(front.nodes(), state)
        self.daemon.hook_in_background(self.vbd)
        self.vbd.wait_backend(CONNECTED)
        return front


def write_and_read(front, contents, sector, segments, put=None, op=WRITE):
    """One large write and read of whole pages."""
    put = put or front.put
    pages = [front.page(bytes([segments + i & 255]) * PAGE) for i in range(segments)]
    refs = [(page.ref, 0, 7) for page in pages]
    ident = put(op, sector, refs)
    front.push()
    assert front.take_all() == {ident: OKAY}, f"a write of {segments} segments"
    data = b"".join(page.data() for page in pages)
    contents[sector * 512:sector * 512 + len(data)] = data
    for page in pages:
        page.fill(b"\xee" * PAGE)
    ident = put(READ, sector, refs)
    front.push()
    assert front.take_all() == {ident: OKAY}, f"a read of {segments} segments"
    assert b"".join(page.data() for page in pages) == data
    for page in pages:
        page.end()


def check(disk, front):
    """Its data is in the image, and nothing is kept when it has gone."""
    front.free(strict=True)
    with open(disk.path, "rb") as f:
        assert f.read() == disk.contents, "the image differs from what was written"
    assert disk.vbd.domain.mapped() == 0


def leave(vbd):
    """5, wait for 5 or 6, 6, wait for 6."""
    vbd.set_front_state(CLOSING)
    vbd.wait_backend(CLOSING, CLOSED)
    vbd.set_front_state(CLOSED)
    vbd.wait_backend(CLOSED)


# --- Linux ---------------------------------------------------------------------------------------------------


@cases.over("linux-6", "1 queue", "4 queues")
def linux_6(t, variant):
    """Waits for InitWait; 16 pages for each of as many rings as it has CPUs; grants that it keeps; indirect requests of
    32 segments; FLUSH with the last sector number there is; asked by the toolstack, it leaves."""
    disk = t.disk("blkbackd", size=32 * MIB, persistent_grants="yes")
    disk.vbd.wait_backend(INIT_WAIT)
    order, most = offered(disk.vbd, "max-ring-page-order", "multi-queue-max-queues")
    queues = min(int(variant.split()[0]), most)
    front = disk.connect(order=min(4, order), queues=queues, persistent=True)
    sizes_are_there(disk.vbd)
    barrier, flush, indirect, _ = offered(disk.vbd, "feature-barrier", "feature-flush-cache",
                                          "feature-max-indirect-segments", "feature-persistent")
    assert barrier == 1 and flush == 1 and indirect >= 32
    share = len(disk.contents) // queues
    for number in range(queues):
        part = disk.contents[number * share:(number + 1) * share]
        done = front.on(number).exercise(part, base=number * share // 512, requests=500, depth=32, max_indirect=32,
                                         pool=front.pool(33 * 32, aliases=False), weights=(47, 47, 6, 0))
        assert done.indirect > 100
        disk.contents[number * share:(number + 1) * share] = part
    assert front.run(FLUSH, ALL_ONES) == OKAY
    disk.vbd.force_close()
    disk.vbd.wait_backend(CLOSING, CLOSED)
    disk.vbd.set_front_state(CLOSED)
    disk.vbd.wait_backend(CLOSED)
    check(disk, front)


@cases.add
def linux_resumed(t):
    """After a suspend: other rings and state 3, and not a word of farewell to the old ones."""
    disk = t.disk("blkbackd", persistent_grants="yes")
    front = disk.connect(order=2, persistent=True)
    front.exercise(disk.contents, requests=200, pool=front.pool(500, aliases=False))
    resumed = Frontend(disk.vbd)
    resumed.make_queue(1)
    resumed.publish({**{f"ring-ref{i}": None for i in range(4)}, **resumed.nodes(1)}, INITIALISED)
    t.bed.wait_for(lambda: resumed.lib.bed_port_state(resumed.domid, resumed.lib.front_queue_port(resumed.queue)) == 2,
                   "the new channel to be bound")
    disk.vbd.wait_backend(CONNECTED)
    disk.vbd.set_front_state(CONNECTED)
    resumed.exercise(disk.contents, requests=200, pool=resumed.pool(500, aliases=False))
    front.free(strict=True)
    leave(disk.vbd)
    check(disk, resumed)


@cases.over("linux-2-6", "x86_64-abi", "x86_32-abi")
def linux_2_6(t, protocol):
    """One page, 11 segments, no flush; barriers, with data and without."""
    disk = t.disk("blkbackd")
    front = disk.connect(protocol=protocol)
    assert offered(disk.vbd, "feature-barrier") == [1]
    front.exercise(disk.contents, requests=500, depth=32, weights=(45, 45, 0, 10))
    assert front.run(WRITE_BARRIER) == OKAY
    leave(disk.vbd)
    check(disk, front)


# --- FreeBSD -------------------------------------------------------------------------------------------------


@cases.over("freebsd-9-multi-block", "x86_64-abi 5", "x86_64-abi 0", "x86_32-abi 3")
def freebsd_9(t, variant):
    """The frontend of 2010: settles on the lesser of both sides' limits, then has requests in several slots. Its first
    page is ring-ref, the others ring-ref1 and on."""
    protocol, order = variant.split()
    disk = t.disk("blkbackd", size=16 * MIB)
    disk.vbd.wait_backend(INIT_WAIT)
    pages, requests, segments, size = offered(disk.vbd, "max-ring-pages", "max-requests", "max-request-segments",
                                              "max-request-size")
    assert pages == 32 and segments == 255 and size == 255 * PAGE
    most = 24 if protocol == "x86_32-abi" else segments
    front = disk.connect(order=int(order), protocol=protocol, scheme="freebsd",
                         extra={"max-requests": requests, "max-request-segments": most,
                                "max-request-size": most * PAGE})
    sizes_are_there(disk.vbd)
    for count in (1, 11, 12, 24) + ((25, 26, 128, 255) if most == 255 else ()):
        write_and_read(front, disk.contents, count * 8, count)
    write_and_read(front, disk.contents, 64, 24, op=WRITE_BARRIER)
    done = front.exercise(disk.contents, requests=600, depth=16, max_segments=most, weights=(45, 45, 5, 5))
    assert done.multi_block > 100
    leave(disk.vbd)
    check(disk, front)


@cases.add
def freebsd_14(t):
    """Writes the old keys to every backend, with 11 segments, and means nothing by it: larger requests are indirect."""
    disk = t.disk("blkbackd", size=16 * MIB)
    disk.vbd.wait_backend(INIT_WAIT)
    pages, = offered(disk.vbd, "max-ring-pages")
    order = min(pages, 8).bit_length() - 1
    front = disk.connect(order=order, scheme="both",
                         extra={"max-requests": 256, "max-request-segments": 11, "max-request-size": 11 * PAGE})
    indirect, = offered(disk.vbd, "feature-max-indirect-segments")
    done = front.exercise(disk.contents, requests=600, depth=32, max_indirect=min(32, indirect), weights=(45, 45, 5, 5))
    assert done.indirect > 100 and done.multi_block == 0
    leave(disk.vbd)
    check(disk, front)


# --- others --------------------------------------------------------------------------------------------------


@cases.add
def netbsd(t):
    """Does not wait for InitWait; one page; a flush whose count of segments is what the slot had before. It stops when
    a page is still mapped at the answer."""
    disk = Early(t)
    front = disk.connect(INITIALISED)
    disk.vbd.set_front_state(CONNECTED)
    sizes_are_there(disk.vbd)
    rings = disk.vbd.domain.mapped()
    for sector in range(0, 320, 8):
        assert front.write(sector, bytes([sector // 8 + 1]) * PAGE) == OKAY
        disk.contents[sector * 512:sector * 512 + PAGE] = bytes([sector // 8 + 1]) * PAGE
        assert disk.vbd.domain.mapped() == rings
    for stale in (0, 12, 200, 255):
        assert front.run(FLUSH, 0, byte1=stale) == OKAY
    front.exercise(disk.contents, requests=300, depth=32, weights=(48, 48, 4, 0))
    leave(disk.vbd)
    check(disk, front)


@cases.add
def windows(t):
    """Several pages, indirect requests; it polls while it goes through its states, closes and comes back at once when
    its driver is changed, and reads nodes that only other backends have."""
    disk = t.disk("blkbackd", size=16 * MIB)
    front = disk.frontend()
    for turn in range(3):
        disk.vbd.wait_backend(INIT_WAIT)
        for name in ("removable", "sm-data/scsi/0x12/0x80", "sm-data/scsi/0x12/0x83"):
            disk.vbd.get(name)
        order = min(3, *offered(disk.vbd, "max-ring-page-order"))
        front.make_queue(order)
        front.publish(front.nodes(order), INITIALISED)
        while disk.vbd.backend_state() != CONNECTED:
            time.sleep(0.001)
        disk.vbd.set_front_state(CONNECTED)
        sizes_are_there(disk.vbd)
        done = front.exercise(disk.contents, requests=300, depth=32, max_indirect=64, weights=(47, 47, 6, 0),
                              seed=turn + 1)
        assert done.indirect > 50
        leave(disk.vbd)
        check(disk, front)
        disk.vbd.set_front_state(INITIALISING)
    disk.vbd.wait_backend(INIT_WAIT)


@cases.over("minios", "x86_64-abi", "x86_32-abi")
def minios(t, protocol):
    """pv-grub: no waiting, one page, straight to Connected; reads mode and a size that fits an int; then hands over to
    Linux with another ring, whatever of its own nodes it leaves behind."""
    disk = Early(t)
    front = disk.connect(CONNECTED, protocol)
    assert disk.vbd.get("mode") == "w" and sizes_are_there(disk.vbd) < 1 << 31
    for sector in (0, 8, 64, 4096):
        assert front.read(sector, 11 * 8) == disk.contents[sector * 512:(sector + 88) * 512]
    leave(disk.vbd)
    check(disk, front)
    disk.vbd.set_front_state(INITIALISING)
    disk.vbd.wait_backend(INIT_WAIT)
    linux = Frontend(disk.vbd).connect(order=4, protocol="x86_64-abi", persistent=True)
    linux.exercise(disk.contents, requests=300, max_indirect=32, depth=32, pool=linux.pool(33 * 32, aliases=False))
    leave(disk.vbd)
    check(disk, linux)


@cases.add
def ovmf(t):
    """No waiting, straight to Connected; it polls the ring with its channel masked, one request at a time; then hands
    over."""
    disk = Early(t)
    front = disk.connect(CONNECTED)
    assert offered(disk.vbd, "info") == [0] and disk.vbd.get("params") == disk.path
    words = front.lib.front_queue_memory(front.queue)
    page = front.page()
    for sector in range(0, 200, 8):
        page.fill(b"\xee" * PAGE)
        front.put(READ, sector, [(page.ref, 0, 7)])
        front.push()
        produced = sector // 8 + 1
        t.bed.wait_for(lambda n=produced: int.from_bytes(bytes(words[8:12]), "little") == n, "the next answer")
        assert front.take().status == OKAY
        assert page.data() == disk.contents[sector * 512:sector * 512 + PAGE]
    page.end()
    leave(disk.vbd)
    check(disk, front)
    disk.vbd.set_front_state(INITIALISING)
    disk.vbd.wait_backend(INIT_WAIT)
    linux = Frontend(disk.vbd).connect(order=2)
    linux.exercise(disk.contents, requests=200, depth=32)
    leave(disk.vbd)
    check(disk, linux)


@cases.add
def all_of_them_at_once(t):
    """Different kinds on disks of one daemon, with large requests in both forms."""
    first = t.disk("blkbackd", size=16 * MIB)
    daemon = first.daemon
    disks = [first] + [t.disk(daemon, size=16 * MIB) for _ in range(3)]
    old = disks[0].connect()
    block = disks[1].connect(order=3, scheme="freebsd", extra={"max-request-segments": 255, "max-requests": 64})
    indirect = disks[2].connect(order=3)
    narrow = disks[3].connect(order=1, protocol="x86_32-abi")
    for turn in range(4):
        old.exercise(disks[0].contents, requests=100, seed=turn + 1)
        block.exercise(disks[1].contents, requests=100, depth=8, max_segments=255, seed=turn + 1)
        indirect.exercise(disks[2].contents, requests=100, depth=8, max_indirect=256, seed=turn + 1)
        narrow.exercise(disks[3].contents, requests=100, depth=16, max_indirect=100, seed=turn + 1)
    for disk, front in zip(disks, (old, block, indirect, narrow)):
        leave(disk.vbd)
        check(disk, front)


if __name__ == "__main__":
    cases.main()
