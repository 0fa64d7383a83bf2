#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""blkbackd: disks, frontends, domains and the daemon itself come and go."""

from bedlib.front import WRITE
from bedlib.testing import Cases
from bedlib.vbd import CLOSED, CLOSING, INIT_WAIT, INITIALISED

cases = Cases()


@cases.add
def toolstack_takes_the_disk_away(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    disk.vbd.force_close()
    disk.vbd.wait_backend(CLOSING)
    disk.quick_io(front)
    disk.vbd.set_front_state(CLOSED)
    disk.vbd.wait_backend(CLOSED)
    disk.daemon.detach(disk.vbd)
    disk.vbd.remove()
    front.free(strict=True)
    disk.check_nothing_mapped()
    again = t.disk(disk.daemon, domain=disk.vbd.domain, image=(disk.path, disk.contents))
    again.serves(again.connect())


@cases.over("frontend-vanishes-in-state", "1", "3", "4", "5", "6")
def frontend_vanishes(t, state):
    """Its directory is removed: the backend goes to 6 by itself, and the image is free."""
    disk = t.disk("blkbackd")
    front = disk.frontend()
    disk.vbd.wait_backend(INIT_WAIT)
    if state in "456":
        front.connect()
    if state in "56":
        disk.vbd.set_front_state(CLOSING)
        disk.vbd.wait_backend(CLOSING, CLOSED)
    if state == "3":
        front.make_queue()
        front.publish({**front.nodes(), "event-channel": None}, INITIALISED)
    disk.vbd.xs.rm(disk.vbd.front)
    disk.vbd.wait_backend(CLOSED)
    disk.check_nothing_mapped()
    front.free(strict=True)
    disk.vbd.force_close()
    disk.vbd.remove()
    again = t.disk(disk.daemon, image=(disk.path, disk.contents))
    again.serves(again.connect())


@cases.over("domain-is-destroyed", "idle", "under I/O")
def domain_is_destroyed(t, when):
    """As xl destroy: the domain dies, then libxl takes the nodes away."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    if when != "idle":
        pages = [front.page() for _ in range(32)]
        for i, page in enumerate(pages):
            front.put(WRITE, i * 8, [(page.ref, 0, 7)])
        front.push()
    disk.vbd.domain.destroy()
    disk.vbd.force_close()
    disk.vbd.xs.rm(disk.vbd.front)
    disk.vbd.wait_backend(CLOSED, timeout=10)
    disk.wait_for_nothing_mapped()
    disk.daemon.detach(disk.vbd)
    disk.vbd.remove()
    front.queue = None  # its domain is gone
    again = t.disk(disk.daemon, image=(disk.path, bytearray(open(disk.path, "rb").read())))
    again.serves(again.connect())


@cases.add
def nodes_are_removed_at_once(t):
    """Both directories gone in one go, with a frontend connected: nothing stays mapped, the image is free."""
    disk = t.disk("blkbackd")
    disk.connect()

    def work(tx):
        disk.vbd.xs.rm(disk.vbd.back, tx)
        disk.vbd.xs.rm(disk.vbd.front, tx)

    disk.vbd.xs.transaction(work)
    disk.wait_for_nothing_mapped()
    again = t.disk(disk.daemon, image=(disk.path, disk.contents))
    again.serves(again.connect())
    assert disk.vbd.backend_state() is None, "a directory that the toolstack removed was made again"


@cases.add
def daemon_stops_with_a_guest_connected(t):
    """It ends well; nothing of the guest's stays mapped, and its port is free for a successor."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    port = front.nodes()["event-channel"]
    problem = disk.daemon.stop()
    assert problem is None, problem
    disk.check_nothing_mapped()
    assert t.bed.lib.bed_port_state(disk.vbd.domain.domid, port) == 1


if __name__ == "__main__":
    cases.main()
