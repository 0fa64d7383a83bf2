#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""xenstored restarts, with its contents or without: guests go on, and nothing stale is written afterwards."""

import os
import signal
import subprocess
import threading
import time

from bedlib.blkbackd import ATTACH, DETACH, PING, RELOAD, Refused
from bedlib.cutter import Cutter
from bedlib.front import Frontend
from bedlib.load import Load
from bedlib.testing import MIB, Cases, Skip
from bedlib.vbd import CLOSED, CLOSING, CONNECTED, INIT_WAIT, INITIALISED, INITIALISING, Vbd

cases = Cases()

LOST, BACK = "connection to xenstored is lost", "connected to xenstored again"
CONTROL = "/usr/lib/xen-4.17/bin/xenstore-control"


def log_of(daemon):
    with open(daemon.log, encoding="utf-8") as f:
        return f.read()


def wait_for_log(t, daemon, sign, count=1):
    t.bed.wait_for(lambda: log_of(daemon).count(sign) >= count, f"'{sign}' in the log ({count})")


def serves(disk, front):
    assert front.read(8, 8) == bytes(disk.contents[4096:8192])


def stop_xenstored(t, daemon):
    """Until the daemon has noticed. The contents."""
    before = log_of(daemon).count(LOST)
    contents = t.bed.stop_xenstored()
    wait_for_log(t, daemon, LOST, before + 1)
    return contents


def start_xenstored(t, daemon, contents=None):
    before = log_of(daemon).count(BACK)
    t.bed.start_xenstored(contents)
    wait_for_log(t, daemon, BACK, before + 1)


def status(t, disk):
    return subprocess.run([f"{t.options.bin}/blkbackctl", "--config", disk.daemon.config, "status"], check=True,
                          capture_output=True, text=True).stdout


def state_files(daemon):
    return sorted(os.listdir(f"{daemon.dir}/state"))


def detach_as_libxl(disk, front):
    disk.vbd.force_close()
    front.close()
    disk.daemon.detach(disk.vbd)
    disk.vbd.remove()


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


@cases.add
def the_connection_ends_while_a_new_broker_reads(t):
    """At any of its requests: what could not be read is not gone, and the disk is taken up in the end."""
    cutter = Cutter(t.bed)
    disk = t.disk(t.blkbackd(env=cutter.environment()))
    front = disk.connect()
    for number in range(1, 200, 1 if t.long else 3):
        t.extend()
        disk.daemon.kill()
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
    disk.daemon.process.send_signal(signal.SIGSTOP)
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
    daemon.process.send_signal(signal.SIGSTOP)
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
    disk.daemon.process.send_signal(signal.SIGSTOP)
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
    disk.check_nothing_mapped()
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
    t.bed.wait_for(lambda: disk.vbd.domain.mapped() == 0, "the old ring to be unmapped")
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
    disk.check_nothing_mapped()
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
    disk.daemon.process.send_signal(signal.SIGSTOP)
    os.kill(worker, signal.SIGKILL)  # a number is free only when nobody maps the old guest's pages
    t.bed.wait_for(lambda: disk.vbd.domain.mapped() == 0, "the worker's end")
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
