#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What a worker costs per I/O, in calls, and in memory. Counts hold on any machine, however busy, where timings don't."""

import copy
import re
import signal
import subprocess
import time

from bedlib.bed import Missing
from bedlib.crowd import KIB
from bedlib.fault import Faults
from bedlib.front import OKAY, PAGE, WRITE
from bedlib.neighbour import resident
from bedlib.testing import MIB, Cases

cases = Cases()
DEPTH = 32


class Strace:
    """Counts a process's system calls, those of all its threads, while it is entered."""

    def __init__(self, bed, pid):
        self.path, self.pid, self.calls = f"{bed.dir}/strace.{pid}", pid, {}

    def __enter__(self):
        try:
            self.process = subprocess.Popen(["strace", "-f", "-c", "-U", "calls,name", "-o", self.path, "-p", str(self.pid)],
                                            stderr=subprocess.PIPE, text=True)
        except FileNotFoundError:
            raise Missing("strace is not installed") from None
        assert "attached" in self.process.stderr.readline()
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=20)
        with open(self.path, encoding="utf-8") as f:
            self.calls = {name: int(calls) for calls, name in re.findall(r"^ *(\d+) +(\w+)$", f.read(), re.M) if name != "total"}


NULL = ("null:16M", b"")


def count(t, image, persistent=False, **options):
    """Reads of 4 KiB, 32 at once, from a store that answers at once. Returns everything counted, per I/O."""
    disk = t.disk("blkbackd", image=image, persistent_grants="yes" if persistent else "no", **options)
    front = disk.connect(order=3, extra={"feature-persistent": 1} if persistent else {})
    worker, = disk.daemon.workers()
    assert not front.bench(depth=DEPTH, seconds=0.5).errors  # grants that are kept are mapped by then
    with Strace(t.bed, worker) as traced:
        time.sleep(0.2)
        before = t.bed.counters()
        b = front.bench(depth=DEPTH, seconds=1.0)
        after = t.bed.counters()
    assert not b.errors and b.ios > 1000, f"{b.ios} I/Os"
    found = {name: (after[name] - before[name]) / b.ios for name in after}
    found["syscalls"] = sum(traced.calls.values()) / b.ios
    found["by call"] = {name: round(calls / b.ios, 4) for name, calls in traced.calls.items()}
    return found


def expect(found, syscalls, copies):
    assert found["syscalls"] <= syscalls, f"{found['syscalls']:.3f} system calls per I/O: {found['by call']}"
    assert found["notifies"] <= 1 / 16, f"{found['notifies']:.3f} notifications per I/O"
    assert found["copy_calls"] <= copies, f"{found['copy_calls']:.4f} copy calls per I/O"
    # A few are mapped late, or let go by the timer; a page mapped for each request would be 2.
    assert found["map_calls"] + found["unmap_calls"] < 0.005, "pages are mapped and unmapped in the steady state"


@cases.add
def copying(t):
    expect(count(t, NULL, worker={"poll_time": 0}), 0.25, 1 / 16)


@cases.add
def grants_that_are_kept(t):
    expect(count(t, NULL, persistent=True, worker={"poll_time": 0}), 0.25, 0.0005)


@cases.add
def looking_for_work(t):
    expect(count(t, NULL, worker={"poll_time": 1000}), 0.15, 1 / 16)


@cases.add
def a_file_in_the_page_cache(t):
    expect(count(t, t.bed.direct_image(16 * MIB), engine="uring", direct="no", worker={"poll_time": 0}), 0.25, 1 / 16)


def pinned(pid):
    """Bytes of a process's memory that the kernel holds on to for an io_uring."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(re.search(r"^VmPin:\s+(\d+) kB$", f.read(), re.M).group(1)) * KIB


@cases.over("registered-buffers", 1, 2)
def registered_buffers(t, queues):
    """Their pages are pinned once, not for each transfer, as long as the disk is busy. Several threads: each its own ring."""
    disk = t.disk("blkbackd", image=t.bed.direct_image(16 * MIB), engine="uring", max_queues=queues,
                  worker={"queue_threads": queues}, max_ring_page_order=3)
    front = disk.connect(order=3, queues=queues) if queues > 1 else disk.connect(order=3)
    worker, = disk.daemon.workers()
    assert pinned(worker) == 0, "buffers are registered that nobody uses"
    with Strace(t.bed, worker) as traced:
        done = front.on(queues - 1).bench(depth=DEPTH, seconds=1.0)  # another thread than the main one
        held = pinned(worker)
    statistics = disk.status()["statistics"]
    print(f"# {statistics['registered']} of {done.ios} reads by {traced.calls.get('io_uring_register', 0)} registered buffers, "
          f"{held // KIB} KiB pinned", flush=True)
    assert not done.errors and done.ios > 5000, f"{done.ios} I/Os, {done.errors} errors"
    assert statistics["registered"] > 0.8 * (done.ios - statistics["merged"]), statistics
    assert 0 < traced.calls["io_uring_register"] <= 3 * DEPTH, f"{traced.calls['io_uring_register']} buffers registered"
    assert 0 < held <= traced.calls["io_uring_register"] * PAGE, f"{held // KIB} KiB are pinned"
    t.bed.wait_for(lambda: pinned(worker) == 0, "memory that was pinned to be given back", timeout=15)
    assert front.write(8, b"r" * PAGE) == OKAY and front.read(8, 8) == b"r" * PAGE
    assert disk.status()["statistics"]["registered"] == statistics["registered"], "one use registers a buffer"


@cases.add
def large_transfers_by_registered_buffers(t):
    """They take several buffers each, which is as much worth registering."""
    disk = t.disk("blkbackd", image=t.bed.direct_image(16 * MIB), engine="uring", max_ring_page_order=3)
    front = disk.connect(order=3)
    for write in (False, True):
        before = disk.status()["statistics"]
        done = front.bench(write=write, size=128 * KIB, depth=8, seconds=0.5, max_segments=32, indirect=True)
        assert not done.errors and done.ios > 50, f"{done.ios} I/Os, {done.errors} errors"
        found = {name: count - before[name] for name, count in disk.status()["statistics"].items() if isinstance(count, int)}
        print(f"# {found['registered']} of {done.ios}, {found['merged']} merged", flush=True)
        assert found["registered"] > 0.7 * (done.ios - found["merged"]), found


@cases.add
def memory_after_a_burst(t):
    """While there is always something in flight, what the burst needed beyond that is given back, pinned memory too."""
    def environment(path):
        t.faults = Faults(t.bed, path)
        return t.faults.environment()

    disk = t.disk("blkbackd", image=t.bed.direct_image(16 * MIB), engine="uring", faults=environment, worker={"poll_time": 0})
    front = disk.connect(order=3)
    worker, = disk.daemon.workers()
    t.faults.hold("write")
    page = front.page(b"w" * PAGE, readonly=True)
    written = front.put(WRITE, 0, [(page.ref, 0, 7)])
    front.push()
    t.bed.wait_for(lambda: t.faults.seen("write") == 1, "a write in flight")
    reader = copy.copy(front)  # the same ring; the write's answer is none of its own
    reader.in_flight = {}
    before = resident(worker)
    for size in (64 * KIB, MIB):
        done = reader.bench(size=size, depth=32, seconds=1.0, indirect=True, max_segments=256)
        assert not done.errors and done.ios > 200, f"{done.ios} I/Os, {done.errors} errors"
    burst, held = resident(worker), pinned(worker)
    assert burst > before + 24 * MIB and held > MIB, f"{burst // KIB} KiB, {held // KIB} KiB pinned"
    most = burst if t.sanitized() else before + MIB  # the sanitizer keeps what it knows of them
    start, sector = time.monotonic(), 8
    while resident(worker) > most or pinned(worker) > MIB // 2:
        assert time.monotonic() - start < 25, f"{resident(worker) // KIB} KiB of {burst // KIB}, {pinned(worker) // KIB} KiB pinned"
        assert reader.read(sector, 8) == bytes(disk.contents[sector * 512:(sector + 8) * 512])
        sector = sector % 16384 + 8
        time.sleep(0.1)
    print(f"# {burst // KIB} KiB, of which {held // KIB} KiB pinned; {resident(worker) // KIB} and {pinned(worker) // KIB} KiB "
          f"{time.monotonic() - start:.0f} s later, {before // KIB} KiB before", flush=True)
    assert t.faults.seen("write") == 1 and front.take(0.01) is None
    t.faults.release("write")
    assert front.take_all() == {written: OKAY}
    page.end()
    disk.contents[:PAGE] = b"w" * PAGE
    disk.serves(front)


if __name__ == "__main__":
    cases.main()
