# SPDX-License-Identifier: BSD-2-Clause
"""What scripts/bench measured, as tables and as docs/performance.md."""

import shlex
import statistics

from . import bench_queues

# By name: title, arguments of scripts/bench.
SETTINGS = {
    "one": ("A file in memory, everything on one CPU", ["--cpus=0"]),
    "hypercalls": ("The same with 1 us added to each emulated hypercall", ["--cpus=0", "--hypercall-ns=1000", "--only=4k read"]),
    "two": ("A file in memory, two CPUs", []),
    "asleep": ("Two CPUs, without polling", ["--poll-time=0", "--only=4k read"]),
    "disk": ("A file on disk, O_DIRECT, two CPUs", ["--disk"]),
    "cached": ("A file on disk in the page cache, two CPUs", ["--cached"]),
    "null": ("A store that moves nothing, two CPUs", ["--null", "--only=4k"]),
}
# What backends that Debian doesn't have did beside Debian's qdisk, on such a bed on another machine: their IOPS and their
# processor time per I/O, both as ratios to its.
TAPDISK = {"iops": 495 / 183, "cpu": 1.9 / 4.9, "1M cpu": 213 / 441}
QDISK_AIO = {"iops": 259 / 183, "cpu": 2.9 / 4.9}
NAMES = {"qdisk": "qdisk", "blkbackd": "copying", "persistent": "persistent"}


def middle(results, what):
    values = [r[what] for r in results if r[what] is not None]
    return statistics.median(values) if values else None


def ratios(found, one, other, what="iops"):
    return [a[what] / b[what] for a, b in zip(found.get(one, ()), found.get(other, ())) if b[what]]


def ratio(found, one, other):
    values = ratios(found, one, other)
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})" if values else "-"


def figure(value, digits):
    return "-" if value is None else f"{value:.{digits}f}"


def three(found, what, digits=1):
    return " / ".join(figure(middle(found.get(n, ()), what), digits) for n in NAMES)


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def speed(results):
    return table(["workload", "fio, IOPS", "qdisk/fio", "copying/fio", "persistent/fio", "copying/qdisk",
                  "persistent/qdisk"],
                 [[w, figure(middle(f.get("fio", ()), "iops"), 0), ratio(f, "qdisk", "fio"), ratio(f, "blkbackd", "fio"),
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
        self.settings = settings
        self.rows = []

    def row(self, goal, value, limit, digits, at_least=True):
        if value is None:
            self.rows.append([goal, "not measured", "?"])
            return
        reached = value >= limit if at_least else value <= limit
        self.rows.append([goal, f"{value:.{digits}f}", "yes" if reached else "**no**"])

    def least(self, goal, found, one, other, limit):
        values = ratios(found, one, other)
        self.row(goal, statistics.median(values) if values else None, limit, 2)

    def beside(self, goal, found, one, what, of_peer, limit):
        """Against a backend that was measured elsewhere: both ratios to qdisk, one through the other."""
        values = ratios(found, one, "qdisk", what)
        self.row(goal, statistics.median(values) / of_peer if values else None, limit, 2, at_least=what == "iops")

    def most(self, goal, found, name, what, limit):
        self.row(goal, middle(found[name], what), limit, 3, at_least=False)

    def counts(self):
        """P1, with a store that costs nothing, and with one that does."""
        read = "4k read, depth 32"
        null = self.settings["null"][read]
        for name, label in (("blkbackd", "copying"), ("persistent", "persistent")):
            self.most(f"P1, {label}: system calls per I/O at most 0.15, looking for work", null, name, "syscalls", 0.15)
            self.most(f"P1, {label}: the same from the page cache at most 0.25, sleeping or not", self.settings["cached"][read],
                      name, "syscalls", 0.25)
            self.most(f"P1, {label}: notifications per I/O at most 1/16", null, name, "notifies", 1 / 16)
        self.most("P1, copying: copy calls per I/O at most 1/16", null, "blkbackd", "copies", 1 / 16)
        self.most("P1, persistent: copy calls per I/O 0", null, "persistent", "copies", 0.0005)
        self.most("P1, persistent: map and unmap calls per I/O 0", null, "persistent", "maps", 0.0005)

    def all(self):
        read, single = "4k read, depth 32", "4k read, depth 1"
        one, two, asleep, disk = (self.settings[name] for name in ("one", "two", "asleep", "disk"))
        self.counts()
        for name, label in (("blkbackd", "copying"), ("persistent", "persistent")):
            self.least(f"P2, {label}: 4k read, depth 32, on disk, at least 0.95 of fio", disk[read], name, "fio", 0.95)
        self.least("P3, copying: the same in memory, two CPUs, at least 0.60 of fio psync", two[read], "blkbackd", "fio", 0.60)
        self.least("P3, persistent: at least 0.70", two[read], "persistent", "fio", 0.70)
        self.least("P4: 4k read, depth 1, two CPUs, without polling, at least qdisk's", asleep[single], "blkbackd", "qdisk", 1.0)
        self.least("P4: the same with polling, at least 1.5 times", two[single], "blkbackd", "qdisk", 1.5)
        self.least("P4: the same on one CPU, at least qdisk's", one[single], "blkbackd", "qdisk", 1.0)
        self.least("P4: the same on disk, at least qdisk's", disk[single], "blkbackd", "qdisk", 1.0)
        for name, label, qdisk, tapdisk in (("blkbackd", "copying", 2.0, 1.05), ("persistent", "persistent", 2.7, 1.4)):
            self.beside(f"P5, {label}: 4k read, depth 32, one CPU, at least {qdisk} times qdisk's with Linux AIO (see above)",
                        one[read], name, "iops", QDISK_AIO["iops"], qdisk)
            self.beside(f"P5, {label}: the same, at least {tapdisk} times tapdisk's (see above)", one[read], name, "iops",
                        TAPDISK["iops"], tapdisk)
        cached = self.settings["cached"]
        for name in cached:
            self.least(f"P5: {name}, file on disk in the page cache, copying, never below qdisk", cached[name], "blkbackd",
                       "qdisk", 1.0)
        self.cpu(one, two, disk)
        self.rows.append(bench_queues.row(self.settings["queues"]))
        return table(["goal", "measured", "reached"], self.rows)

    def cpu(self, one, two, disk):
        """P7 and P8: processor time per I/O, and long sequential transfers."""
        read = "4k read, depth 32"
        for where, results in (("in memory", two), ("on disk", disk)):
            values = ratios(results[read], "blkbackd", "qdisk", "cpu")
            self.row(f"P7: CPU per 4k read, depth 32, {where}, at most 0.4 of qdisk's", statistics.median(values), 0.4, 2,
                     at_least=False)
        self.beside("P7: CPU per 4k read, depth 32, in memory, one CPU, at most 0.4 of qdisk's with Linux AIO (see above)",
                    one[read], "blkbackd", "cpu", QDISK_AIO["cpu"], 0.4)
        self.beside("P7: the same, at most 0.7 of tapdisk's (see above)", one[read], "blkbackd", "cpu", TAPDISK["cpu"], 0.7)
        self.least("P8: 1M sequential read on disk, at least 0.95 of fio", disk["1M read, depth 4"], "blkbackd", "fio", 0.95)
        self.least("P8: 1M sequential write on disk, at least 0.95 of fio", disk["1M write, depth 4"], "blkbackd", "fio", 0.95)
        self.beside("P8: CPU per 1M read on disk, at most 0.6 of tapdisk's (see above)", disk["1M read, depth 4"], "blkbackd",
                    "cpu", TAPDISK["1M cpu"], 0.6)


INTRO = """# Performance

Written by `scripts/bench --write`; do not edit. Measured on 2 vCPUs of a virtual machine that was not otherwise idle, over
{turns} turns of {seconds:g} s for each figure. What counts are the ratios within a turn, given as the median with the smallest
and largest turn; absolute figures depend on the machine.

## What is compared

* **fio** on the bare file, without any ring: psync in memory and from the page cache, io_uring with O_DIRECT and the same depth on
  disk.
* **qdisk**: QEMU 7.2 as Debian 12 ships it. That binary has neither Linux AIO nor io_uring, so this is its thread pool
  through the page cache; on disk it may be faster than the disk for that reason, and a QEMU built with Linux AIO is faster
  than this one.
* **copying**: blkbackd with a frontend whose grants are good for one request: data is copied.
* **persistent**: blkbackd with `persistent-grants = yes` and a frontend that keeps its grants: data goes straight to and from
  the guest's pages. A real guest then pays for a copy of its own, which the frontend here does not make.

Every backend has a ring of 8 pages, the same frontend, and requests of 11 segments: larger I/O is split by the frontend. blkbackd is
the release build, with its defaults unless said.

For a file in memory blkbackd's engine is the inline one, which makes a system call for each I/O: there it costs half of what
handing over to io_uring and its threads does. So P1's calls are counted where nothing but the ring and the engine costs any.

## At a glance

![Latency against throughput](performance-latency.svg)

![Processor time per I/O against depth](performance-cpu.svg)

## Goals

"P" numbers are the project's goals. Two backends that goals name are not in Debian 12: a QEMU built with Linux AIO, and tapdisk.
They were measured elsewhere, on such a bed beside Debian's qdisk: with 1.42 and 2.70 times its IOPS and 0.59 and 0.39 times its
processor time per 4k read (depth 32, a file in memory, one CPU), tapdisk with 0.48 of its processor time per 1M read from disk
(depth 8, O_DIRECT). Our ratio to Debian's qdisk, divided by theirs, is what is held against these goals; it is no measurement of
them beside us. Debian's qdisk always uses the page cache, so "never below qdisk" is measured with the page cache on both sides
(`direct = no`); the table for O_DIRECT compares a disk with memory where it says qdisk.

{goals}

### Where goals are missed

[performance-profile.md](performance-profile.md) has the counts behind this.

* **P2** and **P3**: at depth 32 on two CPUs front and back wait for each other. What the backend answers in one pass comes back as the
  next one's requests, and meanwhile the disk, or the backend, has less to do than bare fio gives it: at depth 128 the ratios
  are higher, and for a file in memory they are on one CPU, where nobody waits. Answering in portions made it worse. Looking for work all
  the time (`poll-time = 400`) has 1.04 times the IOPS on disk, for 2.5 times the processor time, which is not the default.
* **P4** without polling: two wake-ups across CPUs are nearly all of the time there, for every backend; the backend's system calls, 3.5
  beside qdisk's 9, are little of it.
* **P9** needs eight CPUs, four for each side; `scripts/bench --queues` measures it where they are. A ring has a thread with loop, engines,
  buffers and grant handle of its own, and shares with the disk's other rings a table of writes in flight, by a lock.
* **P6** and **P7** on the emulated host: its guest sends small requests one by one there, so that each costs a whole pass: 6 or 7 system
  calls, which in a paravirtual dom0 go through the hypervisor twice each. blkback, in the kernel, makes none. For large ones it is instructions
  that count, and `persistent-grants = copy` has a third of those of the default; the emulator's time is another thing.
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
which take about as many as the real libraries. Where the cost of an I/O goes is in [performance-profile.md](performance-profile.md).

`--json` prints everything that was measured: `settings`, `cpus`, and `results`, an object with the workload's name for each
workload, in it `fio`, `qdisk`, `blkbackd` and `persistent`, each a list of one object a turn: `iops`, `mean` and `p99` (us), `cpu`
(us per I/O), and per I/O `notifies`, `copies`, `maps` and `syscalls` (the last in the first turn only; null where not counted). With
`--queues` `results` has `cpus` and `ratios`, one a turn.
"""


def page(settings, turns, seconds):
    parts = [INTRO.format(turns=turns, seconds=seconds, goals=Goals(settings).all())]
    for name, (title, arguments) in SETTINGS.items():
        parts.append(f"\n## {title}\n\n`scripts/bench {shlex.join(arguments)}`".replace(" `", "`") +
                     f"\n\n{tables(settings[name])}\n")
    return "".join(parts) + OUTRO
