#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""blkbackd: what a new broker does with what it finds. It takes a disk up only if guest, rings, image and files are the
ones that its predecessor left; else what was under way is dropped, and never carried out."""

import contextlib
import fcntl
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import uuid

from bedlib.fault import Faults
from bedlib.front import OKAY, PAGE, WRITE
from bedlib.history import kill_and_wait
from bedlib.processes import cpu_ticks
from bedlib.testing import MIB, Cases
from bedlib.vbd import CLOSED, CLOSING, CONNECTED, INIT_WAIT, INITIALISED, Vbd

cases = Cases()
HOOK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../conf/block-blkbackd")
F_OFD_SETLK = 37
OWNERSHIP = (1 << 62) - 1
NEW = b"\x5a" * PAGE


def log_of(daemon):
    with open(daemon.log, encoding="utf-8") as f:
        return f.read()


class Orphan:
    """A disk whose broker and worker were killed with a write under way, which they never carried out. outlive: the
    write is in the kernel's hands, until faults.calm()."""

    def __init__(self, t, outlive=False, victim="broker", **settings):
        self.t = t
        self.path, self.contents = image = t.bed.image(8 * MIB, "orphan.img")
        self.faults = Faults(t.bed, self.path)
        if outlive:  # by a process that the worker forks
            settings["worker"] = {"sandbox": "off"}
        self.daemon = t.blkbackd(env=self.faults.environment(), **settings)
        self.disk = t.disk(self.daemon, image=image)
        self.vbd, self.front = self.disk.vbd, self.disk.connect()
        self.page = self.front.page(NEW)
        if outlive:
            self.faults.outlive()
        self.faults.hold("write")
        self.write()
        t.bed.wait_for(lambda: self.faults.seen("write") == 1, "the write")
        if outlive:
            t.bed.wait_for(lambda: self.faults.control.held == 1, "the write to be out of the worker's hands")
        workers = self.daemon.workers()
        if victim == "broker":
            self.daemon.kill()
            t.bed.wait_for(lambda: not any(os.path.exists(f"/proc/{w}") for w in workers), "the workers' end")
        else:
            kill_and_wait(workers[0])
        if not outlive and victim == "broker":
            self.faults.calm()

    def write(self):
        self.front.put(WRITE, 8, [(self.page.ref, 0, 7)])
        self.front.push()

    def file(self, kind):
        return f"{self.daemon.dir}/state/{self.vbd.domain.domid}-{self.vbd.devid}.{kind}"

    def wait_no_files(self):
        self.t.bed.wait_for(lambda: not any(os.path.exists(self.file(kind)) for kind in ("conn", "slab")),
                            "its state files to go")

    def untouched(self):
        """What was under way is not in the image, and does not come."""
        time.sleep(0.2)
        with open(self.path, "rb") as f:
            f.seek(PAGE)
            assert f.read(PAGE) == self.contents[PAGE:2 * PAGE], "a write of the former guest was carried out"

    def answered(self):
        """The guest goes on as if nothing had been."""
        assert set(self.front.take_all(30).values()) == {OKAY}
        self.contents[PAGE:2 * PAGE] = NEW
        assert self.front.read(8, 8) == NEW
        self.disk.check_image()
        self.front.none_more()
        assert self.vbd.backend_state() == CONNECTED

    def image_is_free(self):
        """Another guest can have it at once."""
        other = self.t.disk(self.daemon, image=(self.path, self.contents))
        other.serves(other.connect())

    def given_up(self, reason):
        """The frontend is told to close, and why; another disk is served; a new life begins well."""
        self.vbd.wait_backend(CLOSING)
        assert reason in (self.vbd.error() or ""), f"{self.vbd.error()!r} has no {reason!r}"
        assert self.daemon.process.poll() is None
        self.vbd.set_front_state(CLOSED)
        self.vbd.wait_backend(CLOSED, INIT_WAIT)

    def begins_anew(self):
        """The toolstack takes the disk away and gives it again."""
        self.front.free()
        self.vbd.remove()
        self.wait_no_files()
        self.vbd.create(self.daemon.nodes(self.path))
        self.daemon.hook_in_background(self.vbd)
        self.disk.serves(self.disk.frontend().connect())


@cases.add
def taken_up(t):
    orphan = Orphan(t)
    with orphan.vbd.watch_states() as seen:
        orphan.daemon.start()
        orphan.answered()
    assert seen == []


@cases.over("detached-without-broker", "libxl", "offline alone", "frontend closed")
def detached_without_broker(t, how):
    """Backend at 5 or online 0: it is closed, not gone on with."""
    orphan = Orphan(t)
    if how == "offline alone":
        t.bed.xs.write(f"{orphan.vbd.back}/online", 0)
    else:
        orphan.vbd.force_close()
    if how == "frontend closed":
        orphan.vbd.set_front_state(CLOSED)
    orphan.daemon.start()
    orphan.vbd.wait_backend(CLOSING, CLOSED)
    orphan.vbd.set_front_state(CLOSED)
    orphan.vbd.wait_backend(CLOSED)
    orphan.untouched()
    orphan.daemon.detach(orphan.vbd)
    orphan.front.free()
    orphan.vbd.remove()
    orphan.wait_no_files()
    orphan.image_is_free()


@cases.add
def gone_without_broker(t):
    orphan = Orphan(t)
    orphan.vbd.remove()
    orphan.front.free()
    orphan.daemon.start()
    orphan.wait_no_files()
    orphan.untouched()
    orphan.image_is_free()


@cases.add
def gone_while_its_write_is_under_way(t):
    """The next guest does not get the image before the write is over."""
    orphan = Orphan(t, outlive=True)
    orphan.vbd.remove()
    orphan.front.free()
    orphan.daemon.start()
    second = Vbd(t.new_domain(), "vbd")
    second.create(orphan.daemon.nodes(orphan.path))
    orphan.daemon.hook_in_background(second)
    second.wait_backend(INIT_WAIT)
    time.sleep(0.7)
    assert second.get("hotplug-status") is None, "the image was given away with a write under way"
    orphan.faults.calm()
    second.xs.wait(f"{second.back}/hotplug-status", lambda v: v == "connected", 20)


BINDER = """
import ctypes, sys
lib = ctypes.CDLL("libxenevtchn.so.1")
lib.xenevtchn_open.restype = ctypes.c_void_p
handle = ctypes.c_void_p(lib.xenevtchn_open(None, 0))
print(lib.xenevtchn_bind_interdomain(handle, int(sys.argv[1]), int(sys.argv[2])), flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def channel_bound_to_the_dead(vbd, front):
    bed, domid = vbd.domain.bed, vbd.domain.domid
    port = bed.lib.front_queue_port(front.queue)
    with subprocess.Popen([sys.executable, "-c", BINDER, str(domid), str(port)], env=bed.environment(),
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as dead:
        assert int(dead.stdout.readline()) > 0
        yield
        dead.stdin.close()
        dead.wait()


@cases.add
def a_channel_that_is_closed_late(t):
    """As by a dead worker whose images take long to close: they are closed before its channels."""
    orphan = Orphan(t)
    with channel_bound_to_the_dead(orphan.vbd, orphan.front):
        orphan.daemon.start()
        time.sleep(0.5)
        assert orphan.vbd.backend_state() == CONNECTED
    orphan.answered()


@cases.add
def workers_that_die_while_a_channel_is_closed_late(t):
    """The next one is there before its channel is tried again for the last one."""
    daemon = t.blkbackd(engine="inline")
    disk = t.disk(daemon)
    front = disk.connect()
    front.read(0, 8)
    daemon.process.send_signal(signal.SIGSTOP)
    kill_and_wait(daemon.workers()[0])
    with channel_bound_to_the_dead(disk.vbd, front):
        daemon.process.send_signal(signal.SIGCONT)
        for successor in (1, 2):
            t.bed.wait_for(lambda: log_of(daemon).count("store open") == 1 + successor, "a successor", daemon.process)
            if successor == 1:
                kill_and_wait(daemon.workers()[0])
        before = cpu_ticks(daemon.process.pid)
        time.sleep(0.5)
        assert cpu_ticks(daemon.process.pid) - before < 20, "the broker does not come to rest"
    disk.serves(front)


@cases.add
def another_guest_with_the_same_number(t):
    orphan = Orphan(t)
    domain = orphan.vbd.domain
    orphan.front.free()
    domain.destroy()
    domain.uuid = uuid.uuid4()
    t.bed.lib.bed_domain_create(domain.domid, domain.uuid.bytes)
    t.bed.xs.write(f"{domain.path}/vm", f"/vm/{domain.uuid}")
    orphan.daemon.start()
    t.bed.wait_for(lambda: "of another guest" in log_of(orphan.daemon), "the other guest to be noticed")
    orphan.untouched()
    orphan.begins_anew()


@cases.over("resumed-guest", "3", "4")
def resumed_guest(t, state):
    """New references, no handshake: the old ring's requests are dropped, the new ring is served."""
    orphan = Orphan(t)
    front = orphan.front
    old, front.queues, front.in_flight = front.queue, [], {}
    front.make_queue()
    front.publish(front.nodes(), int(state))
    orphan.daemon.start()
    t.bed.wait_for(lambda: " connected: " in log_of(orphan.daemon).split("can't be taken up")[-1], "the new ring", timeout=20)
    orphan.vbd.wait_backend(CONNECTED)
    orphan.vbd.set_front_state(CONNECTED)
    orphan.untouched()
    orphan.disk.quick_io(front)
    assert front.lib.front_queue_free(old) == 0, "the old ring is still mapped"
    front.close()


@cases.add
def the_same_rings_at_state_3(t):
    """Not gone on with from the files, since a resumed guest's references may happen to be the same: what is in the ring
    counts."""
    orphan = Orphan(t)
    orphan.vbd.set_front_state(INITIALISED)
    orphan.daemon.start()
    t.bed.wait_for(lambda: " connected: " in log_of(orphan.daemon).split("can't be taken up")[-1], "the ring", timeout=20)
    orphan.vbd.set_front_state(CONNECTED)
    orphan.answered()


@cases.over("without", "conn", "slab", "both")
def without(t, kind):
    orphan = Orphan(t)
    for name in ("conn", "slab") if kind == "both" else (kind,):
        os.unlink(orphan.file(name))
    orphan.daemon.start()
    orphan.given_up("no state file")
    orphan.untouched()
    orphan.begins_anew()


def change(path, at, value):
    with open(path, "r+b") as f:
        f.seek(at)
        f.write(value)


DAMAGE = {
    "conn empty": lambda o: os.truncate(o.file("conn"), 0),
    "conn short": lambda o: os.truncate(o.file("conn"), 1000),
    "conn byte": lambda o: change(o.file("conn"), 500, b"\xff"),
    "conn version": lambda o: change(o.file("conn"), 8, struct.pack("=H", 99)),
    "conn folder": lambda o: (os.unlink(o.file("conn")), os.mkdir(o.file("conn"))),
    "slab empty": lambda o: os.truncate(o.file("slab"), 0),
    "slab short": lambda o: os.truncate(o.file("slab"), 4096),
    "slab magic": lambda o: change(o.file("slab"), 0, b"\0" * 8),
    "slab version": lambda o: change(o.file("slab"), 8, struct.pack("=H", 99)),
    "slab size": lambda o: change(o.file("slab"), 24, struct.pack("=Q", 1 << 40)),
    "slab rsp_prod": lambda o: change(o.file("slab"), SLAB_QUEUE + 24, struct.pack("=Q", 77777)),
    "slab req_cons": lambda o: change(o.file("slab"), SLAB_QUEUE + 16, struct.pack("=Q", 77777)),
    "slab offset": lambda o: change(o.file("slab"), SLAB_QUEUE + 4, struct.pack("=I", 0xffffffc0)),
    "slab random": lambda o: change(o.file("slab"), SLAB_QUEUE, os.urandom(60000)),
}
SLAB_QUEUE = 8 + 2 * 2 + 4 * 3 + 8 + 4 * 2 + 11 * 8


@cases.over("damaged", *DAMAGE)
def damaged(t, kind):
    """A file that can't be of a predecessor that was killed."""
    orphan = Orphan(t)
    other = t.new_domain()
    DAMAGE[kind](orphan)
    orphan.daemon.start()
    orphan.given_up("")
    assert orphan.vbd.error(), "no reason was given"
    orphan.untouched()
    if kind == "conn folder":
        os.rmdir(orphan.file("conn"))
    beside = t.disk(orphan.daemon, domain=other)
    beside.serves(beside.connect())
    orphan.begins_anew()


@cases.add
def the_path_names_another_image(t):
    orphan = Orphan(t)
    with open(f"{t.bed.dir}/other.img", "wb") as f:
        f.write(b"\x77" * (8 * MIB))
    os.rename(f"{t.bed.dir}/other.img", orphan.path)
    orphan.daemon.start()
    orphan.given_up("not the image")
    with open(orphan.path, "rb") as f:
        assert f.read() == b"\x77" * (8 * MIB), "another image was written to"


@cases.add
def the_image_is_deleted(t):
    orphan = Orphan(t)
    kept = f"{t.bed.dir}/kept.img"
    os.link(orphan.path, kept)
    os.unlink(orphan.path)
    orphan.daemon.start()
    orphan.given_up("No such file")
    os.link(kept, orphan.path)
    orphan.untouched()
    orphan.begins_anew()


@cases.add
def the_image_moved_for_a_while(t):
    """While no broker runs only: it is the same again when one starts."""
    orphan = Orphan(t)
    os.rename(orphan.path, f"{orphan.path}.away")
    os.rename(f"{orphan.path}.away", orphan.path)
    orphan.daemon.start()
    orphan.answered()


def lock_image(path):
    fd = os.open(path, os.O_RDWR)
    fcntl.fcntl(fd, F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, OWNERSHIP, 1, 0))
    return fd


@cases.over("locked-meanwhile", "for a while", "for good")
def locked_meanwhile(t, how):
    """Somebody else's image by now: it is waited for as long as for one to be attached, then given up."""
    orphan = Orphan(t, attach_timeout=30 if how == "for a while" else 2)
    fd = lock_image(orphan.path)
    orphan.daemon.start()
    assert orphan.front.take(1) is None
    orphan.untouched()
    if how == "for a while":
        os.close(fd)
        orphan.answered()
    else:
        orphan.given_up("locked by another process")
        orphan.untouched()
        os.close(fd)
        orphan.begins_anew()


@cases.over("leaving-while-the-worker-is-dead", "frontend", "detach")
def leaving_while_the_worker_is_dead(t, how):
    """State 6 comes in time though the dead worker's write is under way; the image stays locked until it is over."""
    orphan = Orphan(t, outlive=True, victim="worker")
    start = time.monotonic()
    if how == "detach":
        orphan.vbd.force_close()
    else:
        orphan.vbd.set_front_state(CLOSING)
    orphan.vbd.wait_backend(CLOSING, CLOSED)
    orphan.vbd.set_front_state(CLOSED)
    orphan.vbd.wait_backend(CLOSED, timeout=9)
    took = time.monotonic() - start
    assert took < 9, f"it took {took:.1f} s"
    try:
        os.close(lock_image(orphan.path))
    except BlockingIOError:
        pass
    else:
        raise AssertionError("the image is free with a write under way")
    orphan.faults.calm()
    if how == "detach":
        orphan.daemon.detach(orphan.vbd)
        orphan.vbd.remove()
        orphan.wait_no_files()

        def free():
            try:
                os.close(lock_image(orphan.path))
            except BlockingIOError:
                return False
            return True

        t.bed.wait_for(free, "the image to be free")
        orphan.front.free(strict=True)


@cases.add
def hook_remove_without_broker(t):
    orphan = Orphan(t)
    env = t.bed.environment({"XENBUS_PATH": orphan.vbd.back, "BLKBACKCTL": f"{orphan.daemon.bin}/blkbackctl",
                             "BLKBACKD_SOCKET": orphan.daemon.socket, "BLKBACKD_DEFAULTS": "/dev/null"})
    done = subprocess.run([HOOK, "remove"], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    orphan.vbd.remove()
    orphan.front.free()
    orphan.daemon.start()
    orphan.wait_no_files()
    orphan.untouched()
    orphan.image_is_free()


@cases.add
def files_of_another_boot(t):
    """The state folder is on a tmpfs; if it is not, its files mean nothing after a reboot."""
    orphan = Orphan(t)
    keep = f"{t.bed.dir}/kept"
    shutil.copytree(f"{orphan.daemon.dir}/state", keep)
    t.bed.xs.rm(orphan.vbd.back)
    orphan.front.free()
    orphan.daemon.start()
    orphan.wait_no_files()
    orphan.daemon.kill()
    for name in os.listdir(keep):
        shutil.copy(f"{keep}/{name}", f"{orphan.daemon.dir}/state/{name}")
    orphan.vbd.create(orphan.daemon.nodes(orphan.path))
    orphan.daemon.start()
    orphan.daemon.hook_in_background(orphan.vbd)
    orphan.disk.serves(orphan.disk.frontend().connect())
    orphan.untouched()


if __name__ == "__main__":
    cases.main()
