# SPDX-License-Identifier: BSD-2-Clause
"""Stops a process at a function, goes on instruction by instruction, and kills it there. x86_64 only."""

import contextlib
import ctypes
import os
import platform
import signal
import subprocess
import time

from .bed import Missing
from .xs import PATIENCE

PEEKUSER, CONT, SINGLESTEP, GETREGS, SETREGS, DETACH = 3, 7, 9, 12, 13, 17
SEIZE, INTERRUPT = 0x4206, 0x4207
WALL = 0x40000000
RIP, RSP = 16, 19
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


class Gone(Exception):
    """The process has ended."""


def _ptrace(request, pid, address=0, data=0):
    if _libc.ptrace(request, pid, address, data) == -1:
        error = ctypes.get_errno()
        if error == 3:  # ESRCH
            raise Gone
        raise OSError(error, os.strerror(error))


def symbols(program):
    """Addresses of its functions in the file, by name."""
    if platform.machine() != "x86_64":
        raise Missing("single steps are for x86_64")
    found = {}
    try:
        out = subprocess.run(["nm", "--defined-only", program], capture_output=True, text=True, check=True).stdout
    except FileNotFoundError as e:
        raise Missing("nm") from e
    for line in out.splitlines():
        address, kind, name = line.split()
        if kind in "tT":
            found[name] = int(address, 16)
    return found


class Traced:
    """A process, stopped. All calls come from the thread that made it."""

    def __init__(self, pid, program):
        self.pid = pid
        try:
            _ptrace(SEIZE, pid)
        except PermissionError as e:
            raise Missing("ptrace is not allowed here") from e
        _ptrace(INTERRUPT, pid)
        self._wait()
        self.memory = os.open(f"/proc/{pid}/mem", os.O_RDWR)
        self.base = self._base(program)

    def _base(self, program):
        with open(f"/proc/{self.pid}/maps", encoding="ascii") as f:
            for line in f:
                if line.rstrip().endswith(os.path.realpath(program)):
                    return int(line.split("-")[0], 16)
        raise Gone

    def _wait(self, timeout=None):
        """The signal it stopped with; None in time."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                pid, status = os.waitpid(self.pid, WALL | (0 if end is None else os.WNOHANG))
            except ChildProcessError as e:
                raise Gone from e
            if pid:
                if not os.WIFSTOPPED(status):
                    raise Gone
                return os.WSTOPSIG(status)
            if time.monotonic() > end:
                return None
            time.sleep(0.0002)

    def _registers(self):
        registers = (ctypes.c_ulonglong * 27)()
        _ptrace(GETREGS, self.pid, 0, ctypes.addressof(registers))
        return registers

    def run_to(self, address, timeout=PATIENCE):
        """Lets it run until it is at address (of the file). False: it did not come there in time."""
        at = self.base + address
        before = os.pread(self.memory, 1, at)
        os.pwrite(self.memory, b"\xcc", at)
        passed = 0
        end = time.monotonic() + timeout
        while True:
            _ptrace(CONT, self.pid, 0, passed)
            stopped = self._wait(max(0.0, end - time.monotonic()))
            if stopped is None:
                _ptrace(INTERRUPT, self.pid)
                self._wait()
                os.pwrite(self.memory, before, at)
                return False
            registers = self._registers()
            if stopped == signal.SIGTRAP and registers[RIP] == at + 1:
                break
            passed = 0 if stopped == signal.SIGTRAP else stopped
        os.pwrite(self.memory, before, at)
        registers[RIP] = at
        _ptrace(SETREGS, self.pid, 0, ctypes.addressof(registers))
        return True

    def step(self, count):
        """So many instructions, or as many as there are until the function that it is at has returned. How many."""
        stack = self._registers()[RSP]
        for done in range(count):
            _ptrace(SINGLESTEP, self.pid)
            while self._wait() != signal.SIGTRAP:
                _ptrace(SINGLESTEP, self.pid)
            if self._registers()[RSP] > stack:
                return done + 1
        return count

    def kill(self):
        os.close(self.memory)
        os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(Gone):
            while True:
                self._wait()

    def let_go(self):
        os.close(self.memory)
        with contextlib.suppress(Gone, OSError):
            _ptrace(DETACH, self.pid)
