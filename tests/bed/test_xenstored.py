#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""xenstored restarts with its contents: guests go on, and nothing stale is written afterwards."""

import os
import signal
import subprocess
import time

from bedlib.blkbackd import ATTACH, DETACH, PING, RELOAD
from bedlib.cutter import Cutter
from bedlib.front import Frontend
from bedlib.load import Load
from bedlib.restarts import (BACK, LOST, detach_as_libxl, log_of, serves, start_xenstored, state_files, stop_xenstored,
                             wait_for_log)
from bedlib.testing import MIB, Cases, Skip
from bedlib.vbd import CLOSED, CLOSING, CONNECTED, INIT_WAIT, INITIALISED, INITIALISING, Vbd

cases = Cases()

CONTROL = "/usr/lib/xen-4.17/bin/xenstore-control"


@cases.add
def restarts_under_verified_io(t):
    """Many times, with its contents, without a state being written."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    worker = disk.daemon.workers()
    with Load(disk, front):
        for _ in range(40 if t.long else 5):
            contents = stop_xenstored(t, disk.daemon)
            t.extend()
            start_xenstored(t, disk.daemon, contents)
            assert disk.vbd.backend_state() == CONNECTED
    assert disk.daemon.workers() == worker
    assert t.bed.xs.save() == contents, "something in XenStore has changed"
    front.close()  # the watches are there again: of the frontend, and of new disks
    fresh = t.disk(disk.daemon)
    fresh.serves(fresh.connect())


@cases.add
def quick_restarts_are_noticed(t):
    """Also one that is over before anybody looked."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    for number in range(5):
        t.bed.start_xenstored(t.bed.stop_xenstored())
        wait_for_log(t, disk.daemon, BACK, number + 1)
        serves(disk, front)
    front.close()


@cases.add
def requests_meanwhile_are_refused_with_the_reason(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    contents = t.bed.stop_xenstored()
    for command in (ATTACH, DETACH):  # the first may be what notices the loss
        error, _, text = disk.daemon.control(command, disk.vbd.back, timeout=5)
        assert error != 0 and "xenstored" in text, (error, text)
    assert disk.daemon.control(PING)[0] == 0
    assert disk.daemon.control(RELOAD)[0] == 0
    start_xenstored(t, disk.daemon, contents)
    serves(disk, front)
    detach_as_libxl(disk, front)


@cases.add
def a_worker_dies_meanwhile(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    contents = stop_xenstored(t, disk.daemon)
    with Load(disk, front):
        for _ in range(3):
            os.kill(disk.daemon.workers()[0], signal.SIGKILL)
            time.sleep(0.3)
    start_xenstored(t, disk.daemon, contents)
    serves(disk, front)
    assert disk.vbd.backend_state() == CONNECTED and disk.vbd.error() is None
    detach_as_libxl(disk, front)


@cases.add
def broker_and_xenstored_are_killed_together(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    with Load(disk, front):
        for _ in range(10 if t.long else 3):
            time.sleep(0.2)
            contents = t.bed.stop_xenstored()
            disk.daemon.kill()
            t.bed.start_xenstored(contents)
            disk.daemon.start()
    assert disk.vbd.backend_state() == CONNECTED and disk.vbd.error() is None
    detach_as_libxl(disk, front)


def leave_unfinished_file(daemon):
    """What a broker leaves that is killed while it writes a connection file."""
    with open(f"{daemon.dir}/state/.1-51712.conn.new", "w", encoding="ascii"):
        pass


@cases.add
def the_connection_ends_while_a_new_broker_reads(t):
    """At any of its requests: what could not be read is not gone, and the disk is taken up in the end."""
    cutter = Cutter(t.bed)
    disk = t.disk(t.blkbackd(env=cutter.environment()))
    front = disk.connect()
    for number in range(1, 200, 1 if t.long else 3):
        t.extend()
        disk.daemon.kill()
        leave_unfinished_file(disk.daemon)
        cuts = cutter.cuts
        cutter.cut_after(number)
        try:
            disk.daemon.start()
        except RuntimeError:  # it ended, and is started again as its unit would
            t.bed.stop(disk.daemon.process)
            assert state_files(disk.daemon) == ["1-51712.conn", "1-51712.slab"], (number, state_files(disk.daemon))
            disk.daemon.start()
        serves(disk, front)
        assert disk.vbd.backend_state() == CONNECTED and disk.vbd.error() is None, (number, disk.vbd.error())
        if cutter.cuts == cuts:  # it needs no more requests than that
            break
    assert number > 20, number
    cutter.cut_after(10 ** 9)
    wait_for_session(t, disk)
    detach_as_libxl(disk, front)


def wait_for_session(t, disk):
    """Until requests are taken again."""
    t.bed.wait_for(lambda: disk.daemon.control(ATTACH, "backend/vbd/99/51712")[2].startswith("there is no disk"),
                   "the session to be back")


@cases.add
def the_connection_ends_during_a_handshake(t):
    """At any request from the disk's making to its end: it only takes a little longer."""
    cutter = Cutter(t.bed)
    daemon = t.blkbackd(env=cutter.environment())
    for number in range(1, 400, 3 if t.long else 17):
        t.extend()
        cuts = cutter.cuts
        cutter.cut_after(number)
        path, contents = t.bed.image(MIB)
        vbd = Vbd(t.new_domain(), "vbd")
        vbd.create(daemon.nodes(path))
        vbd.wait_backend(INIT_WAIT)
        t.bed.wait_for(lambda: daemon.control(ATTACH, vbd.back)[0] == 0, "the attach")
        front = Frontend(vbd).connect()
        assert front.read(8, 8) == bytes(contents[4096:8192])
        front.close()
        vbd.force_close()
        vbd.wait_backend(CLOSED)
        t.bed.wait_for(lambda: daemon.control(DETACH, vbd.back)[0] == 0, "the detach")
        vbd.remove()
        if cutter.cuts == cuts:
            break
    assert number > 50, number


@cases.add
def a_frontend_that_is_connecting(t):
    """The rings are offered when nobody can see it; all goes on when xenstored is back."""
    disk = t.disk("blkbackd")
    disk.vbd.wait_backend(INIT_WAIT)
    t.bed.xs.wait(f"{disk.vbd.back}/hotplug-status", lambda v: v == "connected")
    front = disk.frontend()
    front.make_queue()
    t.bed.freeze(disk.daemon.process)
    front.publish(front.nodes(), INITIALISED)
    contents = t.bed.stop_xenstored()
    disk.daemon.process.send_signal(signal.SIGCONT)
    wait_for_log(t, disk.daemon, LOST)
    start_xenstored(t, disk.daemon, contents)
    disk.vbd.wait_backend(CONNECTED)
    disk.vbd.set_front_state(CONNECTED)
    serves(disk, front)
    detach_as_libxl(disk, front)


@cases.add
def rings_that_the_worker_has_connected_meanwhile(t):
    disk = t.disk("blkbackd")
    disk.vbd.wait_backend(INIT_WAIT)
    t.bed.xs.wait(f"{disk.vbd.back}/hotplug-status", lambda v: v == "connected")
    front = disk.frontend()
    front.make_queue()
    worker = disk.daemon.workers()[0]
    os.kill(worker, signal.SIGSTOP)
    front.publish(front.nodes(), INITIALISED)
    time.sleep(0.5)  # the worker has been asked, and doesn't answer
    contents = stop_xenstored(t, disk.daemon)
    os.kill(worker, signal.SIGCONT)
    serves(disk, front)
    start_xenstored(t, disk.daemon, contents)
    disk.vbd.wait_backend(CONNECTED)
    disk.vbd.set_front_state(CONNECTED)
    assert disk.vbd.error() is None
    detach_as_libxl(disk, front)


@cases.add
def a_store_that_opens_meanwhile(t):
    """InitWait is written when xenstored is back."""
    daemon = t.blkbackd()
    path, contents = t.bed.image(MIB)
    vbd = Vbd(t.new_domain(), "vbd")
    t.bed.freeze(daemon.process)
    vbd.create(daemon.nodes(path))
    before = t.bed.xs.save()
    daemon.process.send_signal(signal.SIGCONT)
    t.bed.stop(t.bed.xenstored, signal.SIGKILL)
    wait_for_log(t, daemon, LOST)
    start_xenstored(t, daemon, before)
    daemon.hook_in_background(vbd)
    front = Frontend(vbd).connect()
    assert front.read(0, 8) == bytes(contents[:4096])
    front.close()


@cases.add
def a_guest_closes_meanwhile(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    contents = stop_xenstored(t, disk.daemon)
    closed = {f"{disk.vbd.back}/online": "0", f"{disk.vbd.back}/state": str(CLOSING),
              f"{disk.vbd.front}/state": str(CLOSED)}
    start_xenstored(t, disk.daemon, [(path, closed.get(path, value), perms) for path, value, perms in contents])
    disk.vbd.wait_backend(CLOSED)
    disk.daemon.detach(disk.vbd)
    front.free(strict=True)


@cases.add
def rings_that_were_exchanged_meanwhile(t):
    """A guest that was resumed offers new ones and takes our old state 4 for its answer."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    stop_and_save = t.bed.xs.save
    t.bed.freeze(disk.daemon.process)
    old, front.queues = front.queue, []
    front.make_queue()
    front.publish(front.nodes(), CONNECTED)
    contents = stop_and_save()
    t.bed.stop(t.bed.xenstored, signal.SIGKILL)
    disk.daemon.process.send_signal(signal.SIGCONT)
    wait_for_log(t, disk.daemon, LOST)
    start_xenstored(t, disk.daemon, contents)
    wait_for_log(t, disk.daemon, " connected: ", 2)
    serves(disk, front)
    assert front.lib.front_queue_free(old) == 0, "the old ring is still mapped"
    detach_as_libxl(disk, front)


def made_anew(disk, contents, image):
    """The contents after the toolstack has taken the disk away and made another with the same number."""
    ours = (disk.vbd.back + "/", disk.vbd.front + "/")
    made = {f"{disk.vbd.back}/{k}": v for k, v in disk.daemon.nodes(image).items()}
    made.update({f"{disk.vbd.back}/{k}": v for k, v in (
        ("frontend", disk.vbd.front), ("frontend-id", disk.vbd.domain.domid), ("online", 1), ("state", INITIALISING),
        ("dev", "xvda"), ("mode", "w"), ("device-type", "disk"))})
    made.update({f"{disk.vbd.front}/{k}": v for k, v in (
        ("backend", disk.vbd.back), ("backend-id", 0), ("state", INITIALISING), ("virtual-device", disk.vbd.devid))})
    domid = disk.vbd.domain.domid
    rest = [node for node in contents if not node[0].startswith(ours)]
    return rest + [(path, str(value), ["n0", f"r{domid}"] if path.startswith(ours[0]) else [f"n{domid}", "r0"])
                   for path, value in made.items()]


@cases.add
def a_directory_that_was_made_anew_meanwhile(t):
    """It is another disk: nothing of the old one is written into it."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    path, other = t.bed.image(2 * MIB, "another.img")
    contents = stop_xenstored(t, disk.daemon)
    t.bed.start_xenstored(made_anew(disk, contents, path))
    seen = []
    t.bed.xs.wait(f"{disk.vbd.back}/state", lambda v: seen.append(v) or v not in ("1",))
    assert set(seen) <= {"1", "2"}, seen
    front.free()
    disk.daemon.hook_in_background(disk.vbd)
    again = disk.frontend().connect()
    assert again.sectors() == len(other) // 512
    assert again.read(8, 8) == bytes(other[4096:8192])
    again.close()


@cases.add
def a_medium_of_another_disk_is_not_published(t):
    """An image grows while xenstored is away and the directory is made anew."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    path, other = t.bed.image(2 * MIB, "another.img")
    contents = stop_xenstored(t, disk.daemon)
    os.truncate(disk.path, 16 * MIB)
    wait_for_log(t, disk.daemon, "has grown")
    t.bed.start_xenstored(made_anew(disk, contents, path))
    disk.vbd.wait_backend(INIT_WAIT)
    assert int(disk.vbd.get("sectors")) == len(other) // 512
    front.free()


@cases.add
def an_image_that_grows_meanwhile(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    contents = stop_xenstored(t, disk.daemon)
    os.truncate(disk.path, 16 * MIB)
    wait_for_log(t, disk.daemon, "has grown")
    start_xenstored(t, disk.daemon, contents)
    t.bed.xs.wait(f"{disk.vbd.back}/sectors", lambda v: v == str(16 * MIB // 512))
    serves(disk, front)


@cases.add
def live_update(t):
    """xenstored takes another program's place with all its connections: nobody notices."""
    if not os.path.exists(CONTROL):
        raise Skip(CONTROL)
    disk = t.disk("blkbackd")
    front = disk.connect()
    pid = t.bed.xenstored.pid
    env = t.bed.environment()
    del env["LD_LIBRARY_PATH"]  # it is linked with more of libxenctrl than the stand-in has
    with Load(disk, front):
        said = subprocess.run([CONTROL, "live-update", "-t", "20", os.path.realpath(f"/proc/{pid}/exe")], check=False,
                              env=env, capture_output=True, text=True, timeout=60)
    assert said.returncode == 0, said
    assert t.bed.xenstored.poll() is None
    serves(disk, front)
    assert LOST not in log_of(disk.daemon)
    detach_as_libxl(disk, front)


cases.main()
