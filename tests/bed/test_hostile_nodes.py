#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""blkbackd under guests that do with their XenStore directory, and with their own life, what they like; a neighbour beside."""

import os
import random
import threading
import time

from bedlib.front import PAGE, WRITE
from bedlib.neighbour import untouched
from bedlib.testing import Cases
from bedlib.vbd import CLOSED, CLOSING, CONNECTED, INIT_WAIT, INITIALISED, INITIALISING
from bedlib.xs import XenStore

cases = Cases()


def again(disk, flooded=False):
    """A proper frontend of the same guest connects and is served."""
    disk.vbd.set_front_state(CLOSED)
    disk.vbd.wait_backend(CLOSED)
    disk.check_nothing_mapped()
    clean(disk, flooded)
    front = disk.frontend()
    front.reset()
    front.connect()
    disk.serves(front)


def clean(disk, flooded=False):
    for name in ("ring-ref", "event-channel") if flooded else disk.vbd.xs.list(disk.vbd.front):
        if name.startswith(("ring-", "num-ring-pages", "event-channel", "protocol", "multi-queue", "queue-")):
            disk.vbd.xs.rm(f"{disk.vbd.front}/{name}")


@cases.add
def nodes_change_while_they_are_read(t):
    """Each handshake ends in Connected or in Closing with a reason, and nothing of a ring that was not taken is held."""
    disk = t.disk("blkbackd")
    with untouched(disk):
        disk.vbd.wait_backend(INIT_WAIT)
        stop = threading.Event()

        def rewrite(good, pause):
            xs, rng = XenStore(t.bed.socket), random.Random(3)
            wrong = {"ring-ref": ("7", "", "4294967295", "x"), "event-channel": ("1", "0", "abc"),
                     "protocol": ("x86_16-abi", "x86_32-abi", "x86_64-abi"), "num-ring-pages": ("1", "3", "2"),
                     "ring-page-order": ("0", "31", "-1"), "multi-queue-num-queues": ("1", "0", "99")}
            while not stop.is_set():
                name = rng.choice(list(wrong))
                value = good.get(name) if rng.random() < 0.5 else rng.choice(wrong[name])
                if value is None:
                    xs.rm(f"{disk.vbd.front}/{name}")
                else:
                    xs.write(f"{disk.vbd.front}/{name}", value)
                stop.wait(pause * rng.random())
            xs.close()

        outcomes = set()
        for turn in range(40):
            front = disk.frontend()
            front.make_queue()
            stop.clear()
            changes = threading.Thread(target=rewrite, args=(front.nodes(), (0, 0.004, 0.02, 0.1)[turn % 4]))
            changes.start()
            front.publish(front.nodes(), INITIALISED)
            try:
                outcomes.add(disk.vbd.wait_backend(CONNECTED, CLOSING, CLOSED))
            finally:
                stop.set()
                changes.join()
            if disk.vbd.backend_state() != CONNECTED:
                assert disk.vbd.error(), "refused without a reason"
            disk.vbd.set_front_state(CLOSED)
            disk.vbd.wait_backend(CLOSED)
            front.free(strict=True)
            disk.check_nothing_mapped()
            clean(disk)
            disk.vbd.set_front_state(INITIALISING)
            disk.vbd.wait_backend(INIT_WAIT)
        assert outcomes & {CLOSING, CLOSED} and CONNECTED in outcomes, outcomes
        front = disk.frontend()
        disk.serves(front.connect())


@cases.add
def nodes_of_a_connected_ring_change(t):
    """What was read with the state counts until the next handshake."""
    disk = t.disk("blkbackd")
    with untouched(disk):
        front = disk.connect()
        for name, value in (("ring-ref", "7"), ("event-channel", "1"), ("protocol", "x86_32-abi"), ("ring-page-order", "31"),
                            ("multi-queue-num-queues", "0"), ("num-ring-pages", "3")):
            disk.vbd.xs.write(f"{disk.vbd.front}/{name}", value)
            disk.quick_io(front)
        for name in ("ring-ref", "event-channel"):
            disk.vbd.xs.rm(f"{disk.vbd.front}/{name}")
            disk.quick_io(front)
        disk.vbd.set_front_state(CONNECTED)
        disk.quick_io(front)
        front.close()
        again(disk)


@cases.add
def thousands_of_states(t):
    """Two connections to XenStore toggle at once; the broker answers others meanwhile, in time."""
    disk = t.disk("blkbackd")
    with untouched(disk):
        front = disk.connect()

        def toggle(seed):
            xs, rng = XenStore(t.bed.socket), random.Random(seed)
            for _ in range(3000):
                xs.write(f"{disk.vbd.front}/state", rng.choice((1, 3, 4, 4, 5, 6, 0, 9, "", "-1", "4294967298", "x" * 300)))
            xs.close()

        threads = [threading.Thread(target=toggle, args=(seed,)) for seed in range(2)]
        for thread in threads:
            thread.start()
        waits = []
        while any(thread.is_alive() for thread in threads):
            start = time.monotonic()
            error, _, text = disk.daemon.control(1)
            assert not error, text
            waits.append(time.monotonic() - start)
            time.sleep(0.02)
        for thread in threads:
            thread.join()
        assert max(waits) < 3, f"the broker took {max(waits):.1f} s to answer"
        disk.vbd.set_front_state(CLOSED)
        disk.vbd.wait_backend(CLOSED)
        front.free(strict=True)
        again(disk)


@cases.add
def connects_and_closes_without_end(t):
    """200 handshakes as fast as they go; nothing piles up in the broker."""
    disk = t.disk("blkbackd", reconnects_per_minute=0)
    with untouched(disk):
        front = disk.connect()
        folder = f"/proc/{disk.daemon.process.pid}/fd"
        front.close()
        opened = len(os.listdir(folder))
        for _ in range(200):
            front.reset()
            front.connect()
            front.close()
        assert len(os.listdir(folder)) <= opened + 2, "descriptors pile up in the broker"
        disk.check_nothing_mapped()
        again(disk)


def reason_before_connected(t, disk):
    """Why the backend does not connect yet, as soon as it says so; "" when it connects without."""
    reason = ""

    def known():
        nonlocal reason
        if disk.vbd.backend_state() != CONNECTED:
            reason = disk.status()["reason"]
            return reason
        return True

    t.bed.wait_for(known, "Connected or a reason")
    disk.vbd.wait_backend(CONNECTED)
    return reason


@cases.add
def reconnects_have_a_pace(t):
    """As many as reconnects-per-minute at once; each further one waits its turn, with a reason, and none is refused."""
    pace, every = 12, 5.0  # every: seconds for one more
    disk = t.disk("blkbackd", reconnects_per_minute=pace)
    with untouched(disk):
        front, connects, waited, slowest = disk.frontend(), 0, [], 0.0
        disk.vbd.wait_backend(INIT_WAIT)
        start = time.monotonic()
        while len(waited) < 2:
            # handshakes that take almost as long as a turn never have to wait
            assert time.monotonic() - start < 120, f"only {len(waited)} of {connects} handshakes waited"
            disk.vbd.wait_backend(INIT_WAIT)
            front.make_queue()
            offered = time.monotonic()
            front.publish(front.nodes(), INITIALISED)
            reason = reason_before_connected(t, disk)
            connects, now = connects + 1, time.monotonic()
            assert connects <= pace + (now - start) / every, f"{connects} handshakes in {now - start:.1f} s"
            assert not disk.status()["reason"]
            if reason:
                assert reason.startswith("waits: "), reason
                assert connects > pace and now - offered < every + 2 + slowest, f"number {connects} took {now - offered:.1f} s"
                waited.append(connects)
            else:
                slowest = max(slowest, now - offered)
            disk.vbd.set_front_state(CONNECTED)
            if len(waited) < 2:
                front.close()
                front.reset()
        # a wait may be too short to be seen
        assert disk.counted("connects") == connects and len(waited) <= disk.counted("connects_delayed") <= connects - pace, disk.status()
        disk.serves(front)


def written_by(pid):
    """Write calls so far of a process's first thread: of a broker, what it asks xenstored; another reads the answers."""
    with open(f"/proc/{pid}/task/{pid}/io", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("syscw:"))


@cases.add
def storms_of_states_have_a_pace(t):
    """The broker looks at a disk ten times a second, however often its guest writes its state."""
    disk = t.disk("blkbackd")
    front, broker = disk.connect(), disk.daemon.process.pid
    front.read(0, 8)
    before, toggles = written_by(broker), 0
    disk.vbd.set_front_state(9)  # no state: nothing follows but the look
    t.bed.wait_for(lambda: written_by(broker) > before, "a look at the state")
    time.sleep(0.2)
    one_look = written_by(broker) - before
    before, start = written_by(broker), time.monotonic()
    while time.monotonic() - start < 3:
        disk.vbd.set_front_state((CONNECTED, 9)[toggles % 2])
        toggles += 1
    looks = (written_by(broker) - before) / one_look
    # 50 at once at each second's beginning, and then 10
    assert toggles > 3000, toggles
    assert looks < 4 * 60, f"{looks:.0f} looks for {toggles} changes"
    assert disk.counted("states_delayed") in range(5, 40), disk.counted("states_delayed")
    disk.vbd.set_front_state(CONNECTED)
    disk.serves(front)


@cases.add
def floods_of_nodes(t):
    """Thousands of nodes, wide and deep, beside those that are read."""
    disk = t.disk("blkbackd")
    with untouched(disk):
        front = disk.connect()
        for i in range(1500):
            disk.vbd.xs.write(f"{disk.vbd.front}/n{i}", "x" * 500)
            disk.vbd.xs.write(f"{disk.vbd.front}/feature-flush-cache", i)
        disk.vbd.xs.write(f"{disk.vbd.front}/" + "/".join("d" for _ in range(300)), "deep")
        disk.quick_io(front)
        front.close()
        again(disk, flooded=True)


@cases.over("strings-in", "ring-ref", "event-channel", "protocol", "multi-queue-num-queues")
def strings(t, name):
    """Formats, paths, escapes and bytes of any kind: refused, and shown escaped and cut."""
    disk = t.disk("blkbackd")
    with untouched(disk):
        disk.vbd.wait_backend(INIT_WAIT)
        for value in (b"%s%s%n%p", b"../../../0/backend", b"/local/domain/0/domid", b"8\0" + b"9", b"\x1b[2J\x1b]0;x\x07",
                      bytes(range(1, 256)), b"\n<0>error: all is lost\n", b"A" * 3000, b"\xff\xfe", b" 8", b"8 ", b"+8", b"0x8"):
            front = disk.frontend()
            front.make_queue()
            front.publish({**front.nodes(), name: value}, INITIALISED)
            assert disk.vbd.wait_backend(CONNECTED, CLOSING, CLOSED) != CONNECTED, f"connected with {value[:40]!r}"
            error = disk.vbd.error()
            assert error and len(error) < 600, error
            assert all(" " <= c <= "~" for c in error), f"raw bytes in the error node: {error!r}"
            disk.vbd.set_front_state(CLOSED)
            disk.vbd.wait_backend(CLOSED)
            front.free(strict=True)
            clean(disk)
            disk.vbd.set_front_state(INITIALISING)
            disk.vbd.wait_backend(INIT_WAIT)
        again(disk)
    with open(disk.daemon.log, encoding="latin-1") as f:
        assert not any(line.startswith("<0>") or line.startswith("error: all") for line in f), "a line of the guest's own"


@cases.add
def the_guests_own_word_on_its_backend(t):
    """backend, backend-id, virtual-device, device-type and more in its own directory: the toolstack's count alone."""
    disk = t.disk("blkbackd", mode="r")
    with untouched(disk) as neighbour:
        disk.vbd.wait_backend(INIT_WAIT)
        for name, value in (("backend", neighbour.disk.vbd.back), ("backend-id", 7), ("virtual-device", 99), ("mode", "w"),
                            ("device-type", "cdrom"), ("params", neighbour.disk.path), ("frontend-id", 0), ("sectors", 1 << 40),
                            ("physical-device-path", "/etc/passwd"), ("script", "/bin/sh"), ("online", 0)):
            disk.vbd.xs.write(f"{disk.vbd.front}/{name}", value)
        front = disk.connect()
        assert front.read(0, 8) == disk.contents[:PAGE]
        assert front.write(0, b"w" * PAGE) < 0
        assert int(disk.vbd.get("sectors")) == len(disk.contents) // 512
        disk.check_image()
        front.close()
        disk.check_nothing_mapped()


@cases.over("event-channel-of", "another domain", "another disk", "nobody")
def event_channels(t, whose):
    """Bound to somebody else's port: refused, and who owns it does not notice."""
    disk = t.disk("blkbackd")
    with untouched(disk) as neighbour:
        own = t.disk(disk.daemon, domain=disk.vbd.domain, devid=disk.vbd.devid + 16)
        own_front = own.connect()
        disk.vbd.wait_backend(INIT_WAIT)
        port = {"another domain": neighbour.front.nodes()["event-channel"] + 1000, "nobody": 3000,
                "another disk": own_front.nodes()["event-channel"]}[whose]
        front = disk.frontend()
        front.make_queue()
        front.publish({**front.nodes(), "event-channel": port}, INITIALISED)
        assert disk.vbd.wait_backend(CONNECTED, CLOSING, CLOSED) != CONNECTED
        assert disk.vbd.error()
        disk.vbd.set_front_state(CLOSED)
        disk.vbd.wait_backend(CLOSED)
        front.free(strict=True)
        own.serves(own_front)
        again(disk)


WHEN = ("1", "3 and refused", "3 and right", "4", "4 under writes", "5", "6", "while it toggles")


@cases.over("domain-dies-at-state", *WHEN)
def domain_dies(t, when):
    """The domain is gone at once, with its nodes: the backend closes by itself, nothing is held, the image is free."""
    disk = t.disk("blkbackd")
    with untouched(disk):
        front, number = disk.frontend(), when[0]
        disk.vbd.wait_backend(INIT_WAIT)
        if number in "456w":
            front.connect(wait=False)
        if number in "56":
            disk.vbd.set_front_state(CLOSING if number == "5" else CLOSED)
        if number == "3":
            front.make_queue()
            front.publish({**front.nodes(), **({"event-channel": "x"} if "refused" in when else {})}, INITIALISED)
        if when == "4 under writes":
            pages = [front.page(b"d" * PAGE) for _ in range(32)]
            for i, page in enumerate(pages):
                front.put(WRITE, i * 8, [(page.ref, 0, 7)])
            front.push()
        if number == "w":
            for i in range(200):
                disk.vbd.set_front_state((4, 5, 6, 1, 3)[i % 5])
        disk.vbd.domain.destroy()
        disk.vbd.force_close()
        disk.vbd.xs.rm(disk.vbd.front)
        disk.vbd.wait_backend(CLOSED, timeout=10)
        disk.wait_for_nothing_mapped()
        disk.daemon.detach(disk.vbd)
        disk.vbd.remove()
        front.queue, front.queues = None, []  # its domain is gone
        successor = t.disk(disk.daemon, image=(disk.path, bytearray(open(disk.path, "rb").read())))
        successor.serves(successor.connect())


if __name__ == "__main__":
    cases.main()
