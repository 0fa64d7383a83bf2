#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""blkbackd: what a disk may do per second, from the configuration and live, held to by leaving requests in the ring."""

import json
import os
import signal
import subprocess
import threading
import time

from bedlib.front import FLUSH, OKAY, PAGE, READ, WRITE
from bedlib.processes import threads_of
from bedlib.testing import MIB, Cases
from bedlib.vbd import XVDA

cases = Cases()
KIB = 1024


def ctl(disk, *arguments):
    """blkbackctl as a user runs it."""
    command = [f"{disk.daemon.bin}/blkbackctl", "--config", disk.daemon.config, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def status(disk):
    found = json.loads(ctl(disk, "status", "--json", "--interval", "0", str(disk.vbd.domain.domid), disk.vdev()).stdout)
    return found["disks"][0]


def limit(disk, *options):
    """Returns when it has been set."""
    done = ctl(disk, "limit", *options, str(disk.vbd.domain.domid), "xvda")
    assert done.returncode == 0, done.stderr


def connected(t, order=1, **options):
    disk = t.disk("blkbackd", **options)
    disk.vdev = lambda: "xvda"
    return disk, disk.connect(order=order)


def rate(done):
    """Requests per second."""
    return done.ios * 1e9 / done.nanoseconds


def assert_near(found, wanted, what, part=0.1):
    assert abs(found - wanted) <= wanted * part, f"{what}: {found:.0f}, not {wanted:.0f}"


def held_to(wanted, measure, what):
    """Never above the limit; and just below it, unless others keep this machine from asking for so much: then it is
    measured again."""
    found = []
    for _ in range(4):
        found.append(measure())
        assert found[-1] <= wanted * 1.1, f"{what}: {found[-1]:.0f}, over {wanted}"
        if found[-1] >= wanted * 0.9:
            return
    raise AssertionError(f"{what}: {[round(f) for f in found]}, not {wanted}")


# --- rates ---------------------------------------------------------------------------------------------------------

@cases.over("iops", "50 1", "1000 32", "20000 32")
def iops(t, case):
    """What a closed loop gets over seconds is the limit, at any depth."""
    wanted, depth = map(int, case.split())
    disk, front = connected(t, iops_limit=wanted)
    held_to(wanted, lambda: rate(front.bench(depth=depth, seconds=3.0)), "requests per second")
    assert status(disk)["statistics"]["errors"] == 0
    front.close()
    disk.check_nothing_mapped()


@cases.over("bandwidth", "4 8", "44 8", "256 4")
def bandwidth(t, case):
    """The same for bytes, of requests that are smaller and larger than the burst."""
    size, depth = map(int, case.split())
    disk, front = connected(t, size=32 * MIB, bandwidth_limit="10M")
    options = {"size": size * KIB, "depth": depth, "write": True, "indirect": size > 44, "max_segments": size // 4}
    held_to(10 * MIB, lambda: rate(front.bench(seconds=3.0, **options)) * size * KIB, "bytes per second")
    front.close()


@cases.add
def burst(t):
    """After a rest a burst passes as fast as the storage can, then the rate; after another rest again."""
    disk, front = connected(t, iops_limit=100, iops_burst=1000)
    done = front.bench(depth=32, seconds=2.0)
    assert_near(done.ios - 1000, 100 * done.nanoseconds / 1e9, "requests beyond a burst", 0.3)
    rested = time.monotonic()
    done = front.bench(depth=32, seconds=0.2)
    assert done.ios < 150, f"{done.ios} requests after no rest"
    time.sleep(4)
    done = front.bench(depth=32, seconds=1.0)
    assert_near(done.ios, (time.monotonic() - rested) * 100, "requests after a rest", 0.3)
    front.close()


@cases.add
def what_is_larger_than_the_burst_passes(t):
    """One request of 44 KiB on a disk of 20 KiB/s: the first at once, the next when the debt is paid."""
    disk, front = connected(t, bandwidth_limit="20K", bandwidth_burst="1K")
    start = time.monotonic()
    assert front.write(0, b"a" * 11 * PAGE) == OKAY
    assert time.monotonic() - start < 1.0
    assert front.write(0, b"b" * 11 * PAGE) == OKAY
    took = time.monotonic() - start
    assert 2.1 < took < 3.5, f"both took {took:.3f} s, not 2.2"
    front.close()


@cases.over("queues", "2 1", "2 2", "4 2")
def queues_share_a_limit(t, case):
    """The limit is the disk's, however many rings it has and on whatever threads; none of them starves."""
    queues, threads = map(int, case.split())
    disk = t.disk("blkbackd", max_queues=16, worker={"queue_threads": threads}, iops_limit=2000)
    front = disk.frontend()
    disk.vbd.wait_backend(2)
    front.needs("multi-queue-max-queues", queues)
    front.connect(queues=queues)
    done = [None] * queues

    def run(n):
        done[n] = front.on(n).bench(depth=16, seconds=3.0)

    def measure():
        together(run, queues)
        assert min(map(rate, done)) > 2000 / queues / 4, [rate(d) for d in done]
        return sum(map(rate, done))

    held_to(2000, measure, "requests per second of all rings")
    front.close()
    disk.check_nothing_mapped()


def together(run, count):
    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# --- changes -------------------------------------------------------------------------------------------------------

def put_writes(disk, front, count):
    """Writes of one page each to the first pages of the disk, which are in its contents then."""
    for n in range(count):
        data = bytes([n + 1]) * PAGE
        front.put(WRITE, n * 8, [(front.page(data, readonly=True).ref, 0, 7)])
        disk.contents[n * PAGE:(n + 1) * PAGE] = data
    front.push()


@cases.over("ended-live", "iops", "bandwidth")
def ended_live(t, kind):
    """What waits goes on at once when the limit is taken away."""
    disk, front = connected(t, **{f"{kind}_limit": 1})
    put_writes(disk, front, 30)
    time.sleep(0.5)
    assert len(front.in_flight) == 30
    limit(disk, f"--{kind}", "0")
    start = time.monotonic()
    assert set(front.take_all(5.0).values()) == {OKAY}
    took = time.monotonic() - start
    assert took < 0.1, f"the new limit took {took:.3f} s"
    disk.check_image()
    front.close()


@cases.add
def set_live(t):
    """A disk that is busy is held to a new limit at once, without a burst, and to the next one."""
    disk, front = connected(t)
    over = threading.Event()

    def ask():
        while not over.is_set():
            front.bench(depth=32, seconds=0.5)

    def measure():
        start, before = time.monotonic(), status(disk)["statistics"]["reads"]
        time.sleep(1.5)
        now, after = time.monotonic(), status(disk)["statistics"]["reads"]
        return (after - before) / (now - start)

    busy = threading.Thread(target=ask)
    busy.start()
    try:
        time.sleep(0.5)
        for wanted in 500, 4000, 100:
            limit(disk, "--iops", str(wanted))
            time.sleep(0.1)
            held_to(wanted, measure, "requests per second")
        limit(disk, "--iops", "0")
    finally:
        over.set()
        busy.join()
    assert status(disk)["statistics"]["limit_waits"] > 0
    front.close()


@cases.add
def shown_and_said(t):
    """What is set, by whom, and how long rings waited; what can't be set is refused and changes nothing."""
    disk, front = connected(t, iops_limit=20, bandwidth_limit="1M", bandwidth_burst="2M")
    shown = status(disk)
    assert (shown["iops_limit"], shown["iops_burst"], shown["bandwidth_limit"], shown["bandwidth_burst"],
            shown["limits_by_hand"]) == (20, 0, MIB, 2 * MIB, False), shown
    assert shown["statistics"]["limit_waits"] == shown["statistics"]["limit_wait_us"] == 0
    start = time.monotonic()
    put_writes(disk, front, 22)  # of which 2 or 3 pass at once
    front.take_all()
    took = time.monotonic() - start
    statistics = status(disk)["statistics"]
    assert statistics["limit_waits"] > 0
    assert 0.8 < statistics["limit_wait_us"] / 1e6 < took, (statistics, took)
    domid = str(disk.vbd.domain.domid)
    for wrong in (["--iops", "-1"], ["--iops", "1e9"], ["--bandwidth", "65G"], ["--iops", "5", "--bandwidth", "x"],
                  ["--iops", "5 iops-burst=5"], ["--iops", ""], [], ["--speed", "5"], ["--weight", "0"],
                  ["--weight", "1001"]):
        done = ctl(disk, "limit", *wrong, domid, "xvda")
        assert done.returncode in (1, 2) and done.stderr, (wrong, done)
    assert ctl(disk, "limit", "--iops", "5", domid, "xvdz").returncode == 4
    assert status(disk)["iops_limit"] == 20 and not status(disk)["limits_by_hand"]
    limit(disk, "--iops", "300", "--iops-burst", "600")
    text = ctl(disk, "status", "--interval", "0", domid, "xvda").stdout
    assert "300 requests/s, bursts of 600, set by hand" in text and "1048576 (1.0M) bytes/s" in text, text
    front.close()


def fill(front, pages, page):
    """Its ring, with reads of so many pages into one."""
    for n in range(front.slots() - len(front.in_flight)):
        front.put(READ, n * 8, [(page.ref, 0, 7)] * pages)
    front.push()


def taken(front):
    """How many answers there are."""
    before = len(front.in_flight)
    while front.take(0):
        pass
    return before - len(front.in_flight)


def run_for_a_while(t, worker, seconds):
    os.kill(worker, signal.SIGCONT)
    time.sleep(seconds)
    os.kill(worker, signal.SIGSTOP)

    def stopped():
        with open(f"/proc/{worker}/stat", encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[0] == "T"

    t.bed.wait_for(stopped, "the worker to stop")


@cases.over("weights", "300 11 11", "20 11 11", "300 1 11", "300 11 1")
def weights(t, case):
    """Two disks of a guest that both want all that the worker's thread can do share it by their weights, whatever the size of their
    requests: one counts as its data and 3 KiB. The worker runs while both rings have more than it answers, and is stopped while they
    are filled; each of its calls of the hypervisor takes a millisecond, or a while would be too short."""
    weight, *pages = map(int, case.split())
    first, one = connected(t, order=5, engine="inline", faults=lambda _: {"BLKBACKD_BED_HYPERCALL_NS": "1000000"})
    second = t.disk(first.daemon, domain=first.vbd.domain, devid=XVDA + 16)
    fronts = one, second.connect(order=5)
    domid = str(first.vbd.domain.domid)
    assert ctl(first, "limit", "--weight", str(weight), domid, str(XVDA + 16)).returncode == 0
    worker, = first.daemon.workers()
    page, had, rounds = [front.page() for front in fronts], [0, 0], 0
    os.kill(worker, signal.SIGSTOP)
    while min(had) < 40:
        for number, front in enumerate(fronts):
            fill(front, pages[number], page[number])
        run_for_a_while(t, worker, 0.1)
        answered = [taken(front) for front in fronts]
        rounds += all(front.in_flight for front in fronts)
        if rounds > 2 and all(front.in_flight for front in fronts):  # before that requests were taken and not answered
            had = [so_far + more for so_far, more in zip(had, answered)]
        assert rounds < 100, f"{had} answers"
    os.kill(worker, signal.SIGCONT)
    cost = [count * (n * PAGE + 3 * KIB) for count, n in zip(had, pages)]
    assert_near(cost[1] * 100 / cost[0], weight, f"{had} answers are in hundredths")
    for front in fronts:
        front.take_all()
        front.close()


# --- what else happens to a disk that waits ------------------------------------------------------------------------

@cases.add
def closes_at_once(t):
    """A frontend that leaves gets its answers without waiting, and finds what it owes when it comes back."""
    disk, front = connected(t, iops_limit=5)
    put_writes(disk, front, 31)
    start = time.monotonic()
    front.vbd.set_front_state(5)
    assert set(front.take_all(5.0).values()) == {OKAY}
    front.close()
    took = time.monotonic() - start
    assert took < 2.0, f"closing took {took:.1f} s"
    disk.check_image()
    disk.check_nothing_mapped()
    front.reset()
    front.connect(order=1)
    front.put(WRITE, 0, [(front.page(b"c" * PAGE, readonly=True).ref, 0, 7)])
    front.push()
    assert front.take(1.0) is None, "the debt is forgotten"
    front.close()


@cases.add
def destroyed_at_once(t):
    """A domain that is destroyed while its requests wait."""
    disk, front = connected(t, iops_limit=1)
    put_writes(disk, front, 31)
    time.sleep(0.2)
    disk.vbd.remove()
    start = time.monotonic()
    t.bed.wait_for(lambda: disk.vbd.domain.mapped() == 0, "the ring to be let go of")
    took = time.monotonic() - start
    assert took < 1.0, f"that took {took:.1f} s"
    front.free(strict=True)


def killed(disk, worker):
    os.kill(worker, signal.SIGKILL)
    disk.t.bed.wait_for(lambda: disk.daemon.workers() not in ([], [worker]), "another worker")


def limit_holds(disk, front, wanted):
    held_to(wanted, lambda: rate(front.bench(depth=16, seconds=2.0)), "requests per second")


@cases.over("killed-while-waiting", "configured", "by hand")
def worker_killed(t, how):
    """A worker's death loses no request, and gives none before its time."""
    disk, front = connected(t, iops_limit=20 if how == "configured" else 0)
    if how == "by hand":
        limit(disk, "--iops", "20")
    put_writes(disk, front, 31)
    start = time.monotonic()
    for _ in range(3):
        time.sleep(0.2)
        killed(disk, disk.daemon.workers()[0])
    assert set(front.take_all().values()) == {OKAY}
    assert time.monotonic() - start > 1.0, "deaths of workers are bursts"
    disk.check_image()
    limit_holds(disk, front, 20)
    front.close()


@cases.add
def broker_killed(t):
    """What was set by hand holds on under another broker, and a disk that is new has the configuration's."""
    disk, front = connected(t, iops_limit=5000)
    limit(disk, "--iops", "100", "--bandwidth", "64M")
    put_writes(disk, front, 31)
    disk.daemon.kill()
    disk.daemon.start()
    assert set(front.take_all(20.0).values()) == {OKAY}
    disk.check_image()
    shown = status(disk)
    assert shown["limits_by_hand"] and shown["iops_limit"] == 100 and shown["bandwidth_limit"] == 64 * MIB, shown
    limit_holds(disk, front, 100)
    other = t.disk(disk.daemon)
    other.vdev = lambda: "xvda"
    second = other.connect()
    assert status(other)["iops_limit"] == 5000 and not status(other)["limits_by_hand"]
    second.close()
    front.close()


# --- wake-ups ------------------------------------------------------------------------------------------------------

def switches(worker):
    """How often its threads have slept."""
    return sum(int(thread["voluntary_ctxt_switches"]) for thread in threads_of(worker))


@cases.add
def no_wakeups_at_rest(t):
    """A disk with a limit and nothing to do costs nothing; nor does one that waits, but for the requests that pass."""
    disk, front = connected(t, iops_limit=10)
    front.bench(depth=8, seconds=0.5)
    worker, = disk.daemon.workers()
    time.sleep(6)  # memory is given back
    before = switches(worker)
    time.sleep(3)
    assert switches(worker) - before == 0, f"{switches(worker) - before} wake-ups at rest"
    limit(disk, "--iops", "1")
    before = switches(worker)
    put_writes(disk, front, 31)
    time.sleep(4)
    woken = switches(worker) - before
    assert woken < 40, f"{woken} wake-ups for 4 requests"
    front.vbd.set_front_state(5)
    front.take_all()
    front.close()


@cases.add
def no_events_while_waiting(t):
    """A frontend that goes on asking is not made to notify; none of what it asked for is forgotten."""
    disk, front = connected(t, iops_limit=1)
    put_writes(disk, front, 4)
    time.sleep(0.2)
    before = status(disk)["statistics"]["wakeups"]
    for n in range(25):
        front.put(FLUSH)
        front.push()
        time.sleep(0.01)
    events = status(disk)["statistics"]["wakeups"] - before
    assert events <= 1, f"{events} events while requests wait"
    for _ in range(25):
        front.lib.front_notify(front.queue)
        time.sleep(0.01)
    events = status(disk)["statistics"]["wakeups"] - before
    assert events <= 2, f"{events} events of a frontend that does not ask"
    limit(disk, "--iops", "200")
    assert set(front.take_all(5.0).values()) == {OKAY}
    for _ in range(3):  # and the ring is armed again
        assert front.flush() == OKAY
    front.close()


cases.main()
