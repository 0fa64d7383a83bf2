# SPDX-License-Identifier: BSD-2-Clause
"""Steers libbedfault: what goes wrong beneath a backend, and what reached the storage in which order."""

import ctypes
import os

from .native import u32, u64
from .processes import shared_page

KINDS = {"read": 0, "write": 1, "flush": 2}
ALWAYS = 0xffffffff


class _Control(ctypes.Structure):
    """struct fault_control of fault/fault.h."""
    _fields_ = [("error", u32 * 3), ("failures", u32), ("short_one_in", u32), ("delay_one_in", u32),
                ("delay_us", u32), ("hold", u32 * 3), ("outlive", u32), ("from_", u64), ("to", u64), ("seen", u32 * 3),
                ("failed", u32), ("shortened", u32), ("delayed", u32), ("held", u32)]


class Entry:
    """An operation in the log: start is when it was handed over, end when its completion was seen (positions in the
    log, end None while in flight)."""

    def __init__(self, start, kind, offset, length):
        self.start, self.end, self.result = start, None, None
        self.kind, self.offset, self.length = kind, offset, length

    def __repr__(self):
        return f"{self.kind}@{self.offset}+{self.length}[{self.start}..{self.end}]={self.result}"


class Faults:
    """Storage faults for one image of a bed. environment() goes to the backend."""

    def __init__(self, bed, image):
        self.path, self.image = f"{bed.dir}/fault-{os.path.basename(image)}", image
        self.lib = f"{bed.lib_dir}/libbedfault.so"
        self.control = shared_page(self.path, _Control)

    def environment(self):
        return {"LD_PRELOAD": self.lib, "BLKBACKD_FAULT_FILE": self.image, "BLKBACKD_FAULT_CONTROL": self.path,
                "BLKBACKD_FAULT_LOG": f"{self.path}.log"}

    def fail(self, kind, error, count=ALWAYS, start=0, end=0):
        """The next count operations of a kind (on bytes start to end) fail with error."""
        self.control.from_, self.control.to = start, end
        self.control.error[KINDS[kind]] = error
        self.control.failures = count

    def shorten(self, one_in=1):
        self.control.short_one_in = one_in

    def delay(self, most_us, one_in=1):
        self.control.delay_us, self.control.delay_one_in = most_us, one_in

    def outlive(self):
        """From now on, what is late or held goes on when the process is killed, as I/O in the kernel does."""
        self.control.outlive = 1

    def hold(self, kind):
        self.control.hold[KINDS[kind]] = 1

    def release(self, kind):
        self.control.hold[KINDS[kind]] = 0

    def seen(self, kind):
        """Operations of a kind that were handed over so far."""
        return self.control.seen[KINDS[kind]]

    def calm(self):
        """No more faults."""
        self.control.failures = self.control.short_one_in = self.control.delay_one_in = 0
        self.control.delay_us = 0
        for kind in KINDS.values():
            self.control.error[kind] = 0
            self.control.hold[kind] = 0

    def log(self):
        """What reached the storage, as Entries in the order in which they were handed over."""
        entries = {}
        try:
            with open(f"{self.path}.log", encoding="ascii") as f:
                lines = f.read().splitlines()
        except FileNotFoundError:
            return []
        for position, line in enumerate(lines):
            what, number, kind, offset, length, *result = line.split()
            if what == "S":
                entries[number] = Entry(position, kind, int(offset), int(length))
            else:
                entries[number].end, entries[number].result = position, int(result[0])
        return list(entries.values())
