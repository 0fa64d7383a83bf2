# SPDX-License-Identifier: BSD-2-Clause
"""What scripts/bench measured, as tables and as docs/performance.md."""

import statistics

SETTINGS = (
    ("A file in memory, everything on one CPU", ["--cpus=0"]),
    ("A file in memory, two CPUs", []),
    ("A file on disk, O_DIRECT, two CPUs", ["--disk"]),
)
NAMES = {"qdisk": "qdisk", "blkbackd": "copying", "persistent": "persistent"}


def middle(results, what):
    values = [r[what] for r in results if r[what] is not None]
    return statistics.median(values) if values else None


def ratios(found, one, other, what="iops"):
    return [a[what] / b[what] for a, b in zip(found[one], found[other]) if b[what]]


def ratio(found, one, other):
    values = ratios(found, one, other)
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})" if values else "-"


def figure(value, digits):
    return "-" if value is None else f"{value:.{digits}f}"


def three(found, what, digits=1):
    return " / ".join(figure(middle(found[n], what), digits) for n in NAMES)


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def speed(results):
    return table(["workload", "fio, IOPS", "qdisk/fio", "copying/fio", "persistent/fio", "copying/qdisk",
                  "persistent/qdisk"],
                 [[w, figure(middle(f["fio"], "iops"), 0), ratio(f, "qdisk", "fio"), ratio(f, "blkbackd", "fio"),
                   ratio(f, "persistent", "fio"), ratio(f, "blkbackd", "qdisk"), ratio(f, "persistent", "qdisk")]
                  for w, f in results.items()])


def cost(results):
    return table(["workload", "mean, us", "p99, us", "CPU, us", "notifications", "copy calls", "map and unmap calls",
                  "system calls"],
                 [[w, three(f, "mean"), three(f, "p99"), three(f, "cpu"), three(f, "notifies", 3), three(f, "copies", 3),
                   three(f, "maps", 3), three(f, "syscalls", 3)] for w, f in results.items()])


def tables(results):
    return (f"Speed, as ratios of IOPS:\n\n{speed(results)}\n\nCost, CPU and calls per I/O of the backend, qdisk / copying "
            f"/ persistent:\n\n{cost(results)}")


class Goals:
    """The goals, each with what was measured."""

    def __init__(self, settings):
        self.one, self.two, self.disk = settings
        self.rows = []

    def row(self, goal, value, limit, digits, at_least=True):
        if value is None:
            self.rows.append([goal, "not measured", "?"])
            return
        reached = value >= limit if at_least else value <= limit
        self.rows.append([goal, f"{value:.{digits}f}", "yes" if reached else "**no**"])

    def least(self, goal, found, one, other, limit):
        self.row(goal, statistics.median(ratios(found, one, other)), limit, 2)

    def most(self, goal, found, name, what, limit):
        self.row(goal, middle(found[name], what), limit, 3, at_least=False)

    def all(self):
        read, single = "4k read, depth 32", "4k read, depth 1"
        deep = self.two[read]
        for name, label in (("blkbackd", "copying"), ("persistent", "persistent")):
            self.most(f"P1, {label}: system calls per I/O at most 0.25", deep, name, "syscalls", 0.25)
            self.most(f"P1, {label}: notifications per I/O at most 1/16", deep, name, "notifies", 1 / 16)
        self.most("P1, copying: copy calls per I/O at most 1/16", deep, "blkbackd", "copies", 1 / 16)
        self.most("P1, persistent: copy calls per I/O 0", deep, "persistent", "copies", 0.0005)
        self.most("P1, persistent: map and unmap calls per I/O 0", deep, "persistent", "maps", 0.0005)
        for name, label in (("blkbackd", "copying"), ("persistent", "persistent")):
            self.least(f"P2, {label}: 4k read, depth 32, on disk, at least 0.95 of fio", self.disk[read], name, "fio", 0.95)
        self.least("P3, copying: the same in memory, two CPUs, at least 0.60 of fio psync", deep, "blkbackd", "fio", 0.60)
        self.least("P3, persistent: at least 0.70", deep, "persistent", "fio", 0.70)
        for where, results in (("one CPU", self.one), ("two CPUs", self.two), ("on disk", self.disk)):
            self.least(f"P4: 4k read, depth 1, {where}, at least qdisk's", results[single], "blkbackd", "qdisk", 1.0)
        self.least("P5, copying: 4k read, depth 32, one CPU, at least 2 times qdisk's (see below)", self.one[read],
                   "blkbackd", "qdisk", 2.0)
        self.least("P5, persistent: at least 2.7 times", self.one[read], "persistent", "qdisk", 2.7)
        for name in self.disk:
            self.least(f"P5: {name}, on disk, copying, never below qdisk", self.disk[name], "blkbackd", "qdisk", 1.0)
        return table(["goal", "measured", "reached"], self.rows)


INTRO = """# Performance

Written by `scripts/bench --write`; do not edit. Measured on 2 vCPUs of a virtual machine that was not otherwise idle, over
{turns} turns of {seconds:g} s for each figure. What counts are the ratios within a turn, given as the median with the smallest
and largest turn; absolute figures depend on the machine.

## What is compared

* **fio** on the bare file, without any ring: psync in memory, io_uring with O_DIRECT and the same depth on disk.
* **qdisk**: QEMU 7.2 as Debian 12 ships it. That binary has neither Linux AIO nor io_uring, so this is its thread pool
  through the page cache; on disk it may be faster than the disk for that reason, and a QEMU built with Linux AIO is faster
  than this one.
* **copying**: blkbackd with a frontend whose grants are good for one request: data is copied.
* **persistent**: blkbackd with `persistent-grants = yes` and a frontend that keeps its grants: data goes straight to and from
  the guest's pages. A real guest then pays for a copy of its own, which the frontend here does not make.

Every backend has a ring of 8 pages, the same frontend, and requests of 11 segments: larger I/O is split by the frontend.

## Goals

"P" numbers are the project's goals. tapdisk is not in Debian 12, and was not measured. P5 was set against a QEMU built with
Linux AIO, which is faster than Debian's: a ratio to Debian's that only just reaches it would not reach it there. Where the page
cache serves qdisk and O_DIRECT serves blkbackd, "on disk, never below qdisk" compares memory with a disk; `direct = no`
gives blkbackd the page cache, too.

{goals}
"""

OUTRO = """
## How it was measured

    scripts/bench --write                   # this page
    scripts/bench --disk --only "4k read"   # some of it, as tables
    scripts/bench --help

There is no hypervisor in this: the backends run on stand-ins for Xen's libraries (`tests/bed/standin`), in which granting,
mapping, copying and notifying cost a system call or less. So it shows what the backends cost themselves. It does not show hypercalls,
TLB flushes or interrupts; `--hypercall-ns N` adds N ns to each emulated call for a feeling of them. CPU is that of the
backend's processes, all threads. System calls are counted by perf(1) in a run of their own and include those of the stand-ins,
which take about as many as the real libraries.

`--json` prints everything that was measured: `settings`, `cpus`, and `results`, an object with the workload's name for each
workload, in it `fio`, `qdisk`, `blkbackd` and `persistent`, each a list of one object a turn: `iops`, `mean` and `p99` (us), `cpu`
(us per I/O), and per I/O `notifies`, `copies`, `maps` and `syscalls` (the last in the first turn only; null where not counted).
"""


def page(settings, turns, seconds):
    parts = [INTRO.format(turns=turns, seconds=seconds, goals=Goals(settings).all())]
    for (name, arguments), results in zip(SETTINGS, settings):
        parts.append(f"\n## {name}\n\n`scripts/bench {' '.join(arguments)}`".replace(" `", "`") + f"\n\n{tables(results)}\n")
    return "".join(parts) + OUTRO
