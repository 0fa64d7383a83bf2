# SPDX-License-Identifier: BSD-2-Clause
"""Granted pages of a guest."""

import ctypes

from . import native

PAGE = 4096


class Wrong(AssertionError):
    """The backend did something that no backend may."""


class Page:
    """A granted page of the guest."""

    def __init__(self, front, data=b"", readonly=False):
        self.front = front
        self.ref = native.check(front.lib.bed_grant(front.domid, front.vbd.backend_domid, 1, readonly))
        self.fill(data)

    def fill(self, data):
        ctypes.memmove(self.front.lib.bed_page(self.front.domid, self.ref), bytes(data), len(data))

    def data(self):
        return ctypes.string_at(self.front.lib.bed_page(self.front.domid, self.ref), PAGE)

    def end(self):
        """Ends the grant; the backend must not hold it any more."""
        mapped = native.check(self.front.lib.bed_grant_end(self.front.domid, self.ref))
        if mapped:
            raise Wrong(f"reference {self.ref} is still mapped {mapped} times")
