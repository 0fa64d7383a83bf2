# SPDX-License-Identifier: BSD-2-Clause
"""What the test files share: cases, their report, and a context with a bed and backends.

A test file:  cases = Cases(); @cases.add def name(t): ...; cases.main()
Output: one line a case ("ok NAME", "skip NAME: why", "not ok NAME: why"); exit 0, 77 when all were skipped, else 1.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback

from .bed import Bed, Missing, tail
from .blkbackd import Blkbackd
from .front import Frontend
from .qdisk import Qdisk
from .vbd import XVDA, Vbd

MIB = 1 << 20
LONGEST_CASE = 180  # seconds


class Skip(Exception):
    """The case can't run here."""


class Context:
    """What a case gets: t.bed, t.start(backend), t.disk(...), t.frontend(...). One domain per disk unless told."""

    def __init__(self, bed, options):
        self.bed, self.options, self.backends, self.next_domid = bed, options, [], 1
        self.long = options.long

    def extend(self):
        """The case has made progress: its time begins anew."""
        signal.alarm(LONGEST_CASE)

    def sanitized(self):
        """Whether the daemon is: then memory and processor time are the sanitizer's, which keeps what is freed."""
        with open(f"{self.options.bin}/blkbackd", "rb") as f:
            return b"__asan_init" in (program := f.read()) or b"__tsan_init" in program

    def new_domain(self):
        domain = self.bed.domain(self.next_domid)
        self.next_domid += 1
        return domain

    def blkbackd(self, **settings):
        """A daemon of this case's own. It must end well, with nothing left mapped."""
        if not self.options.bin:
            raise Skip("no --bin")
        daemon = Blkbackd(self.bed, self.options.bin, **settings)
        self.backends.append(daemon)
        return daemon

    def disk(self, backend, size=8 * MIB, domain=None, devid=XVDA, faults=None, mode="w", image=None, nodes=None,
             **options):
        """A new disk with random contents on backend: "qdisk", "blkbackd" or a running Blkbackd. Faults are given by
        faults(image path) -> environment; nodes: of the backend directory besides the usual. Returns a Disk."""
        domain = domain or self.new_domain()
        path, contents = image or self.bed.image(size, f"disk-{domain.domid}-{devid}.img")
        env = faults(path) if faults else None
        if backend == "qdisk":
            vbd = Vbd(domain, Qdisk.backend_class, devid)
            vbd.create({**Qdisk.nodes(path), **(nodes or {})}, mode)
            daemon = Qdisk(self.bed, domain, env)
            self.backends.append(daemon)
        else:
            daemon = self.blkbackd(env=env, **options) if backend == "blkbackd" else backend
            vbd = Vbd(domain, daemon.backend_class, devid)
            vbd.create({**daemon.nodes(path), **(nodes or {})}, mode)
            daemon.hook_in_background(vbd)
        return Disk(self, daemon, vbd, path, contents)

    def finish(self):
        """Ends the backends; complains when one did not end well."""
        problems = [p for p in (backend.stop() for backend in self.backends) if isinstance(p, str)]
        if problems:
            raise AssertionError("; ".join(problems))


class Disk:
    """A disk under test: daemon, vbd, image and its expected contents, frontends."""

    def __init__(self, context, daemon, vbd, path, contents):
        self.t, self.daemon, self.vbd, self.path, self.contents = context, daemon, vbd, path, contents

    def frontend(self):
        return Frontend(self.vbd)

    def connect(self, **options):
        return Frontend(self.vbd).connect(**options)

    def check_image(self):
        with open(self.path, "rb") as f:
            found = f.read()
        assert len(found) == len(self.contents), f"the image's size is {len(found)}, was {len(self.contents)}"
        if found != self.contents:
            at = next(i for i in range(len(found)) if found[i] != self.contents[i])
            raise AssertionError(f"the image differs from what was written, first at byte {at} (sector {at // 512})")

    def quick_io(self, front):
        """Some of everything through a connected frontend, compared in the image too."""
        front.exercise(self.contents, requests=150, depth=min(32, front.slots()))
        self.check_image()

    def serves(self, front):
        """Serves the connected frontend, and lets it go."""
        self.quick_io(front)
        front.close()
        self.check_nothing_mapped()

    def status(self):
        """What "blkbackctl status --json" says of it."""
        out = subprocess.run([f"{self.daemon.bin}/blkbackctl", "--config", self.daemon.config, "status", "--json",
                              "--interval", "0", self.vbd.back.removeprefix("/local/domain/0/")], check=True,
                             stdout=subprocess.PIPE, env=self.t.bed.environment(None)).stdout
        return json.loads(out)["disks"][0]

    def counted(self, name):
        """One of the numbers of its status."""
        found = self.status()
        return found[name] if name in found else found["statistics"][name]

    def check_nothing_mapped(self):
        mapped = self.vbd.domain.mapped()
        assert mapped == 0, f"{mapped} pages of the guest are still mapped"

    def wait_for_nothing_mapped(self, what="the guest's pages to be given back"):
        """Where nobody is told when the worker is done: the state files go before it lets go of a guest that has ended."""
        self.t.bed.wait_for(lambda: self.vbd.domain.mapped() == 0, what)


class Cases:
    def __init__(self):
        self.cases = []
        self.only_long = set()
        self.arguments = []

    def argument(self, *names, **options):
        """An option of this file's own, in t.options."""
        self.arguments.append((names, options))

    def add(self, function):
        self.cases.append((function.__name__.replace("_", "-"), function))
        return function

    def over(self, name, *values):
        """Decorator: one case for each value, which the function gets as its second argument."""
        def decorate(function):
            for value in values:
                label = "-".join(str(value).split())
                self.cases.append((f"{name}-{label}", lambda t, v=value: function(t, v)))
            return function
        return decorate

    def over_long(self, name, everything, quick):
        """As over(), with only the values of quick unless --long."""
        def decorate(function):
            self.over(name, *everything)(function)
            for value in everything:
                if value not in quick:
                    self.only_long.add(f"{name}-{value.replace(' ', '-')}")
            return function
        return decorate

    def _options(self):
        parser = argparse.ArgumentParser(description="Tests on the bed.")
        parser.add_argument("--bin", help="folder with blkbackd and blkbackd-worker")
        parser.add_argument("--lib", help="folder with the bed's libraries; default: ../bed/lib beside --bin")
        parser.add_argument("--long", action="store_true", help="the full matrix")
        parser.add_argument("-v", action="store_true", help="stack traces and logs of failures")
        parser.add_argument("only", nargs="*", help="parts of the names of the cases to run")
        for names, of_argument in self.arguments:
            parser.add_argument(*names, **of_argument)
        options = parser.parse_args()
        options.bin = options.bin or os.environ.get("BLKBACKD_TEST_BIN")
        options.lib = options.lib or os.environ.get("BLKBACKD_TEST_LIB")
        if not options.lib and options.bin:
            options.lib = os.path.join(os.path.abspath(options.bin), "../bed/lib")
        if not options.lib:
            parser.error("--bin or --lib is needed")
        return options

    def main(self):
        options = self._options()
        group = os.path.basename(sys.argv[0]).removeprefix("test_").removesuffix(".py")
        chosen = [c for c in self.cases if any(o in c[0] for o in options.only)
                  or not options.only and (options.long or c[0] not in self.only_long)]
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        counts = {"ok": 0, "skip": 0, "not ok": 0}
        for name, function in chosen:
            start = time.monotonic()
            verdict, why = run_apart(function, options)
            counts[verdict] += 1
            took = time.monotonic() - start
            print(f"{verdict} {group}/{name}{': ' + why if why else ''}" + (f" ({took:.1f} s)" if took > 5 else ""),
                  flush=True)
        sys.exit(1 if counts["not ok"] else 77 if not counts["ok"] else 0)


def too_long(*_):
    raise TimeoutError(f"the case took longer than {LONGEST_CASE} s")


def run_apart(function, options):
    """Runs a case in a process of its own, since a process has one bed. (verdict, why)"""
    with tempfile.TemporaryFile("w+") as report:
        pid = os.fork()
        if pid == 0:
            verdict, why = "not ok", "ended from outside"
            signal.signal(signal.SIGALRM, too_long)
            signal.alarm(LONGEST_CASE)
            try:
                verdict, why = run_case(function, options)
            finally:
                report.write(f"{verdict}\n{why}")
                report.flush()
                sys.stdout.flush()
                os._exit(0)
        try:
            os.waitpid(pid, 0)
        except SystemExit:
            os.kill(pid, signal.SIGTERM)
            os.waitpid(pid, 0)
            raise
        report.seek(0)
        verdict, _, why = report.read().partition("\n")
        return verdict or "not ok", why if verdict else "the test itself crashed"


def run_case(function, options):
    try:
        with Bed(options.lib) as bed:
            context = Context(bed, options)
            try:
                try:
                    function(context)
                except BaseException:
                    if options.v:
                        show_logs(bed)
                    raise
                finally:
                    failing = sys.exc_info()[0] is not None
                    try:
                        context.finish()
                    except AssertionError:
                        if options.v:
                            show_logs(bed)
                        if not failing:
                            raise
            finally:
                sys.stdout.flush()
        return "ok", ""
    except (Skip, Missing) as e:
        return "skip", str(e)
    except BaseException as e:  # noqa: BLE001 - anything is a failed case
        if options.v:
            traceback.print_exc(file=sys.stdout)
        return "not ok", f"{type(e).__name__}: {e}".replace("\n", " | ") + where(e)


def where(error):
    """The line of the case that did not go on."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if os.path.basename(f.filename).startswith("test_")]
    return f" [{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}]" if frames else ""


def show_logs(bed):
    for process in bed.processes:
        text = tail(process.log, 60)
        if text:
            print(f"--- {os.path.basename(process.log)}\n{text}")
    try:
        print("--- XenStore\n" + bed.xs.dump("/local/domain"))
    except OSError as e:
        print(f"--- XenStore: {e}")
