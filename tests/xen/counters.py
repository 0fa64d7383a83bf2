# SPDX-License-Identifier: BSD-2-Clause
"""Counts what the CPUs of the emulated host execute, with the plugin in count.c."""

import mmap
import os
import struct
import subprocess
import time

HERE = os.path.dirname(os.path.realpath(__file__))
# count.c: struct header, struct cpu_counters
HEADER_BYTES, CPU_BYTES, CPUS = 64, 576, 4
AREAS = ("programs", "linux", "xen")
HYPERCALLS = 64


class Counters:
    """The plugin's counters. args are QEMU's arguments for it."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "counters")
        plugin = os.path.join(folder, "count.so")
        subprocess.run(["gcc", "-std=c17", "-D_GNU_SOURCE", "-O2", "-fPIC", "-shared", "-pthread", "-o", plugin,
                        os.path.join(HERE, "count.c")], check=True)
        self.args = ("-plugin", f"{plugin},out={self.path}")
        self.memory = None

    def switch(self, on, seconds=20):
        """Starts or ends counting. Takes place when a CPU of the host is idle; raises TimeoutError when none becomes so."""
        if self.memory is None:
            with open(self.path, "r+b") as file:
                self.memory = mmap.mmap(file.fileno(), HEADER_BYTES + CPUS * CPU_BYTES)
        struct.pack_into("<Q", self.memory, 0, int(on))
        deadline = time.monotonic() + seconds
        while struct.unpack_from("<Q", self.memory, 8)[0] != int(on):
            if time.monotonic() > deadline:
                raise TimeoutError("the emulated CPUs are never idle")
            time.sleep(0.02)

    def read(self, cpu):
        """{what: how often}: instructions by area but those of waiting for another CPU, "syscalls", "spins" of such waiting, and
        hypercalls by their number."""
        numbers = struct.unpack_from(f"<{5 + HYPERCALLS}Q", self.memory, HEADER_BYTES + cpu * CPU_BYTES) if self.memory else ()
        counts = dict(zip((*AREAS, "syscalls"), numbers))
        counts.update(enumerate(numbers[4:4 + HYPERCALLS]))
        counts["spins"] = numbers[-1] if numbers else 0
        return counts
