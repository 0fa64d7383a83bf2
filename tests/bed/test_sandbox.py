#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""A worker has nothing but what it needs: what the kernel says of it, and what happens to one that is taken over. That
everything else works under the sandbox is shown by all other files, since it is on by default."""

import collections
import os
import re
import stat
import time

from bedlib.blkbackd import Blkbackd
from bedlib.front import ERROR, OKAY
from bedlib.intruder import Intruder, needs_all
from bedlib.processes import threads_of
from bedlib.testing import MIB, Cases

cases = Cases()

ATTEMPTS = ("open", "execute", "fork", "socket", "trace", "kill", "read other memory", "map code", "make code",
            "push back input", "duplicate", "prctl", "namespace", "mount", "another ring", "become root", "bpf",
            "look at a path", "thread", "connect", "join a namespace", "make a file of memory", "add a key", "handle faults",
            "signal the broker", "change its ring", "ask a device for more",
            "bind a channel")
RING_OPERATIONS = ("open", "openat2", "connect", "socket", "unlink", "statx", "send", "splice", "timeout")
NAMESPACES = ("mnt", "net", "ipc", "uts", "pid")


def log_of(daemon):
    with open(daemon.log, encoding="utf-8") as f:
        return f.read()


@cases.over("every-thread-is-confined", 1, 3)
def every_thread_is_confined(t, queues):
    needs_all(t)
    disk = t.disk("blkbackd", worker={"queue_threads": queues}, max_queues=queues)
    front = disk.connect(queues=queues) if queues > 1 else disk.connect()
    assert front.read(0, 8) == bytes(disk.contents[:4096])
    worker, = disk.daemon.workers()
    seen = list(threads_of(worker))
    assert len(seen) >= 2 * queues, "loops and slow engines"  # io_uring's own come and go
    uid = str(1900000000 + disk.vbd.domain.domid)
    for thread in seen:
        for field in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(thread[field], 16) == 0, (thread["Name"], field, thread[field])
        assert thread["Seccomp"] == "2" and thread["NoNewPrivs"] == "1", thread
        assert thread["Uid"].split() == thread["Gid"].split() == [uid] * 4 and not thread["Groups"].strip(), thread
    assert disk.status()["sandbox"] == "full", disk.status()["sandbox"]
    assert "sandbox partial" not in log_of(disk.daemon)


@cases.add
def other_namespaces_and_no_files(t):
    needs_all(t)
    disk = t.disk("blkbackd")
    disk.connect()
    worker, = disk.daemon.workers()
    for name in NAMESPACES:
        assert os.readlink(f"/proc/{worker}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"), name
    assert os.listdir(f"/proc/{worker}/root/") == []
    assert os.stat(f"/proc/{worker}/cwd/").st_ino == os.stat(f"/proc/{worker}/root/").st_ino
    with open(f"/proc/{worker}/mountinfo", encoding="ascii") as f:
        assert len(f.read().splitlines()) == 1, "the host's file systems stay mounted"
    with open(f"/proc/{worker}/limits", encoding="ascii") as f:
        assert re.search(r"^Max core file size +0 +0 ", f.read(), re.M)


def kind_of(path):
    target = os.readlink(path)
    if os.path.exists(path) and stat.S_ISSOCK(os.stat(path).st_mode):
        return "socket"
    return os.path.basename(target) if target.startswith("/") else target


@cases.over("descriptors", 1, 2)
def exactly_the_descriptors_it_needs(t, queues):
    """Standard ones and the broker's socket; for each thread its loop, the hypervisor, the engines; for each disk image and
    slab; for each queue its event channel."""
    needs_all(t)
    disk = t.disk("blkbackd", worker={"queue_threads": queues}, max_queues=queues)
    disk.connect(queues=queues) if queues > 1 else disk.connect()
    worker, = disk.daemon.workers()
    found = {int(fd): kind_of(f"/proc/{worker}/fd/{fd}") for fd in os.listdir(f"/proc/{worker}/fd")}
    image, slab = os.path.basename(disk.path), f"{disk.vbd.domain.domid}-{disk.vbd.devid}.slab"
    assert (found[0], found[1], found[2], found[3]) == ("null", "null", disk.daemon.log_name, "socket"), found
    expected = collections.Counter({
        "anon_inode:[eventpoll]": queues, "hypervisor": queues, "anon_inode:[io_uring]": queues,
        "anon_inode:[eventfd]": (2 if queues == 1 else 3) * queues,  # of aio and the slow engine, and the mailbox
        image: 1, slab: 1, "socket": queues})
    assert collections.Counter(kind for fd, kind in found.items() if fd > 3) == expected, found


@cases.add
def what_a_worker_has_without_the_sandbox(t):
    """The left column of the table in docs/threat-model.md: what the sandbox takes away."""
    needs_all(t)
    disk = t.disk("blkbackd", worker={"sandbox": "off"})
    disk.connect()
    worker, = disk.daemon.workers()
    for thread in threads_of(worker):
        assert thread["Seccomp"] == "0" and thread["NoNewPrivs"] == "1", thread
        assert int(thread["CapEff"], 16) == 0 and int(thread["CapBnd"], 16).bit_count() in (8, 9), thread
    for name in NAMESPACES:
        assert os.readlink(f"/proc/{worker}/ns/{name}") == os.readlink(f"/proc/self/ns/{name}"), name
    assert "etc" in os.listdir(f"/proc/{worker}/root/")
    assert len(os.listdir(f"/proc/{worker}/fd")) == 12


@cases.add
def what_a_broker_inherits_does_not_reach_a_worker(t):
    needs_all(t)
    fd = os.open("/etc/hostname", os.O_RDONLY)
    os.set_inheritable(fd, True)
    spawn = t.bed.spawn
    t.bed.spawn = lambda *arguments, **options: spawn(*arguments, pass_fds=[fd], **options)
    disk = t.disk("blkbackd")
    t.bed.spawn = spawn
    disk.connect()
    worker, = disk.daemon.workers()
    kinds = [os.readlink(f"/proc/{worker}/fd/{n}") for n in os.listdir(f"/proc/{worker}/fd")]
    os.close(fd)
    assert "/etc/hostname" not in kinds, kinds


def start_intruder(t, **options):
    intruder = Intruder(t.bed)
    path, contents = t.bed.image(8 * MIB, "intruded.img")
    daemon = t.blkbackd(env=intruder.environment(), **options)
    disk = t.disk(daemon, image=(path, contents))
    return intruder, disk, disk.connect()


@cases.over("killed-at", *ATTEMPTS)
def killed_at(t, what):
    """The worker is killed, and the guest's disk is served on by another."""
    needs_all(t)
    intruder, disk, front = start_intruder(t)
    worker, = disk.daemon.workers()
    intruder.tell(what)
    assert front.read(8, 8) == bytes(disk.contents[4096:8192])
    t.bed.wait_for(lambda: intruder.order.begun, "the attempt")
    t.bed.wait_for(lambda: worker not in disk.daemon.workers(), "the worker's end")
    assert not intruder.order.survived, os.strerror(intruder.order.error)
    t.bed.wait_for(lambda: "killed for a system call that its sandbox forbids" in log_of(disk.daemon), "a log line")
    disk.quick_io(front)


@cases.add
def a_worker_that_aborts_ends(t):
    """Though it is the first process of a namespace, which few signals reach, and may call little."""
    needs_all(t)
    intruder, disk, front = start_intruder(t)
    worker, = disk.daemon.workers()
    intruder.tell("abort")
    assert front.read(8, 8) == bytes(disk.contents[4096:8192])
    t.bed.wait_for(lambda: intruder.order.begun and worker not in disk.daemon.workers(), "the worker's end")
    assert not intruder.order.survived
    assert "system call" not in log_of(disk.daemon), "it was killed for what abort() calls"
    disk.quick_io(front)


@cases.over("without-the-sandbox", "open", "socket", "map code")
def without_the_sandbox(t, what):
    """The same succeeds, which shows that the attempts are real ones."""
    needs_all(t)
    intruder, disk, front = start_intruder(t, worker={"sandbox": "off"})
    worker, = disk.daemon.workers()
    assert disk.status()["sandbox"] == "off"
    intruder.tell(what)
    assert front.read(8, 8) == bytes(disk.contents[4096:8192])
    t.bed.wait_for(lambda: intruder.order.survived, "the attempt")
    assert intruder.order.error == 0, os.strerror(intruder.order.error)
    assert disk.daemon.workers() == [worker]


@cases.over("the-ring-refuses-to", *RING_OPERATIONS)
def the_ring_refuses(t, operation):
    """What a filter of system calls does not see, io_uring itself refuses."""
    intruder, disk, front = start_intruder(t, engine="uring")
    worker, = disk.daemon.workers()
    intruder.tell(f"ring: {operation}")
    assert front.write(8, b"w" * 4096) == ERROR
    assert intruder.order.begun
    assert front.write(8, b"w" * 4096) == OKAY
    assert disk.daemon.workers() == [worker]


@cases.add
def less_where_the_broker_may_do_less(t):
    """It works, and says what is missing."""
    needs_all(t)
    wrapped = f"{t.bed.dir}/bin"
    os.mkdir(wrapped)
    with open(f"{wrapped}/blkbackd", "w", encoding="ascii") as f:
        f.write("#!/bin/sh\nexec setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin "
                f"{os.path.abspath(t.options.bin)}/blkbackd \"$@\"\n")
    os.chmod(f"{wrapped}/blkbackd", 0o755)
    daemon = Blkbackd(t.bed, wrapped)
    daemon.bin = os.path.abspath(t.options.bin)
    t.backends.append(daemon)
    disk = t.disk(daemon)
    front = disk.connect()
    disk.quick_io(front)
    sandbox = disk.status()["sandbox"]
    assert sandbox.startswith("partial: no mount namespace (Operation not permitted); no "), sandbox
    assert "no seccomp" not in sandbox, sandbox
    assert f"sandbox {sandbox}" in log_of(daemon)


@cases.add
def the_broker_keeps_few_capabilities(t):
    needs_all(t)
    disk = t.disk("blkbackd")
    kept = {1, 5, 6, 7, 8, 14, 18, 21, 24}  # numbers of <linux/capability.h>: the list in capabilities.c
    for thread in threads_of(disk.daemon.process.pid):
        for field in ("CapPrm", "CapEff", "CapBnd"):
            extra = int(thread[field], 16) & ~sum(1 << n for n in kept)
            assert extra == 0, (field, hex(extra))
        assert int(thread["CapInh"], 16) == int(thread["CapAmb"], 16) == 0


@cases.add
def a_restart_takes_no_longer(t):
    """A worker that is killed is replaced within a second, namespaces and all."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    before = disk.daemon.workers()
    start = time.monotonic()
    os.kill(before[0], 9)
    assert front.read(8, 8) == bytes(disk.contents[4096:8192])
    took = time.monotonic() - start
    assert took < 2, f"{took:.2f} s"  # a loaded machine


if __name__ == "__main__":
    cases.main()
