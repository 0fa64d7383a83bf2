#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Disks whose storage fails and that wait for it: full file systems, devices that go and come back, `blkbackctl resume`."""

import errno
import json
import os
import signal
import subprocess
import time

from bedlib.bed import Missing
from bedlib.fault import Faults
from bedlib.front import ERROR, FLUSH, OKAY, PAGE, READ, WRITE
from bedlib.testing import MIB, Cases
from bedlib.vbd import CLOSED, CONNECTED, XVDA

cases = Cases()
ENGINES = ("uring", "aio", "inline")


def faulty_disk(t, connect=None, **options):
    """A disk with the fault library beneath it: (disk, faults, frontend)."""
    made = []

    def make(path):
        made.append(Faults(t.bed, path))
        return made[0].environment()

    disk = t.disk("blkbackd", faults=make, **options)
    t.bed.on_close(made[0].calm)
    return disk, made[0], disk.connect(**(connect or {"order": 1}))


def ctl(disk, *arguments):
    """blkbackctl as a user runs it."""
    command = [f"{disk.daemon.bin}/blkbackctl", "--config", disk.daemon.config, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=70, check=False)


def status(disk):
    found = json.loads(ctl(disk, "status", "--json", "--interval", "0", str(disk.vbd.domain.domid), "xvda").stdout)
    return found["disks"][0]


def resume(disk, *options):
    return ctl(disk, "resume", *options, str(disk.vbd.domain.domid), "xvda")


def wait_paused(disk, reason):
    disk.t.bed.wait_for(lambda: status(disk)["paused"] and reason in status(disk)["reason"], f"a pause with '{reason}'")


def wait_not_paused(disk):
    disk.t.bed.wait_for(lambda: not status(disk)["paused"] and status(disk)["reason"] == "", "the end of the pause")


def put_writes(disk, front, sectors, fill):
    """Pages of `fill` from each of the sectors on, which are what the image is to hold in the end."""
    pages = [front.page(bytes([fill]) * PAGE, readonly=True) for _ in sectors]
    idents = [front.put(WRITE, sector, [(page.ref, 0, 7)]) for sector, page in zip(sectors, pages)]
    front.push()
    for sector in sectors:
        disk.contents[sector * 512:sector * 512 + PAGE] = bytes([fill]) * PAGE
    return idents


def read_one(disk, front, sector):
    """A page that can be read while other requests wait."""
    page = front.page(b"\xee" * PAGE)
    ident = front.put(READ, sector, [(page.ref, 0, 7)])
    front.push()
    response = front.take()
    assert response is not None and response.id == ident and response.status == OKAY, "what can be read is not"
    assert page.data() == disk.contents[sector * 512:sector * 512 + PAGE]
    page.end()


def no_space(t, **options):
    """A disk with one write that there is no space for: (disk, faults, frontend)."""
    disk, faults, front = faulty_disk(t, **options)
    assert front.write(64, b"a" * PAGE) == OKAY
    disk.contents[64 * 512:64 * 512 + PAGE] = b"a" * PAGE
    faults.fail("write", errno.ENOSPC)
    put_writes(disk, front, [0], 0x5a)
    wait_paused(disk, f"paused: no space on {disk.path} (write failed: No space left on device)")
    assert front.take(0.1) is None, "a write that was not done was answered"
    return disk, faults, front


def small_file_system(t, kind):
    """A folder that has no more than about 6 MiB."""
    folder = f"{t.bed.dir}/small"
    os.mkdir(folder)
    if kind == "tmpfs":
        command = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder]
    else:
        medium = t.bed.direct_image(8 * MIB)[0]
        subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", "-m", "0", medium], check=True)
        command = ["mount", "-o", "loop", medium, folder]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        raise Missing(f"{' '.join(command[:3])}: {made.stderr.strip()}")
    t.bed.on_close(lambda: subprocess.run(["umount", "-l", folder], check=False))
    return folder


@cases.over("a-full-file-system", "tmpfs", "ext4")
def full_file_system(t, kind):
    """The guest waits, can read meanwhile, and goes on by itself when there is space."""
    folder = small_file_system(t, kind)
    image = f"{folder}/sparse.img"
    with open(image, "wb") as f:
        f.truncate(16 * MIB)
    with open(f"{folder}/ballast", "wb") as f:
        f.write(bytes(3 * MIB))
    disk = t.disk("blkbackd", image=(image, bytearray(16 * MIB)))
    front = disk.connect(order=2)
    idents, answers, full = [], {}, False
    for number in range(2048):
        while len(idents) - len(answers) == 64 and not full:
            response = front.take(0.5)
            if response is not None:
                answers[response.id] = response.status
            full = response is None and status(disk)["paused"]  # or only slow
        if full:
            break
        idents += put_writes(disk, front, [number * 8], 1 + number % 255)
    else:
        raise AssertionError("the file system was never full")
    wait_paused(disk, f"paused: no space on {image} (write failed: No space left on device)")
    text = ctl(disk, "status").stdout
    assert "Paused" in text and f"paused: no space on {image}" in text, text
    read_one(disk, front, 0)
    refused = resume(disk)
    assert refused.returncode == 1 and f"no space on {image}" in refused.stderr, refused
    os.unlink(f"{folder}/ballast")
    for ident, verdict in front.take_all(40.0).items():
        answers[ident] = verdict
    assert sorted(answers) == sorted(idents) and set(answers.values()) == {OKAY}
    wait_not_paused(disk)
    assert front.flush() == OKAY
    disk.check_image()
    front.close()
    disk.check_nothing_mapped()


@cases.over("resumed-before-it-is-tried-again", *ENGINES)
def resumed(t, engine):
    """Whoever has made space need not wait for the back-off."""
    disk, faults, front = no_space(t, engine=engine)
    seen = faults.seen("write")
    t.bed.wait_for(lambda: faults.seen("write") >= seen + 2, "two more attempts")  # the next is 4 s away
    faults.calm()
    start = time.monotonic()
    done = resume(disk)
    assert done.returncode == 0, done
    assert set(front.take_all(1.0).values()) == {OKAY}
    assert time.monotonic() - start < 3, "that was the timer"
    wait_not_paused(disk)
    assert resume(disk).returncode == 0, "one that is not paused"
    disk.check_image()
    front.close()
    disk.check_nothing_mapped()


@cases.add
def no_space_can_be_reported(t):
    disk, faults, front = faulty_disk(t, on_no_space="report")
    faults.fail("write", errno.ENOSPC)
    page = front.page(b"r" * PAGE, readonly=True)
    assert front.run(WRITE, 0, [(page.ref, 0, 7)]) == ERROR
    assert not status(disk)["paused"]
    faults.calm()
    disk.check_image()
    front.close()


@cases.over("a-device-that-is-gone-and-comes-back", *ENGINES)
def device_gone(t, engine):
    """With on-error=pause nothing is tried again by itself, and resuming says why it still waits."""
    disk, faults, front = faulty_disk(t, engine=engine, on_error="pause")
    faults.fail("write", errno.ENODEV)
    put_writes(disk, front, [0, 16, 32], 0x44)
    wait_paused(disk, "paused: write failed: No such device")
    seen = faults.seen("write")
    assert front.take(2.0) is None and faults.seen("write") == seen
    refused = resume(disk)
    assert refused.returncode == 1 and "No such device" in refused.stderr, refused
    faults.calm()
    assert resume(disk).returncode == 0
    assert set(front.take_all(5.0).values()) == {OKAY}
    wait_not_paused(disk)
    disk.check_image()
    front.close()
    disk.check_nothing_mapped()


@cases.over("a-truncated-image-that-is-mended", *ENGINES)
def truncated_image(t, engine):
    disk = t.disk("blkbackd", engine=engine, on_error="pause")
    front = disk.connect()
    os.truncate(disk.path, MIB)
    page = front.page(b"t" * PAGE)
    front.put(READ, 2 * MIB // 512, [(page.ref, 0, 7)])
    front.push()
    wait_paused(disk, "paused: read failed: Input/output error")
    assert front.take(0.1) is None
    with open(disk.path, "r+b") as f:
        f.seek(MIB)
        f.write(disk.contents[MIB:])
    assert resume(disk).returncode == 0
    assert set(front.take_all(5.0).values()) == {OKAY}
    assert page.data() == disk.contents[2 * MIB:2 * MIB + PAGE]
    page.end()
    front.close()


@cases.over("killed-while-paused", "worker", "broker", "both")
def killed(t, who):
    """The successor goes on with what waits: it pauses again, and each request is answered once."""
    disk, faults, front = no_space(t)
    put_writes(disk, front, [0, 8, 16], 0x77)  # one over the other, and two that were only taken
    for _ in range(2):
        before = disk.daemon.workers()
        if who != "broker":
            os.kill(before[0], signal.SIGKILL)
        if who != "worker":
            disk.daemon.kill()
            disk.daemon.start()
        t.bed.wait_for(lambda: disk.daemon.workers() not in ([], before), "another worker")
        wait_paused(disk, "paused: no space on")
    assert disk.vbd.backend_state() == CONNECTED
    faults.calm()
    assert resume(disk).returncode == 0
    answers = front.take_all(5.0)
    assert len(answers) == 4 and set(answers.values()) == {OKAY}, answers
    assert front.none_more() is None
    wait_not_paused(disk)
    disk.check_image()
    front.close()
    disk.check_nothing_mapped()


@cases.over("detached-while-paused", "closed", "destroyed")
def detached(t, how):
    """Within the time that libxl gives, and what was answered is there."""
    disk, faults, front = no_space(t)
    start = time.monotonic()
    with open(disk.path, "rb") as f:
        before = f.read(2 * PAGE)
    disk.contents[:PAGE] = before[:PAGE]  # the write was not done
    if how == "destroyed":
        disk.vbd.domain.destroy()
        disk.vbd.xs.rm(disk.vbd.front)
    disk.vbd.force_close()
    if how == "closed":  # and waits for its answers, as Linux does
        put_writes(disk, front, [8], 0x5b)
        disk.contents[8 * 512:8 * 512 + PAGE] = before[8 * 512:]
        disk.vbd.set_front_state(CLOSED)
        assert list(front.take_all(5.0).values()) == [ERROR, ERROR]
    disk.vbd.wait_backend(CLOSED, timeout=10)
    assert time.monotonic() - start < 5
    disk.wait_for_nothing_mapped()
    faults.calm()
    time.sleep(1.2)
    disk.check_image()
    front.free()
    gone = resume(disk)
    assert gone.returncode in (1, 4), gone


@cases.over("a-loss-is-accepted", *ENGINES)
def loss_accepted(t, engine):
    """A buffered disk whose flush failed goes on only when somebody says so in as many words."""
    disk, faults, front = faulty_disk(t, engine=engine, direct="no")
    faults.fail("flush", errno.EIO, count=1)
    front.put(FLUSH)
    front.push()
    wait_paused(disk, "paused: flush failed: Input/output error")
    assert "--accept-data-loss" in status(disk)["reason"], status(disk)["reason"]
    refused = resume(disk)
    assert refused.returncode == 1 and "--accept-data-loss" in refused.stderr, refused
    assert front.take(0.2) is None and faults.seen("flush") == 1
    assert resume(disk, "--accept-data-loss").returncode == 0
    assert set(front.take_all(5.0).values()) == {OKAY} and faults.seen("flush") == 2
    wait_not_paused(disk)
    assert front.write(0, b"n" * PAGE) == OKAY and front.flush() == OKAY
    disk.contents[:PAGE] = b"n" * PAGE
    disk.check_image()
    with open(disk.daemon.log, encoding="utf-8") as f:
        assert "may be lost" in f.read(), "the log does not say what that means"
    front.close()


@cases.over("rings-on-threads", 1, 2)
def rings(t, threads):
    """All rings wait for one, whatever their threads; reads go on on both."""
    disk, faults, front = faulty_disk(t, {"queues": 2}, max_queues=2, worker={"queue-threads": threads})
    first, second = front.on(0), front.on(1)
    faults.fail("write", errno.ENOSPC, end=PAGE)
    put_writes(disk, first, [0], 0x31)
    wait_paused(disk, "no space")
    put_writes(disk, second, [64], 0x32)
    assert second.take(0.3) is None, "another ring went on writing"
    read_one(disk, first, 128)
    read_one(disk, second, 128)
    faults.calm()
    assert resume(disk).returncode == 0
    assert set(first.take_all(5.0).values()) == set(second.take_all(5.0).values()) == {OKAY}
    disk.check_image()
    front.close()
    disk.check_nothing_mapped()


@cases.add
def other_disks_of_the_guest_go_on(t):
    """Even with so few buffers that the paused one's writes would take all."""
    disk, faults, front = faulty_disk(t, worker={"buffer-size": "1M"})
    other = t.disk(disk.daemon, domain=disk.vbd.domain, devid=XVDA + 16)
    beside = other.connect(order=1)
    faults.fail("write", errno.ENOSPC)
    for start in range(0, 32):
        put_writes(disk, front, [start * 16], 0x61)
    t.bed.wait_for(lambda: any(d["paused"] for d in json.loads(ctl(disk, "status", "--json").stdout)["disks"]), "a pause")
    other.quick_io(beside)
    faults.calm()
    assert ctl(disk, "resume", f"{disk.vbd.back[len('/local/domain/0/'):]}").returncode == 0
    assert set(front.take_all(5.0).values()) == {OKAY}
    disk.check_image()
    front.close()
    beside.close()


if __name__ == "__main__":
    cases.main()
