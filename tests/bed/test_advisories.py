#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Xen's security advisories whose mistake a block backend can make too: one case for each, named after it, which does to
blkbackd what the advisory's guest did. (XSA-166 and XSA-478, where the compiler made two loads of one, are unit tests.)"""

import ctypes
import errno
import itertools
import os
import signal
import struct
import time

from bedlib.fault import Faults
from bedlib.front import DISCARD, ERROR, FLUSH, INDIRECT, OKAY, PAGE, READ, WRITE, WRITE_BARRIER
from bedlib.hostile import REQ_PROD, RSP_PROD, SLOT, fill_ring, leave, serves_the_next, slot, slots_at, words_of
from bedlib.neighbour import meanwhile, resident, untouched
from bedlib.processes import cpu_ticks, descriptors
from bedlib.testing import MIB, Cases
from bedlib.vbd import CLOSED, CLOSING, CONNECTED, INITIALISED, INITIALISING
from bedlib.xs import XenStore

cases = Cases()
NOWHERE = 99999  # a reference that nobody granted


def worker_of(disk):
    """The one worker of a daemon whose only guest is the disk's."""
    worker, = disk.daemon.workers()
    return worker


def wait_answered(t, words, count):
    t.bed.wait_for(lambda: words[RSP_PROD] == count, "an answer to each request")


def log_length(disk):
    return os.path.getsize(disk.daemon.log)


@cases.add
def xsa_39_malformed_requests_neither_loop_nor_leak(t):
    """netback went on over a ring it had given up, and kept what malformed requests had taken."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    worker, words = worker_of(disk), words_of(front)
    opened = descriptors(worker)
    for turn in range(1, 51):
        fill_ring(front, [slot(READ, 255, 0, [NOWHERE] * 11), slot(WRITE, 0, 1 << 62, []), slot(77, 9, 0, [])])
        wait_answered(t, words, turn * front.slots())
    fill_ring(front, [slot(READ, 255, 0, [])], step=1 << 30)
    assert disk.vbd.wait_backend(CLOSING, CLOSED) in (CLOSING, CLOSED)
    before = cpu_ticks(worker)
    time.sleep(1)
    assert cpu_ticks(worker) - before < 20, "the worker goes on over a ring that it gave up"
    leave(disk, front)
    assert descriptors(worker) <= opened, "descriptors of the ring stay open"
    serves_the_next(disk)


@cases.add
def xsa_90_a_stopped_ring_is_stopped_once(t):
    """netback took a misbehaving interface down from where it could not, again for each event."""
    disk = t.disk("blkbackd")
    with untouched(disk):
        for turn in range(10):
            front = disk.connect() if not turn else disk.frontend()
            if turn:
                front.reset()
                front.connect()
            words_of(front)[REQ_PROD] = 1 << 31
            for _ in range(500):
                front.lib.front_notify(front.queue)
            disk.vbd.wait_backend(CLOSING, CLOSED)
            leave(disk, front)
        serves_the_next(disk)


def all_writes_fail(disk, front):
    page = front.page(b"w" * PAGE)
    for op in (WRITE, WRITE_BARRIER):
        assert front.run(op, 0, [(page.ref, 0, 7)]) < 0
    ident = front.put_indirect(WRITE, 0, [(page.ref, 0, 7)])
    front.push()
    assert front.take_all()[ident] < 0
    assert front.discard(0, 8) < 0
    page.end()
    disk.check_image()


def image_can_not_be_written(disk):
    """By anybody who has the worker's descriptors either."""
    worker, found = worker_of(disk), 0
    for fd in os.listdir(f"/proc/{worker}/fd"):
        if os.readlink(f"/proc/{worker}/fd/{fd}") == disk.path:
            with open(f"/proc/{worker}/fdinfo/{fd}", encoding="ascii") as f:
                flags = next(int(line.split()[1], 8) for line in f if line.startswith("flags:"))
            assert flags & os.O_ACCMODE == os.O_RDONLY, f"opened with {flags:#o}"
            found += 1
    assert found == 1


@cases.add
def xsa_142_a_read_only_disk_is_opened_read_only(t):
    """libxl did not tell QEMU that a disk was read-only."""
    disk = t.disk("blkbackd", mode="r", nodes={"discard-enable": 1})
    front = disk.connect()
    image_can_not_be_written(disk)
    all_writes_fail(disk, front)
    front.close()


@cases.over("xsa-266-read-only-by-every-way", "cdrom", "another worker", "another broker")
def xsa_266(t, way):
    """Emulated SCSI disks were another way to the same disk, on which read-only was forgotten."""
    disk = t.disk("blkbackd", mode="r", nodes={"device-type": "cdrom"} if way == "cdrom" else {})
    front = disk.connect()
    if way == "another worker":
        os.kill(worker_of(disk), signal.SIGKILL)
    if way == "another broker":
        disk.daemon.kill()
        disk.daemon.start()
    assert front.read(0, 8) == disk.contents[:PAGE]
    image_can_not_be_written(disk)
    all_writes_fail(disk, front)
    front.close()


@cases.add
def xsa_155_a_slot_counts_as_it_was_checked(t):
    """blkback and qdisk read the operation and the number of segments from the ring again after they had checked them."""
    disk = t.disk("blkbackd")
    with untouched(disk):
        front = disk.connect()
        pages = [front.page(b"\xee" * PAGE) for _ in range(11)]
        refs, base, words = [page.ref for page in pages], slots_at(front), words_of(front)
        right = slot(READ, 11, 0, refs)
        wrong = [slot(READ, 255, 0, refs), slot(INDIRECT, 11, 0, refs), slot(DISCARD, 11, 1 << 60, refs), slot(READ, 11, 1 << 62, refs)]

        def toggle():
            for forged in wrong:
                for number in range(front.slots()):
                    ctypes.memmove(base + number * SLOT, forged, SLOT)
                    ctypes.memmove(base + number * SLOT, right, SLOT)

        with meanwhile(toggle):
            for _ in range(500):
                words[REQ_PROD] = (words[RSP_PROD] + front.slots()) & 0xffffffff
                front.lib.front_notify(front.queue)
                wait_answered(t, words, words[REQ_PROD])
        for i, page in enumerate(pages):
            assert page.data() in (disk.contents[i * PAGE:(i + 1) * PAGE], b"\xee" * PAGE), "data of another place"
        disk.check_image()
        leave(disk, front, pages)
        serves_the_next(disk)


@cases.add
def xsa_157_states_in_any_order(t):
    """pciback did not expect operations and states but in their order."""
    disk = t.disk("blkbackd")
    with untouched(disk):
        front = disk.connect()
        for pair in itertools.product(range(8), repeat=2):
            for state in pair:
                disk.vbd.set_front_state(state)
        leave(disk, front)
        for name in ("ring-ref", "event-channel"):
            disk.vbd.xs.rm(f"{disk.vbd.front}/{name}")
        serves_the_next(disk)


@cases.add
def xsa_175_the_guests_directory_is_not_believed(t):
    """libxl took the backend's path, and so the disk's image, from the frontend's directory."""
    disk = t.disk("blkbackd")
    with untouched(disk) as neighbour:
        for name, value in (("backend", neighbour.disk.vbd.back), ("params", neighbour.disk.path), ("backend-id", 5),
                            ("physical-device-path", neighbour.disk.path), ("type", "qdisk"), ("mode", "r")):
            disk.vbd.xs.write(f"{disk.vbd.front}/{name}", value)
        front = disk.connect()
        assert front.read(0, 8) == disk.contents[:PAGE]
        disk.quick_io(front)
        front.close()
        disk.vbd.force_close()
        disk.vbd.wait_backend(CLOSED)
        disk.daemon.detach(disk.vbd)
        assert neighbour.disk.vbd.backend_state() == CONNECTED, "another guest's disk was taken away"


@cases.add
def xsa_180_a_guest_can_not_fill_the_log(t):
    """QEMU wrote a line for whatever a guest did, without end."""
    path, contents = t.bed.image(8 * MIB, "bad-sector.img")
    faults = Faults(t.bed, path)
    disk = t.disk("blkbackd", log_level="debug", image=(path, contents), faults=lambda _: faults.environment())
    front = disk.connect()
    faults.fail("read", errno.EIO, start=0, end=PAGE)
    words, page, before = words_of(front), front.page(), log_length(disk)
    mistakes = [slot(READ, 1, 0, [page.ref]), slot(200, 11, 0, []), slot(READ, 11, 0, [NOWHERE] * 11), slot(WRITE, 1, 1 << 62, [NOWHERE])]
    for turn in range(1, 401):
        fill_ring(front, mistakes)
        wait_answered(t, words, turn * front.slots())
    for turn in range(2000):
        disk.vbd.set_front_state((4, 99, "x" * 1000)[turn % 3])
    disk.vbd.set_front_state(CONNECTED)
    leave(disk, front, [page])
    for turn in range(200):
        front.reset()
        disk.vbd.xs.write(f"{disk.vbd.front}/ring-ref", "%s" * 500)
        disk.vbd.set_front_state(INITIALISED)
        disk.vbd.wait_backend(CLOSING, CLOSED)
        disk.vbd.set_front_state(CLOSED)
        disk.vbd.wait_backend(CLOSED)
    grown = log_length(disk) - before
    assert grown < 60000, f"{grown} bytes of log by 15000 mistakes"


@cases.over("xsa-216-answers-show-no-memory-of-ours", "x86_64-abi", "x86_32-abi")
def xsa_216(t, abi):
    """blkback copied a structure with its padding, which was the kernel's stack."""
    size, id_at = (112, 8) if abi == "x86_64-abi" else (108, 4)
    disk = t.disk("blkbackd")
    front = disk.connect(protocol=abi)
    disk.quick_io(front)  # what is old memory by now
    base, count = slots_at(front), front.slots()
    for op in (READ, WRITE, FLUSH, DISCARD, 200):
        raw = bytearray(b"\xa5" * size)
        struct.pack_into("<BB", raw, 0, op, 12)
        struct.pack_into("<Q", raw, id_at, 7)
        while front.in_flight or words_of(front)[RSP_PROD] % count:
            front.run(FLUSH)
        for _ in range(count):
            front.put_raw(bytes(raw), 7, op)
        front.push()
        front.take_all()
        for number in range(count):
            answer = ctypes.string_at(base + number * size, size)
            for at in (9, *range(12, size)):  # what is neither id, operation nor status
                assert answer[at] in (0, raw[at]), f"op {op}: byte {at} is {answer[at]:#x}"
    front.close()


@cases.add
def xsa_331_a_channel_goes_while_its_events_come(t):
    """Linux used an event channel's memory after another CPU had unbound it."""
    disk = t.disk("blkbackd")
    with untouched(disk):
        for turn in range(30):
            front = disk.connect() if not turn else disk.frontend()
            if turn:
                front.reset()
                front.connect()
            with meanwhile(lambda queue=front.queue: front.lib.front_notify(queue)):
                disk.vbd.set_front_state(CLOSED if turn % 2 else CLOSING)
                disk.vbd.wait_backend(CLOSING, CLOSED)
                disk.vbd.set_front_state(CLOSED)
                disk.vbd.wait_backend(CLOSED)
            front.free(strict=True)
        serves_the_next(disk)


@cases.add
def xsa_332_events_without_end_take_nobodys_time(t):
    """Events came so fast that dom0 did nothing but handle them."""
    disk = t.disk("blkbackd")
    with untouched(disk) as neighbour:
        front = disk.connect()
        with meanwhile(lambda: front.lib.front_notify(front.queue)):
            before, end = neighbour.done, time.monotonic() + 3
            while time.monotonic() < end:
                start = time.monotonic()
                assert not disk.daemon.control(1, timeout=5)[0]
                assert time.monotonic() - start < 2, "the broker was slow to answer"
                time.sleep(0.05)
            assert neighbour.done - before >= 200, f"{neighbour.done - before} requests of the neighbour in 3 s"
        disk.serves(front)


@cases.add
def xsa_349_watch_events_do_not_pile_up(t):
    """Linux kept every watch event until somebody handled it."""
    disk = t.disk("blkbackd")
    with untouched(disk):
        front = disk.connect()
        pid = disk.daemon.process.pid
        before = resident(pid)
        xs = XenStore(t.bed.socket)
        for turn in range(20000):
            xs.write(f"{disk.vbd.front}/state", 4)
            if turn % 2:
                xs.write(f"{disk.vbd.front}/state/below", "x" * 900)
        xs.close()
        assert t.sanitized() or resident(pid) - before < 8 * MIB, f"{resident(pid) - before} bytes more in the broker"
        assert front.read(0, 8) == disk.contents[:PAGE]
        disk.vbd.xs.rm(f"{disk.vbd.front}/state/below")
        disk.serves(front)


@cases.add
def xsa_350_toggled_states_use_nothing_that_is_gone(t):
    """blkback's thread used its ring after a frontend that toggled between connecting and closing had it freed."""
    disk = t.disk("blkbackd")
    with untouched(disk):
        front = disk.connect()
        page = front.page()
        for turn in range(300):
            fill_ring(front, [slot(READ, 1, turn * 8 % 4096, [page.ref])])
            disk.vbd.set_front_state((CLOSING, INITIALISED, CONNECTED, INITIALISING, CLOSED)[turn % 5])
        leave(disk, front, [page])
        for name in ("ring-ref", "event-channel"):
            disk.vbd.xs.rm(f"{disk.vbd.front}/{name}")
        serves_the_next(disk)


@cases.add
def xsa_374_what_serves_one_queue_outlives_its_mistakes(t):
    """netback's thread ended over a broken ring, and was used afterwards."""
    disk = t.disk("blkbackd", worker={"queue_threads": 2}, max_queues=2)
    other = t.disk(disk.daemon, domain=disk.vbd.domain, devid=disk.vbd.devid + 16, nodes={"multi-queue-max-queues": 2})
    with untouched(disk):
        beside = other.connect(queues=2)
        for turn in range(5):
            front = disk.frontend()
            if turn:
                front.reset()
            front.connect(queues=2)
            worker = disk.daemon.workers()
            broken = front.on(turn % 2)
            words_of(broken)[REQ_PROD] = 1 << 31
            broken.lib.front_notify(broken.queue)
            disk.vbd.wait_backend(CLOSING, CLOSED)
            for number in range(2):
                beside.on(number).exercise(other.contents, requests=100, depth=16, seed=turn + 1)
            disk.vbd.set_front_state(CLOSED)
            disk.vbd.wait_backend(CLOSED)
            front.free(strict=True)
            assert disk.daemon.workers() == worker
        beside.close()


@cases.add
def xsa_391_no_more_events_than_answers(t):
    """Backends that sent events without end kept guests busy: blkfront is told of answers, and of nothing else."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    before, answered = t.bed.counters()["notifies"], 0
    page = front.page()
    for depth in (1, 8, 32) * 20:
        for i in range(depth):
            front.put(READ, i * 8, [(page.ref, 0, 7)])
        front.push()
        answered += len(front.take_all())
    sent = t.bed.counters()["notifies"] - before  # both sides' are counted: one of ours for each push
    assert sent <= answered + 60, f"{sent} events for {answered} answers"
    time.sleep(0.5)
    assert t.bed.counters()["notifies"] - before == sent, "events without an answer"
    page.end()
    disk.serves(front)


@cases.add
def xsa_392_answers_that_nobody_takes_take_no_memory(t):
    """netback stored what a guest did not take, without a limit."""
    disk = t.disk("blkbackd")
    front = disk.connect(order=2)
    words, worker, page = words_of(front), worker_of(disk), front.page()
    requests = [slot(READ, 1, i * 8, [page.ref]) for i in range(8)]
    for turn in range(1, 401):
        fill_ring(front, requests)
        wait_answered(t, words, turn * front.slots())
        if turn == 100:
            before = resident(worker)
    assert resident(worker) - before < MIB, f"{resident(worker) - before} bytes more"
    leave(disk, front, [page])


@cases.add
def xsa_448_nothing_at_all_is_transferred(t):
    """A transfer of no bytes had netback look at a page that it had not got."""
    disk = t.disk("blkbackd", nodes={"discard-enable": 1})
    front = disk.connect()
    page = front.page()
    assert [front.run(op) for op in (READ, WRITE, WRITE_BARRIER)] == [ERROR, ERROR, OKAY]
    for op in (READ, WRITE):
        ident = front.put_indirect(op, 0, [], count=0, refs=[page.ref])
        front.push()
        assert front.take_all()[ident] == ERROR
    assert front.run(FLUSH) == OKAY and front.discard(8, 0) == OKAY
    page.end()
    disk.serves(front)


def is_no_format(t, at, data):
    """What a guest writes changes nothing of its disk, for whoever opens the image next."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    block = bytearray(disk.contents[:PAGE])
    block[at:at + len(data)] = data
    assert front.write(0, bytes(block)) == OKAY
    disk.contents[:PAGE] = block
    front.close()
    for how in ("kill", "restart"):
        front = disk.frontend()
        front.reset()
        front.connect()
        os.kill(worker_of(disk), signal.SIGKILL)
        if how == "restart":
            disk.daemon.kill()
            disk.daemon.start()
        assert front.sectors() == len(disk.contents) // 512
        assert front.read(0, 8) == bytes(block)
        disk.serves(front)


@cases.add
def xsa_443_a_file_system_is_not_looked_at(t):
    """pygrub took guests' file systems apart, as root."""
    is_no_format(t, 1024, bytes(56) + b"\x53\xef" + b"\xff" * 966)


@cases.add
def xsa_497_a_boot_sector_is_not_looked_at(t):
    """As XSA-443, by another guest's bytes: a partition table."""
    is_no_format(t, 446, (b"\x80" + b"\xff" * 15) * 4 + b"\x55\xaa")


@cases.add
def xsa_508_a_header_of_qcow2_is_data(t):
    """The header of another format, with a backing file on the host."""
    is_no_format(t, 0, b"QFI\xfb\0\0\0\x03" + (104).to_bytes(8, "big") + (11).to_bytes(4, "big") + bytes(80) + b"/etc/passwd")


if __name__ == "__main__":
    cases.main()
