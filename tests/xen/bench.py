#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The part of scripts/bench that needs a real Xen host (scripts/bench --xen): blkbackd beside the kernel's blkback and QEMU's
qdisk, on a host in QEMU's emulation, booted once.

One guest has a disk of each backend, all on the same kind of backing; fio in it runs a workload on one disk after the other,
A B C A B C ..., and the ratios are taken within such a turn. CPU is what the emulator's thread for dom0's only CPU used, so it has
everything in it: the backend, dom0's kernel, the hypervisor on dom0's behalf. It is the same for every backend, and another's
load on this machine changes it little, unlike speed.

What was measured is appended to a file, one line of JSON for each workload; what is in it is not measured again (of the same
build, with the same settings), so that a run that was ended goes on where it stopped.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.dont_write_bytecode = True
sys.path[:0] = [HERE, os.path.join(ROOT, "tests", "bed")]
import xenhost  # noqa: E402 (found by the path above)
from counters import Counters  # noqa: E402
from bedlib import bench_xen  # noqa: E402

RELEASE = os.path.join(ROOT, "build", "release", "bin")
GUEST = "g"
LETTERS = {"blkbackd": "a", "persistent": "b", "blkback": "c", "loop": "c", "loop_direct": "d", "qdisk": "e",
           "qdisk_direct": "f"}
BACKENDS = {"null": ("blkbackd", "persistent", "blkback", "qdisk", "qdisk_direct"),
            "memory": ("blkbackd", "persistent", "loop", "qdisk"),
            "disk": ("blkbackd", "persistent", "loop", "loop_direct", "qdisk", "qdisk_direct")}
# Events for backends, in dom0's /proc/interrupts
EVENTS = re.compile(r"^ *\d+: +(\d+) .*(?:blkif-backend|evtchn:blkbackd|evtchn:xen-qemu)", re.M)
SETUP_SECONDS = 400
COUNTED_SECONDS = 15


class Workload:
    """fio's settings, and the name that says them."""

    def __init__(self, size, kind, depth):
        self.size, self.kind, self.depth = size, kind, depth
        self.name = f"{size} {kind}, depth {depth}"

    def bytes(self):
        return int(self.size[:-1]) << {"k": 10, "M": 20}[self.size[-1]]

    def counted(self):
        """How many requests are enough to be counted."""
        return 64 if self.size == "1M" else 1000 if self.depth == 1 or self.size == "64k" else 4000

    def job(self):
        random = "" if self.size == "1M" else "rand"
        rw = {"read": f"{random}read", "write": f"{random}write", "mixed": f"{random}rw"}[self.kind]
        more = ["rwmixread=70", "fsync=32"] if self.kind == "mixed" else []
        return [f"rw={rw}", f"bs={self.size}", f"iodepth={self.depth}", *more]


def workloads(backing, everything):
    if everything:
        return [Workload(s, k, d) for s in ("4k", "64k", "1M") for k in ("read", "write", "mixed") for d in (1, 4, 32, 128)]
    if backing == "null":
        shapes = (("4k", "read", 1), ("4k", "read", 32), ("4k", "write", 32), ("64k", "read", 4), ("1M", "read", 4),
                  ("1M", "write", 4))
    else:
        shapes = (("4k", "read", 32), ("4k", "mixed", 32), ("1M", "read", 4), ("1M", "write", 4))
    return [Workload(*shape) for shape in shapes]


class Console:
    """What a guest writes to its console, line by line, as xenconsoled puts it into the share."""

    def __init__(self, path):
        self.path, self.position, self.rest = path, os.path.getsize(path), ""

    def lines(self):
        with open(self.path, "rb") as log:
            log.seek(self.position)
            data = log.read()
        self.position += len(data)
        text = data.decode("ascii", "replace")
        *lines, self.rest = (self.rest + text).split("\n")
        return [line.strip("\r") for line in lines]

    def until(self, pattern, seconds):
        """The lines up to one that matches, and the match."""
        seen, deadline = [], time.monotonic() + seconds
        while time.monotonic() < deadline:
            lines = self.lines()
            for number, line in enumerate(lines):
                match = re.match(pattern, line)
                if match:
                    # Nothing follows a mark before it is answered, nor the last one's end.
                    return seen + lines[:number], match
            seen += lines
            time.sleep(0.02)
        raise xenhost.HostError("the guest does not go on: " + "\n".join(seen[-8:]))


class Sample:
    """What was used and counted up to now: seconds of the emulator's two CPUs, events in dom0, interrupts in the guest, and what
    dom0's CPU executed."""

    def __init__(self, host, counters):
        self.counts = counters.read(0)
        self.cpu = [0.0, 0.0]
        folder = f"/proc/{host.qemu.pid}/task"
        for thread in os.listdir(folder):
            with open(f"{folder}/{thread}/comm", encoding="ascii") as comm:
                match = re.match(r"CPU ([01])/TCG", comm.read())
            if match:
                with open(f"{folder}/{thread}/schedstat", encoding="ascii") as used:
                    self.cpu[int(match[1])] = int(used.read().split()[0]) / 1e9
        self.events = self.interrupts = 0


class Bench:
    def __init__(self, host, counters, options):
        self.host, self.counters, self.options = host, counters, options
        self.backing = None
        self.console = None
        self.idle = [0.0, 0.0]
        self.idle_counts = {}
        self.runs = 0

    def dom0(self, script, timeout=60):
        status, output = self.host.run(script, timeout=timeout)
        if status:
            reasons = [line for line in output.splitlines() if line.startswith("FAIL:")]
            raise xenhost.HostError("\n".join(reasons or output.splitlines()[-10:]) or f"status {status}")
        return output

    def library(self):
        o = self.options
        return (f"export CASE=bench-{self.backing} LONG=0 BACKEND=blkbackd BENCH_RING_ORDER={o.ring_order} "
                f"BENCH_ENGINE={o.engine}\n. /share/lib.sh\n. /share/bench.sh\n")

    def set_up(self, backing):
        self.backing = backing
        self.dom0(self.library() + f"bench_setup {backing} {' '.join(BACKENDS[backing])}\ntrap - EXIT\n", SETUP_SECONDS)
        self.console = Console(os.path.join(self.host.share, "console", f"guest-{GUEST}.log"))
        self.baseline()

    def sample(self):
        return Sample(self.host, self.counters)

    def baseline(self):
        """What is used and counted between two marks with nothing between them, in a timed and in a counted turn."""
        self.guest("empty", "for i in 1 2 3 4; do sh /run/mark $i; done")
        _, _, begun = self.mark(20)
        _, ended, _ = self.mark(20)
        self.idle = [b - a for a, b in zip(begun.cpu, ended.cpu)]
        _, _, begun = self.mark(20, counting=True)
        _, ended, _ = self.mark(20, counting=False)
        self.idle_counts = {what: count - begun.counts.get(what, 0) for what, count in ended.counts.items()}
        self.console.until(r"@END empty 0", 20)

    def guest(self, run, command):
        """Begins a command in the guest: "@END RUN STATUS" follows."""
        self.dom0(f"cat >$(</run/case-bench-{self.backing}/tty-{GUEST}) <<'LINE'\nRUN {run} {command}\nLINE\n")

    def tear_down(self):
        # The library's own end of a case removes what the last one left.
        self.dom0(self.library() + "exit 0\n", 120)

    def script(self, workload):
        """The guest's command: one fio with a job for each backend and turn, and a mark before each.

        The turn after the last one, in which it is counted what is executed, has so many requests rather than a time."""
        o = self.options
        settings = ["thread", "ioengine=libaio", "direct=1", "norandommap", "randrepeat=0", "stonewall", *workload.job()]
        letters = " ".join(LETTERS[name] for name in BACKENDS[self.backing])
        return (f"(echo [global]; for s in {' '.join(settings)}; do echo $s; done; for t in $(seq {o.turns + 1}); do "
                f"for d in {letters}; do echo [$t-$d]; echo filename=/dev/xvd$d; echo \"exec_prerun=sh /run/mark $t-$d\"; "
                f"if [ $t -le {o.turns} ]; then echo time_based; echo runtime={o.seconds}; else "
                f"echo number_ios={workload.counted()}; echo runtime={COUNTED_SECONDS}; fi; "
                "done; done) >/run/job; cd /run; fio --minimal --terse-version=3 --eta=never --output=/run/out /run/job; s=$?; "
                "sh /run/mark end; cat /run/out; [ $s = 0 ]")

    def mark(self, seconds, counting=None):
        """Waits for a mark. Returns its name and two samples: one at the end of what came before, one at the begin of the next.

        counting: from here on it is, or is not, counted what is executed. That slows the host down."""
        _, match = self.console.until(r"@MARK (\S+) (\d+)", seconds)
        ended = self.sample()
        if match[1] in (f"{self.options.turns + 1}-a", "end"):
            counting = match[1] != "end"
        if counting is not None:
            self.counters.switch(counting)
        output = self.dom0(f"cat /proc/interrupts\necho >$(</run/case-bench-{self.backing}/tty-{GUEST})")
        begun = self.sample()
        for sample in (ended, begun):
            sample.events, sample.interrupts = sum(map(int, EVENTS.findall(output))), int(match[2])
        return match[1], ended, begun

    def measure(self, workload):
        """{backend: [figures of each turn]}, and {backend: counts}"""
        self.runs += 1
        run = f"bench{self.runs}"
        self.guest(run, self.script(workload))
        limit = max(self.options.seconds, COUNTED_SECONDS) + 60
        name, _, begun = self.mark(limit)
        used = {}
        while name != "end":
            following, ended, following_begun = self.mark(limit)
            used[name] = (begun, ended)
            name, begun = following, following_begun
        lines, match = self.console.until(rf"@END {run} (\d+)", 60)
        if match[1] != "0":
            raise xenhost.HostError("fio in the guest: " + "\n".join(lines[-8:]))
        reports = {fields[2]: fields for fields in (line.split(";") for line in lines) if len(fields) > 100}
        found, counts = {}, {}
        for backend in BACKENDS[self.backing]:
            jobs = [f"{turn}-{LETTERS[backend]}" for turn in range(1, self.options.turns + 2)]
            *found[backend], _ = [figures(workload, reports[job], used[job], self.idle) for job in jobs]
            counts[backend] = executed(workload, reports[jobs[-1]], used[jobs[-1]], self.idle_counts)
        return found, counts


def sides_of(report):
    """fio's figures for reads and for writes, as far as there were any (terse version 3: from field 5, and from field 46)."""
    return [side for side in (report[5:46], report[46:87]) if int(side[0])]


def executed(workload, report, samples, idle):
    """What dom0's CPU executed per I/O, less what it does when nothing is asked for; what is next to nothing is left out."""
    begun, ended = samples
    total = sum(int(side[0]) * 1024 / workload.bytes() for side in sides_of(report))
    counts = {what: (count - begun.counts.get(what, 0) - idle.get(what, 0)) / total for what, count in ended.counts.items()}
    return {str(what): round(count, 3) for what, count in counts.items() if count >= 0.001}


def figures(workload, report, samples, idle):
    """One run as a set of figures, from fio's line and the samples at its begin and end. What the CPUs use between two marks for nothing is not counted."""
    begun, ended = samples
    sides = sides_of(report)
    ios = [int(side[0]) * 1024 / workload.bytes() for side in sides]
    total = sum(ios)
    cpu = [max(0.0, b - a - base) / total * 1e6 for a, b, base in zip(begun.cpu, ended.cpu, idle)]
    percentiles = [float(re.search(r"99\.000000%=(\d+)", ";".join(side))[1]) for side in sides]
    return {"iops": round(sum(int(side[2]) for side in sides), 1),
            "mean": round(sum(n * float(side[34]) for n, side in zip(ios, sides)) / total, 1), "p99": max(percentiles),
            "cpu": round(cpu[0], 2), "guest_cpu": round(cpu[1], 2),
            "kicks": round((ended.events - begun.events) / total, 4),
            "interrupts": round((ended.interrupts - begun.interrupts) / total, 4)}


def fingerprint(folder):
    """Tells builds apart, so that a new one is measured anew."""
    digest = hashlib.sha256()
    for name in ("blkbackd", "blkbackd-worker"):
        with open(os.path.join(folder, name), "rb") as binary:
            digest.update(binary.read())
    return digest.hexdigest()[:16]


def parse(arguments):
    parser = argparse.ArgumentParser(prog="bench --xen", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--xen", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--bin", default=RELEASE,
                        help="folder with the binaries (default: build/release/bin, built when missing)")
    parser.add_argument("--backing", action="append", choices=BACKENDS, help="only this one; may be given several times")
    parser.add_argument("--only", default="", help="workloads whose name begins with this")
    parser.add_argument("--turns", type=int, default=3,
                        help="interleaved turns per workload (default 3; 10 for results to be held against goals)")
    parser.add_argument("--seconds", type=int, default=1, help="length of a run (default 1)")
    parser.add_argument("--long", action="store_true", help="every workload (hours)")
    parser.add_argument("--minutes", type=float, default=15, help="begin no other workload after this time (default 15)")
    parser.add_argument("--ring-order", type=int, default=0, help="the guest's max_ring_page_order (default 0, as Linux's)")
    parser.add_argument("--engine", default="", help="blkbackd's engine")
    parser.add_argument("--raw", default=os.path.join(ROOT, "build", "bench-xen.jsonl"),
                        help="where the figures are kept (default: build/bench-xen.jsonl)")
    parser.add_argument("--again", action="store_true", help="forget what is kept there")
    parser.add_argument("--json", action="store_true", help="print the figures rather than tables")
    parser.add_argument("--write", action="store_true", help="put the results into docs/performance.md")
    parser.add_argument("--results", default=os.path.join(ROOT, "build", "bench-xen"), help="folder for logs")
    return parser.parse_args(arguments)


def key(record):
    return tuple(record[name] for name in bench_xen.SETTINGS)


def select(options):
    """What is to be measured: [(backing, workload, its record without results)]."""
    common = {"turns": options.turns, "seconds": options.seconds, "ring_order": options.ring_order, "engine": options.engine,
              "build": fingerprint(options.bin)}
    return [(backing, workload, {"backing": backing, "workload": workload.name, **common})
            for backing in options.backing or BACKENDS for workload in workloads(backing, options.long)
            if workload.name.startswith(options.only)]


def run(options, todo, deadline):
    """Boots the host and measures; what is done is taken from todo and kept in the file."""
    shutil.rmtree(options.results, ignore_errors=True)
    os.makedirs(options.results)
    image = xenhost.build_image()
    counters = Counters(options.results)
    with xenhost.XenHost(image, options.results, cpus=2, light=False, extra=("-name", "bench,debug-threads=on", *counters.args)) as host:
        xenhost.install_product(host, options.bin, os.path.join(ROOT, "conf"))
        xenhost.install_cases(host)
        shutil.copy2(os.path.join(HERE, "share", "bench.sh"), host.share)
        print(f"dom0 is up ({host.start():.0f} s)", file=sys.stderr, flush=True)
        bench = Bench(host, counters, options)
        while todo and time.monotonic() < deadline:
            backing, workload, record = todo[0]
            if backing != bench.backing:
                if bench.backing:
                    bench.tear_down()
                bench.set_up(backing)
            begun = time.monotonic()
            record["results"], record["counts"] = bench.measure(workload)
            with open(options.raw, "a", encoding="utf-8") as raw:
                raw.write(json.dumps(record) + "\n")
            todo.pop(0)
            print(f"measured: {backing}, {workload.name} ({time.monotonic() - begun:.0f} s)", file=sys.stderr, flush=True)


def run_all(options, todo):
    """Measures, on another host when one fails, until all is done, the time is over, or two hosts have failed at the same."""
    deadline = time.monotonic() + options.minutes * 60
    failed_at = None
    while todo and time.monotonic() < deadline:
        try:
            run(options, todo, deadline)
        except (xenhost.HostError, TimeoutError) as error:
            print(f"bench: the Xen host: {error}", file=sys.stderr, flush=True)
            if failed_at == len(todo):
                break
            failed_at = len(todo)
    if todo:
        print(f"bench: {len(todo)} workloads are left; what was measured is kept, the same command goes on with the rest",
              file=sys.stderr)


def build(options):
    """The default binaries are built when they are missing."""
    if options.bin == RELEASE and not os.access(os.path.join(RELEASE, "blkbackd"), os.X_OK):
        for command in (["cmake", "--preset", "release"], ["cmake", "--build", "--preset", "release"]):
            subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def main(arguments=None):
    options = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    build(options)
    if options.again and os.path.exists(options.raw):
        os.unlink(options.raw)
    wanted = select(options)
    kept = {key(record) for record in bench_xen.load(options.raw)}
    todo = [one for one in wanted if key(one[2]) not in kept]
    run_all(options, todo)
    # The page has all that was measured in the same way, not only what was asked for this time.
    same = {tuple(record[name] for name in bench_xen.SETTINGS[2:]) for _, _, record in wanted}
    records = [r for r in bench_xen.load(options.raw) if tuple(r[name] for name in bench_xen.SETTINGS[2:]) in same]
    if options.json:
        print(json.dumps(records))
    elif records:
        print(bench_xen.tables(records))
    if options.write and records:
        bench_xen.write(records)
    return 1 if todo else 0


if __name__ == "__main__":
    sys.exit(main())
