#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A host that fails around blkbackd: memory that runs out, a log that nobody reads, a wall clock that jumps, and events that
say that some domain ended when none of ours did."""

import contextlib
import ctypes
import os
import signal
import struct
import time

from bedlib.blkbackd import Blkbackd, Refused
from bedlib.front import PAGE
from bedlib.intruder import needs_all
from bedlib.neighbour import untouched
from bedlib.processes import cpu_ticks, shared_page
from bedlib.testing import MIB, Cases
from bedlib.vbd import CLOSED, CLOSING, CONNECTED, INIT_WAIT, INITIALISED, XVDA, Vbd

cases = Cases()
NEVER = 0xffffffff


class Control(ctypes.Structure):
    """struct host_control of host/host.h."""
    _fields_ = [("program", ctypes.c_char * 16), ("armed", ctypes.c_uint32), ("allowed", ctypes.c_uint32),
                ("failures", ctypes.c_uint32), ("refused", ctypes.c_uint32), ("jumping", ctypes.c_uint32), ("looks", ctypes.c_uint32)]


class Host:
    def __init__(self, bed, what):
        self.path, self.library = f"{bed.dir}/host", f"{bed.lib_dir}/libbed{what}.so"
        self.control = shared_page(self.path, Control)

    def environment(self):
        return {"LD_PRELOAD": self.library, "BLKBACKD_HOST_FILE": self.path}

    @contextlib.contextmanager
    def short_of_memory(self, program, after, failures=NEVER):
        """Allocations of a program fail, after some that don't."""
        self.control.program = program.encode()
        self.control.allowed, self.control.failures, self.control.refused = after, failures, 0
        self.control.armed = 1
        try:
            yield
        finally:
            self.control.armed = 0


def with_host(t, what, **settings):
    """A daemon whose memory or clock can fail."""
    host = Host(t.bed, what)
    return host, t.blkbackd(env=host.environment(), **settings)


def worker_of(disk):
    """The one that serves the disk's domain."""
    for worker in disk.daemon.workers():
        with open(f"/proc/{worker}/cmdline", encoding="ascii") as f:
            if f"--domid\0{disk.vbd.domain.domid}\0" in f.read():
                return worker
    raise AssertionError("no worker serves the domain")


def handshake(disk, front):
    """A frontend's attempt to connect; whether it was."""
    disk.vbd.wait_backend(INIT_WAIT)
    front.make_queue(2)
    front.publish(front.nodes(2), INITIALISED)
    return disk.vbd.wait_backend(CONNECTED, CLOSING, CLOSED) == CONNECTED


def give_up(disk, front):
    disk.vbd.set_front_state(CLOSED)
    disk.vbd.wait_backend(CLOSED)
    front.free(strict=True)
    disk.vbd.xs.rm(f"{disk.vbd.front}/ring-ref")
    front.reset()


@cases.add
def memory_runs_out_while_connecting(t):
    """At each of the worker's allocations in turn: refused with that reason, or connected; its other disk is served all the
    time."""
    needs_all(t)
    host, daemon = with_host(t, "memory")
    beside = t.disk(daemon)
    other = beside.connect()
    disk = t.disk(daemon, domain=beside.vbd.domain, devid=XVDA + 16)
    workers, refused = daemon.workers(), 0
    for after in range(60):
        front = disk.frontend()
        with host.short_of_memory("blkbackd-worker", after, failures=1):
            connected = handshake(disk, front)
            failed = host.control.refused
        if connected:
            disk.vbd.set_front_state(CONNECTED)
            assert front.read(0, 8) == disk.contents[:PAGE]
        else:
            refused += 1
            assert "memory" in disk.vbd.error(), disk.vbd.error()
        assert other.read(0, 8) == beside.contents[:PAGE]
        assert daemon.workers() == workers, "a worker ended"
        give_up(disk, front)
        if not failed:
            break
    else:
        raise AssertionError("a handshake allocates without end")
    assert refused >= 5, f"{refused} of {after} allocations"
    beside.serves(other)


@cases.over("memory-runs-out-while-attaching", "blkbackd", "blkbackd-worker")
def memory_while_attaching(t, program):
    """At one allocation or another, of a new guest's disk: refused, or attached; other guests are served."""
    needs_all(t)
    host, daemon = with_host(t, "memory", attach_timeout=2)
    beside = t.disk(daemon)
    other = beside.connect()
    broker, hit = daemon.process.pid, 0
    for after in range(0, 120, 1 if t.long else 3):
        path, _ = t.bed.image(MIB, f"new-{after}.img")
        vbd = Vbd(t.new_domain(), "vbd")
        with host.short_of_memory(program, after, failures=1):
            vbd.create(daemon.nodes(path))
            with contextlib.suppress(TimeoutError):
                vbd.wait_backend(INIT_WAIT, timeout=0.5)
            with contextlib.suppress(Refused, OSError, struct.error):  # no memory to answer with, either
                daemon.attach(vbd)
            hit += host.control.refused
        assert daemon.process.poll() is None, f"the broker ended at allocation {after}"
        assert other.read(0, 8) == beside.contents[:PAGE]
        vbd.force_close()
        vbd.set_front_state(CLOSED)
        vbd.xs.rm(vbd.front)
        vbd.remove()
    assert hit >= 3, f"{hit} allocations failed"
    t.bed.wait_for(lambda: daemon.control(1)[0] == 0, "the broker to be as before")
    after = t.disk(daemon)
    after.vbd.wait_backend(INIT_WAIT, timeout=60)
    after.serves(after.connect(wait=False))
    assert daemon.process.pid == broker
    beside.serves(other)


@cases.add
def releases_of_others_and_of_nobody(t):
    """xenstored says that some domain ended, hundreds of times: none of ours did. Then one does."""
    disk = t.disk("blkbackd")
    with untouched(disk) as neighbour:
        front = disk.connect()
        before, nobody = cpu_ticks(disk.daemon.process.pid), t.new_domain()
        with disk.vbd.watch_states() as seen:
            for turn in range(300):
                t.bed.xs.release(nobody.domid)
                t.bed.xs.introduce(nobody.domid, 1, 1)
                if turn % 50 == 0:
                    assert front.read(0, 8) == disk.contents[:PAGE]
        assert seen == [], f"the frontend was told: {seen}"
        assert cpu_ticks(disk.daemon.process.pid) - before < 300, "the broker is kept busy"
        assert disk.vbd.backend_state() == neighbour.disk.vbd.backend_state() == CONNECTED
        disk.serves(front)
        dies = t.disk(disk.daemon)
        dies.connect()
        dies.vbd.domain.destroy()
        t.bed.xs.release(dies.vbd.domain.domid)
        dies.vbd.wait_backend(CLOSED)


class Unread(Blkbackd):
    """A daemon whose standard error is something else than a file."""

    def __init__(self, bed, bin_dir, where, **settings):
        folder = f"{bed.dir}/unread"
        os.mkdir(folder)
        with open(f"{folder}/blkbackd", "w", encoding="ascii") as f:
            f.write(f"#!/bin/sh\nexec {os.path.abspath(bin_dir)}/blkbackd \"$@\" 2<>{where}\n")
        os.chmod(f"{folder}/blkbackd", 0o755)
        super().__init__(bed, folder, worker={"binary": f"{os.path.abspath(bin_dir)}/blkbackd-worker"}, log_level="debug", **settings)


def full_pipe(t):
    path = f"{t.bed.dir}/pipe"
    os.mkfifo(path)
    pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(pipe, b"x" * 4096)
    return path, pipe


@cases.over("nobody-takes-the-log", "a full disk", "a full pipe")
def nobody_takes_the_log(t, where):
    """Lines are lost, and nothing else: disks come, are served, fail and go; workers die and are replaced."""
    path, pipe = ("/dev/full", None) if where == "a full disk" else full_pipe(t)
    daemon = Unread(t.bed, t.options.bin, path)
    t.backends.append(daemon)
    disk = t.disk(daemon)
    front = disk.connect()
    for worker in (None, *daemon.workers()):
        if worker:
            os.kill(worker, signal.SIGKILL)
        start = time.monotonic()
        disk.quick_io(front)
        assert time.monotonic() - start < 10
    page = front.page()
    for _ in range(500):
        assert front.run(0, 1 << 40, [(page.ref, 0, 7)]) < 0
    page.end()
    other = t.disk(daemon)
    other.serves(other.connect())
    disk.serves(front)
    if pipe is None:
        return
    with contextlib.suppress(BlockingIOError):
        while True:
            os.read(pipe, 65536)
    third = t.disk(daemon)
    third.serves(third.connect())
    said = b""
    with contextlib.suppress(BlockingIOError):
        while True:
            said += os.read(pipe, 65536)
    assert b" lines lost before this one)" in said, said[-300:]


@cases.add
def the_wall_clock_jumps(t):
    """To and fro by years at each look, in all processes: nothing waits, ends or hurries because of it."""
    host, daemon = with_host(t, "clock", worker={"queue_threads": 2}, max_queues=2)
    host.control.jumping = 1
    disk = t.disk(daemon, nodes={"multi-queue-max-queues": 2})
    front = disk.connect(queues=2)
    with untouched(disk):
        for turn in range(5):
            for number in range(2):
                front.on(number).exercise(disk.contents, requests=100, depth=16, seed=turn + 1)
    for turn in range(3):
        os.kill(worker_of(disk), signal.SIGKILL)
        start = time.monotonic()
        assert front.read(0, 8) == disk.contents[:PAGE]
        assert time.monotonic() - start < 5, "a successor was slow to come"
    front.close()
    disk.vbd.force_close()
    start = time.monotonic()
    disk.vbd.wait_backend(CLOSED)
    daemon.detach(disk.vbd)
    assert time.monotonic() - start < 5
    assert host.control.looks, "nobody looked at the clock: the library is not beneath the daemon"


if __name__ == "__main__":
    cases.main()
