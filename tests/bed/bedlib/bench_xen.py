# SPDX-License-Identifier: BSD-2-Clause
"""What scripts/bench --xen measured, as tables and as a section of docs/performance.md."""

import json
import os
import statistics

from . import bench_report

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
PAGE = f"{ROOT}/docs/performance.md"
RAW = f"{ROOT}/docs/performance-xen.jsonl"
BEGIN, END = "<!-- scripts/bench --xen -->", "<!-- end of scripts/bench --xen -->"
# What makes two records ones of the same thing.
SETTINGS = ("backing", "workload", "turns", "seconds", "ring_order", "engine", "build")
OURS = {"blkbackd": "copying", "persistent": "persistent"}
NAMES = {**OURS, "blkback": "blkback", "loop": "loop", "loop_direct": "loop, direct", "qdisk": "qdisk",
         "qdisk_direct": "qdisk, direct"}
BACKINGS = {"null": "A null_blk device", "memory": "A file in memory (tmpfs)", "disk": "A file on disk (ext4 on virtio-blk)"}


def load(path):
    """The records in a file; none where there is no file. A last line that is cut, by an end while it was written, is none."""
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as raw:
        return [json.loads(line) for line in raw if line.endswith("}\n")]


def others(found):
    return [name for name in found if name not in OURS]


def ratio(found, ours, other, what):
    """Median, least and greatest of the turns' ratios; None where there is nothing to divide."""
    values = bench_report.ratios(found, ours, other, what)
    return (statistics.median(values), min(values), max(values)) if values else None


def shown(values):
    return "{:.2f} ({:.2f}-{:.2f})".format(*values) if values else "-"


def comparison(records, what):
    """A table of our ratios to each of the others, a row a workload."""
    first = records[0]["results"]
    head = ["workload"] + [f"{OURS[ours]}/{NAMES[other]}" for other in others(first) for ours in OURS]
    rows = [[r["workload"]] + [shown(ratio(r["results"], ours, other, what)) for other in others(first) for ours in OURS]
            for r in records]
    return bench_report.table(head, rows)


def figures(records):
    """Absolute figures, a row a workload and backend."""
    rows = []
    for record in records:
        for name, turns in record["results"].items():
            def middle(what, digits, found=turns):
                return f"{statistics.median(turn[what] for turn in found):.{digits}f}"
            rows.append([record["workload"], NAMES[name], middle("iops", 0), middle("mean", 0), middle("p99", 0), middle("cpu", 0),
                         middle("guest_cpu", 0), middle("kicks", 3), middle("interrupts", 3)])
    return bench_report.table(["workload", "backend", "IOPS", "mean, us", "p99, us", "dom0's CPU, us per I/O",
                               "guest's CPU, us per I/O", "events to the backend per I/O", "events to the guest per I/O"], rows)


AREAS = ("programs", "linux", "xen")
# Of xen/include/public/xen.h; the others are counted together.
HYPERCALLS = {"20": "grant table", "32": "event channel", "23": "iret", "1": "mmu_update", "14": "update_va_mapping",
              "26": "mmuext", "13": "multicall", "29": "sched"}


def counted(records):
    """What dom0's CPU executed per I/O, a row a workload and backend."""
    rows = []
    for record in records:
        for name, counts in record["counts"].items():
            areas = [counts.get(area, 0) for area in AREAS]
            calls = {number: count for number, count in counts.items() if number.isdigit()}
            named = [calls.get(number, 0) for number in HYPERCALLS]
            rows.append([record["workload"], NAMES[name], *(f"{n:.0f}" for n in (sum(areas), *areas)),
                         *(f"{n:.2f}" for n in (counts.get("syscalls", 0), sum(calls.values()), *named))])
    return bench_report.table(["workload", "backend", "instructions", "of programs", "of Linux", "of Xen", "system calls", "hypercalls",
                               *HYPERCALLS.values()], rows)


def tables(records):
    parts = []
    for backing, title in BACKINGS.items():
        some = [r for r in records if r["backing"] == backing]
        if some:
            parts.append(f"### {title}\n\nSpeed, as ratios of IOPS:\n\n{comparison(some, 'iops')}\n\nCost, as ratios of dom0's CPU "
                         f"per I/O:\n\n{comparison(some, 'cpu')}\n\nAll figures:\n\n{figures(some)}\n\nExecuted by dom0's CPU per I/O:\n\n{counted(some)}\n")
    return "\n".join(parts)


class Goals:
    """P6 to P8, each with what was measured."""

    def __init__(self, records):
        self.found = {(r["backing"], r["workload"]): r["results"] for r in records}
        self.counts = {(r["backing"], r["workload"]): r["counts"] for r in records}
        self.rows = []

    def row(self, goal, backing, other, what, limit, workloads=None):
        """The worst of the workloads counts. More is better for all but cpu."""
        for ours, label in OURS.items():
            values = []
            for (where, workload), results in self.found.items():
                if where == backing and other in results and (workloads is None or workload in workloads):
                    values.append((*ratio(results, ours, other, what), workload))
            text = f"{goal} ({label})"
            if not values:
                self.rows.append([text, "not measured", "?"])
                continue
            worst = max(values) if what == "cpu" else min(values)
            reached = worst[0] <= limit if what == "cpu" else worst[0] >= limit
            workload = f": {worst[3]}" if len(values) > 1 else ""
            self.rows.append([text, shown(worst[:3]) + workload, "yes" if reached else "**no**"])

    def instructions(self, goal, other, limit, workloads):
        """The same for what dom0's CPU executes on null_blk; counted once, so without a spread."""
        for ours, label in OURS.items():
            values = []
            for workload in workloads:
                counts = self.counts.get(("null", workload))
                if counts:
                    mine, theirs = (sum(counts[name].get(area, 0) for area in AREAS) for name in (ours, other))
                    values.append((mine / theirs, workload))
            text = f"{goal} ({label})"
            if values:
                worst = max(values)
                self.rows.append([text, f"{worst[0]:.2f}: {worst[1]}", "yes" if worst[0] <= limit else "**no**"])
            else:
                self.rows.append([text, "not measured", "?"])

    def all(self):
        small = ("4k read, depth 32", "4k write, depth 32")
        large = ("1M read, depth 4", "1M write, depth 4")
        self.row("P6: null_blk, IOPS at least 0.9 of blkback's", "null", "blkback", "iops", 0.9)
        self.row("P6: file in memory, IOPS at least 1.2 times blkback's over loop", "memory", "loop", "iops", 1.2)
        self.row("P6: file on disk, the same, loop through the page cache", "disk", "loop", "iops", 1.2)
        self.row("P6: file on disk, the same, loop with direct I/O", "disk", "loop_direct", "iops", 1.2)
        self.row("P7: null_blk, 4k at depth 32, CPU at most 1.25 of blkback's", "null", "blkback", "cpu", 1.25, small)
        self.row("P7: null_blk, 4k at depth 32, CPU at most 0.35 of qdisk's", "null", "qdisk", "cpu", 0.35, small)
        self.instructions("P7, in instructions: at most 1.25 of blkback's", "blkback", 1.25, small)
        self.instructions("P7, in instructions: at most 0.35 of qdisk's", "qdisk", 0.35, small)
        self.row("P8: null_blk, 1 MiB sequential, at least 0.9 of blkback's", "null", "blkback", "iops", 0.9, large)
        self.row("P8: null_blk, 1 MiB sequential, at least 3 times qdisk's", "null", "qdisk", "iops", 3, large)
        return bench_report.table(["goal", "measured", "reached"], self.rows)


TEXT = """{begin}
## On a real Xen host, emulated

`scripts/bench --xen` boots a real Xen host (Xen 4.17, Linux 6.1) in QEMU's software emulation, and in it one guest with a disk
of each backend, which fio in the guest uses in turn. Everything is many times slower than on hardware, the hypervisor's
work more so than memory's: these are ratios, not speeds. dom0 and the guest have one CPU each; at depth 32 the guest's is
often the limit, so what a backend costs shows in dom0's CPU per I/O: the time of the emulator's thread for dom0's CPU, with
kernel and hypervisor in it, and in the instructions it executes, which depend less on this machine's load. The guest's ring has {pages} (requests beyond {slots} wait in the guest), its requests 32 segments, with
qdisk 11. {turns} turns of {seconds} s; given are median, smallest and largest ratio.

* **copying**, **persistent**: blkbackd as it is by default, and with `persistent-grants = copy`.
* **blkback**: xen-blkback on the raw device; **loop**: on a loop device over the file; **direct**: that with direct I/O. It keeps
  grants, as it does by default.
* **qdisk**: as xl sets it up: thread pool, page cache, an iothread of its own. Debian's QEMU refuses xl's `direct-io-safe`
  ("aio=native was specified, but is not supported in this build"); **direct** is a disk given to it by QMP with cache.direct=on,
  aio=threads and an iothread.

### Goals

For each the workload with the worst ratio counts.

{goals}

{tables}
### How it was measured

    scripts/bench --xen                 # about 10 minutes; run again, it goes on where it was ended
    scripts/bench --xen --write         # and puts the results into this page
    scripts/bench --xen --help

The figures are in `docs/performance-xen.jsonl`, a line of JSON a workload: `backing`, `workload`, the settings `turns`, `seconds`,
`ring_order`, `engine` and `build` (a hash of the binaries), and `results`: for each backend a list of one object a turn: `iops`, `mean` and
`p99` (us, as fio says), `cpu` and `guest_cpu` (us per I/O), `kicks` and `interrupts` (events per I/O that dom0 and the guest received).
`counts` has for each backend what dom0's CPU executed per I/O in a run of its own: instructions of `programs`, of `linux` and of
`xen` but not of waiting for the other CPU, which is in `spins`, `syscalls`, and hypercalls by their number. A plugin in the emulator counts that (`tests/xen/count.c`); the hypercall of a program's
ioctl that passes its number on counts as the one before it.
{end}
"""


def section(path=RAW):
    """The page's section from the stored figures; empty where there are none."""
    records = load(path)
    if not records:
        return ""
    one = records[-1]
    pages = 1 << one["ring_order"]
    return "\n" + TEXT.format(begin=BEGIN, end=END, goals=Goals(records).all(), tables=tables(records), turns=one["turns"],
                              seconds=one["seconds"], pages="one page" if pages == 1 else f"{pages} pages", slots=32 * pages)


def write(records):
    """Stores the figures beside the page, and replaces the page's section."""
    with open(RAW, "w", encoding="utf-8") as raw:
        raw.writelines(json.dumps(record) + "\n" for record in records)
    with open(PAGE, encoding="utf-8") as f:
        page = f.read()
    before, found, after = page.partition("\n" + BEGIN)
    after = after.partition(END + "\n")[2] if found else ""
    with open(PAGE, "w", encoding="utf-8") as f:
        f.write(before + section() + after)
