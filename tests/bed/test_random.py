#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""blkbackd: random streams of valid requests over random sets of features, against a model of the disk.

Everything follows from a seed: the disk, the daemon's settings, what the frontend asks for and every request. A failure
prints it, and  tests/bed/test_random.py --bin DIR --seed N  does the same again. --long runs for millions of requests.
"""

import os
import random
import sys
import threading
import time

from bedlib.front import PAGE
from bedlib.testing import Cases
from bedlib.vbd import INIT_WAIT

cases = Cases()
cases.argument("--seed", type=int, help="only this stream")
cases.argument("--requests", type=int, help="how many requests there are in all (default 60 thousand, --long 4 million)")
SHORT, LONG = 60_000, 4_000_000
MIB = 1 << 20
STREAM = 6000  # requests of a stream, over all its connections
EXTENSION = ("max-requests", "max-request-segments", "max-request-size")


class Plan:
    """What a seed means."""

    def __init__(self, seed):
        self.rng = rng = random.Random(seed)
        self.settings = {
            "engine": rng.choice(("uring", "aio", "inline", "auto")),
            "direct": rng.choice(("yes", "no")),
            "sector_size": rng.choice((512, 512, 4096)),
            "max_ring_page_order": rng.choice((0, 2, 4, 5)),
            "max_requests": rng.choice((0, 1, 8, 256, 1024)),
            "max_request_segments": rng.choice((11, 33, 128, 255)),
            "max_indirect_segments": rng.choice((0, 32, 256)),
            "max_queues": rng.choice((1, 2, 4)),
            "persistent_grants": rng.choice(("yes", "copy", "no")),
        }
        self.worker = {"persistent_grants": rng.choice((0, 64, 500, 65536)),
                       "buffer_size": rng.choice(("2M", "8M", "64M")), "queue_threads": rng.choice((0, 1, 2))}
        self.size = rng.choice((4, 16, 48)) * MIB + rng.choice((0, 1, 7)) * PAGE
        self.discard = rng.random() < 0.6

    def connection(self, vbd):
        """One frontend: what it writes, and how it works. It never asks for more than it is offered."""
        rng, offer = self.rng, lambda name, default=0: int(vbd.get(name) or default)
        asked = rng.choice((0, 0, 11, 12, 33, 200, 255))
        protocol = rng.choice(("x86_64-abi", "x86_64-abi", "x86_32-abi", None))
        order = rng.randint(0, offer("max-ring-page-order"))
        extra = dict(zip(EXTENSION, (rng.choice((32, 256)), asked, asked * PAGE))) if asked else {}
        extra.update(rng.choice(({"feature-persistent": 0}, {"feature-persistent": 1}, {})))
        queues = rng.randint(1, offer("multi-queue-max-queues", 1))
        segments = min(asked, offer("max-request-segments", 11)) if asked > 11 else 11
        if protocol == "x86_32-abi":
            segments = min(segments, 24)
        return {"order": order, "protocol": protocol, "queues": queues, "extra": extra,
                "scheme": rng.choice(("order", "pages", "both", "freebsd")) if order else "plain"}, \
               {"max_segments": segments, "max_indirect": offer("feature-max-indirect-segments"),
                "weight_discard": 8 if offer("feature-discard") else 0,
                "discard_unit": max(8, offer("discard-granularity") // 512),
                "alignment": self.settings["sector_size"] // 512, "depth": rng.choice((1, 3, 16, 32, 200)),
                "weights": rng.choice(((45, 45, 5, 5), (90, 5, 3, 2), (5, 90, 3, 2), (30, 30, 20, 20))),
                "readonly": rng.randint(0, 1), "shuffle": rng.randint(0, 1)}


def forget(vbd):
    """The next frontend finds the directory as the toolstack made it."""
    for name in vbd.xs.list(vbd.front):
        if name not in ("backend", "backend-id", "state", "virtual-device", "device-type"):
            vbd.xs.rm(f"{vbd.front}/{name}")


def exercise(front, disk, requests, options, rng):
    """On all queues at once, each on its part of the disk. Returns how many requests were answered."""
    count = len(front.queues)
    part = len(disk.contents) // count // (64 * PAGE) * 64 * PAGE
    parts = [(n * part, bytearray(disk.contents[n * part:(n + 1) * part]), rng.getrandbits(60), front.pool(1200))
             for n in range(count)]
    wrong = []

    def run(n):
        base, model, seed, pool = parts[n]
        try:
            front.on(n).exercise(model, requests=requests // count, base=base // 512, seed=seed, pool=pool, **options)
        except Exception as e:  # noqa: BLE001 - told with the seed
            wrong.append(f"queue {n}: {e}")

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, "; ".join(wrong)
    disk.contents[:part * count] = b"".join(model for _, model, _, _ in parts)
    disk.check_image()


def stream(t, seed, number):
    plan = Plan(seed)
    rng = plan.rng
    daemon = t.blkbackd(worker=plan.worker, hook=f"block-{number}", **plan.settings)
    disk = t.disk(daemon, size=plan.size, nodes={"discard-enable": int(plan.discard)})
    disk.vbd.wait_backend(INIT_WAIT)
    done = 0
    while done < STREAM:
        connection, options = plan.connection(disk.vbd)
        requests = rng.choice((200, 1000, 3000))
        if os.environ.get("BLKBACKD_BED_SHOW"):
            print(f"# seed {seed}: {plan.settings} {plan.worker} {connection} {options} {requests}", flush=True)
        front = disk.frontend().connect(**connection)
        exercise(front, disk, requests, options, rng)
        front.close()
        disk.check_nothing_mapped()
        forget(disk.vbd)
        front.reset()
        disk.vbd.wait_backend(INIT_WAIT)
        done += requests
    problem = daemon.stop()
    assert not problem, problem
    return done


def run_streams(t, seeds, enough):
    done = number = 0
    for seed in seeds:
        try:
            done += stream(t, seed, number)
        except Exception as e:
            raise AssertionError(f"--seed {seed}: {type(e).__name__}: {e}") from e
        number += 1
        t.extend()  # the next stream has as long as this one
        if done >= enough:
            break


@cases.add
def random_streams(t):
    wanted = t.options.requests or (LONG if t.long else SHORT)
    if t.options.seed is not None:
        run_streams(t, [t.options.seed], 1)
        return
    first = time.time_ns() // 1000 % 1_000_000_000
    run_streams(t, range(first, sys.maxsize), wanted)


if __name__ == "__main__":
    cases.main()
