#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Very many disks: what each costs does not depend on how many there are, idle ones cost nothing, nothing stays behind.
150 disks; with --long 1000, and 100 domains of 10."""

import os
import signal
import statistics
import threading
import time

from bedlib.crowd import KIB, Crowd, Usage, raise_descriptor_limit
from bedlib.testing import Cases

cases = Cases()
cases.argument("--disks", type=int, default=0, help="how many disks there are")
SOME, MANY = 150, 1000  # some: more than a socket between broker and worker takes messages at once
RECORD = 2  # of a state directory's files, for each disk


def how_many(t, most=MANY):
    return t.options.disks or (most if t.long else SOME)


def sanitized(t):
    """Then memory and processor time are the sanitizer's."""
    with open(f"{t.options.bin}/blkbackd", "rb") as f:
        return b"__asan_init" in (program := f.read()) or b"__tsan_init" in program


def crowd_of(t, count, domains=1, **daemon):
    """A daemon with a disk, whose worker is not the crowd's, and then the others. (crowd, usage before, costs)"""
    raise_descriptor_limit()
    crowd = Crowd(t.bed, t.blkbackd(log_level="info", **daemon))
    crowd.add(t.new_domain(), 0)
    guests = [t.new_domain() for _ in range(domains)]
    if domains == 1:
        guests = [crowd.members[0].vbd.domain]
    before, costs = crowd.usage(), []
    for number in range(1, count):
        used = crowd.usage() if domains == 1 else None
        crowd.add(guests[number % len(guests)], number)
        if used:
            costs.append(crowd.usage().since(used))
        if number % 100 == 0:
            t.extend()
    return crowd, before, costs


def settled(crowd):
    """Usage when what may be given back has been: workers look for that 5 s after their last activity."""
    time.sleep(6.5)
    return crowd.usage()


def middle(costs, name):
    return statistics.median(cost[name] for cost in costs)


def idle(crowd, seconds):
    """Wake-ups of the broker and of the workers, and the processor time of all, in so many seconds."""
    workers, broker = Usage(crowd.daemon.workers()), Usage([crowd.daemon.process.pid])
    time.sleep(seconds)
    workers, broker = (Usage(crowd.daemon.workers()).since(workers), Usage([crowd.daemon.process.pid]).since(broker))
    return broker["wakeups"], workers["wakeups"], broker["cpu_ns"] + workers["cpu_ns"]


def check_gone(t, crowd, before):
    """All but the first are detached: what they held is given back."""
    for member in crowd.members[:0:-1]:
        crowd.remove(member)
        if member.number % 100 == 0:
            t.extend()
    t.bed.wait_for(lambda: len(os.listdir(f"{crowd.daemon.dir}/state")) == RECORD, "the state files to go")
    t.bed.wait_for(lambda: len(crowd.daemon.workers()) == 1, "the workers to leave")
    after = settled(crowd).since(before)
    assert after["descriptors"] == 0, f"{after['descriptors']} descriptors more than before"
    assert after["mappings"] < 20, f"{after['mappings']} mappings more than before"
    if not sanitized(t):
        assert after["anonymous"] < 2048 * KIB, f"{after['anonymous'] // KIB} KiB more than before"


@cases.add
def attached_one_by_one_then_idle_then_gone(t):
    count = how_many(t)
    crowd, before, costs = crowd_of(t, count)
    part = max(20, len(costs) // 10)
    first, last = costs[:part], costs[-part:]
    cpu, growth = middle(last, "cpu_ns") / 1e6, middle(last, "cpu_ns") / middle(first, "cpu_ns")
    requests = middle(last, "wakeups") / middle(first, "wakeups")
    now = settled(crowd)
    memory = now.since(before)["anonymous"] / (count - 1)
    seconds = 10 if t.long else 3
    broker, workers, cpu_ns = idle(crowd, seconds)
    print(f"# {count} disks: attach {cpu:.2f} ms of processor time, last to first {growth:.2f}; {memory / KIB:.1f} KiB each; "
          f"idle: {broker} and {workers} wake-ups in {seconds} s, {cpu_ns / seconds / 1e7:.3f} % of a processor", flush=True)
    assert requests < 1.3, f"the last ones took {requests:.2f} times the wake-ups of the first"
    assert workers == 0, f"workers woke up {workers} times in {seconds} s"
    if not sanitized(t):
        assert cpu < 5, f"an attach takes {cpu:.2f} ms"
        assert growth < 1.5, f"the last ones took {growth:.2f} times the processor time of the first"
        assert memory < 64 * KIB, f"{memory / KIB:.1f} KiB for each idle disk"
    t.extend()
    check_gone(t, crowd, before)
    alone = idle(crowd, seconds)[0]
    assert broker <= alone * 1.5 + 10, f"the broker woke up {broker} times in {seconds} s, {alone} with one disk"


@cases.add
def many_domains(t):
    """A worker each, all idle."""
    domains = 100 if t.long else 12
    crowd, before, _ = crowd_of(t, domains * 10 + 1 if t.long else 2 * domains + 1, domains)
    assert len(crowd.daemon.workers()) == domains + 1
    settled(crowd)
    _, workers, _ = idle(crowd, 2)
    assert workers == 0, f"workers woke up {workers} times"
    check_gone(t, crowd, before)


def work(member, failures):
    """Verified I/O, in a thread of its own: the library lets go of Python's lock."""
    try:
        front = member.front
        pool = front.pool(32, aliases=False)
        front.exercise(member.contents, requests=150, depth=8, max_segments=4, readonly=0, timeout_ms=120000, pool=pool)
    except Exception as e:  # noqa: BLE001 - told together
        failures.append((member.number, e))


@cases.add
def all_busy_at_once(t):
    """Every byte is right, nobody is forgotten, memory is there for all and given back."""
    crowd, before, _ = crowd_of(t, how_many(t))
    idle_usage, failures = settled(crowd), []
    for member in crowd.members:
        member.contents = bytearray(crowd.image_size)
    for _ in range(2):
        threads = [threading.Thread(target=work, args=(member, failures)) for member in crowd.members]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
            t.extend()
    assert not failures, f"{len(failures)} of {len(crowd.members)}, first {failures[0]}"
    with open(crowd.daemon.log, encoding="utf-8", errors="replace") as f:
        log = f.read()
    assert "failed" not in log and "emory" not in log, log[-2000:]
    for member in crowd.members:
        with open(member.path, "rb") as f:
            assert f.read() == member.contents, f"the image of disk {member.number} differs"
    after = settled(crowd).since(idle_usage)
    each = after["anonymous"] / len(crowd.members)
    print(f"# {len(crowd.members)} disks: {each / KIB:.1f} KiB each stay after all were busy", flush=True)
    assert after["descriptors"] == 0, f"{after['descriptors']} descriptors more than before"
    if not sanitized(t):
        assert each < 140 * KIB, f"{each / KIB:.1f} KiB each stay"
    check_gone(t, crowd, before)


def serve(t, crowd):
    """Each of them answers."""
    for member in crowd.members:
        assert member.front.read(0, 1) == bytes(512)
        if member.number % 100 == 0:
            t.extend()


@cases.add
def worker_with_many_disks_dies(t):
    crowd, _, _ = crowd_of(t, how_many(t))
    for _ in range(2):
        os.kill(crowd.daemon.workers()[0], signal.SIGKILL)
        serve(t, crowd)
    assert len(crowd.daemon.workers()) == 1


@cases.add
def broker_with_many_disks_restarts(t):
    crowd, _, _ = crowd_of(t, how_many(t))
    assert t.bed.stop(crowd.daemon.process, signal.SIGTERM, 30) == 0
    crowd.daemon.start(60)
    serve(t, crowd)


if __name__ == "__main__":
    cases.main()
