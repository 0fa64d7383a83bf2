#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""xenstored comes back without its contents, or without some of them: disks are served for as long as their guests live."""

import os
import signal
import subprocess
import time

from bedlib.blkbackd import ATTACH, DETACH, RELOAD
from bedlib.front import Frontend
from bedlib.load import Load
from bedlib.restarts import (detach_as_libxl, start_xenstored, state_files, status, stop_xenstored, wait_for_log)
from bedlib.testing import MIB, Cases
from bedlib.vbd import INIT_WAIT, Vbd

cases = Cases()


def come_back_empty(t, disk):
    stop_xenstored(t, disk.daemon)
    start_xenstored(t, disk.daemon)
    wait_for_log(t, disk.daemon, "has lost its nodes")


@cases.add
def it_comes_back_empty(t):
    """The guest's disk is served for as long as the guest lives, across the deaths of workers, and let go of then."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    unused = t.disk(disk.daemon)
    unused.vbd.wait_backend(INIT_WAIT)
    come_back_empty(t, disk)
    t.bed.wait_for(lambda: state_files(disk.daemon) == ["1-51712.conn", "1-51712.slab"], "the unused disk's end")
    with Load(disk, front):
        os.kill(disk.daemon.workers()[0], signal.SIGKILL)
        time.sleep(2.5)
    assert "XenStore has lost its nodes" in status(t, disk), status(t, disk)
    other = t.bed.domain(9)
    thief = Vbd(other, "vbd")
    thief.create(disk.daemon.nodes(disk.path))
    error, _, text = disk.daemon.control(ATTACH, thief.back) if attach_soon(disk.daemon) else (1, 0, "")
    assert error != 0, "an image in use was given to another guest"
    front.free()
    disk.vbd.domain.destroy()
    t.bed.wait_for(lambda: not any(f.startswith("1-") for f in state_files(disk.daemon)), "the disk's end")
    disk.wait_for_nothing_mapped()
    disk.daemon.attach(thief)


def attach_soon(daemon):
    """An attach that is to be refused is answered soon."""
    with open(daemon.config, encoding="ascii") as f:
        text = f.read()
    with open(daemon.config, "w", encoding="ascii") as f:
        f.write(text.replace("attach-timeout = 30", "attach-timeout = 1"))
    return daemon.control(RELOAD)[0] == 0


@cases.add
def it_comes_back_empty_and_again(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    come_back_empty(t, disk)
    with Load(disk, front):
        for _ in range(2):
            stop_xenstored(t, disk.daemon)
            start_xenstored(t, disk.daemon)
            time.sleep(0.5)
    assert t.bed.xs.get("/local/domain/0/backend") is None, "nodes were made"
    assert disk.daemon.control(DETACH, disk.vbd.back)[0] == 0, "what the operator says ends it"
    assert state_files(disk.daemon) == []
    front.free(strict=True)


@cases.add
def new_nodes_in_an_empty_store_are_a_new_disk(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    come_back_empty(t, disk)
    path, other = t.bed.image(2 * MIB, "another.img")
    disk.vbd.create(disk.daemon.nodes(path))
    disk.vbd.wait_backend(INIT_WAIT)
    disk.wait_for_nothing_mapped("the old ring to be unmapped")
    front.free(strict=True)
    disk.daemon.hook_in_background(disk.vbd)
    again = disk.frontend().connect()
    assert again.read(8, 8) == bytes(other[4096:8192])
    again.close()
    with open(disk.path, "rb") as f:
        third = t.disk(disk.daemon, image=(disk.path, bytearray(f.read())))
    third.serves(third.connect())


@cases.add
def contents_that_are_restored_later(t):
    """As an administrator may, into a store that was empty: it is the same disk again."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    contents = stop_xenstored(t, disk.daemon)
    start_xenstored(t, disk.daemon)
    wait_for_log(t, disk.daemon, "has lost its nodes")
    with Load(disk, front):
        def restore(tx):
            for path, value, perms in contents:
                if not path.startswith("/@"):
                    t.bed.xs.write(path, value, tx)
                    t.bed.xs.perms(path, perms, tx)
        t.bed.xs.transaction(restore)
        t.bed.xs.introduce(1, 1, 1)
        wait_for_log(t, disk.daemon, "in XenStore again")
    assert "lost its nodes" not in status(t, disk)
    detach_as_libxl(disk, front)


@cases.add
def the_toolstack_removes_a_disk_meanwhile(t):
    """The domain's home is still there: nothing was lost, the disk was taken away."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    contents = stop_xenstored(t, disk.daemon)
    gone = (disk.vbd.back, disk.vbd.front)
    start_xenstored(t, disk.daemon, [node for node in contents if not node[0].startswith(gone)])
    t.bed.wait_for(lambda: state_files(disk.daemon) == [], "the disk's end")
    disk.wait_for_nothing_mapped()
    front.free(strict=True)


@cases.add
def a_guest_ends_while_nobody_can_tell(t):
    """Its pages and its image are not held until xenstored is back."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    contents = stop_xenstored(t, disk.daemon)
    front.free()
    disk.vbd.domain.destroy()
    t.bed.wait_for(lambda: state_files(disk.daemon) == [], "the disk's end")
    disk.wait_for_nothing_mapped()
    gone = ("/local/domain/1", "/local/domain/0/backend")
    start_xenstored(t, disk.daemon, [node for node in contents if not node[0].startswith(gone)])
    with open(disk.path, "rb") as f:
        again = t.disk(disk.daemon, image=(disk.path, bytearray(f.read())))
    again.serves(again.connect())


@cases.add
def the_number_is_another_guests_by_then(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    worker = disk.daemon.workers()[0]
    t.bed.freeze(disk.daemon.process)
    os.kill(worker, signal.SIGKILL)  # a number is free only when nobody maps the old guest's pages
    disk.wait_for_nothing_mapped("the worker's end")
    front.free()
    path, other = t.bed.image(2 * MIB, "another.img")
    disk.vbd.domain.destroy()
    disk.vbd.domain.forget()
    t.bed.stop(t.bed.xenstored, signal.SIGKILL)
    t.bed.start_xenstored()
    heir = Vbd(t.bed.domain(1), "vbd")
    heir.create(disk.daemon.nodes(path))
    disk.daemon.process.send_signal(signal.SIGCONT)
    disk.daemon.hook_in_background(heir)
    front = Frontend(heir).connect()
    assert front.read(8, 8) == bytes(other[4096:8192])
    assert str(heir.domain.uuid) in subprocess.run(
        [f"{t.options.bin}/blkbackctl", "--config", disk.daemon.config, "status", "1", "xvda"], check=True,
        capture_output=True, text=True).stdout
    front.close()


@cases.add
def nobody_says_whether_the_guest_lives(t):
    """Where the hypervisor doesn't answer, a disk whose nodes were lost is kept until the operator ends it."""
    env = {"LD_PRELOAD": f"{t.bed.lib_dir}/libbed_driver_domain.so", "BLKBACKD_BED_DOMID": "0",
           "BLKBACKD_BED_DENY": "hypercalls", "ASAN_OPTIONS": "verify_asan_link_order=0"}
    daemon = t.blkbackd(env=env)
    disk = t.disk(daemon)
    front = disk.connect()
    come_back_empty(t, disk)
    with Load(disk, front):
        time.sleep(3)
    assert daemon.control(DETACH, disk.vbd.back)[0] == 0
    assert state_files(daemon) == []
    front.free(strict=True)


cases.main()
