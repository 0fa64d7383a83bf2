#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Another version takes the daemon's place: under load without a guest noticing, or it says beforehand that it can't."""

import os
import shutil
import signal
import struct
import subprocess
import time

from bedlib import variant
from bedlib.load import Load
from bedlib.testing import Cases
from bedlib.vbd import CLOSED, CLOSING, CONNECTED

cases = Cases()

MINOR_AT = 10  # of both state files: magic, major, minor


def check_upgrade(daemon, bin_dir=None):
    """(exit status, what it said) of a version's look at what the daemon serves."""
    done = subprocess.run([f"{bin_dir or daemon.bin}/blkbackd", "--check-upgrade", "--config", daemon.config],
                          env=daemon.bed.environment(), capture_output=True, text=True, timeout=20, check=False)
    return done.returncode, done.stdout + done.stderr


def minor_versions(daemon):
    versions = []
    for name in ("1-51712.conn", "1-51712.slab"):
        with open(f"{daemon.dir}/state/{name}", "rb") as f:
            versions.append(struct.unpack_from("=H", f.read(16), MINOR_AT)[0])
    return versions


def change_to(daemon, bin_dir, how):
    if how == "killed":
        daemon.kill()
    else:
        assert daemon.stop() is None
    daemon.bin = bin_dir
    daemon.start()


@cases.over("to-another-minor-version-and-back", "stopped", "killed")
def to_another_minor_version_and_back(t, how):
    other = variant.build(t.options.bin, "minor", variant.MINOR)
    t.extend()
    disk = t.disk("blkbackd")
    ours = disk.daemon.bin
    front = disk.connect(order=1)
    with disk.vbd.watch_states() as seen:
        with Load(disk, front):
            for bin_dir in (other, ours) * (5 if t.long else 2):
                before = minor_versions(disk.daemon)[0]
                time.sleep(0.3)
                status, said = check_upgrade(disk.daemon, bin_dir)
                assert status == 0 and "all of the 1 connected disks" in said, said
                change_to(disk.daemon, bin_dir, how)
                t.bed.wait_for(lambda: minor_versions(disk.daemon)[0] != before, "the other's connection file")
                t.extend()
    assert seen == [], f"the frontend was told: {seen}"
    assert disk.vbd.error() is None and disk.vbd.backend_state() == CONNECTED
    front.close()


@cases.add
def another_major_version_is_refused_beforehand(t):
    other = variant.build(t.options.bin, "major", variant.MAJOR)
    t.extend()
    disk = t.disk("blkbackd")
    front = disk.connect()
    with Load(disk, front):
        status, said = check_upgrade(disk.daemon, other)
    assert status == 1 and "1-51712.conn" in said and "version 1." in said and "99.x" in said, said
    assert "1 of 1 connected disks" in said, said
    assert check_upgrade(disk.daemon)[0] == 0
    assert disk.vbd.backend_state() == CONNECTED
    front.close()


@cases.add
def another_major_version_that_is_started_anyway(t):
    """The guest loses its disk, with the reason where the toolstack shows it; what was answered is in the image."""
    other = variant.build(t.options.bin, "major", variant.MAJOR)
    t.extend()
    disk = t.disk("blkbackd")
    front = disk.connect()
    disk.quick_io(front)
    change_to(disk.daemon, other, "killed")
    disk.vbd.wait_backend(CLOSING)
    assert "another version" in disk.vbd.error(), disk.vbd.error()
    disk.check_image()
    disk.vbd.set_front_state(CLOSED)
    disk.vbd.wait_backend(CLOSED)
    disk.wait_for_nothing_mapped("the end of the old version's worker")
    front.free(strict=True)
    again = disk.frontend()
    again.reset()
    again.connect()  # as a guest that boots anew
    disk.serves(again)


@cases.add
def what_can_not_be_taken_up_is_named(t):
    disk = t.disk("blkbackd")
    assert check_upgrade(disk.daemon)[0] == 0
    front = disk.connect()
    status, said = check_upgrade(disk.daemon)
    assert status == 0 and "all of the 1 connected disks" in said, said
    t.bed.freeze(disk.daemon.process)
    state = f"{disk.daemon.dir}/state"
    for name, why in (("1-51712.slab", "No such file"), ("1-51712.conn", "")):
        shutil.copy(f"{state}/{name}", f"{disk.daemon.dir}/kept")
        os.unlink(f"{state}/{name}")
        status, said = check_upgrade(disk.daemon)
        assert (status, why in said) == ((1, True) if why else (0, True)), said
        for at, why in ((1, "damaged"), (8, "version")):
            with open(f"{disk.daemon.dir}/kept", "rb") as f:
                contents = bytearray(f.read())
            contents[at] ^= 0xff
            with open(f"{state}/{name}", "wb") as f:
                f.write(contents)
            status, said = check_upgrade(disk.daemon)
            assert status == 1 and name in said and why in said, (name, at, said)
        shutil.copy(f"{disk.daemon.dir}/kept", f"{state}/{name}")
    disk.daemon.process.send_signal(signal.SIGCONT)
    assert check_upgrade(disk.daemon)[0] == 0
    front.close()
    shutil.rmtree(state)
    assert check_upgrade(disk.daemon)[0] == 0, "without a folder there is nothing to take up"


@cases.add
def a_worker_that_was_replaced_on_the_disk_is_not_started(t):
    """Between the package's change and the restart, the old broker starts the old worker."""
    programs = f"{t.bed.dir}/programs"
    shutil.copytree(t.options.bin, programs)
    t.options.bin, built = programs, t.options.bin
    disk = t.disk("blkbackd")
    t.options.bin = built
    front = disk.connect()
    with open(f"{programs}/new", "w", encoding="ascii") as f:
        f.write(f"#!/bin/sh\n: >{t.bed.dir}/started\n")
    os.chmod(f"{programs}/new", 0o755)
    os.rename(f"{programs}/new", f"{programs}/blkbackd-worker")
    with Load(disk, front):
        for _ in range(3):
            victim = disk.daemon.workers()[0]
            os.kill(victim, signal.SIGKILL)
            t.bed.wait_for(lambda: disk.daemon.workers() not in ([], [victim]), "another worker")
        assert disk.daemon.control(4)[0] == 0  # a reload does not fetch it either
        os.kill(disk.daemon.workers()[0], signal.SIGKILL)
        time.sleep(0.5)
    assert not os.path.exists(f"{t.bed.dir}/started"), "the other version's worker was started"
    with open(f"/proc/{disk.daemon.workers()[0]}/comm", encoding="ascii") as f:
        assert f.read() == "blkbackd-worker\n"
    front.close()


cases.main()
