#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""blkbackd under a guest that changes everything while it is being read: others do not notice, nothing is kept."""

import ctypes
import os
import random
import signal
import time

from bedlib.front import OKAY, PAGE, READ, WRITE
from bedlib.testing import MIB, Cases
from bedlib.vbd import CLOSED

cases = Cases()
SLOT = 112


def scribble(front, refs, seconds):
    """In a process of its own: writes plausible and implausible requests over all slots, again and again."""
    pid = os.fork()
    if pid:
        return pid
    try:
        rng = random.Random(1)
        base = ctypes.addressof(front.lib.front_queue_memory(front.queue).contents) + 64
        shapes = []
        for _ in range(200):
            slot = bytearray(rng.randbytes(SLOT))
            slot[0] = rng.choice((READ, WRITE, 2, 3, 5, 6, rng.randrange(256)))
            slot[1] = rng.choice((0, 1, 11, 12, rng.randrange(256)))
            slot[16:24] = rng.choice((0, 8, 4096, 1 << 62, rng.getrandbits(64))).to_bytes(8, "little")
            for i in range(11):
                slot[24 + i * 8:28 + i * 8] = rng.choice(refs + [rng.getrandbits(32)]).to_bytes(4, "little")
                slot[28 + i * 8:30 + i * 8] = rng.choice((b"\0\x07", b"\x07\0", b"\x03\x03", b"\0\xff"))
            shapes.append(bytes(slot))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for i in range(32):
                ctypes.memmove(base + i * SLOT, rng.choice(shapes), SLOT)
    finally:
        os._exit(0)


@cases.add
def slots_change_while_they_are_read(t):
    disk = t.disk("blkbackd")
    other = t.disk(disk.daemon, size=4 * MIB)
    same_domain = t.disk(disk.daemon, domain=disk.vbd.domain, devid=disk.vbd.devid + 16, size=4 * MIB)
    fronts = [(d, d.connect()) for d in (other, same_domain)]
    front = disk.connect()
    pages = [front.page() for _ in range(16)]
    pid = scribble(front, [p.ref for p in pages], 20)
    words = ctypes.cast(front.lib.front_queue_memory(front.queue), ctypes.POINTER(ctypes.c_uint32))
    try:
        for turn in range(400):
            words[0] = (words[2] + 32) & 0xffffffff
            front.lib.front_notify(front.queue)
            t.bed.wait_for(lambda: words[2] == words[0], "an answer to each of 32 requests")
            if turn % 100 == 0:
                for d, f in fronts:
                    f.exercise(d.contents, requests=100, depth=16, seed=turn + 1)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    disk.vbd.set_front_state(CLOSED)
    disk.vbd.wait_backend(CLOSED)
    front.free(strict=True)
    for page in pages:
        page.end()
    for d, f in fronts:
        f.close()
        d.check_image()
    with open(disk.path, "rb") as f:
        disk.contents[:] = f.read()
    front.reset()
    front.connect()
    disk.serves(front)


@cases.add
def data_changes_while_it_is_written(t):
    """What a barrier or a write stores is some mixture of what was there, and the disk goes on."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    page = front.page(b"\x11" * PAGE)
    pid = os.fork()
    if pid == 0:
        while True:
            page.fill(b"\x22" * PAGE)
            page.fill(b"\x11" * PAGE)
    try:
        for i in range(300):
            assert front.run(WRITE, i * 8, [(page.ref, 0, 7)]) == OKAY
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    with open(disk.path, "rb") as f:
        written = f.read(300 * PAGE)
        rest = f.read()
    assert set(written) <= {0x11, 0x22}
    assert rest == disk.contents[300 * PAGE:]
    page.end()
    front.close()


@cases.add
def event_storms_leave_others_their_share(t):
    """One guest notifies without end; another's requests are served meanwhile."""
    disk = t.disk("blkbackd")
    other = t.disk(disk.daemon)
    front, other_front = disk.connect(), other.connect()
    pid = os.fork()
    if pid == 0:
        while True:
            front.lib.front_notify(front.queue)
    try:
        other_front.exercise(other.contents, requests=1000, depth=32)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    other.check_image()
    assert front.read(0, 8) == disk.contents[:PAGE]
    front.close()
    other_front.close()


if __name__ == "__main__":
    cases.main()
