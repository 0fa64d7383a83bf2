# SPDX-License-Identifier: BSD-2-Clause
"""A frontend's load that goes on while its backend is killed, and what is measured meanwhile."""

import ctypes
import os
import select
import signal
import statistics
import threading
import time

from . import native
from .bed import as_pointer
from .front import SECTOR
from .pages import Wrong

MIB = 1 << 20
ANSWER_SECONDS = 30  # within which a request in flight is answered, whatever happens


class Load:
    """Random requests on all queues of a connected frontend, in a thread, until stop(); overlapping, every write stamped
    and every read checked against all that was answered. with Load(...) as load: ... checks everything at its end."""

    def __init__(self, front, disk, direct=False, pages=2500, depth=16, max_segments=11, max_indirect=0, seed=1,
                 weights=(40, 45, 5, 5, 5), timeout=ANSWER_SECONDS, outside=True, **options):
        """weights: read, write, flush, barrier, discard. outside: after flushes the image is read from outside."""
        self.front, self.bed = front, front.bed
        self.image = os.open(disk.path, os.O_RDONLY | (os.O_DIRECT if direct else 0)) if outside else -1
        queues = (ctypes.c_void_p * native.HISTORY_QUEUES)(*front.queues)
        self.run = native.History(
            queue=queues, queues=len(front.queues), pool=front.pool(pages), sectors=len(disk.contents) // SECTOR,
            seed=seed, depth=min(depth, front.slots()), max_segments=max_segments, max_indirect=max_indirect,
            weight_read=weights[0], weight_write=weights[1], weight_flush=weights[2], weight_barrier=weights[3],
            weight_discard=weights[4], discard_unit=8, alignment=8 if direct else 1, readonly=1,
            timeout_ms=int(timeout * 1000), image=self.image)
        for name, value in options.items():
            setattr(self.run, name, value)
        self.status = None
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.pauses = []

    def _work(self):
        self.status = front_history(self.bed, self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, kind, value, trace):
        self.run.stop = 1
        self.thread.join(ANSWER_SECONDS + 10)
        if self.image >= 0 and not self.thread.is_alive():
            os.close(self.image)
        if kind is None or self.run.message:
            self.check()

    def check(self):
        if self.run.message:
            raise Wrong(self.run.message.decode())
        if self.thread.is_alive() and self.run.stop:
            raise Wrong("the load did not end")
        if self.status is not None:
            native.check(self.status)

    def answered(self):
        return self.run.answered

    def progress(self, answers):
        """Waits for so many more answers."""
        until, end = self.answered() + answers, time.monotonic() + ANSWER_SECONDS + 5
        while self.answered() < until:
            self.check()
            if not self.thread.is_alive() or time.monotonic() > end:
                raise Wrong(f"{self.answered()} answers, waited for {until}")
            time.sleep(0.0005)

    def published(self):
        """What the backend has published on each ring."""
        return [ctypes.cast(self.bed.lib.front_queue_memory(queue), ctypes.POINTER(native.u32))[2]
                for queue in self.front.queues]

    def paused_since(self, start, before):
        """Notes how long it takes, from start on, until there is an answer beyond those of before."""
        end = start + ANSWER_SECONDS
        while self.published() == before:
            if not self.thread.is_alive() or time.monotonic() > end:
                self.check()
                raise Wrong("no answer after the kill")
            time.sleep(0.0002)
        self.pauses.append(time.monotonic() - start)

    def pause(self):
        """The median and the 99th percentile of the pauses so far, for people."""
        ordered = sorted(self.pauses)
        p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
        return f"pause of {len(ordered)}: p50 {statistics.median(ordered) * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms"


def front_history(bed, run):
    return bed.lib.front_history(ctypes.byref(run))


def stamped_image(t, size, direct=False, name="disk.img"):
    """An image whose contents a Load knows. (path, contents)"""
    if direct:
        path, contents = t.bed.direct_image(size)
    else:
        path, contents = t.bed.image(size, name, fill=False)
    t.bed.lib.front_history_fill(as_pointer(contents), size // SECTOR)
    with open(path, "r+b") as f:
        f.write(contents)
        os.fsync(f.fileno())
    return path, contents


def kill_and_wait(pid):
    """SIGKILL, and back when it is dead. False: it was gone before."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        select.select([fd], [], [], 30)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return True
