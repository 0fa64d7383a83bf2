# SPDX-License-Identifier: BSD-2-Clause
"""What the kernel says of a process, and what is shared with a library that was loaded into it."""

import mmap
import os


def cpu_ticks(pid):
    """Processor time that a process has used, all its threads, in units of sysconf(SC_CLK_TCK): hundredths of a second."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
        fields = f.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads_of(pid):
    """What the kernel says of each of a process's threads (/proc/PID/task/TID/status), as a dict."""
    for tid in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{tid}/status", encoding="ascii") as f:
            yield dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def shared_page(path, structure):
    """Makes the file, of a page, and maps it: a ctypes structure that whoever maps the file sees, too."""
    with open(path, "wb") as f:
        f.truncate(mmap.PAGESIZE)
    with open(path, "r+b") as f:
        return structure.from_buffer(mmap.mmap(f.fileno(), mmap.PAGESIZE))
