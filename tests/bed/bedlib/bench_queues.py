# SPDX-License-Identifier: BSD-2-Clause
"""The part of scripts/bench for several rings of a disk: four beside one, each with a thread of its own on both sides."""

import os
import statistics
import sys
import threading

from .bed import Bed
from .blkbackd import Blkbackd
from .front import Frontend
from .vbd import Vbd

QUEUES, DEPTH, ORDER = 4, 32, 3
CPUS_NEEDED = 2 * QUEUES  # a thread of the frontend and one of the worker for each


def together(front, seconds):
    """Reads by all rings at once. Returns their IOPS added up."""
    found = [0.0] * QUEUES

    def read(n):
        done = front.on(n).bench(depth=DEPTH, seconds=seconds)
        if not done.errors:
            found[n] = done.ios / (done.nanoseconds / 1e9)

    threads = [threading.Thread(target=read, args=(n,)) for n in range(QUEUES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if 0.0 in found:
        sys.exit("bench: a ring fails")
    return sum(found)


def measure(options):
    """{"cpus": N, "ratios": [IOPS of four rings to those of one, per turn]}: 4k reads, of a store that moves nothing."""
    ratios = []
    with Bed(options.lib) as bed:
        daemon = Blkbackd(bed, options.bin, max_queues=QUEUES, max_ring_page_order=ORDER, worker={"queue_threads": QUEUES})
        vbd = Vbd(bed.domain(1), daemon.backend_class)
        vbd.create(daemon.nodes(f"null:{options.size}M"))
        daemon.hook_in_background(vbd)
        front = Frontend(vbd).connect(order=ORDER, queues=QUEUES)
        for _ in range(options.turns):
            one = front.on(0).bench(depth=DEPTH, seconds=options.seconds)
            ratios.append(together(front, options.seconds) * (one.nanoseconds / 1e9) / one.ios)
    return {"cpus": len(os.sched_getaffinity(0)), "ratios": ratios}


def row(found):
    """What was measured, as a row of the goals: what it is, the figure, whether that is enough."""
    goal = "P9: four queues at least 3 times one"
    if found["cpus"] < CPUS_NEEDED:
        return [goal, f"not measured: {CPUS_NEEDED} CPUs are needed, four for each side, and there are {found['cpus']}", "?"]
    ratio = statistics.median(found["ratios"])
    return [goal, f"{ratio:.2f} ({min(found['ratios']):.2f}-{max(found['ratios']):.2f})", "yes" if ratio >= 3 else "**no**"]
