#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""blkbackd under SIGKILL: the guest's I/O goes on, nothing is lost, nothing is done twice, nothing is undone.

The load overlaps as it likes; every write is stamped, and what is read must be explained by some order of all that was
asked for and answered (bedlib/history.py). The default run kills 200 times, --long thousands of times.
"""

import random
import signal
import time

from bedlib.fault import Faults
from bedlib.front import READ, WRITE
from bedlib.history import Load, kill_and_wait, stamped_image
from bedlib.testing import MIB, Cases

cases = Cases()
cases.argument("--kills", type=int, help="how often each case kills")
cases.argument("--seed", type=int, default=0, help="of the requests and the moments (default: the time)")

KINDS = {  # engine, direct, queues, ring order, largest requests, persistent grants
    "uring": dict(engine="uring"),
    "uring-direct-queues": dict(engine="uring", direct="yes", queues=4, order=1, max_indirect=32),
    "aio-direct-persistent": dict(engine="aio", direct="yes", queues=2, persistent=True, max_indirect=64),
    "aio-multi-block": dict(engine="aio", order=2, max_segments=33),
    "inline-large": dict(engine="inline", order=2, queues=2, max_indirect=256, max_segments=100),
    "uring-persistent": dict(engine="uring", persistent=True, order=1, max_segments=33, max_indirect=32),
    "inline-direct": dict(engine="inline", direct="yes", queues=3),
}
EXTENSION = ("max-requests", "max-request-segments", "max-request-size")


class Guest:
    """A disk of one of the KINDS, connected, with its load."""

    def __init__(self, t, engine, direct="no", queues=1, order=0, max_segments=11, max_indirect=0, persistent=False,
                 slow=False, **daemon):
        self.t = t
        self.rng = random.Random(t.options.seed or time.time_ns())
        settings = {"engine": engine, "direct": direct, "max_queues": 4, "max_indirect_segments": 256,
                    "max_request_segments": 128, "log_level": "info", **daemon}
        image = stamped_image(t, 4 * MIB, direct == "yes")
        self.faults = Faults(t.bed, image[0]) if slow else None
        self.daemon = t.blkbackd(env=self.faults.environment() if slow else None, **settings)
        self.disk = t.disk(self.daemon, image=image, nodes={"discard-enable": 1})
        extra = dict(zip(EXTENSION, (256, max_segments, max_segments * 4096))) if max_segments > 11 else None
        self.front = self.disk.frontend().connect(order=order, queues=queues, persistent=persistent, extra=extra)
        self.load = Load(self.front, self.disk, direct == "yes", max_segments=max_segments, max_indirect=max_indirect,
                         seed=self.rng.getrandbits(60))

    def __enter__(self):
        self.watch = self.disk.vbd.watch_states()
        self.seen = self.watch.__enter__()
        self.load.__enter__()
        self.load.progress(50)
        return self

    def __exit__(self, kind, value, trace):
        self.load.__exit__(kind, value, trace)
        self.watch.__exit__(kind, value, trace)
        if kind is None:
            assert self.seen == [], f"the frontend was told: {self.seen}"
            assert self.disk.vbd.error() is None, self.disk.vbd.error()
            self.front.close()
            self.disk.check_nothing_mapped()
            done = self.load.run
            print(f"# {self.load.pause()}; {done.answered} answers, {done.overlapping} overlaps, {done.outside} looks "
                  f"at the image", flush=True)

    def at_random(self):
        """A moment of the load: some answers on, and a little time."""
        self.load.progress(self.rng.choice((1, 10, 60, 200)))
        time.sleep(self.rng.random() * self.rng.choice((0.0005, 0.005, 0.02)))

    def worker(self):
        found = []

        def there():
            found[:] = self.daemon.workers()
            return found

        self.t.bed.wait_for(there, "a worker", self.daemon.process, 30)
        return found[0]

    def kill_worker(self):
        pid = self.worker()
        start = time.monotonic()
        killed = kill_and_wait(pid)
        if killed and self.rng.random() < 0.15:  # its successor too, wherever it is
            time.sleep(self.rng.random() * 0.01)
            for other in self.daemon.workers():
                kill_and_wait(other)
        self.load.paused_since(start, self.load.published())

    def kill_successor_unseen(self):
        """A worker and its successor, whose messages the broker reads only when it is dead."""
        pid, broker = self.worker(), self.daemon.process
        start = time.monotonic()
        kill_and_wait(pid)
        self.t.bed.wait_for(lambda: self.daemon.workers() not in ([], [pid]), "a successor", broker, 30)
        time.sleep(self.rng.random() * 0.006)
        broker.send_signal(signal.SIGSTOP)
        time.sleep(0.03)
        kill_and_wait(self.daemon.workers()[0])
        before = self.load.published()
        broker.send_signal(signal.SIGCONT)
        self.load.paused_since(start, before)

    def kill_broker(self):
        workers = self.daemon.workers()
        start = time.monotonic()
        self.daemon.kill()
        for pid in workers:
            if self.rng.random() < 0.3:
                kill_and_wait(pid)
        self.start_broker(start)

    def start_broker(self, start):
        before = self.load.published()
        self.daemon.start(60)
        self.load.paused_since(start, before)

    def restart(self):
        start = time.monotonic()
        status = self.t.bed.stop(self.daemon.process, signal.SIGTERM, 30)
        assert status == 0, f"a clean stop ended with {status}"
        self.start_broker(start)


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
    daemon = t.blkbackd(env=faults.environment(), engine=engine, direct="yes" if direct else "no")
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


if __name__ == "__main__":
    cases.main()
