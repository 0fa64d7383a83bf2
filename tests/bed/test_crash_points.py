#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The worker killed after single instructions of what keeps and takes up its journal: in each function somewhere, then
its successor somewhere, under the verified load of test_recovery.py. --long: after every instruction."""

import os
import signal
import time

from bedlib.guest import KINDS, Guest
from bedlib.ptrace import Gone, Traced, symbols
from bedlib.testing import Cases

cases = Cases()
cases.argument("--kills", type=int, help="how often in each function")
SERVING = ("journal_take", "journal_start", "journal_done", "journal_publish", "ring_put_response", "queue_take",
           "queue_dispatch", "queue_publish", "queue_finish", "queue_handle_returned")
TAKING_UP = ("slab_adopt", "journal_recover", "queue_recover", "queue_resume")
MOST = 20000  # instructions of a function


# Which the tracer follows: it could not step through what another thread does.
ONE_THREAD = {"worker": {"queue_threads": 1}}


class Killer:
    def __init__(self, t, guest):
        self.t, self.guest, self.daemon = t, guest, guest.daemon
        self.program = f"{self.daemon.bin}/blkbackd-worker"
        self.symbols = symbols(self.program)
        self.lengths = {}

    def has(self, name):
        return name in self.symbols

    def steps(self, name):
        return self.guest.rng.randint(0, self.lengths.get(name, 60))

    def in_function(self, pid, name, steps):
        """Kills it so many instructions into a function. False: it did not come there."""
        try:
            return self.kill_within(Traced(pid, self.program), name, steps)
        except Gone:
            return False

    def kill_within(self, worker, name, steps):
        if not worker.run_to(self.symbols[name]):
            worker.let_go()
            return False
        done = worker.step(steps)
        if done < steps:
            self.lengths[name] = done
        worker.kill()
        return True

    def next_worker(self, old):
        """A successor that has not heard from its broker yet, which is stopped."""
        broker = self.daemon.process
        end = time.monotonic() + 30
        while True:
            fresh = [w for w in self.daemon.workers() if w != old]
            if fresh:
                broker.send_signal(signal.SIGSTOP)
                while not is_program(fresh[0], self.program):
                    assert time.monotonic() < end
                    time.sleep(0.0002)
                return fresh[0]
            assert time.monotonic() < end, "no successor"
            time.sleep(0.0005)

    def successor_in_function(self, old, name, steps):
        """The same with the successor of one that was killed."""
        pid = self.next_worker(old)
        try:
            worker = Traced(pid, self.program)
            self.daemon.process.send_signal(signal.SIGCONT)
            return self.kill_within(worker, name, steps)
        except Gone:
            return False
        finally:
            self.daemon.process.send_signal(signal.SIGCONT)


def is_program(pid, program):
    try:
        return os.path.realpath(f"/proc/{pid}/exe") == os.path.realpath(program)
    except OSError:
        return False


def goes_on(guest, start):
    guest.load.paused_since(start, guest.load.published())
    guest.load.progress(guest.rng.choice((1, 30, 100)))
    guest.t.extend()


def moments(t, killer, name):
    """After how many instructions."""
    if t.options.kills:
        return [killer.steps(name) for _ in range(t.options.kills)]
    if t.long:
        return range(0, min(killer.lengths[name], 400) + 1)
    return [killer.steps(name) for _ in range(4)]


def chosen(killer, names):
    there = [name for name in names if killer.has(name)]
    assert len(there) > len(names) / 2, f"of {names} only {there} are in {killer.program}"
    return there


@cases.over("serving", "uring-persistent", "aio-multi-block")
def serving(t, kind):
    with Guest(t, **KINDS[kind], **ONE_THREAD) as guest:
        killer = Killer(t, guest)
        for name in chosen(killer, SERVING):
            pid = guest.worker()
            start = time.monotonic()
            if not killer.in_function(pid, name, MOST):  # its whole length
                continue
            goes_on(guest, start)
            for steps in moments(t, killer, name):
                start = time.monotonic()
                assert killer.in_function(guest.worker(), name, steps), name
                goes_on(guest, start)


@cases.over("taking-up", "uring-persistent", "aio-multi-block")
def taking_up(t, kind):
    with Guest(t, **KINDS[kind], **ONE_THREAD) as guest:
        killer = Killer(t, guest)
        for name in chosen(killer, TAKING_UP):
            for steps in [MOST, *(killer.steps(name) for _ in range(t.options.kills or (60 if t.long else 4)))]:
                pid = guest.worker()
                start = time.monotonic()
                assert killer.in_function(pid, "journal_publish", killer.steps("journal_publish"))
                assert killer.successor_in_function(pid, name, min(steps, killer.lengths.get(name, MOST))), name
                goes_on(guest, start)


@cases.over("pairs", "uring-direct-queues", "inline-large")
def pairs(t, kind):
    """Two deaths in a row while a third worker is waited for; then one more under way."""
    with Guest(t, **KINDS[kind], **ONE_THREAD) as guest:
        killer = Killer(t, guest)
        first, second = chosen(killer, SERVING), chosen(killer, TAKING_UP + SERVING[:4])
        for _ in range(t.options.kills or (400 if t.long else 12)):
            one, other = guest.rng.choice(first), guest.rng.choice(second)
            pid = guest.worker()
            start = time.monotonic()
            if killer.in_function(pid, one, killer.steps(one)):
                killer.successor_in_function(pid, other, killer.guest.rng.randint(0, 300))
            goes_on(guest, start)


if __name__ == "__main__":
    cases.main()
