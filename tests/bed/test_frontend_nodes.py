#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""blkbackd: nonsense in the nodes that a frontend writes. The disk is refused with a reason, nothing is held, and a
proper frontend connects afterwards."""

from bedlib.testing import Cases
from bedlib.vbd import CLOSED, CLOSING, CONNECTED, INIT_WAIT, INITIALISED, INITIALISING

cases = Cases()

NONSENSE = ("", "abc", "-1", "1x", " 1", "1 ", "+1", "0x8", "4294967296", "18446744073709551616", "%s%n", "../..",
            "9" * 2048)


def refused_again(disk, scheme=None, order=0, **nodes):
    """The frontend offers these nodes over right ones: error node, Closing, nothing held; then it begins again."""
    front = disk.frontend()
    front.make_queue(order)
    front.publish({**front.nodes(order, scheme), **{k.replace("_", "-"): v for k, v in nodes.items()}}, INITIALISED)
    state = disk.vbd.wait_backend(CONNECTED, CLOSING, CLOSED)
    assert state != CONNECTED, f"connected with {str(nodes)[:80]}"
    assert disk.vbd.error(), f"no error node for {str(nodes)[:80]}"
    disk.vbd.set_front_state(CLOSED)
    disk.vbd.wait_backend(CLOSED)
    disk.check_nothing_mapped()
    front.free(strict=True)
    for name in disk.vbd.xs.list(disk.vbd.front):
        if name.startswith(("ring-", "num-ring-pages", "event-channel", "protocol", "multi-queue")):
            disk.vbd.xs.rm(f"{disk.vbd.front}/{name}")
    disk.vbd.set_front_state(INITIALISING)
    disk.vbd.wait_backend(INIT_WAIT)


@cases.over("nonsense-in", "ring-ref", "event-channel", "ring-page-order")
def nonsense(t, name):
    """Each is refused, and afterwards a proper frontend connects."""
    disk = t.disk("blkbackd")
    disk.vbd.wait_backend(INIT_WAIT)
    for value in NONSENSE if name != "event-channel" else (*NONSENSE, "0"):
        refused_again(disk, **{name: value})
    disk.serves(disk.connect())


@cases.add
def missing_nodes(t):
    disk = t.disk("blkbackd")
    disk.vbd.wait_backend(INIT_WAIT)
    for name in ("ring-ref", "event-channel"):
        refused_again(disk, **{name: None})
    refused_again(disk, order=2, **{"ring-ref2": None})
    disk.serves(disk.connect())


@cases.add
def impossible_rings(t):
    disk = t.disk("blkbackd")
    disk.vbd.wait_backend(INIT_WAIT)
    refused_again(disk, **{"ring-page-order": 5})
    refused_again(disk, **{"ring-page-order": 31})
    refused_again(disk, **{"ring-page-order": 32})
    refused_again(disk, order=2, scheme="pages", **{"num-ring-pages": 3})
    refused_again(disk, order=2, scheme="both", **{"num-ring-pages": 8})
    refused_again(disk, scheme="pages", **{"num-ring-pages": 0})
    disk.serves(disk.connect())


@cases.add
def references_that_can_not_be_mapped(t):
    disk = t.disk("blkbackd")
    disk.vbd.wait_backend(INIT_WAIT)
    lib, domid = t.bed.lib, disk.vbd.domain.domid
    readonly = lib.bed_grant(domid, 0, 1, True)
    to_other = lib.bed_grant(domid, 5, 1, False)
    for ref in (readonly, to_other, 5, 99999, 0xffffffff):
        refused_again(disk, **{"ring-ref": ref})
    refused_again(disk, order=1, **{"ring-ref1": 99999})
    before = t.bed.counters()
    refused_again(disk, order=2, **{"ring-ref3": 99999})
    after = t.bed.counters()
    assert after["mapped_pages"] - before["mapped_pages"] == after["unmapped_pages"] - before["unmapped_pages"]
    disk.serves(disk.connect())


@cases.add
def duplicate_references(t):
    disk = t.disk("blkbackd")
    disk.vbd.wait_backend(INIT_WAIT)
    front = disk.frontend()
    front.make_queue(1)
    ref = front.ring_nodes(1)["ring-ref0"]
    front.free()
    refused_again(disk, order=1, **{"ring-ref0": ref, "ring-ref1": ref})
    disk.serves(disk.connect())


@cases.add
def event_channels_that_can_not_be_bound(t):
    disk = t.disk("blkbackd")
    other = t.disk(disk.daemon)
    other_front = other.connect()
    disk.vbd.wait_backend(INIT_WAIT)
    for port in (1, 4000, 4294967295, 2147483648):  # in use by xenstored; never made; huge
        refused_again(disk, **{"event-channel": port})
    disk.serves(disk.connect())
    other.serves(other_front)


@cases.add
def unknown_protocols(t):
    disk = t.disk("blkbackd")
    disk.vbd.wait_backend(INIT_WAIT)
    for name in ("arm-abi", "x86_16-abi", "", "x86_64-abi ", "x" * 1000):
        refused_again(disk, protocol=name)
    disk.serves(disk.connect())


@cases.add
def queues_that_were_not_offered(t):
    disk = t.disk("blkbackd")
    disk.vbd.wait_backend(INIT_WAIT)
    for count in (0, 2, 17, 4294967295):
        refused_again(disk, **{"multi-queue-num-queues": count})
    disk.serves(disk.connect(extra={"multi-queue-num-queues": 1}))


@cases.add
def unknown_states_ask_for_nothing(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    for state in ("7", "8", "9", "255", "abc", "-1", "2", "4", "3"):
        disk.vbd.set_front_state(state)
    disk.vbd.set_front_state(CONNECTED)
    disk.serves(front)


@cases.add
def storms_of_states(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    for i in range(300):
        disk.vbd.set_front_state((1, 6, 5, 3, 2, 4)[i % 6])
    disk.vbd.set_front_state(CLOSED)
    disk.vbd.wait_backend(CLOSED)
    front.free(strict=True)
    front.reset()
    front.connect()
    disk.serves(front)


if __name__ == "__main__":
    cases.main()
