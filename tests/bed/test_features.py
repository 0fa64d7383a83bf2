#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""blkbackd: what is offered, and that it is served as it was settled: grants that stay mapped, discards, rings."""

import os

from bedlib.blkbackd import RELOAD
from bedlib.front import DISCARD, OKAY, PAGE, READ, WRITE, Frontend
from bedlib.testing import Cases
from bedlib.vbd import CONNECTED, INIT_WAIT, Vbd

cases = Cases()
MIB = 1 << 20


def offers(vbd, **expected):
    for name, value in expected.items():
        found = vbd.get(name.replace("_", "-"))
        assert found == value, f"{name} is {found!r}, not {value!r}"


CHUNK = 32  # pages are mapped, and given back, so many at a time


def write_pages(disk, front, pages):
    for n, page in enumerate(pages):
        assert front.run(WRITE, n * 8, [(page.ref, 0, 7)]) == OKAY


def close_with_pages(disk, front, pages):
    """At state 6 the frontend ends its grants: none may be mapped any more."""
    disk.vbd.set_front_state(5)
    disk.vbd.wait_backend(5, 6)
    disk.vbd.set_front_state(6)
    disk.vbd.wait_backend(6)
    for page in pages:
        page.end()
    front.free(strict=True)
    disk.check_nothing_mapped()


@cases.add
def persistent_grants_stay_mapped(t):
    disk = t.disk("blkbackd", persistent_grants="yes")
    front = disk.connect(extra={"feature-persistent": 1})
    offers(disk.vbd, feature_persistent="1")
    before = disk.vbd.domain.mapped()
    pages = [front.page(bytes([n]) * PAGE) for n in range(CHUNK)]
    for _ in range(2):
        write_pages(disk, front, pages)
    kept = disk.vbd.domain.mapped() - before
    assert kept == CHUNK, f"{kept} pages are mapped"
    for n in range(CHUNK):
        pages[n].fill(bytes([100 + n]) * PAGE)
    write_pages(disk, front, pages)
    disk.contents[:CHUNK * PAGE] = b"".join(bytes([100 + n]) * PAGE for n in range(CHUNK))
    disk.check_image()
    close_with_pages(disk, front, pages)


@cases.add
def the_budget_is_shared_out(t):
    """64 pages: all for one guest, 32 for each of two, and all again when the other has gone."""
    daemon = t.blkbackd(persistent_grants="yes")
    with open(daemon.config, encoding="utf-8") as f:
        text = f.read()
    with open(daemon.config, "w", encoding="utf-8") as f:
        f.write(text.replace("[worker]\n", "[worker]\npersistent-grants = 64\n"))
    assert daemon.control(RELOAD)[0] == 0
    one = t.disk(daemon)
    front = one.connect(extra={"feature-persistent": 1})
    rings = one.vbd.domain.mapped()
    pages = [front.page(b"b" * PAGE) for _ in range(4 * CHUNK)]
    write_pages(one, front, pages)
    assert one.vbd.domain.mapped() - rings == 2 * CHUNK, one.vbd.domain.mapped()
    two = t.disk(daemon)
    second = two.connect(extra={"feature-persistent": 1})
    t.bed.wait_for(lambda: one.vbd.domain.mapped() - rings == CHUNK, "half of the budget to be given back")
    second.close()
    two.vbd.force_close()
    two.vbd.wait_backend(6)
    daemon.detach(two.vbd)
    two.vbd.remove()
    t.bed.wait_for(lambda: len(daemon.workers()) == 1, "the other's worker to leave")

    def used_again():
        write_pages(one, front, pages)
        return one.vbd.domain.mapped() - rings == 2 * CHUNK

    t.bed.wait_for(used_again, "the budget to be used again")
    close_with_pages(one, front, pages)


@cases.over("not-persistent", "off", "not asked")
def not_persistent(t, variant):
    disk = t.disk("blkbackd", persistent_grants="no" if variant == "off" else "yes")
    front = disk.connect(extra={"feature-persistent": 1 if variant == "off" else 0})
    before = disk.vbd.domain.mapped()
    page = front.page(b"p" * PAGE)
    assert front.run(WRITE, 0, [(page.ref, 0, 7)]) == OKAY
    assert disk.vbd.domain.mapped() == before
    page.end()
    front.close()


def writable(t, contents=MIB, mode="w", nodes=None, daemon=None, **options):
    """A disk on a file system that has holes: (daemon, vbd, path)."""
    daemon = daemon or t.blkbackd(**options)
    path, _ = t.bed.image(contents, "sparse.img")
    vbd = Vbd(t.new_domain(), daemon.backend_class)
    vbd.create({**daemon.nodes(path), "discard-enable": 1, **(nodes or {})}, mode=mode)
    daemon.hook_in_background(vbd)
    return daemon, vbd, path


@cases.add
def discards_give_space_back(t):
    _, vbd, path = writable(t, 4 * MIB)
    front = Frontend(vbd).connect()
    offers(vbd, feature_discard="1")
    granularity = int(vbd.get("discard-granularity"))
    assert granularity % 512 == 0 and granularity <= MIB and vbd.get("discard-alignment") is not None
    before = os.stat(path).st_blocks
    assert front.run(DISCARD, MIB // 512, nr_sectors=2 * MIB // 512) == OKAY
    assert os.stat(path).st_blocks <= before - 2 * MIB // 512 + 16
    assert front.read(MIB // 512, 8) == bytes(PAGE)
    front.close()


@cases.over("no-discard", "configuration", "toolstack", "read-only")
def no_discard(t, reason):
    """It is not offered, what the kernel's backend left is removed, and a request is refused."""
    nodes = {"discard-granularity": 4096, "feature-discard": 1}
    if reason == "toolstack":
        nodes["discard-enable"] = 0
    options = {"discard": "no"} if reason == "configuration" else {}
    _, vbd, _ = writable(t, mode="r" if reason == "read-only" else "w", nodes=nodes, **options)
    front = Frontend(vbd).connect()
    offers(vbd, feature_discard="0", discard_granularity=None, discard_secure=None)
    assert front.run(DISCARD, 0, nr_sectors=8) != OKAY
    front.close()


@cases.over("queues-that-are-refused", "0", "99", "-1", "x")
def queues_that_are_refused(t, number):
    disk = t.disk("blkbackd", max_queues=4)
    disk.vbd.wait_backend(INIT_WAIT)
    offers(disk.vbd, multi_queue_max_queues="4")
    front = disk.frontend()
    front.make_queue()
    front.publish({**front.nodes(), "multi-queue-num-queues": number}, 3)
    disk.vbd.wait_backend(5, 6)
    assert "multi-queue-num-queues" in disk.vbd.error(), disk.vbd.error()
    front.free(strict=True)


@cases.add
def several_queues(t):
    """Each with a ring and a channel of its own, below queue-N."""
    disk = t.disk("blkbackd", max_queues=4)
    disk.vbd.wait_backend(INIT_WAIT)
    fronts = [disk.frontend() for _ in range(3)]
    nodes = {"multi-queue-num-queues": 3, "ring-page-order": 1, "protocol": "x86_64-abi"}
    for n, front in enumerate(fronts):
        front.make_queue(1)
        for name, value in front.ring_nodes(1).items():
            if name != "ring-page-order":
                nodes[f"queue-{n}/{name}"] = value
        nodes[f"queue-{n}/event-channel"] = front.lib.front_queue_port(front.queue)
    fronts[0].publish(nodes, 3)
    disk.vbd.wait_backend(CONNECTED)
    disk.vbd.set_front_state(CONNECTED)
    for n, front in enumerate(fronts):
        assert front.write(n * 64, bytes([n + 1]) * PAGE) == OKAY
    for n, front in enumerate(reversed(fronts)):
        assert front.read((2 - n) * 64, 8) == bytes([3 - n]) * PAGE
    disk.vbd.set_front_state(5)
    disk.vbd.wait_backend(5, 6)
    disk.vbd.set_front_state(6)
    disk.vbd.wait_backend(6)
    for front in fronts:
        front.free(strict=True)
    disk.check_nothing_mapped()


@cases.add
def one_of_several_queues_is_bad(t):
    """Then none is served, and nothing stays mapped."""
    disk = t.disk("blkbackd", max_queues=4)
    disk.vbd.wait_backend(INIT_WAIT)
    front, other = disk.frontend(), disk.frontend()
    front.make_queue()
    other.make_queue()
    port = front.lib.front_queue_port
    good = front.lib.front_queue_ref(front.queue, 0)
    front.publish({"multi-queue-num-queues": 2, "queue-0/ring-ref": good, "queue-1/ring-ref": 123456789,
                   "queue-0/event-channel": port(front.queue), "queue-1/event-channel": port(other.queue)}, 3)
    disk.vbd.wait_backend(5, 6)
    disk.vbd.set_front_state(6)
    disk.vbd.wait_backend(6)
    front.free(strict=True)
    other.free(strict=True)
    front.reset()
    disk.serves(front.connect(extra={"multi-queue-num-queues": 1}))


@cases.add
def class_vbd3(t):
    daemon = t.blkbackd()
    path, contents = t.bed.image(MIB)
    vbd = Vbd(t.new_domain(), "vbd3")
    vbd.create(daemon.nodes(path))
    daemon.hook_in_background(vbd)
    front = Frontend(vbd).connect()
    assert front.read(0, 8) == contents[:PAGE]
    front.close()
    front.reset()
    front.connect()
    page = front.page()
    assert front.run(READ, 0, [(page.ref, 0, 7)]) == OKAY
    page.end()
    vbd.set_front_state(6)
    vbd.force_close()
    vbd.wait_backend(6)
    daemon.detach(vbd)
    vbd.remove()
    front.free(strict=True)


if __name__ == "__main__":
    cases.main()
