#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What a worker costs per I/O, in calls. Counts hold on any machine, however busy, where timings don't."""

import re
import signal
import subprocess
import time

from bedlib.bed import Missing
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


if __name__ == "__main__":
    cases.main()
