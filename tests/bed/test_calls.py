#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Each rule of a worker's filter of system calls is there because something needs it: the workers' calls are watched while
they do all that they do. That they need no more is shown by all other files, since a call without a rule is death."""

import contextlib
import os
import signal
import subprocess
import time

from bedlib.bed import Missing
from bedlib.calls import Traced, rules
from bedlib.front import OKAY, PAGE, READ
from bedlib.intruder import Intruder, needs_all
from bedlib.testing import MIB, Cases, Skip

cases = Cases()

# Needed elsewhere, with the reason.
ELSEWHERE = {
    "clock_gettime": "where the clock can't be read in user space, as in a PV domain 0",
    "fstat": "C libraries other than that of Debian 12",
    "restart_syscall": "after a stop in the midst of a wait: unit worker_syscall_filter: a_wait_goes_on_after_a_stop",
    "rt_sigreturn": "a thread's way back from the change of its user, if it is late",
    **{f"ioctl IOCTL_{name}": "Xen's devices: real Xen's case sandbox-calls" for name in (
        "EVTCHN_NOTIFY", "GNTDEV_GET_OFFSET_FOR_VADDR", "GNTDEV_GRANT_COPY", "GNTDEV_MAP_GRANT_REF", "GNTDEV_UNMAP_GRANT_REF")},
}


def traced(t, **settings):
    daemon = Traced(t.bed, t.options.bin, **settings)
    t.backends.append(daemon)
    return daemon


def calls_of(daemon):
    assert daemon.stop() is None
    return daemon.calls()


def io_with(t, engine, **settings):
    """I/O, growth and discards of a file, on two threads."""
    daemon = traced(t, engine=engine, worker={"queue_threads": 2}, max_queues=2, **settings)
    disk = t.disk(daemon, image=t.bed.direct_image(8 * MIB), nodes={"multi-queue-max-queues": 2, "discard-enable": 1})
    front = disk.connect(queues=2)
    for number in range(2):
        front.on(number).exercise(disk.contents, requests=300, depth=16, weights=(40, 40, 10, 10), seed=number + 1)
    disk.check_image()
    front.discard(0, 4096)
    front.close()
    return calls_of(daemon)


def looking_while_the_kernel_writes(t):
    """A thread that looks for work lets the kernel's threads write to the page cache meanwhile."""
    daemon = traced(t, engine="uring", direct="no", worker={"poll_time": 1000})
    front = t.disk(daemon, image=t.bed.direct_image(8 * MIB)).connect()
    assert not front.bench(write=True, depth=4, seconds=2.0).errors
    front.close()
    return calls_of(daemon)


def grown_grants(t):
    daemon = traced(t, persistent_grants="yes")
    disk = t.disk(daemon, size=8 * MIB)
    front = disk.connect(order=2, persistent=True)
    front.exercise(disk.contents, requests=500, depth=32, pool=front.pool(300), readonly=0, shuffle=1)
    with open(disk.path, "ab") as f:
        f.truncate(16 * MIB)
    t.bed.wait_for(lambda: front.sectors() == 16 * MIB // 512, "the growth to be noticed")
    front.close()
    return calls_of(daemon)


def many_disks(t):
    """More than the memory holds that the worker has of its beginnings."""
    daemon, domain = traced(t), t.new_domain()
    disks = [t.disk(daemon, domain=domain, devid=51712 + 16 * n) for n in range(12)]
    fronts = [disk.connect() for disk in disks]
    for front, disk in zip(fronts, disks):
        assert front.read(8, 8) == bytes(disk.contents[PAGE:2 * PAGE])
        front.close()
    return calls_of(daemon)


@contextlib.contextmanager
def loop_device(path):
    made = subprocess.run(["losetup", "-f", "--show", path], capture_output=True, text=True, check=False)
    if made.returncode:
        raise Missing(f"loop devices ({made.stderr.strip()})")
    try:
        yield made.stdout.strip()
    finally:
        subprocess.run(["losetup", "-d", made.stdout.strip()], check=True)


def a_device(t):
    path, contents = t.bed.direct_image(8 * MIB)
    with loop_device(path) as device:
        daemon = traced(t)
        disk = t.disk(daemon, image=(device, contents), nodes={"discard-enable": 1})
        front = disk.connect()
        front.exercise(disk.contents, requests=200, depth=16)
        front.discard(0, 4096)
        front.close()
        return calls_of(daemon)


def a_worker_that_aborts(t):
    intruder = Intruder(t.bed)
    daemon = traced(t, env=intruder.environment())
    disk = t.disk(daemon)
    front = disk.connect()
    worker, = daemon.workers()
    intruder.tell("abort")
    page = front.page()
    ident = front.put(READ, 8, [(page.ref, 0, 7)])
    front.push()
    t.bed.wait_for(lambda: intruder.order.begun, "the call of abort()")
    time.sleep(0.2)
    os.kill(worker, signal.SIGKILL)  # the first process of a namespace survives its own signals while it is traced
    assert front.take_all() == {ident: OKAY}
    assert page.data() == disk.contents[PAGE:2 * PAGE]
    page.end()
    front.close()
    return calls_of(daemon)


SCENES = {
    "I/O with uring": lambda t: io_with(t, "uring"),
    "I/O with aio": lambda t: io_with(t, "aio"),
    "I/O without an engine": lambda t: io_with(t, "inline"),
    "writes to the page cache, looking for work": looking_while_the_kernel_writes,
    "persistent grants, and an image that grows": grown_grants,
    "many disks": many_disks,
    "a device": a_device,
    "abort()": a_worker_that_aborts,
}


@cases.add
def every_rule_is_used(t):
    needs_all(t)
    if os.geteuid():
        raise Skip("not root")
    used = {}
    for name, scene in SCENES.items():
        t.extend()
        used[name] = scene(t)
    for name, calls in used.items():
        others = set().union(*(other for key, other in used.items() if key != name))
        print(f"     {name}: {len(calls)} rules, {', '.join(sorted(calls - others)) or 'none'} of them alone")
    unused = rules() - set().union(*used.values()) - set(ELSEWHERE)
    assert not unused, f"rules that nothing needs: {', '.join(sorted(unused))}"


if __name__ == "__main__":
    cases.main()
