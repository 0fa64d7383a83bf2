# SPDX-License-Identifier: BSD-2-Clause
"""A well-behaved guest beside one under test: verified I/O without a pause, and what the daemon's log and processes say."""

import contextlib
import os
import signal
import threading
import time

from .vbd import CONNECTED


class Neighbour:
    """with Neighbour(disk): ... Another domain's disk of the same daemon is read, written and compared meanwhile."""

    def __init__(self, disk):
        self.disk = disk.t.disk(disk.daemon)
        self.front = self.disk.connect()
        self.done, self.longest, self.wrong = 0, 0.0, []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            while not self.over.is_set():
                start = time.monotonic()
                self.front.exercise(self.disk.contents, requests=50, depth=8, seed=self.done + 1)
                self.longest = max(self.longest, time.monotonic() - start)
                self.done += 50
        except Exception as e:  # noqa: BLE001 - told at the end
            self.wrong.append(str(e))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, value, trace):
        self.over.set()
        self.thread.join()
        if kind is None:
            assert not self.wrong, f"the neighbour: {self.wrong[0]}"
            assert self.done, "the neighbour did nothing"
            assert self.longest < 10, f"50 requests of the neighbour took {self.longest:.1f} s"
            assert self.disk.vbd.backend_state() == CONNECTED and not self.disk.vbd.error()
            self.disk.serves(self.front)


@contextlib.contextmanager
def untouched(disk):
    """What a hostile guest must not bring about: a worker that ends, a broker that does not answer, a long or raw log."""
    length = os.path.getsize(disk.daemon.log)
    with Neighbour(disk) as neighbour:
        yield neighbour
        error, _, text = disk.daemon.control(1, timeout=5)
        assert not error, text
    with open(disk.daemon.log, "rb") as f:
        f.seek(length)
        said = f.read()
    for sign in (b"its worker (pid", b"its worker is not ready"):
        assert sign not in said, f"a worker ended: {said[said.index(sign):][:200]!r}"
    assert len(said) < 1 << 20, f"{len(said)} bytes of log"
    raw = set(said) - set(range(32, 127)) - set(b"\n")
    assert not raw, f"bytes {raw} in the log"


@contextlib.contextmanager
def meanwhile(work):
    """Repeats work() in a process of its own, as another CPU of the guest would."""
    pid = os.fork()
    if pid == 0:
        try:
            while True:
                work()
        finally:
            os._exit(1)
    try:
        yield
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), "the guest's other CPU stopped"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def resident(pid):
    """Bytes that a process has in memory and that are no file's."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("RssAnon:"))
