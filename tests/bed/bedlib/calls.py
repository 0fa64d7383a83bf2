# SPDX-License-Identifier: BSD-2-Clause
"""System calls that workers make once they are confined, seen by strace, and the rules of their filter."""

import glob
import itertools
import os
import re
import shutil

from .bed import Missing
from .blkbackd import Blkbackd

TREE = os.path.abspath(f"{os.path.dirname(__file__)}/../../..")
_numbers = itertools.count(1)
LINE = re.compile(r"^(\d+\.\d+) (\w+)\((.*)")
THREAD = re.compile(r"\) = \d+ /\* (\d+) in strace's PID NS \*/")


def array(text, name):
    """What lies between the braces of a C array."""
    return re.search(rf"\b{name}\[\]\s*=\s*\{{(.*?)\}};", text, re.S).group(1)


def rules():
    """The filter's rules, as calls() names what falls under them."""
    with open(f"{TREE}/src/worker/syscall_filter.c", encoding="ascii") as f:
        text = f.read()
    with open(f"{TREE}/src/xen/worker_ioctls.c", encoding="ascii") as f:
        xen = f.read()
    # of what differs between machines: x86's
    found = set(re.findall(r"SCMP_SYS\((\w+)\)", re.sub(r"#else.*?#endif", "", array(text, "allowed"), flags=re.S)))
    found |= {f"ioctl {name}" for name in re.findall(r"\bBLK\w+", array(text, "block_ioctls"))}
    found |= {f"ioctl {name}" for name in re.findall(r"\bIOCTL_\w+", array(xen, "worker_ioctls"))}
    found |= {f"fcntl {name}" for name in re.findall(r"\bF_\w+", array(text, "fcntl_commands"))}
    found |= set(re.findall(r"SCMP_SYS\((\w+)\)", text[text.index("static int allow_with_arguments"):text.index("static int list_all")]))
    return found - {"ioctl", "fcntl"}


def named(call, arguments):
    if call not in ("ioctl", "fcntl"):
        return call
    return f"{call} {re.split('[,)]', arguments)[1].strip()}"


class Traced(Blkbackd):
    """The daemon under strace, which follows its workers; it stays the child of whoever started it."""

    def __init__(self, bed, bin_dir, **settings):
        strace = shutil.which("strace")
        if not strace:
            raise Missing("strace")
        folder = f"{bed.dir}/traced{next(_numbers)}"
        os.makedirs(f"{folder}/calls")
        self.calls_dir = f"{folder}/calls"
        with open(f"{folder}/blkbackd", "w", encoding="ascii") as f:
            f.write(f"#!/bin/sh\nexec {strace} -D -ff -ttt -qq -s 8 --decode-pids=pidns -o {folder}/calls/of "
                    f"{os.path.abspath(bin_dir)}/blkbackd \"$@\"\n")
        os.chmod(f"{folder}/blkbackd", 0o755)
        self.real_bin = os.path.abspath(bin_dir)
        super().__init__(bed, folder, **settings)
        self.bin = self.real_bin

    def start(self, timeout=60.0):
        self.bin = os.path.dirname(self.calls_dir)
        super().start(timeout)
        self.bin = self.real_bin

    def calls(self, confined=True):
        """Names of the calls that workers' threads made, with the requests of ioctl() and fcntl(): after (or before) they
        were confined."""
        files = {int(path.rsplit(".", 1)[1]): path for path in glob.glob(f"{self.calls_dir}/of.*")}
        made = set()
        for pid, path in files.items():
            sealed = sealed_at(path)
            if sealed is None:
                continue
            for thread in threads_of(pid, files):
                made |= {named(call, rest) for at, call, rest in lines_of(files[thread])
                         if (at > sealed) == confined and not rest.endswith("<unfinished ...>")}
        return made


def lines_of(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        for line in f:
            found = LINE.match(line)
            if found:
                yield float(found.group(1)), found.group(2), found.group(3).rstrip()


def sealed_at(path):
    """When a worker got its filter; None: no worker, or one that has none."""
    worker = False
    for at, call, rest in lines_of(path):
        worker = worker or call == "execve" and '"--domid"' in rest
        if worker and call == "seccomp" and "filter=" in rest and rest.endswith("= 0"):
            return at
    return None


def threads_of(pid, files):
    """pid and the threads that it and they began."""
    todo, found = [pid], set()
    while todo:
        one = todo.pop()
        if one in found or one not in files:
            continue
        found.add(one)
        for _, call, rest in lines_of(files[one]):
            begun = THREAD.search(rest) if call in ("clone", "clone3") else None
            if begun:
                todo.append(int(begun.group(1)))
    return found
