#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""blkbackd: what it publishes and when, and the handshakes of all kinds of frontends."""

from bedlib.bed import Domain
from bedlib.front import OKAY, PAGE, Frontend
from bedlib.testing import Cases
from bedlib.vbd import CLOSED, CLOSING, CONNECTED, INIT_WAIT, INITIALISED, INITIALISING, Vbd

cases = Cases()


@cases.add
def limits_are_there_at_init_wait(t):
    disk = t.disk("blkbackd")
    disk.vbd.wait_backend(INIT_WAIT)
    expected = {"max-ring-page-order": "5", "max-ring-pages": "32", "max-requests": "256",
                "max-request-segments": "255", "max-request-size": str(255 * PAGE),
                "feature-max-indirect-segments": "256", "feature-flush-cache": "1", "feature-barrier": "1"}
    for name, value in expected.items():
        assert disk.vbd.get(name) == value, f"{name} is {disk.vbd.get(name)!r}"


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
    disk.serves(disk.connect())


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


@cases.over("ring-keys", *[f"{scheme} {order}" for scheme, order in
                           (("plain", 0), ("order", 0), ("order", 1), ("order", 4), ("pages", 0), ("pages", 2),
                            ("both", 3), ("freebsd", 2), ("freebsd", 0))])
def ring_keys(t, variant):
    scheme, order = variant.split()
    disk = t.disk("blkbackd")
    disk.serves(disk.connect(order=int(order), scheme=scheme))


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
    disk.serves(disk.connect(state=CONNECTED))
    disk = t.disk(disk.daemon)
    disk.serves(disk.connect(state=CONNECTED, wait=False))


@cases.add
def protocol_missing_is_native(t):
    disk = t.disk("blkbackd")
    disk.serves(disk.connect(protocol=None))


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
    disk.serves(front)


@cases.add
def boot_loader_hands_over_to_a_kernel(t):
    """5, 6, then 1 again, several times, with other rings each time."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    for order, abi in ((2, "x86_32-abi"), (0, "x86_64-abi"), (4, "x86_64-abi"), (1, "x86_32-abi")):
        disk.quick_io(front)
        front.close()
        disk.check_nothing_mapped()
        front.reset()
        front.connect(order=order, protocol=abi, scheme="order")
    disk.serves(front)


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
    disk.serves(disk.connect(extra={"max-requests": 100000, "max-request-segments": 255,
                                     "max-request-size": 255 * PAGE}))


@cases.add
def frontend_asks_for_less(t):
    disk = t.disk("blkbackd", max_requests=8)
    assert disk.vbd.wait_backend(INIT_WAIT) and disk.vbd.get("max-requests") == "8"
    disk.serves(disk.connect(order=2))


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


if __name__ == "__main__":
    cases.main()
