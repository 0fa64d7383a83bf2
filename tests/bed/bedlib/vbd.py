# SPDX-License-Identifier: BSD-2-Clause
"""The toolstack's side of a disk: its nodes as libxl writes them, and how it takes a disk away."""

import contextlib

from .xs import PATIENCE, XenStore

INITIALISING, INIT_WAIT, INITIALISED, CONNECTED, CLOSING, CLOSED = 1, 2, 3, 4, 5, 6
XVDA = 51712


class Vbd:
    """A disk of a domain. devid as in XenStore: 51712 is xvda."""

    def __init__(self, domain, backend_class, devid=XVDA, backend_domid=0):
        self.domain, self.devid, self.backend_domid = domain, devid, backend_domid
        self.xs = domain.bed.xs
        self.front = f"/local/domain/{domain.domid}/device/vbd/{devid}"
        self.back = f"/local/domain/{backend_domid}/backend/{backend_class}/{domain.domid}/{devid}"

    def create(self, backend, mode="w"):
        """Both directories in one transaction. backend: the nodes that depend on the kind of backend."""
        domid, own = self.domain.domid, self.backend_domid
        front = {"backend": self.back, "backend-id": own, "state": INITIALISING, "virtual-device": self.devid,
                 "device-type": "disk"}
        back = {"frontend-id": domid, "online": 1, "removable": 0, "bootable": 1, "state": INITIALISING,
                "dev": "xvda", "mode": mode, "device-type": "disk", "discard-enable": 0, "multi-queue-max-queues": 1,
                "frontend": self.front, **backend}

        def nodes(tx):
            for path, entries, perms in ((self.front, front, [f"n{domid}", f"r{own}"]),
                                         (self.back, back, [f"n{own}", f"r{domid}"])):
                self.xs.rm(path, tx)
                self.xs.mkdir(path, tx)
                self.xs.perms(path, perms, tx)
                for name, value in entries.items():
                    if value is not None:
                        self.xs.write(f"{path}/{name}", value, tx)
                        self.xs.perms(f"{path}/{name}", perms, tx)

        self.xs.transaction(nodes)

    def backend_state(self):
        value = self.xs.get(f"{self.back}/state")
        return int(value) if value else None

    def wait_backend(self, *states, timeout=PATIENCE):
        """Waits until the backend's state is one of states (None: no node). Returns it."""
        def accept(value):
            return (int(value) if value else None) in states

        value = self.xs.wait(f"{self.back}/state", accept, timeout)
        return int(value) if value else None

    def get(self, name, default=None):
        return self.xs.get(f"{self.back}/{name}", default)

    def set_front_state(self, state):
        self.xs.write(f"{self.front}/state", state)

    @contextlib.contextmanager
    def watch_states(self):
        """Gives a list that has, after the block, the backend's state for each time that it was written in it."""
        seen, watcher = [], XenStore(self.domain.bed.socket)
        try:
            watcher.watch(f"{self.back}/state")
            watcher.take_events(0.1)
            yield seen
            seen += [watcher.get(f"{self.back}/state")] * watcher.take_events(0.1)
        finally:
            watcher.close()

    def error(self):
        """What the backend wrote for the frontend's owner to see."""
        return self.xs.get(f"{self.front.replace('/device/', '/error/device/')}/error") \
            or self.xs.get(f"{self.back.replace('/backend/', '/error/backend/')}/error")

    def force_close(self):
        """What libxl does first to detach: the frontend is asked to close."""
        def nodes(tx):
            self.xs.write(f"{self.back}/online", 0, tx)
            self.xs.write(f"{self.back}/state", CLOSING, tx)

        self.xs.transaction(nodes)

    def remove(self):
        """What libxl does last."""
        self.xs.rm(self.back)
        self.xs.rm(self.front)
