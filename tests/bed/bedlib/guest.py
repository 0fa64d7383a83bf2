# SPDX-License-Identifier: BSD-2-Clause
"""A guest under load whose backend's processes are killed: what it sees is checked at the end."""

import random
import signal
import time

from .fault import Faults
from .history import Load, kill_and_wait, stamped_image

MIB = 1 << 20
KINDS = {  # engine, direct, queues, ring order, largest requests, persistent grants
    "uring": dict(engine="uring"),
    "uring-direct-queues": dict(engine="uring", direct="yes", queues=4, order=1, max_indirect=32),
    "aio-direct-persistent": dict(engine="aio", direct="yes", queues=2, persistent=True, max_indirect=64),
    "aio-multi-block": dict(engine="aio", order=2, max_segments=33),
    "inline-large": dict(engine="inline", order=2, queues=2, max_indirect=256, max_segments=100),
    "uring-persistent": dict(engine="uring", persistent=True, order=1, max_segments=33, max_indirect=32),
    "uring-direct-copied": dict(engine="uring", direct="yes", persistent=True, persistent_grants="copy", max_indirect=64),
    "inline-direct": dict(engine="inline", direct="yes", queues=3),
}
EXTENSION = ("max-requests", "max-request-segments", "max-request-size")


class Guest:
    """A disk of one of the KINDS, connected, with its load."""

    def __init__(self, t, engine, direct="no", queues=1, order=0, max_segments=11, max_indirect=0, persistent=False,
                 slow=False, **daemon):
        self.t = t
        self.rng = random.Random(getattr(t.options, "seed", 0) or time.time_ns())
        settings = {"engine": engine, "direct": direct, "max_queues": 4, "max_indirect_segments": 256,
                    "max_request_segments": 128, "log_level": "info",
                    "persistent_grants": "yes" if persistent else "no", **daemon}
        image = stamped_image(t, 4 * MIB, direct == "yes")
        self.faults = Faults(t.bed, image[0]) if slow else None
        if slow:  # outlive() forks
            settings["worker"] = {"sandbox": "off"}
        self.daemon = t.blkbackd(env=self.faults.environment() if slow else None, **settings)
        self.disk = t.disk(self.daemon, image=image, nodes={"discard-enable": 1})
        extra = dict(zip(EXTENSION, (256, max_segments, max_segments * 4096))) if max_segments > 11 else None
        self.front = self.disk.frontend().connect(order=order, queues=queues, persistent=persistent, extra=extra)
        self.load = Load(self.front, self.disk, direct == "yes", max_segments=max_segments, max_indirect=max_indirect,
                         seed=self.rng.getrandbits(60))

    def __enter__(self):
        self.watch = self.disk.vbd.watch_states()
        self.seen = self.watch.__enter__()
        self.load.__enter__()
        self.load.progress(50)
        return self

    def __exit__(self, kind, value, trace):
        self.load.__exit__(kind, value, trace)
        self.watch.__exit__(kind, value, trace)
        if kind is None:
            assert self.seen == [], f"the frontend was told: {self.seen}"
            assert self.disk.vbd.error() is None, self.disk.vbd.error()
            self.front.close()
            self.disk.check_nothing_mapped()
            done = self.load.run
            print(f"# {self.load.pause()}; {done.answered} answers, {done.overlapping} overlaps, {done.outside} looks "
                  f"at the image", flush=True)

    def at_random(self):
        """A moment of the load: some answers on, and a little time."""
        self.load.progress(self.rng.choice((1, 10, 60, 200)))
        time.sleep(self.rng.random() * self.rng.choice((0.0005, 0.005, 0.02)))

    def worker(self):
        found = []

        def there():
            found[:] = self.daemon.workers()
            return found

        self.t.bed.wait_for(there, "a worker", self.daemon.process, 30)
        return found[0]

    def kill_worker(self):
        pid = self.worker()
        start = time.monotonic()
        killed = kill_and_wait(pid)
        if killed and self.rng.random() < 0.15:  # its successor too, wherever it is
            time.sleep(self.rng.random() * 0.01)
            for other in self.daemon.workers():
                kill_and_wait(other)
        self.load.paused_since(start, self.load.published())

    def kill_successor_unseen(self):
        """A worker and its successor, whose messages the broker reads only when it is dead."""
        pid, broker = self.worker(), self.daemon.process
        start = time.monotonic()
        kill_and_wait(pid)
        self.t.bed.wait_for(lambda: self.daemon.workers() not in ([], [pid]), "a successor", broker, 30)
        time.sleep(self.rng.random() * 0.006)
        broker.send_signal(signal.SIGSTOP)
        time.sleep(0.03)
        kill_and_wait(self.daemon.workers()[0])
        before = self.load.published()
        broker.send_signal(signal.SIGCONT)
        self.load.paused_since(start, before)

    def kill_broker(self):
        workers = self.daemon.workers()
        start = time.monotonic()
        self.daemon.kill()
        for pid in workers:
            if self.rng.random() < 0.3:
                kill_and_wait(pid)
        self.start_broker(start)

    def start_broker(self, start):
        before = self.load.published()
        self.daemon.start(60)
        self.load.paused_since(start, before)

    def restart(self):
        start = time.monotonic()
        status = self.t.bed.stop(self.daemon.process, signal.SIGTERM, 30)
        assert status == 0, f"a clean stop ended with {status}"
        self.start_broker(start)
