# SPDX-License-Identifier: BSD-2-Clause
"""Very many disks, measured: what attaching one costs, what idle ones cost, what one busy one has among them, what stays behind
when all were busy. For tests/bed/test_scale.py, which holds it to its limits, and scripts/bench --scale, which makes a section of
docs/performance.md of it."""

import json
import os
import statistics
import sys
import threading
import time

from . import bench_report
from .bed import Bed
from .crowd import KIB, Crowd, Usage, raise_descriptor_limit
from .testing import Context

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
PAGE = f"{ROOT}/docs/performance.md"
RAW = f"{ROOT}/docs/performance-scale.json"
BEGIN, END = "<!-- scripts/bench --scale -->", "<!-- end of scripts/bench --scale -->"
RECORD = 2  # of a state directory's files, for each disk
DEPTHS = (1, 32)  # of the busy one among idle ones
PAIRS, SECONDS = 21, 0.2


def crowd_of(t, count, domains=1, **daemon):
    """A daemon with a disk and then the others, of the same domain or of several more. (crowd, usage before, costs)"""
    raise_descriptor_limit()
    crowd = Crowd(t.bed, t.blkbackd(log_level="info", **daemon))
    crowd.add(t.new_domain(), 0)
    guests = [t.new_domain() for _ in range(domains)]
    if domains == 1:
        guests = [crowd.members[0].vbd.domain]
    before = crowd.usage()
    return crowd, before, attach_others(t, crowd, count, guests)


def attach_others(t, crowd, count, guests):
    """All but the first, spread over guests. Returns what each cost where there is one guest only."""
    costs = []
    for number in range(1, count):
        used = crowd.usage() if len(guests) == 1 else None
        crowd.add(guests[number % len(guests)], number)
        if used:
            costs.append(crowd.usage().since(used))
        if number % 100 == 0:
            t.extend()
    return costs


def settled(crowd):
    """Usage when what may be given back has been: workers look for that 5 s after their last activity."""
    time.sleep(6.5)
    return crowd.usage()


def middle(costs, name):
    return statistics.median(cost[name] for cost in costs)


def attached(costs):
    """What the last ones cost, and how much more that is than the first ones did."""
    part = max(20, len(costs) // 10)
    first, last = costs[:part], costs[-part:]
    figures = {"attach_ms": middle(last, "cpu_ns") / 1e6, "attach_growth": middle(last, "cpu_ns") / middle(first, "cpu_ns")}
    for name in ("requests", "wakeups"):
        figures[f"attach_{name}"] = middle(last, name)
        figures[f"attach_{name}_growth"] = middle(last, name) / middle(first, name)
    return figures


def idle(crowd, seconds):
    """Wake-ups of the broker and of the workers, and the processor time of all, in so many seconds."""
    workers, broker = Usage(crowd.daemon.workers()), Usage([crowd.daemon.process.pid])
    time.sleep(seconds)
    workers, broker = (Usage(crowd.daemon.workers()).since(workers), Usage([crowd.daemon.process.pid]).since(broker))
    return {"idle_broker": broker["wakeups"], "idle_workers": workers["wakeups"],
            "idle_percent": (broker["cpu_ns"] + workers["cpu_ns"]) / seconds / 1e7, "idle_seconds": seconds}


def loner(t, crowd):
    """Another domain's only disk, with a worker of its own. (member, pid of its worker, pid of the crowd's)"""
    theirs, = crowd.daemon.workers()
    member, _ = crowd.add(t.new_domain(), 0)
    own, = set(crowd.daemon.workers()) - {theirs}
    return member, own, theirs


def busy(member, pid, depth, seconds=SECONDS):
    """Reads of 4 KiB: their number a second, and what a worker spends on one: wake-ups, processor time. Once more when the machine
    had other things to do nearly all the time."""
    for _ in range(20):
        before = Usage([pid])
        done = member.front.bench(depth=depth, seconds=seconds)
        used = Usage([pid]).since(before)
        assert not done.errors, f"{done.errors} errors"
        if done.ios > 100:
            break
    assert done.ios > 100, f"{done.ios} reads in {seconds} s, again and again"
    return {"iops": done.ios / done.nanoseconds * 1e9, "wakeups": used["wakeups"] / done.ios, "cpu_us": used["cpu_ns"] / done.ios / 1e3}


def pairs(alone, among, depth, count=PAIRS):
    """Two (member, pid) by turns, each first as often as the other. A list of what busy() says, for each."""
    found = [], []
    for turn in range(count):
        for which in (0, 1) if turn % 2 else (1, 0):
            found[which].append(busy(*(alone, among)[which], depth))
    return found


def ratio(found, name="iops"):
    """Of the one among others to the one alone: median, least and greatest of the pairs'."""
    values = [among[name] / alone[name] for alone, among in zip(*found)]
    return statistics.median(values), min(values), max(values)


def work(member, failures):
    """Verified I/O, in a thread of its own: the library lets go of Python's lock."""
    try:
        front = member.front
        pool = front.pool(32, aliases=False)
        front.exercise(member.contents, requests=150, depth=8, max_segments=4, readonly=0, timeout_ms=120000, pool=pool)
    except Exception as e:  # noqa: BLE001 - told together
        failures.append(f"disk {member.number}: {e}")


def all_busy(t, crowd, rounds=2):
    """Verified I/O on all at once, and their images afterwards. What was wrong, and what stays in memory and open because of it."""
    before, wrong = settled(crowd), []
    for member in crowd.members:
        member.contents = bytearray(crowd.image_size)
    for _ in range(rounds):
        threads = [threading.Thread(target=work, args=(member, wrong)) for member in crowd.members]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
            t.extend()
    for member in crowd.members:
        with open(member.path, "rb") as f:
            if f.read() != member.contents:
                wrong.append(f"disk {member.number}: its image differs")
    with open(crowd.daemon.log, encoding="utf-8", errors="replace") as f:
        wrong += [line.strip() for line in f if "failed" in line or "emory" in line]
    after = settled(crowd).since(before)
    return {"busy_wrong": wrong, "busy_kib": after["anonymous"] / len(crowd.members) / KIB, "busy_descriptors": after["descriptors"]}


def gone(t, crowd, before):
    """All but the first are detached: what more than before is held then."""
    for member in crowd.members[:0:-1]:
        crowd.remove(member)
        if len(crowd.members) % 100 == 0:
            t.extend()
    t.bed.wait_for(lambda: len(os.listdir(f"{crowd.daemon.dir}/state")) == RECORD, "the state files to go")
    t.bed.wait_for(lambda: len(crowd.daemon.workers()) == 1, "the workers to leave")
    after = settled(crowd).since(before)
    return {"left_kib": after["anonymous"] / KIB, "left_descriptors": after["descriptors"], "left_mappings": after["mappings"]}


def one_busy(t, crowd):
    """By depth: pairs of one disk alone and one of the crowd, of workers of one daemon."""
    lone, own, theirs = loner(t, crowd)
    found = {}
    for depth in DEPTHS:
        found[str(depth)] = pairs((lone, own), (crowd.members[0], theirs), depth)
        t.extend()
    crowd.remove(lone)
    t.bed.wait_for(lambda: len(crowd.daemon.workers()) == 1, "the other worker to leave")
    return found


def measured(t, count, seconds=10):
    """All of it on one crowd; what is stored beside the page."""
    crowd, before, costs = crowd_of(t, count)
    figures = {"disks": count, "cpus": len(os.sched_getaffinity(0)), **attached(costs)}
    figures["idle_kib"] = settled(crowd).since(before)["anonymous"] / (count - 1) / KIB
    figures.update(idle(crowd, seconds))
    t.extend()
    print(f"measured: {count} idle disks", file=sys.stderr, flush=True)
    figures["one_busy"] = one_busy(t, crowd)
    print("measured: one busy", file=sys.stderr, flush=True)
    figures.update(all_busy(t, crowd))
    print("measured: all busy", file=sys.stderr, flush=True)
    figures.update(gone(t, crowd, before))
    figures["one_idle_broker"] = idle(crowd, seconds)["idle_broker"]
    return figures


# --- what scripts/bench makes of it ------------------------------------------------------------------------------


def rows(found):
    """Goal, what was measured, whether it is reached."""
    def row(goal, shown, reached):
        return [goal, shown, "yes" if reached else "**no**"]

    def spread(values):
        return "{:.2f} ({:.2f}-{:.2f})".format(*values)

    def each(name):
        """What it is for the last ones; figures stored by an older version have the ratio alone."""
        return f"{found[name + '_growth']:.2f}" + (f"; {found[name]:.0f} each" if name in found else "")

    part = max(20, (found["disks"] - 1) // 10)
    requests = [row("P11: the same for requests to xenstored", each("attach_requests"), found["attach_requests_growth"] <= 1.3)
                ] if "attach_requests" in found else []
    pair = {depth: ratio(of) for depth, of in found["one_busy"].items()}
    wrong, kept = found["busy_wrong"], found["idle_kib"] + found["busy_kib"]
    return [
        row("P10: memory of an idle disk at most 64 KiB", f"{found['idle_kib']:.1f} KiB", found["idle_kib"] <= 64),
        row("P10: after a burst at most 140 KiB, a tenth of what qdisk keeps", f"{kept:.1f} KiB", kept <= 140),
        row("P11: processor time of attaching one at most 5 ms", f"{found['attach_ms']:.2f} ms", found["attach_ms"] <= 5),
        row(f"P11: for the last {part} at most 1.3 of the first {part}", f"{found['attach_growth']:.2f}",
            found["attach_growth"] <= 1.3),
        *requests,
        row("P11: the same for wake-ups (see above)", each("attach_wakeups"), found["attach_wakeups_growth"] <= 1.3),
        row(f"P12: all idle: no wake-ups of the worker in {found['idle_seconds']} s", f"{found['idle_workers']}",
            found["idle_workers"] == 0),
        row(f"P12: all idle: none of the broker in {found['idle_seconds']} s",
            f"{found['idle_broker']}; {found['one_idle_broker']} with one disk", found["idle_broker"] == 0),
        row("P12: all idle: less than 0.1 % of a CPU", f"{found['idle_percent']:.3f} %", found["idle_percent"] < 0.1),
        *(row(f"P12: one busy, 4k reads, depth {depth}: at least 0.95 of its IOPS alone", spread(values), values[0] >= 0.95)
          for depth, values in pair.items()),
        row("P13: all busy: every byte right, nothing failed", f"{len(wrong)} complaints" if wrong else "all right", not wrong),
        row("P13: all detached: descriptors more than before", f"{found['busy_descriptors'] + found['left_descriptors']}",
            found["busy_descriptors"] == 0 and found["left_descriptors"] == 0),
        row("P13: all detached: memory and mappings more than before", f"{found['left_kib']:.0f} KiB, {found['left_mappings']}",
            found["left_kib"] < 2048 and found["left_mappings"] < 20),
    ]


def table(found):
    return bench_report.table(["goal", "measured", "reached"], rows(found))


def busy_table(found):
    """The busy one's figures behind the ratios: medians."""
    lines = []
    for depth, both in found["one_busy"].items():
        for name, runs in zip(("alone", f"among {found['disks']}"), both):
            lines.append([depth, name, *(f"{middle(runs, what):.{digits}f}" for what, digits in
                                         (("iops", 0), ("cpu_us", 2), ("wakeups", 3)))])
    return bench_report.table(["depth", "disk", "IOPS", "worker's CPU, us per I/O", "wake-ups per I/O"], lines)


TEXT = """{begin}
## Scale

One domain with {disks} disks, on {cpus} CPUs of a machine that was not otherwise idle; the bed's stand-ins for Xen, a real
xenstored, images in memory. Memory is what is no file's, of broker and worker together. qdisk keeps at
least 1.4 MiB for each disk after a burst; that was measured elsewhere. For one busy disk another domain's only disk was
read by turns with it, {pairs} pairs of {seconds:g} s; both are served by one blkbackd with its defaults, each by a worker of its own.

An attach's wake-ups are those in which the broker waits for xenstored's answers. Linux wakes it up to three times for one: when
xenstored has taken the request, for the answer's header and for its body. These are three where both are on one CPU, one or two where they
are on two, and which it is changes from one moment to another: so the requests, which don't depend on that, are counted as well
([performance-profile.md](performance-profile.md)).

{goals}

One busy disk:

{busy}

    scripts/bench --scale --disks={disks}           # a few minutes; prints the same
    scripts/bench --scale --disks={disks} --write   # and puts it into this page

The figures are in `docs/performance-scale.json`. `tests/bed/test_scale.py` holds each change to most of these limits.
{end}
"""


def section(path=RAW):
    """The page's section from the stored figures; empty where there are none."""
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as f:
        found = json.load(f)
    return "\n" + TEXT.format(begin=BEGIN, end=END, disks=found["disks"], cpus=found["cpus"], goals=table(found), seconds=SECONDS,
                              pairs=min(len(both[0]) for both in found["one_busy"].values()), busy=busy_table(found))


def write(found):
    """Stores the figures beside the page, and replaces the page's section."""
    with open(RAW, "w", encoding="utf-8") as f:
        f.write(json.dumps(found, indent=1) + "\n")
    with open(PAGE, encoding="utf-8") as f:
        page = f.read()
    before, had, after = page.partition("\n" + BEGIN)
    after = after.partition(END + "\n")[2] if had else ""
    with open(PAGE, "w", encoding="utf-8") as f:
        f.write(before + section() + after)


def run(options):
    """scripts/bench --scale"""
    options.long = True
    with Bed(options.lib) as bed:
        t = Context(bed, options)
        t.extend()
        try:
            found = measured(t, options.disks)
        finally:
            t.finish()
    if options.write:
        write(found)
    print(json.dumps(found, indent=1) if options.json else f"{table(found)}\n\n{busy_table(found)}")
    return 0
