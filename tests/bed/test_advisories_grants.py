#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The advisories of test_advisories.py that are about grants: mapped, copied, kept and given back, or not."""

import random

from bedlib.front import ERROR, OKAY, PAGE, READ, WRITE
from bedlib.hostile import leave, serves_the_next
from bedlib.neighbour import resident, untouched
from bedlib.processes import descriptors
from bedlib.testing import MIB, Cases
from bedlib.vbd import CLOSED, CLOSING, CONNECTED, INITIALISED

cases = Cases()
NOWHERE = 99999  # a reference that nobody granted


@cases.over("xsa-71-failing-requests-leak-nothing", "copied", "persistent")
def xsa_71(t, how):
    """qdisk lost grants and memory with each request that failed."""
    disk = t.disk("blkbackd", persistent_grants="yes" if how == "persistent" else "no")
    front = disk.connect(persistent=how == "persistent")
    good = [front.page(b"g" * PAGE) for _ in range(10)]
    worker, = disk.daemon.workers()

    def fail(count):
        for turn in range(count):
            segments = [(page.ref, 0, 7) for page in good]
            segments.insert(turn % 11, (NOWHERE, 0, 7))
            front.put(WRITE if turn % 2 else READ, 0, segments)
            if turn % 32 == 31:
                front.push()
                assert set(front.take_all().values()) == {ERROR}

    fail(320)  # what is kept anyhow is there by then
    held = disk.vbd.domain.mapped(), descriptors(worker), resident(worker)
    fail(6400)
    assert (disk.vbd.domain.mapped(), descriptors(worker)) == held[:2]
    assert resident(worker) - held[2] < MIB, f"{resident(worker) - held[2]} bytes more"
    leave(disk, front, good)
    serves_the_next(disk)


@cases.over("xsa-229-only-neighbours-are-merged", "copied", "persistent", "indirect")
def xsa_229(t, how):
    """Linux took pieces of memory for neighbours that only looked like it, and wrote one guest's data over another's."""
    disk = t.disk("blkbackd", persistent_grants="yes" if how == "persistent" else "no")
    front = disk.connect(persistent=how == "persistent")
    pages = [front.page() for _ in range(32)]
    rng = random.Random(1)
    for op in (WRITE, READ) * 4:
        rng.shuffle(pages)  # what is side by side on the disk isn't in memory, and the other way round
        for i, page in enumerate(pages):
            data = rng.randbytes(PAGE)
            page.fill(data)
            if op == WRITE:
                disk.contents[i * PAGE:(i + 1) * PAGE] = data
        for i, page in enumerate(pages):
            if how == "indirect":
                front.put_indirect(op, i * 8, [(page.ref, 0, 3), (page.ref, 4, 7)])
            else:
                front.put(op, i * 8, [(page.ref, 0, 3), (page.ref, 4, 7)])
            if how == "indirect" and i % 16 == 15:
                front.push()
                assert set(front.take_all().values()) == {OKAY}
        front.push()
        assert set(front.take_all().values()) <= {OKAY}
        for i, page in enumerate(pages):
            assert page.data() == disk.contents[i * PAGE:(i + 1) * PAGE], (op, i)
    disk.check_image()
    leave(disk, front, pages)
    serves_the_next(disk)


@cases.add
def xsa_300_mappings_have_a_limit(t):
    """Guests had dom0 map their pages until it had none of its own."""
    disk = t.disk(t.blkbackd(persistent_grants="yes", worker={"persistent_grants": 64}), size=8 * MIB)
    with untouched(disk):
        fronts = [disk.connect(order=2, persistent=True)]
        second = t.disk(disk.daemon, domain=disk.vbd.domain, devid=disk.vbd.devid + 16)
        fronts.append(second.connect(order=2, persistent=True))
        rings = disk.vbd.domain.mapped()
        for one, front in zip((disk, second), fronts):
            front.exercise(one.contents, requests=800, depth=32, pool=front.pool(2000), readonly=0, shuffle=1)
            assert disk.vbd.domain.mapped() - rings <= 64, f"{disk.vbd.domain.mapped() - rings} pages are mapped"
            one.check_image()
        for front in fronts:
            front.close()


@cases.over("xsa-361-one-mapping-of-a-batch-fails", 0, 5, 10)
def xsa_361(t, place):
    """Linux' batches of mappings: one that failed was taken for success, or took the others with it."""
    disk = t.disk("blkbackd", persistent_grants="yes")
    front = disk.connect(persistent=True)
    pages = [front.page(b"\xee" * PAGE) for _ in range(31)]
    refs = [page.ref for page in pages]
    refs.insert(place, NOWHERE)
    ids = [front.put(READ, i * 8, [(ref, 0, 7)]) for i, ref in enumerate(refs)]
    front.push()
    answers = front.take_all()
    for i, ident in enumerate(ids):
        assert answers[ident] == (ERROR if i == place else OKAY), i
    for i, ref in enumerate(refs):
        page = next((page for page in pages if page.ref == ref), None)
        assert page is None or page.data() == disk.contents[i * PAGE:(i + 1) * PAGE]
    leave(disk, front, pages)
    serves_the_next(disk)


@cases.add
def xsa_362_a_ring_that_can_not_be_mapped_is_no_bug(t):
    """Backends of Linux took a mapping that failed for a bug of their own, and dom0 went down."""
    disk = t.disk("blkbackd")
    with untouched(disk):
        for ref in (NOWHERE, 0, 0xffffffff):
            front = disk.frontend()
            front.reset()
            front.make_queue()
            front.publish({**front.nodes(), "ring-ref": ref}, INITIALISED)
            assert disk.vbd.wait_backend(CONNECTED, CLOSING, CLOSED) != CONNECTED
            assert disk.vbd.error(), "no error node"
            leave(disk, front)
        serves_the_next(disk)


@cases.add
def xsa_365_grants_that_failed_are_not_used_later(t):
    """blkback kept the page of a persistent grant whose mapping had failed, and took it for a good one afterwards."""
    disk = t.disk("blkbackd", persistent_grants="yes")
    front = disk.connect(persistent=True)
    good = [front.page(b"\xee" * PAGE) for _ in range(10)]
    for turn in range(50):
        segments = [(page.ref, 0, 7) for page in good]
        segments.insert(turn % 11, (NOWHERE, 0, 7))
        for _ in range(2):  # the second time it might be found among those that are kept
            assert front.run(READ, 0, segments) == ERROR
        assert front.run(READ, 0, [(page.ref, 0, 7) for page in good]) == OKAY
        assert b"".join(page.data() for page in good) == disk.contents[:10 * PAGE]
    leave(disk, front, good)
    serves_the_next(disk)


@cases.add
def xsa_367_each_copys_own_status_counts(t):
    """netback looked at the status of the call, and of some of its pieces."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    page, readonly = front.page(b"\xee" * PAGE), front.page(b"r" * PAGE, readonly=True)
    for place in range(11):
        refs = [(page.ref, 0, 7)] * 10
        refs.insert(place, (readonly.ref, 0, 7))
        assert front.run(READ, 0, refs) == ERROR, f"a read-only page at {place}"
    assert readonly.data() == b"r" * PAGE
    for ended in (page, readonly):
        ended.end()
    disk.serves(front)


@cases.add
def xsa_371_persistent_grants_are_all_given_back(t):
    """blkback forgot grants that were in use by requests when one of them failed."""
    disk = t.disk("blkbackd", persistent_grants="yes")
    for turn in range(5):
        front = disk.frontend()
        if turn:
            front.reset()
        front.connect(persistent=True)
        pages = [front.page(b"\xee" * PAGE) for _ in range(64)]
        for i in range(0, 64, 4):
            front.put(WRITE if i % 8 else READ, 0, [(pages[i].ref, 0, 7), (NOWHERE, 0, 7), (pages[i + 1].ref, 0, 7)])
            front.put(READ, front.sectors() - 1, [(pages[i + 2].ref, 0, 7), (pages[i + 3].ref, 0, 7)])
        front.push()
        if turn % 2:
            front.take_all()
        leave(disk, front, pages)
    serves_the_next(disk)


if __name__ == "__main__":
    cases.main()
