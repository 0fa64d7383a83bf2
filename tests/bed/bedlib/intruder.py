# SPDX-License-Identifier: BSD-2-Clause
"""Steers sandbox/intruder.c: what a worker that was taken over tries, and what became of it."""

import ctypes
import os

from .processes import shared_page
from .testing import Skip


class Order(ctypes.Structure):
    """struct order of sandbox/intruder.c."""
    _fields_ = [("what", ctypes.c_char * 32), ("ready", ctypes.c_uint32), ("begun", ctypes.c_uint32),
                ("survived", ctypes.c_uint32), ("error", ctypes.c_int32)]


class Intruder:
    def __init__(self, bed):
        self.path, self.library = f"{bed.dir}/intruder", f"{bed.lib_dir}/libbedintruder.so"
        self.order = shared_page(self.path, Order)

    def environment(self):
        return {"LD_PRELOAD": self.library, "BLKBACKD_INTRUDER_FILE": self.path}

    def tell(self, what):
        self.order.what = what.encode()
        self.order.ready = 1


def needs_all(t):
    """What the whole sandbox takes."""
    if os.geteuid() != 0:
        raise Skip("not root")
    if t.sanitized():
        raise Skip("the sandbox of a sanitized build has holes")
