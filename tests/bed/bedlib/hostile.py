# SPDX-License-Identifier: BSD-2-Clause
"""What hostile guests have in common: the ring's words, forged slots, and how their disk is left and served again."""

import ctypes
import struct

from .vbd import CLOSED

SLOT, HEADER = 112, 64  # bytes, of an x86_64 ring
REQ_PROD, REQ_EVENT, RSP_PROD, RSP_EVENT = range(4)


def words_of(front):
    """The ring's counters as 32-bit words: REQ_PROD and so on."""
    return ctypes.cast(front.lib.front_queue_memory(front.queue), ctypes.POINTER(ctypes.c_uint32))


def slots_at(front):
    """The address of the first slot."""
    return ctypes.addressof(front.lib.front_queue_memory(front.queue).contents) + HEADER


def slot(op, count, sector, refs, first=0, last=7, ident=7):
    """A request's slot with as many segments as there are refs, whatever count says."""
    raw = bytearray(SLOT)
    struct.pack_into("<BBH", raw, 0, op, count, 0)
    struct.pack_into("<QQ", raw, 8, ident, sector)
    for i, ref in enumerate(refs[:11]):
        struct.pack_into("<IBB", raw, 24 + i * 8, ref, first, last)
    return bytes(raw)


def fill_ring(front, slots, step=None):
    """Publishes the slots, each over all the ring in turn, without looking at answers. step: how far the producer goes."""
    base, words = slots_at(front), words_of(front)
    for i in range(front.slots()):
        ctypes.memmove(base + i * SLOT, slots[i % len(slots)], SLOT)
    words[REQ_PROD] = (words[RSP_PROD] + (front.slots() if step is None else step)) & 0xffffffff
    front.lib.front_notify(front.queue)


def leave(disk, front, pages=()):
    """The guest gives up its ring as it is; nothing of it may be held afterwards."""
    disk.vbd.set_front_state(CLOSED)
    disk.vbd.wait_backend(CLOSED)
    front.free(strict=True)
    for page in pages:
        page.end()
    disk.check_nothing_mapped()


def serves_the_next(disk):
    """The image has what the guest made of it; the next frontend of this guest is served."""
    with open(disk.path, "rb") as f:
        disk.contents[:] = f.read()
    for name in ("feature-persistent", "max-requests", "max-request-segments", "max-request-size"):
        disk.vbd.xs.rm(f"{disk.vbd.front}/{name}")
    front = disk.frontend()
    front.reset()
    front.connect()
    disk.serves(front)
