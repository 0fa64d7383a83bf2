#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""blkbackd: disks that grow and drives whose medium is changed while the guest runs."""

import os
import signal
import socket
import struct
import threading
import time

from bedlib.blkbackd import CONTROL_MAGIC, CONTROL_VERSION, EJECT, INSERT, PING, RESIZE
from bedlib.crowd import Usage
from bedlib.front import ERROR, OKAY, PAGE, READ, Frontend
from bedlib.testing import Cases
from bedlib.vbd import CLOSED, CONNECTED, INIT_WAIT, Vbd
from bedlib.xs import PATIENCE, XenStore

cases = Cases()
MIB = 1 << 20


def grow(path, size):
    with open(path, "r+b") as f:
        f.truncate(size)


class StateWatch:
    """Sees whether the backend's state is written again, as a frontend does."""

    def __init__(self, vbd):
        self.vbd, self.xs = vbd, XenStore(vbd.domain.bed.socket)
        self.xs.watch(f"{vbd.back}/state", "again")
        self.xs.get(f"{vbd.back}/state")
        self.xs._drain(1)  # the event of the registration

    def fired(self, seconds=1.0):
        self.xs.events.clear()
        import select
        there = bool(select.select([self.xs.sock], [], [], seconds)[0])
        self.xs._drain(0)
        return there


def wait_sectors(vbd, count, timeout=PATIENCE):
    vbd.xs.wait(f"{vbd.back}/sectors", lambda value: value == str(count), timeout)


@cases.add
def resize_by_hand(t):
    disk = t.disk("blkbackd", size=MIB)
    front = disk.connect()
    watch = StateWatch(disk.vbd)
    grow(disk.path, 3 * MIB)
    error, _, text = disk.daemon.control(RESIZE, disk.vbd.back)
    assert (error, text) == (0, str(3 * MIB)), (error, text)
    assert front.sectors() == 3 * MIB // 512
    assert disk.vbd.backend_state() == CONNECTED and watch.fired(), "the frontend is not told"
    assert front.write(2 * MIB // 512, b"g" * PAGE) == OKAY
    assert front.read(2 * MIB // 512, 8) == b"g" * PAGE
    page = front.page()
    assert front.run(READ, 3 * MIB // 512, [(page.ref, 0, 7)]) == ERROR
    page.end()
    front.close()


@cases.add
def growth_is_noticed(t):
    disk = t.disk("blkbackd", size=MIB)
    front = disk.connect()
    grow(disk.path, 2 * MIB)
    wait_sectors(disk.vbd, 2 * MIB // 512)
    assert disk.vbd.backend_state() == CONNECTED
    assert front.write(MIB // 512, b"n" * PAGE) == OKAY
    grow(disk.path, 5 * MIB)  # and once more
    wait_sectors(disk.vbd, 5 * MIB // 512)
    front.close()


def at_rest(t, disk):
    """The broker sleeps: the kernel is to tell it of what changes."""
    broker = disk.daemon.process.pid

    def sleeps():
        before = Usage([broker])
        time.sleep(2.5)  # it looks every two seconds at what nobody tells of
        return Usage([broker]).since(before)["wakeups"] == 0

    t.bed.wait_for(sleeps, "the broker to rest", timeout=30)


@cases.add
def growth_at_rest_is_noticed(t):
    """Also of one that was busy until just now; and by each of two disks that have it, and the one that stays."""
    disk = t.disk("blkbackd", size=MIB, mode="w!")
    front = disk.connect()
    at_rest(t, disk)
    grow(disk.path, 2 * MIB)
    wait_sectors(disk.vbd, 2 * MIB // 512)
    at_rest(t, disk)
    front.bench(write=True, seconds=0.5)
    at_rest(t, disk)
    os.truncate(disk.path, 3 * MIB)
    wait_sectors(disk.vbd, 3 * MIB // 512)
    other = t.disk(disk.daemon, image=(disk.path, disk.contents), mode="w!")
    second = other.connect()
    at_rest(t, disk)
    grow(disk.path, 4 * MIB)
    wait_sectors(disk.vbd, 4 * MIB // 512)
    wait_sectors(other.vbd, 4 * MIB // 512)
    at_rest(t, disk)
    other.vbd.force_close()
    second.close()
    other.vbd.wait_backend(CLOSED)
    other.vbd.remove()
    at_rest(t, disk)
    grow(disk.path, 5 * MIB)
    wait_sectors(disk.vbd, 5 * MIB // 512)
    front.close()


@cases.add
def growth_while_busy_is_noticed(t):
    """Writes of the disk itself don't wake the broker for each of them."""
    disk = t.disk("blkbackd", size=MIB)
    front = disk.connect()
    at_rest(t, disk)
    before = Usage([disk.daemon.process.pid])
    busy = threading.Thread(target=lambda: front.bench(write=True, seconds=8.0, sectors=MIB // 512))
    busy.start()
    time.sleep(5)
    wakeups = Usage([disk.daemon.process.pid]).since(before)["wakeups"]
    grow(disk.path, 2 * MIB)
    wait_sectors(disk.vbd, 2 * MIB // 512, timeout=3)
    busy.join()
    assert wakeups < 20, f"{wakeups} wake-ups of the broker in 5 s"
    front.close()


@cases.add
def growth_before_a_frontend_comes(t):
    disk = t.disk("blkbackd", size=MIB)
    disk.vbd.wait_backend(INIT_WAIT)
    grow(disk.path, 2 * MIB)
    wait_sectors(disk.vbd, 2 * MIB // 512)
    assert disk.vbd.backend_state() == INIT_WAIT
    front = disk.connect()
    assert front.sectors() == 2 * MIB // 512
    front.close()


@cases.add
def a_shrunk_image_changes_nothing(t):
    disk = t.disk("blkbackd", size=2 * MIB)
    front = disk.connect()
    grow(disk.path, MIB)
    error, _, text = disk.daemon.control(RESIZE, disk.vbd.back)
    assert error != 0 and "shrunk" in text, (error, text)
    assert front.sectors() == 2 * MIB // 512
    assert disk.vbd.backend_state() == CONNECTED
    assert front.read(0, 8) == disk.contents[:PAGE]
    grow(disk.path, 2 * MIB)
    assert disk.daemon.control(RESIZE, disk.vbd.back)[0] == 0
    front.close()


@cases.add
def resize_of_what_can_not(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    for path, expected in (("backend/vbd/99/51712", "no disk"), ("nonsense", "not the path")):
        error, _, text = disk.daemon.control(RESIZE, path)
        assert error != 0 and expected in text, text
    vbd = Vbd(t.new_domain(), "vbd")
    vbd.create(disk.daemon.nodes("null:1M"))
    vbd.wait_backend(INIT_WAIT)
    error, _, text = disk.daemon.control(RESIZE, vbd.back)
    assert error != 0 and "no image" in text, text
    front.close()


@cases.add
def a_worker_that_stops_reading_does_not_block_the_broker(t):
    """It is ended when its socket is full."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    other = t.disk(disk.daemon)
    other_front = other.connect()
    stuck, _ = disk.daemon.workers()
    os.kill(stuck, signal.SIGSTOP)
    request = struct.pack("=IHH256s256s", CONTROL_MAGIC, CONTROL_VERSION, RESIZE, disk.vbd.back.encode(), b"")
    for _ in range(1500):
        if stuck not in disk.daemon.workers():
            break
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.connect(disk.daemon.socket)
            s.send(request)
    assert disk.daemon.control(PING, timeout=5)[0] == 0
    t.bed.wait_for(lambda: stuck not in disk.daemon.workers(), "the stuck worker's end")
    assert other_front.read(0, 8) == other.contents[:PAGE]
    assert front.read(0, 8) == disk.contents[:PAGE]  # of its successor
    assert disk.vbd.backend_state() == CONNECTED
    other_front.close()
    front.close()


def drive(t, target, daemon=None, mode="r"):
    """A CD-ROM drive with this medium: (daemon, vbd, connected frontend)."""
    daemon = daemon or t.blkbackd()
    vbd = Vbd(t.new_domain(), daemon.backend_class, 51728)
    vbd.create({**daemon.nodes(target), "device-type": "cdrom", "removable": 1}, mode=mode)
    daemon.hook_in_background(vbd)
    return daemon, vbd, Frontend(vbd).connect()


@cases.over("empty-drive", "empty", "no-params")
def empty_drive(t, kind):
    daemon, vbd, front = drive(t, "empty" if kind == "empty" else "")
    assert (vbd.get("sectors"), vbd.get("info")) == ("0", "7"), (vbd.get("sectors"), vbd.get("info"))
    page = front.page()
    assert front.run(READ, 0, [(page.ref, 0, 7)]) == ERROR
    page.end()
    path, contents = t.bed.image(MIB, "cd.iso")
    watch = StateWatch(vbd)
    error, _, text = daemon.control(INSERT, vbd.back, path)
    assert error == 0, text
    assert front.sectors() == MIB // 512 and watch.fired()
    assert front.read(8, 16) == contents[PAGE:3 * PAGE]
    assert vbd.get("params") == path
    front.close()


@cases.add
def media_are_changed(t):
    one, first = t.bed.image(MIB, "one.iso")
    two, second = t.bed.image(2 * MIB, "two.iso")
    daemon, vbd, front = drive(t, one)
    for path, contents in ((two, second), (one, first), (two, second), (two, second)):
        assert daemon.control(INSERT, vbd.back, path)[0] == 0
        assert front.sectors() == len(contents) // 512
        assert front.read(0, 64) == contents[:64 * 512]
    assert daemon.control(EJECT, vbd.back)[0] == 0
    assert front.sectors() == 0 and vbd.get("params") == ""
    assert daemon.control(EJECT, vbd.back)[0] == 0  # nothing to do is no error
    assert daemon.control(INSERT, vbd.back, one)[0] == 0
    assert front.read(0, 8) == first[:PAGE]
    front.close()


@cases.add
def xl_changes_params(t):
    """As libxl's cd-insert: first an empty one, then "aio:/path"."""
    one, first = t.bed.image(MIB, "one.iso")
    two, second = t.bed.image(2 * MIB, "two.iso")
    _, vbd, front = drive(t, one)
    vbd.xs.write(f"{vbd.back}/params", "")
    wait_sectors(vbd, 0)
    vbd.xs.write(f"{vbd.back}/params", f"aio:{two}")
    wait_sectors(vbd, 2 * MIB // 512)
    assert front.read(0, 8) == second[:PAGE]
    assert vbd.get("params") == f"aio:{two}"
    vbd.xs.write(f"{vbd.back}/params", one)
    wait_sectors(vbd, MIB // 512)
    assert front.read(0, 8) == first[:PAGE]
    front.close()


@cases.add
def a_medium_that_can_not_be_opened(t):
    """The one in the drive stays, and its lock; the next good one is taken."""
    one, first = t.bed.image(MIB, "one.iso")
    two, second = t.bed.image(2 * MIB, "two.iso")
    daemon, vbd, front = drive(t, one)
    for target, expected in (("/no/such.iso", "No such file"), ("disk:nobody", "No such file"),
                             ("relative.iso", "no target"), (t.bed.dir, "folder")):
        error, _, text = daemon.control(INSERT, vbd.back, target)
        assert error != 0 and expected in text, (target, error, text)
        assert front.read(0, 8) == first[:PAGE]
        assert vbd.get("params") == one
    vbd.xs.write(f"{vbd.back}/params", "/no/such.iso")
    assert front.read(0, 8) == first[:PAGE]
    assert daemon.control(INSERT, vbd.back, two)[0] == 0
    assert front.read(0, 8) == second[:PAGE]
    front.close()


@cases.add
def locks_change_with_the_medium(t):
    """What is in the drive can't be written by another guest; what was, can."""
    one, _ = t.bed.image(MIB, "one.iso")
    two, _ = t.bed.image(2 * MIB, "two.iso")
    daemon, vbd, front = drive(t, one)
    other = t.disk(daemon, image=(two, bytearray(2 * MIB)))
    other.vbd.wait_backend(INIT_WAIT)
    other_front = other.connect()
    error, _, text = daemon.control(INSERT, vbd.back, two)
    assert error != 0 and "in use by domain" in text, text
    other_front.close()
    other.vbd.force_close()
    other.vbd.wait_backend(6)
    daemon.detach(other.vbd)
    other.vbd.remove()
    assert daemon.control(INSERT, vbd.back, two)[0] == 0
    writer = t.disk(daemon, image=(one, bytearray(MIB)))  # free now
    writer.connect().close()
    front.close()


@cases.add
def only_drives_change(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    path, _ = t.bed.image(MIB, "other.img")
    for command, target in ((INSERT, path), (EJECT, "")):
        error, _, text = disk.daemon.control(command, disk.vbd.back, target)
        assert error != 0 and "not removable" in text, text
    disk.vbd.xs.write(f"{disk.vbd.back}/params", path)
    disk.quick_io(front)
    front.close()


@cases.add
def a_medium_is_changed_under_load(t):
    one, first = t.bed.image(4 * MIB, "one.iso")
    two = f"{t.bed.dir}/two.iso"
    with open(two, "wb") as f:
        f.write(first)
    daemon, vbd, front = drive(t, one)
    for n in range(10):
        idents, pages = [], []
        for i in range(16):
            page = front.page()
            pages.append((page, i))
            idents.append(front.put(READ, i * 8, [(page.ref, 0, 7)]))
        front.push()
        assert daemon.control(INSERT, vbd.back, two if n % 2 == 0 else one)[0] == 0
        statuses = front.take_all()
        assert all(statuses[ident] == OKAY for ident in idents), statuses
        for page, i in pages:
            assert page.data() == first[i * PAGE:(i + 1) * PAGE]
            page.end()
    front.close()


@cases.add
def nothing_stays_open_after_many_changes(t):
    one, _ = t.bed.image(MIB, "one.iso")
    daemon, vbd, front = drive(t, one)
    count = lambda: len(os.listdir(f"/proc/{daemon.process.pid}/fd"))  # noqa: E731
    daemon.control(EJECT, vbd.back)
    before = count()
    for _ in range(5):
        assert daemon.control(INSERT, vbd.back, one)[0] == 0
        assert daemon.control(INSERT, vbd.back, "/no/such.iso")[0] != 0
        assert daemon.control(EJECT, vbd.back)[0] == 0
    t.bed.wait_for(lambda: count() <= before, "the descriptors to be closed")
    front.close()


if __name__ == "__main__":
    cases.main()
