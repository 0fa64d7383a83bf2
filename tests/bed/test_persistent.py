#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""blkbackd: persistent grants. Data is right however many pages fit, nothing is copied or mapped again once they are
known, and nothing stays mapped when the frontend leaves."""

import os
import signal

from bedlib.front import FLUSH, OKAY, PAGE, READ, WRITE
from bedlib.testing import Cases
from bedlib.vbd import CLOSED, CLOSING

cases = Cases()
KEPT = "yes"  # test_persistent_copied.py runs all of it once more
MIB = 1 << 20
CHUNK = 32  # pages are mapped so many at a time
MOST = 1056  # pages of a queue


def connect(t, order=0, size=8 * MIB, budget=None, **options):
    worker = {} if budget is None else {"persistent_grants": budget}
    disk = t.disk(t.blkbackd(persistent_grants=KEPT, worker=worker, **options), size=size)
    front = disk.connect(order=order, persistent=True)
    front.needs("feature-persistent")
    return disk, front


class Counted:
    """Calls of the backend while requests are made."""

    def __init__(self, t):
        self.t, self.before = t, t.bed.counters()

    def __getattr__(self, name):
        return self.t.bed.counters()[name] - self.before[name]


@cases.over("warm-rings-neither-copy-nor-map", "0 1", "0 32", "2 64")
def warm_rings(t, case):
    """After the first requests, none costs a copy, a map or an unmap."""
    order, depth = map(int, case.split())
    disk, front = connect(t, order=order)
    pages = -(-depth * 11 // CHUNK) * CHUNK
    pool = front.pool(pages, aliases=False)
    options = {"pool": pool, "readonly": 0, "depth": depth}
    front.exercise(disk.contents, requests=4000, shuffle=1, **options)
    counted = Counted(t)
    done = front.exercise(disk.contents, requests=2000, seed=2, **options)
    assert done.reads and done.writes
    assert (counted.copy_calls, counted.map_calls, counted.unmap_calls) == (0, 0, 0), \
        (counted.copy_calls, counted.map_calls, counted.unmap_calls)
    disk.check_image()
    front.close()
    disk.check_nothing_mapped()


@cases.over("engine", "uring", "aio", "inline")
def engine(t, name):
    disk, front = connect(t, order=2, engine=name)
    front.exercise(disk.contents, requests=3000, depth=64, pool=front.pool(704), readonly=0, shuffle=1)
    disk.check_image()
    front.close()
    disk.check_nothing_mapped()


@cases.add
def a_file_opened_directly(t):
    """O_DIRECT, straight to and from the guest's pages where data is not copied."""
    daemon = t.blkbackd(persistent_grants=KEPT)
    disk = t.disk(daemon, image=t.bed.direct_image(8 * MIB))
    front = disk.connect(order=2, persistent=True)
    front.exercise(disk.contents, requests=1500, depth=32, pool=front.pool(352), readonly=0)
    disk.check_image()
    front.close()
    disk.check_nothing_mapped()


@cases.over("large-requests", "indirect", "multi-block", "both")
def large_requests(t, kind):
    disk = t.disk("blkbackd", persistent_grants=KEPT)
    multi = {"max-requests": 256, "max-request-segments": 255, "max-request-size": 255 * PAGE}
    front = disk.connect(order=3, persistent=True, extra={} if kind == "indirect" else multi)
    front.needs("feature-persistent")
    for pages in (512, 3000):  # within the limit of a queue, and beyond it
        done = front.exercise(disk.contents, requests=600, depth=64, pool=front.pool(pages), readonly=0, seed=pages,
                              max_segments=11 if kind == "indirect" else 255,
                              max_indirect=0 if kind == "multi-block" else 256)
        assert done.indirect or kind == "multi-block"
        assert done.multi_block or kind == "indirect"
        disk.check_image()
    front.close()
    disk.check_nothing_mapped()


@cases.over("budget", 0, 31, 32, 64, 100)
def budget(t, pages):
    """What does not fit is copied, with the right data, and no more is mapped than the budget has."""
    disk, front = connect(t, order=2, budget=pages)
    rings = disk.vbd.domain.mapped()
    for seed in range(4):
        front.exercise(disk.contents, requests=500, depth=32, seed=seed, pool=front.pool(400), readonly=0, shuffle=1)
        kept = disk.vbd.domain.mapped() - rings
        assert kept <= pages, f"{kept} pages are mapped"
    counted = Counted(t)
    front.exercise(disk.contents, requests=300, pool=front.pool(352), readonly=0)
    assert counted.copy_calls > 0
    disk.check_image()
    front.close()
    disk.check_nothing_mapped()


@cases.add
def more_grants_than_fit(t):
    """A frontend that uses 4096 pages in turn: at most 1056 are kept, the rest is copied."""
    disk, front = connect(t, order=2)
    rings = disk.vbd.domain.mapped()
    pool = front.pool(4096, aliases=False)
    for seed in range(6):
        front.exercise(disk.contents, requests=800, depth=64, seed=seed, pool=pool, readonly=0, shuffle=1)
        assert disk.vbd.domain.mapped() - rings <= MOST, disk.vbd.domain.mapped() - rings
    disk.check_image()
    front.close()
    disk.check_nothing_mapped()


@cases.add
def grants_that_are_never_used_again(t):
    """A frontend that says it keeps its grants and has new ones for every request."""
    disk, front = connect(t)
    for n in range(150):
        pages = [front.page(bytes([n + 1]) * PAGE) for _ in range(11)]
        assert front.run(WRITE, n * 88, [(page.ref, 0, 7) for page in pages]) == OKAY
        disk.contents[n * 88 * 512:(n + 1) * 88 * 512] = bytes([n + 1]) * (11 * PAGE)
        for page in pages:
            front.lib.bed_grant_end(front.domid, page.ref)  # stays granted while it is mapped
    disk.check_image()
    front.close()
    disk.check_nothing_mapped()


@cases.over("read-only-pages", "of writes", "of everything")
def read_only_pages(t, which):
    """Pages that the backend can't map for writing: they are copied, and a read into one fails as ever."""
    disk, front = connect(t, order=1)
    done = front.exercise(disk.contents, requests=2500, depth=32, pool=front.pool(352), readonly=1, shuffle=1,
                          weights=(45, 45, 5, 5) if which == "of writes" else (0, 90, 5, 5))
    assert done.writes
    page = front.page(b"r" * PAGE, readonly=True)
    assert front.run(READ, 0, [(page.ref, 0, 7)]) == -1
    assert front.run(WRITE, 0, [(page.ref, 0, 7)]) == OKAY
    disk.contents[:PAGE] = b"r" * PAGE
    page.end()
    disk.check_image()
    front.close()
    disk.check_nothing_mapped()


@cases.add
def bad_references_among_good_ones(t):
    """An error each, and the good ones around them are right, mapped or not."""
    disk, front = connect(t, order=1)
    pages = [front.page(b"b" * PAGE) for _ in range(CHUNK + 8)]
    for n in range(300):
        page = pages[n % len(pages)]
        good = front.put(READ, n % 64 * 8, [(page.ref, 0, 7)])
        bad = front.put(READ if n % 2 else WRITE, 8, [(pages[0].ref, 0, 7), (100000 + n % 40, 0, 7)])
        front.push()
        status = front.take_all()
        assert status[good] == OKAY and status[bad] == -1, status
        if page is not pages[0]:
            assert page.data() == disk.contents[n % 64 * PAGE:][:PAGE]
    disk.check_image()
    leave(front)
    for page in pages:
        page.end()
    front.free(strict=True)
    disk.check_nothing_mapped()


def leave(front):
    """Closes without ending anything yet."""
    front.vbd.set_front_state(CLOSING)
    front.vbd.wait_backend(CLOSING, CLOSED)
    front.vbd.set_front_state(CLOSED)
    front.vbd.wait_backend(CLOSED)


@cases.add
def one_page_in_many_requests_at_once(t):
    disk, front = connect(t, order=2)
    pages = [front.page() for _ in range(CHUNK)]
    for _ in range(20):
        for n in range(100):
            front.put(READ, n % 8 * 8, [(pages[n % 8].ref, 0, 7)] * (1 + n % 11))
        front.push()
        assert set(front.take_all().values()) == {OKAY}
    for page in pages:
        front.run(WRITE, 512, [(page.ref, 0, 7)])
    leave(front)
    for page in pages:
        page.end()
    front.free(strict=True)
    disk.check_nothing_mapped()


@cases.over("leaving-under-io", "closes", "is closed", "domain dies")
def leaving_under_io(t, how):
    """A hundred requests in flight, and nothing stays mapped."""
    disk, front = connect(t, order=2)
    pool = front.pool(352, aliases=False)
    front.exercise(disk.contents, requests=2000, pool=pool, readonly=0, shuffle=1)
    for n in range(100):
        front.put(WRITE, n * 8, [(front.lib.front_pool_ref(pool, n, False), 0, 7)])
    front.put(FLUSH)
    front.push()
    if how == "domain dies":
        disk.vbd.domain.destroy()
        disk.vbd.xs.release(disk.vbd.domain.domid)
        disk.vbd.xs.rm(disk.vbd.front)
    elif how == "is closed":
        disk.vbd.force_close()
        disk.vbd.wait_backend(CLOSING, CLOSED)
        disk.vbd.set_front_state(CLOSED)
    else:
        disk.vbd.set_front_state(CLOSED)
    disk.vbd.wait_backend(CLOSED)
    disk.check_nothing_mapped()
    front.free(strict=how != "domain dies")


@cases.add
def reconnects_with_and_without(t):
    """The next kernel may keep its grants or not, and may use the same references for other pages."""
    disk, front = connect(t)
    for persistent in (True, False, True, True, False):
        front.exercise(disk.contents, requests=1200, pool=front.pool(352), readonly=0)
        disk.check_image()
        front.close()
        disk.check_nothing_mapped()
        front.reset()
        front.connect(order=1, extra={"feature-persistent": int(persistent)})
    disk.serves(front)


@cases.add
def idle_grants_are_given_back(t):
    disk, front = connect(t)
    rings = disk.vbd.domain.mapped()
    pool = front.pool(352, aliases=False)
    front.exercise(disk.contents, requests=1500, pool=pool, readonly=0, shuffle=1)
    assert disk.vbd.domain.mapped() > rings
    if not t.long:
        front.exercise(disk.contents, requests=100, pool=pool, readonly=0)
    else:
        t.bed.wait_for(lambda: disk.vbd.domain.mapped() == rings, "the pages to be given back", timeout=150)
        front.exercise(disk.contents, requests=1500, pool=pool, readonly=0, shuffle=1)
    disk.check_image()
    front.close()
    disk.check_nothing_mapped()


@cases.add
def a_worker_that_dies_holds_nothing(t):
    disk, front = connect(t)
    front.exercise(disk.contents, requests=1500, pool=front.pool(352), readonly=0)
    worker = disk.daemon.workers()[0]
    t.bed.freeze(disk.daemon.process)  # else a successor soon has the ring mapped again
    os.kill(worker, signal.SIGKILL)
    disk.wait_for_nothing_mapped("the mappings to go")
    disk.daemon.process.send_signal(signal.SIGCONT)
    front.exercise(disk.contents, requests=150, pool=front.pools[0], readonly=0)
    front.close()
    disk.check_nothing_mapped()


if __name__ == "__main__":
    cases.main()
