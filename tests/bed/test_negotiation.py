#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""blkbackd and frontends of all kinds: handshakes, key schemes, nonsense in nodes, comings and goings."""

import os

from bedlib.bed import Domain
from bedlib.blkbackd import Refused
from bedlib.front import OKAY, PAGE, Frontend
from bedlib.testing import Cases
from bedlib.vbd import CLOSED, CLOSING, CONNECTED, INIT_WAIT, INITIALISED, INITIALISING, Vbd

cases = Cases()


def quick_io(disk, front):
    front.exercise(disk.contents, requests=150, depth=min(32, front.slots()))
    disk.check_image()


def serves(disk, front):
    quick_io(disk, front)
    front.close()
    disk.check_nothing_mapped()


# --- what is published, and when ---------------------------------------------------------------------------------

@cases.add
def limits_are_there_at_init_wait(t):
    disk = t.disk("blkbackd")
    disk.vbd.wait_backend(INIT_WAIT)
    expected = {"max-ring-page-order": "4", "max-ring-pages": "16", "max-request-segments": "11",
                "max-request-size": str(11 * PAGE), "feature-flush-cache": "1", "feature-barrier": "1"}
    for name, value in expected.items():
        assert disk.vbd.get(name) == value, f"{name} is {disk.vbd.get(name)!r}"
    assert int(disk.vbd.get("max-requests")) >= 512


@cases.add
def sizes_are_there_at_connected(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    for name, value in {"sectors": str(len(disk.contents) // 512), "sector-size": "512", "info": "0"}.items():
        assert disk.vbd.get(name) == value, f"{name} is {disk.vbd.get(name)!r}"
    assert int(disk.vbd.get("physical-sector-size")) in (512, 4096)
    front.close()


@cases.add
def init_wait_is_not_left_before_the_hook_asks(t):
    """libxl waits for exactly that state; a quick frontend must not hide it."""
    daemon = t.blkbackd()
    vbd = Vbd(t.new_domain(), daemon.backend_class)
    path, _ = t.bed.image(1 << 20)
    vbd.create(daemon.nodes(path))
    front = Frontend(vbd)
    front.make_queue()
    front.publish(front.nodes(), INITIALISED)
    vbd.wait_backend(INIT_WAIT)
    try:
        vbd.wait_backend(CONNECTED, CLOSING, CLOSED, timeout=0.5)
    except TimeoutError:
        pass
    else:
        raise AssertionError("state 2 was left though the hook has not asked")
    daemon.attach(vbd)
    vbd.wait_backend(CONNECTED)
    vbd.set_front_state(CONNECTED)
    front.close()


@cases.add
def disks_without_a_script_need_claim_all(t):
    daemon = t.blkbackd(claim="all", script=False)
    disk = t.disk(daemon)
    serves(disk, disk.connect())


@cases.add
def disks_of_others_are_left_alone(t):
    daemon = t.blkbackd()
    vbd = Vbd(t.new_domain(), daemon.backend_class)
    nodes = daemon.nodes("/dev/null")
    nodes["script"] = "/etc/xen/scripts/block"
    vbd.create(nodes)
    disk = t.disk(daemon)  # one of ours, to see that it has had the time to look
    front = disk.connect()
    assert vbd.backend_state() == INITIALISING
    front.close()


@cases.add
def disks_made_before_the_daemon(t):
    """A daemon that starts finds what waits for it."""
    domain = t.new_domain()
    path, contents = t.bed.image(1 << 20)
    vbd = Vbd(domain, "vbd")
    vbd.create({"params": path, "type": "phy", "script": "/etc/xen/scripts/block-blkbackd"})
    daemon = t.blkbackd()
    vbd.wait_backend(INIT_WAIT)
    daemon.attach(vbd)
    front = Frontend(vbd).connect()
    assert front.read(0, 8) == contents[:PAGE]
    front.close()


# --- handshakes --------------------------------------------------------------------------------------------------

@cases.over("ring-keys", *[f"{scheme} {order}" for scheme, order in
                           (("plain", 0), ("order", 0), ("order", 1), ("order", 4), ("pages", 0), ("pages", 2),
                            ("both", 3), ("freebsd", 2), ("freebsd", 0))])
def ring_keys(t, variant):
    scheme, order = variant.split()
    disk = t.disk("blkbackd")
    serves(disk, disk.connect(order=int(order), scheme=scheme))


@cases.add
def frontend_does_not_wait_for_init_wait(t):
    daemon = t.blkbackd()
    vbd = Vbd(t.new_domain(), daemon.backend_class)
    path, contents = t.bed.image(1 << 20)
    vbd.create(daemon.nodes(path))
    front = Frontend(vbd)
    front.make_queue()
    front.publish(front.nodes(), INITIALISED)  # before the backend had a look
    daemon.hook_in_background(vbd)
    vbd.wait_backend(CONNECTED)
    vbd.set_front_state(CONNECTED)
    assert front.read(0, 8) == contents[:PAGE]
    front.close()


@cases.add
def frontend_goes_straight_to_connected(t):
    disk = t.disk("blkbackd")
    serves(disk, disk.connect(state=CONNECTED))
    disk = t.disk(disk.daemon)
    serves(disk, disk.connect(state=CONNECTED, wait=False))


@cases.add
def protocol_missing_is_native(t):
    disk = t.disk("blkbackd")
    serves(disk, disk.connect(protocol=None))


@cases.add
def stale_ring_refs_of_a_former_frontend(t):
    """A boot loader's ring-ref0... stays behind; the next one knows only ring-ref."""
    disk = t.disk("blkbackd")
    front = disk.connect(order=3)
    front.close()
    front.reset()
    disk.vbd.wait_backend(INIT_WAIT)
    front.make_queue()
    front.publish({**front.nodes(0, "plain"), "ring-page-order": None}, INITIALISED)
    disk.vbd.wait_backend(CONNECTED)
    disk.vbd.set_front_state(CONNECTED)
    serves(disk, front)


@cases.add
def boot_loader_hands_over_to_a_kernel(t):
    """5, 6, then 1 again, several times, with other rings each time."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    for order, abi in ((2, "x86_32-abi"), (0, "x86_64-abi"), (4, "x86_64-abi"), (1, "x86_32-abi")):
        quick_io(disk, front)
        front.close()
        disk.check_nothing_mapped()
        front.reset()
        front.connect(order=order, protocol=abi, scheme="order")
    serves(disk, front)


@cases.add
def requests_are_served_until_the_frontend_is_closed(t):
    """At 5 a frontend still flushes."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    disk.vbd.set_front_state(CLOSING)
    disk.vbd.wait_backend(CLOSING, CLOSED)
    assert front.write(0, b"5" * PAGE) == OKAY and front.flush() == OKAY
    disk.contents[:PAGE] = b"5" * PAGE
    disk.vbd.set_front_state(CLOSED)
    disk.vbd.wait_backend(CLOSED)
    front.free(strict=True)
    disk.check_image()


@cases.add
def frontend_asks_for_more_than_is_offered(t):
    """The lesser counts."""
    disk = t.disk("blkbackd")
    serves(disk, disk.connect(extra={"max-requests": 100000, "max-request-segments": 255,
                                     "max-request-size": 255 * PAGE}))


@cases.add
def frontend_asks_for_less(t):
    disk = t.disk("blkbackd", max_requests=8)
    assert disk.vbd.wait_backend(INIT_WAIT) and disk.vbd.get("max-requests") == "8"
    serves(disk, disk.connect(order=2))


@cases.add
def a_guest_of_domain_0(t):
    """pygrub's local attach: the frontend is domain 0 itself."""
    class Domain0(Domain):
        def __init__(self, bed):
            self.bed, self.domid, self.path = bed, 0, "/local/domain/0"

    disk = t.disk("blkbackd", domain=Domain0(t.bed), image=t.bed.image(1 << 20))
    front = disk.connect()
    assert front.read(0, 8) == disk.contents[:PAGE]
    front.close()


# --- nonsense in the frontend's nodes ----------------------------------------------------------------------------

NONSENSE = ("", "abc", "-1", "1x", " 1", "1 ", "+1", "0x8", "4294967296", "18446744073709551616", "%s%n", "../..", "9" * 2048)


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
    serves(disk, disk.connect())


@cases.add
def missing_nodes(t):
    disk = t.disk("blkbackd")
    disk.vbd.wait_backend(INIT_WAIT)
    for name in ("ring-ref", "event-channel"):
        refused_again(disk, **{name: None})
    refused_again(disk, order=2, **{"ring-ref2": None})
    serves(disk, disk.connect())


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
    serves(disk, disk.connect())


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
    serves(disk, disk.connect())


@cases.add
def duplicate_references(t):
    disk = t.disk("blkbackd")
    disk.vbd.wait_backend(INIT_WAIT)
    front = disk.frontend()
    front.make_queue(1)
    ref = front.ring_nodes(1)["ring-ref0"]
    front.free()
    refused_again(disk, order=1, **{"ring-ref0": ref, "ring-ref1": ref})
    serves(disk, disk.connect())


@cases.add
def event_channels_that_can_not_be_bound(t):
    disk = t.disk("blkbackd")
    other = t.disk(disk.daemon)
    other_front = other.connect()
    disk.vbd.wait_backend(INIT_WAIT)
    for port in (1, 4000, 4294967295, 2147483648):  # in use by xenstored; never made; huge
        refused_again(disk, **{"event-channel": port})
    serves(disk, disk.connect())
    serves(other, other_front)


@cases.add
def unknown_protocols(t):
    disk = t.disk("blkbackd")
    disk.vbd.wait_backend(INIT_WAIT)
    for name in ("arm-abi", "x86_16-abi", "", "x86_64-abi ", "x" * 1000):
        refused_again(disk, protocol=name)
    serves(disk, disk.connect())


@cases.add
def queues_that_were_not_offered(t):
    disk = t.disk("blkbackd")
    disk.vbd.wait_backend(INIT_WAIT)
    for count in (0, 2, 17, 4294967295):
        refused_again(disk, **{"multi-queue-num-queues": count})
    serves(disk, disk.connect(extra={"multi-queue-num-queues": 1}))


@cases.add
def unknown_states_ask_for_nothing(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    for state in ("7", "8", "9", "255", "abc", "-1", "2", "4", "3"):
        disk.vbd.set_front_state(state)
    disk.vbd.set_front_state(CONNECTED)
    serves(disk, front)


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
    serves(disk, front)


# --- comings and goings ------------------------------------------------------------------------------------------

@cases.add
def toolstack_takes_the_disk_away(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    disk.vbd.force_close()
    disk.vbd.wait_backend(CLOSING)
    quick_io(disk, front)
    disk.vbd.set_front_state(CLOSED)
    disk.vbd.wait_backend(CLOSED)
    disk.daemon.detach(disk.vbd)
    disk.vbd.remove()
    front.free(strict=True)
    disk.check_nothing_mapped()
    again = t.disk(disk.daemon, domain=disk.vbd.domain, image=(disk.path, disk.contents))
    serves(again, again.connect())


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
    serves(again, again.connect())


@cases.over("domain-is-destroyed", "idle", "under I/O")
def domain_is_destroyed(t, when):
    """As xl destroy: the domain dies, then libxl takes the nodes away."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    if when != "idle":
        pages = [front.page() for _ in range(32)]
        for i, page in enumerate(pages):
            front.put(1, i * 8, [(page.ref, 0, 7)])
        front.push()
    disk.vbd.domain.destroy()
    disk.vbd.force_close()
    disk.vbd.xs.rm(disk.vbd.front)
    disk.vbd.wait_backend(CLOSED, timeout=10)
    t.bed.wait_for(lambda: disk.vbd.domain.mapped() == 0, "the pages to be given back")
    disk.daemon.detach(disk.vbd)
    disk.vbd.remove()
    front.queue = None  # its domain is gone
    again = t.disk(disk.daemon, image=(disk.path, bytearray(open(disk.path, "rb").read())))
    serves(again, again.connect())


@cases.add
def nodes_are_removed_at_once(t):
    """Both directories gone in one go, with a frontend connected: nothing stays mapped, the image is free."""
    disk = t.disk("blkbackd")
    disk.connect()

    def work(tx):
        disk.vbd.xs.rm(disk.vbd.back, tx)
        disk.vbd.xs.rm(disk.vbd.front, tx)

    disk.vbd.xs.transaction(work)
    t.bed.wait_for(lambda: disk.vbd.domain.mapped() == 0, "the pages to be given back")
    again = t.disk(disk.daemon, image=(disk.path, disk.contents))
    serves(again, again.connect())
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


# --- images ------------------------------------------------------------------------------------------------------

def refused_by_the_hook(t, daemon, target, mode="w", domain=None):
    vbd = Vbd(domain or t.new_domain(), daemon.backend_class)
    vbd.create(daemon.nodes(target), mode)
    vbd.wait_backend(INIT_WAIT)
    try:
        daemon.attach(vbd)
    except Refused as e:
        assert str(e).strip(), "no reason given"
        assert vbd.get("hotplug-error"), "the reason is not in XenStore"
        return str(e)
    raise AssertionError(f"{target!r} was attached")


@cases.add
def bad_targets_have_reasons(t):
    daemon = t.blkbackd()
    os.mkdir(f"{t.bed.dir}/folder")
    for target, word in (("/no/such/file", "/no/such/file"), (f"{t.bed.dir}/folder", "folder"), ("relative", "relative"),
                         ("", ""), ("/dev/null", "/dev/null"), ("disk:unknown", "unknown"), ("nbd://x", "nbd"),
                         ("null:", "null"), ("null:12x", "null")):
        reason = refused_by_the_hook(t, daemon, target)
        assert word in reason, f"{target!r}: {reason!r}"


@cases.add
def a_failed_disk_shows_init_wait(t):
    """libxl waits for state 2 also when the image can't be opened; afterwards it can be taken away."""
    daemon = t.blkbackd()
    vbd = Vbd(t.new_domain(), daemon.backend_class)
    vbd.create(daemon.nodes("/no/such/file"))
    vbd.wait_backend(INIT_WAIT)
    vbd.force_close()
    vbd.wait_backend(CLOSED)


@cases.add
def one_writer_for_an_image(t):
    """Also under another name. The reason names who has it."""
    daemon = t.blkbackd(attach_timeout=1)
    disk = t.disk(daemon)
    front = disk.connect()
    link = f"{t.bed.dir}/link.img"
    os.link(disk.path, link)
    for target, mode in ((disk.path, "w"), (link, "w"), (link, "r")):
        reason = refused_by_the_hook(t, daemon, target, mode)
        assert str(disk.vbd.domain.domid) in reason, reason
    serves(disk, front)


@cases.add
def shared_writers_when_asked_for(t):
    """mode w!, as for a cluster file system."""
    daemon = t.blkbackd(attach_timeout=1)
    one = t.disk(daemon, mode="w!")
    two = t.disk(daemon, mode="w!", image=(one.path, one.contents))
    fronts = [one.connect(), two.connect()]
    assert fronts[0].write(0, b"!" * PAGE) == OKAY
    assert fronts[1].read(0, 8) == b"!" * PAGE
    for front in fronts:
        front.close()


@cases.add
def readers_share_an_image(t):
    daemon = t.blkbackd()
    one = t.disk(daemon, mode="r")
    two = t.disk(daemon, mode="r", image=(one.path, one.contents))
    fronts = [one.connect(), two.connect()]
    for front in fronts:
        assert front.read(0, 8) == one.contents[:PAGE]
        front.close()


@cases.add
def two_daemons_side_by_side(t):
    """Each has its own paths; the hook's name tells whose a disk is. They know of each other's images by the lock."""
    one, two = t.blkbackd(attach_timeout=1), t.blkbackd(hook="block-other", attach_timeout=1)
    disks = [t.disk(one), t.disk(two)]
    fronts = [d.connect() for d in disks]
    assert [len(d.workers()) for d in (one, two)] == [1, 1]
    refused_by_the_hook(t, two, disks[0].path)
    for disk, front in zip(disks, fronts):
        serves(disk, front)


if __name__ == "__main__":
    cases.main()
