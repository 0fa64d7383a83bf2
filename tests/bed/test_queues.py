#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""blkbackd: several rings for one disk, each with its event channel, served side by side."""

import threading

from bedlib.front import ERROR, OKAY, PAGE, READ, WRITE
from bedlib.testing import Cases
from bedlib.vbd import CLOSED, CLOSING

cases = Cases()
MIB = 1 << 20


def connect(t, queues, order=0, persistent=False, worker=None, size=8 * MIB, scheme=None, **options):
    disk = t.disk(t.blkbackd(max_queues=16, worker=worker, **options), size=size)
    front = disk.frontend()
    disk.vbd.wait_backend(2)
    front.needs("multi-queue-max-queues", queues)
    front.connect(order=order, queues=queues, persistent=persistent, scheme=scheme)
    return disk, front


def side_by_side(front, disk, pages=None, **options):
    """Each queue with random I/O of its own on its own part of the disk, all at once; with pages that it keeps."""
    count = len(front.queues)
    part = len(disk.contents) // count // PAGE * PAGE
    models = [bytearray(disk.contents[n * part:(n + 1) * part]) for n in range(count)]
    done, wrong = [None] * count, []

    def run(n):
        try:
            pool = front.pool(pages) if pages else None
            done[n] = front.on(n).exercise(models[n], base=n * part // 512, seed=n + 1, pool=pool, **options)
        except Exception as e:  # noqa: BLE001 - told by the case
            wrong.append(f"queue {n}: {e}")

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, "; ".join(wrong)
    disk.contents[:part * count] = b"".join(models)
    disk.check_image()
    return done


@cases.over("queues", "1 0", "2 0", "3 1", "4 4", "16 2")
def queues_and_orders(t, case):
    count, order = map(int, case.split())
    disk, front = connect(t, count, order)
    side_by_side(front, disk, requests=800, depth=32)
    front.close()
    disk.check_nothing_mapped()


@cases.over("threads", 1, 2, 4)
def threads(t, count):
    disk, front = connect(t, 4, worker={"queue_threads": count})
    side_by_side(front, disk, requests=500, depth=32)
    front.close()
    disk.check_nothing_mapped()


@cases.over("engine", "uring", "aio", "inline")
def engine(t, name):
    disk, front = connect(t, 4, 1, engine=name)
    side_by_side(front, disk, requests=600, depth=32)
    front.close()


@cases.add
def large_requests_and_grants_that_stay(t):
    disk, front = connect(t, 4, 2, persistent=True, size=32 * MIB)
    side_by_side(front, disk, requests=300, depth=32, max_indirect=256, readonly=0, pages=1000)
    front.close()
    disk.check_nothing_mapped()


@cases.add
def each_answer_comes_on_its_own_ring(t):
    disk, front = connect(t, 4)
    rings = [front.on(n) for n in range(4)]
    pages = [front.page() for _ in rings]
    for n, ring in enumerate(rings):
        ring.put(READ, n * 8, [(pages[n].ref, 0, 7)], ident=77)  # the same id everywhere
    for ring in reversed(rings):
        ring.push()
    for n, ring in enumerate(rings):
        assert ring.take_all() == {77: OKAY}
        ring.none_more(0.01)
        assert pages[n].data() == disk.contents[n * PAGE:(n + 1) * PAGE]
        pages[n].end()
    front.close()


@cases.add
def a_flush_covers_what_the_others_were_answered(t):
    """Data written by one queue is read by another, and a flush on a third is answered."""
    disk, front = connect(t, 3)
    one, two, three = (front.on(n) for n in range(3))
    for n in range(50):
        data = bytes([n + 1]) * PAGE
        assert one.write(n * 8, data) == OKAY
        assert three.flush() == OKAY
        assert two.read(n * 8, 8) == data
    front.close()


@cases.add
def a_queue_that_misbehaves_takes_the_disk_with_it(t):
    """A producer that runs ahead on one ring: the disk closes, another disk of the same daemon is served on."""
    disk, front = connect(t, 3)
    other = t.disk(disk.daemon)
    other_front = other.connect()
    bad = front.on(1)
    memory = front.lib.front_queue_memory(bad.queue)
    memory[0], memory[1], memory[2], memory[3] = 0xff, 0xff, 0, 0
    front.lib.front_notify(bad.queue)
    disk.vbd.wait_backend(CLOSING)
    disk.vbd.set_front_state(CLOSED)
    disk.vbd.wait_backend(CLOSED)
    front.free(strict=True)
    disk.check_nothing_mapped()
    other.serves(other_front)


@cases.add
def requests_wrong_on_one_and_right_on_another(t):
    disk, front = connect(t, 2)
    bad, good, page = front.on(0), front.on(1), front.page()
    for _ in range(50):
        for _ in range(20):
            bad.put(WRITE, front.sectors(), [(page.ref, 0, 7)])
            good.put(READ, 0, [(page.ref, 0, 7)])
        bad.push()
        good.push()
        assert set(bad.take_all().values()) == {ERROR}
        assert set(good.take_all().values()) == {OKAY}
    page.end()
    disk.check_image()
    front.close()


@cases.add
def leaving_with_requests_on_every_queue(t):
    disk, front = connect(t, 4, 1)
    pool = front.pool(64, aliases=False)
    for n in range(4):
        ring = front.on(n)
        for i in range(60):
            ring.put(READ, i * 8, [(front.lib.front_pool_ref(pool, i, False), 0, 7)])
        ring.push()
    disk.vbd.set_front_state(CLOSED)
    disk.vbd.wait_backend(CLOSED)
    front.free(strict=True)
    disk.check_nothing_mapped()


@cases.add
def one_queue_after_several(t):
    """The next kernel asks for another number; what the last one left below queue-N does not matter."""
    disk, front = connect(t, 4)
    for count in (1, 3, 1, 2):
        side_by_side(front, disk, requests=200, depth=16)
        front.close()
        disk.check_nothing_mapped()
        front.reset()
        front.connect(queues=count, extra={"multi-queue-num-queues": None} if count == 1 else None)
    front.close()


@cases.over("bad-node", "queue-1/event-channel", "queue-1/ring-ref", "queue-0/ring-ref", "queue-2/event-channel")
def bad_node(t, name):
    """Of one queue: no queue is served, the reason is written, and nothing stays mapped."""
    for value in ("", "x", "-1", "999999999", None):
        disk = t.disk("blkbackd" if not t.backends else t.backends[0], max_queues=4)
        disk.vbd.wait_backend(2)
        front = disk.frontend()
        front.make_queue(count=3)
        front.publish({**front.nodes(), name: value}, 3)
        disk.vbd.wait_backend(CLOSING, CLOSED)
        assert disk.vbd.error(), f"{name} = {value!r}: no reason"
        disk.vbd.set_front_state(CLOSED)
        disk.vbd.wait_backend(CLOSED)
        front.free(strict=True)
        disk.check_nothing_mapped()


@cases.over("shared-between-queues", "event-channel", "ring-ref")
def shared_between_queues(t, name):
    disk = t.disk("blkbackd", max_queues=4)
    disk.vbd.wait_backend(2)
    front = disk.frontend()
    front.make_queue(count=2)
    nodes = front.nodes()
    front.publish({**nodes, f"queue-1/{name}": nodes[f"queue-0/{name}"]}, 3)
    disk.vbd.wait_backend(CLOSING, CLOSED)
    assert disk.vbd.error()
    disk.vbd.set_front_state(CLOSED)
    disk.vbd.wait_backend(CLOSED)
    front.free(strict=True)
    disk.check_nothing_mapped()


@cases.add
def read_only_errors_on_every_queue(t):
    disk = t.disk("blkbackd", max_queues=4, mode="r")
    disk.vbd.wait_backend(2)
    front = disk.frontend().connect(queues=4)
    for n in range(4):
        assert front.on(n).write(0, b"x" * PAGE) == ERROR
        assert front.on(n).read(0, 8) == disk.contents[:PAGE]
    disk.check_image()
    front.close()


if __name__ == "__main__":
    cases.main()
