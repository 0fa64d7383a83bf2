#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""blkbackd under SIGKILL: the guest's I/O goes on, nothing is lost, nothing is done twice, nothing is undone.

The load overlaps as it likes; every write is stamped, and what is read must be explained by some order of all that was
asked for and answered (bedlib/history.py). The default run kills 200 times, --long thousands of times.
"""

import time

from bedlib.fault import Faults
from bedlib.front import READ, WRITE
from bedlib.guest import KINDS, Guest
from bedlib.history import kill_and_wait, stamped_image
from bedlib.testing import MIB, Cases

cases = Cases()
cases.argument("--kills", type=int, help="how often each case kills")
cases.argument("--seed", type=int, default=0, help="of the requests and the moments (default: the time)")

def kills(t, default, long):
    return t.options.kills or (long if t.long else default)


def repeat(t, guest, count, what):
    for _ in range(count):
        guest.at_random()
        what()
        t.extend()
    guest.load.progress(100)


@cases.over("worker", *KINDS)
def worker(t, kind):
    with Guest(t, **KINDS[kind]) as guest:
        repeat(t, guest, kills(t, 22, 400), guest.kill_worker)


@cases.add
def successors_that_die_unseen(t):
    with Guest(t, **KINDS["uring-direct-queues"]) as guest:
        repeat(t, guest, kills(t, 15, 300), guest.kill_successor_unseen)


@cases.over("broker", "uring", "aio-direct-persistent")
def broker(t, kind):
    with Guest(t, **KINDS[kind]) as guest:
        repeat(t, guest, kills(t, 10, 150), guest.kill_broker)


@cases.over("both", "uring-direct-queues", "inline-large")
def both(t, kind):
    with Guest(t, **KINDS[kind]) as guest:
        repeat(t, guest, kills(t, 13, 200),
               lambda: guest.rng.choice((guest.kill_worker, guest.kill_worker, guest.kill_broker, guest.restart))())


@cases.over("clean-restart", "uring", "aio-multi-block", "uring-direct-queues")
def clean_restart(t, kind):
    with Guest(t, **KINDS[kind]) as guest:
        repeat(t, guest, kills(t, 5, 50), guest.restart)


@cases.over("slow-storage", "worker uring", "worker aio-multi-block", "worker inline-direct", "broker uring-persistent")
def slow_storage(t, case):
    """Writes that are under way for seconds when worker or broker is killed still land, and undo nothing."""
    victim, kind = case.split()
    with Guest(t, slow=True, **KINDS[kind]) as guest:
        guest.faults.outlive()
        guest.faults.delay(1_500_000, 10)
        for _ in range(kills(t, 3, 40)):
            late = guest.faults.control.delayed
            t.bed.wait_for(lambda: guest.faults.control.delayed > late, "a write that is late", timeout=30)
            if victim == "worker":
                guest.kill_worker()
            else:
                guest.kill_broker()
            t.extend()
        guest.faults.calm()
        guest.load.progress(500)


@cases.over("fence", "uring", "uring direct", "aio direct", "inline")
def fence(t, case):
    """A successor starts nothing while a write of the dead worker is under way; other disks go on."""
    engine, *direct = case.split()
    image = stamped_image(t, 4 * MIB, bool(direct))
    faults = Faults(t.bed, image[0])
    daemon = t.blkbackd(env=faults.environment(), engine=engine, direct="yes" if direct else "no",
                        worker={"sandbox": "off"})  # which outlive() forks from
    domain = t.new_domain()
    disk, other = t.disk(daemon, image=image, domain=domain), t.disk(daemon, domain=domain, devid=51728)
    front, beside = disk.connect(), other.connect()
    pages = [front.page(bytes([n]) * 4096) for n in (1, 2, 3)]
    faults.outlive()
    faults.hold("write")
    front.put(WRITE, 8, [(pages[0].ref, 0, 7)])
    front.push()
    t.bed.wait_for(lambda: faults.seen("write") == 1, "the write")
    for victim in ("worker", "worker", "broker"):
        if victim == "worker":
            t.bed.wait_for(daemon.workers, "a worker")
            kill_and_wait(daemon.workers()[0])
        else:
            daemon.kill()
            daemon.start()
        front.put(WRITE, 8, [(pages[1].ref, 0, 7)])
        front.put(READ, 8, [(pages[2].ref, 0, 7)])
        front.push()
        assert front.take(0.7) is None, "a request was answered while a write of the dead was under way"
        assert faults.seen("write") == 1 and faults.seen("read") == 0, "something was started"
        other.quick_io(beside)
    faults.calm()
    assert set(front.take_all(30).values()) == {0}
    assert front.read(8, 8) == b"\2" * 4096
    time.sleep(0.1)
    assert front.read(8, 8) == b"\2" * 4096, "the write of the dead has undone a later one"
    front.close()


@cases.over("replay-holds-its-range", "ring 0", "ring 1")
def replay_holds_its_range(t, ring):
    """What was started by the dead worker is carried out again before anything that overlaps it is started."""
    image = stamped_image(t, 4 * MIB)
    faults = Faults(t.bed, image[0])
    disk = t.disk("blkbackd", image=image, faults=lambda path: faults.environment(), engine="aio", max_queues=2)
    disk.vbd.wait_backend(2)
    front = disk.frontend().connect(queues=2)
    later = front.on(int(ring[-1]))
    pages = [front.page(bytes([n]) * 4096) for n in (1, 2)]
    for before in (False, True):
        faults.hold("write")
        seen = faults.seen("write")
        front.put(WRITE, 8, [(pages[0].ref, 0, 7)])
        front.push()
        t.bed.wait_for(lambda: faults.seen("write") == seen + 1, "the write")
        kill_and_wait(disk.daemon.workers()[0])
        if before:  # it was on the ring before the successor started
            later.put(WRITE, 12, [(pages[1].ref, 0, 7)])
            later.push()
        t.bed.wait_for(lambda: faults.seen("write") == seen + 2, "the write to be carried out again")
        if not before:
            later.put(WRITE, 12, [(pages[1].ref, 0, 7)])
            later.push()
        time.sleep(0.5)
        assert faults.seen("write") == seen + 2, "a write was started that overlaps one that is carried out again"
        faults.calm()
        front.take_all(30)
        later.take_all(30)
        assert front.read(8, 12) == b"\1" * 2048 + b"\2" * 4096
    front.close()


if __name__ == "__main__":
    cases.main()
