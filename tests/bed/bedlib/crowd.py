# SPDX-License-Identifier: BSD-2-Clause
"""Very many disks at once, and what the processes that serve them use."""

import os
import resource
import time

from .front import Frontend
from .vbd import CLOSED, CONNECTED, INIT_WAIT, INITIALISED, Vbd

KIB = 1 << 10


def raise_descriptor_limit():
    """The frontends' event channels are descriptors of this process; what it starts inherits the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Usage:
    """What processes have used so far and hold now, all their threads together."""

    def __init__(self, pids):
        self.requests = self.cpu_ns = self.wakeups = self.anonymous = self.descriptors = self.mappings = 0
        for pid in pids:
            self._add(pid)

    def _add(self, pid):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as f:
                self.cpu_ns += int(f.read().split()[0])
            with open(f"/proc/{pid}/task/{task}/status", encoding="ascii", errors="replace") as f:
                self.wakeups += next(int(line.split()[1]) for line in f if line.startswith("voluntary_ctxt_switches"))
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
            self.anonymous += next(int(line.split()[1]) for line in f if line.startswith("Anonymous:")) * KIB
        self.descriptors += len(os.listdir(f"/proc/{pid}/fd"))
        with open(f"/proc/{pid}/maps", encoding="ascii") as f:
            self.mappings += sum(1 for _ in f)

    def since(self, before):
        return {name: value - getattr(before, name) for name, value in vars(self).items()}


class Member:
    """A disk of a crowd."""

    def __init__(self, crowd, domain, number):
        self.crowd, self.number = crowd, number
        self.path = f"{crowd.folder}/{domain.domid}-{number}.img"
        with open(self.path, "wb") as f:
            f.truncate(crowd.image_size)
        self.vbd = Vbd(domain, crowd.daemon.backend_class, 1 << 28 | number << 8)
        self.front = None

    def attach(self):
        """As libxl and a guest do it. Returns the seconds that they waited for the backend."""
        vbd, front = self.vbd, Frontend(self.vbd)
        vbd.create(self.crowd.daemon.nodes(self.path))
        start = time.monotonic()
        vbd.wait_backend(INIT_WAIT, timeout=60)
        if self.crowd.daemon.script:
            self.crowd.daemon.attach(vbd)
        waited = time.monotonic() - start
        front.make_queue(self.crowd.order)
        start_nodes = front.nodes(self.crowd.order)
        if self.crowd.persistent:
            start_nodes["feature-persistent"] = 1
        front.publish(start_nodes, INITIALISED)
        start = time.monotonic()
        vbd.wait_backend(CONNECTED, timeout=60)
        waited += time.monotonic() - start
        vbd.set_front_state(CONNECTED)
        self.front = front
        return waited

    def detach(self):
        """As libxl and a guest do it; nothing may be held afterwards."""
        self.vbd.force_close()
        self.front.close()
        self.vbd.wait_backend(CLOSED)
        self.vbd.remove()
        os.unlink(self.path)


class Crowd:
    """Disks of one daemon, spread over domains."""

    def __init__(self, bed, daemon, image_size=256 * KIB, order=0, persistent=False):
        self.bed, self.daemon, self.image_size = bed, daemon, image_size
        self.order, self.persistent = order, persistent
        self.folder = f"{bed.dir}/crowd"
        os.makedirs(self.folder, mode=0o711, exist_ok=True)
        self.members = []

    def pids(self):
        return [self.daemon.process.pid, *self.daemon.workers()]

    def usage(self):
        """Of broker and workers; with what the broker has asked xenstored."""
        usage = Usage(self.pids())
        usage.requests = self.bed.requests(self.daemon.process.pid)
        return usage

    def add(self, domain, number):
        """Attaches one more. Returns it and the seconds that its toolstack and guest waited for the backend."""
        member = Member(self, domain, number)
        waited = member.attach()
        self.members.append(member)
        return member, waited

    def remove(self, member):
        member.detach()
        self.members.remove(member)
