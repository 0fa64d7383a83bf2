#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""blkbackd: several rings for one disk, each with its event channel, served side by side."""

import errno
import os
import random
import threading

from bedlib.blkbackd import INSERT, RESIZE
from bedlib.fault import Faults
from bedlib.front import ERROR, FLUSH, OKAY, PAGE, READ, WRITE, Frontend
from bedlib.processes import threads_of
from bedlib.testing import Cases
from bedlib.vbd import CLOSED, CLOSING, Vbd

cases = Cases()
MIB = 1 << 20


def connect(t, queues, order=0, persistent=False, threads=None, size=8 * MIB, scheme=None, **options):
    worker = {} if threads is None else {"queue_threads": threads}
    disk = t.disk("blkbackd", max_queues=16, worker=worker, size=size, **options)
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


def connect_faulty(t, queues, threads, **options):
    """The same with the fault library beneath the disk: (disk, faults, frontend)."""
    made = []

    def make(path):
        made.append(Faults(t.bed, path))
        t.bed.on_close(made[0].calm)
        return made[0].environment()

    disk, front = connect(t, queues, threads=threads, faults=make, **options)
    return disk, made[0], front


@cases.over("threads", "1 4", "2 4", "4 4", "4 16", "16 5")
def threads(t, case):
    count, queues = map(int, case.split())
    disk, front = connect(t, queues, threads=count)
    side_by_side(front, disk, requests=500, depth=32)
    front.close()
    disk.check_nothing_mapped()


def thread_names(pid):
    return sorted(thread["Name"] for thread in threads_of(pid) if thread["Name"].startswith("queues-"))


@cases.over("threads-of-the-process", 1, 3, 16)
def threads_of_the_process(t, count):
    """The main thread serves, too; none can gain privileges, and all have the worker's uid."""
    disk, front = connect(t, 2, threads=count)
    worker, = disk.daemon.workers()
    assert thread_names(worker) == sorted(f"queues-{n}" for n in range(1, count))
    for thread in threads_of(worker):
        ours = thread["Pid"] == str(worker) or thread["Name"].startswith("queues-")  # a sanitizer may have one of its own
        assert thread["NoNewPrivs"] == "1" or not ours, (thread["Name"], thread["NoNewPrivs"])
        if os.geteuid() == 0:
            assert set(thread["Uid"].split()) == {str(1900000000 + front.domid)}, (thread["Name"], thread["Uid"])
            assert int(thread["CapEff"], 16) == int(thread["CapPrm"], 16) == 0, (thread["Name"], thread["CapEff"])
    front.close()


@cases.over("one-queue-waits-the-other-goes-on", 0, 1)
def one_queue_waits_the_other_goes_on(t, held):
    """A write that hangs in a system call holds up its own queue's thread and no other."""
    disk, faults, front = connect_faulty(t, 2, 2, engine="inline")
    slow, quick = front.on(held), front.on(1 - held)
    faults.hold("write")
    page = front.page(b"h" * PAGE, readonly=True)
    slow.put(WRITE, 80, [(page.ref, 0, 7)])
    slow.push()
    t.bed.wait_for(lambda: faults.control.held, "the write to be held")
    for n in range(20):
        assert quick.read(n * 8, 8) == disk.contents[n * PAGE:(n + 1) * PAGE]
    slow.none_more(0.01)
    faults.release("write")
    assert set(slow.take_all().values()) == {OKAY}
    page.end()
    front.close()


@cases.add
def one_thread_serves_one_after_the_other(t):
    """Guards the case above: with one thread both wait."""
    disk, faults, front = connect_faulty(t, 2, 1, engine="inline")
    slow, other, page = front.on(0), front.on(1), front.page()
    faults.hold("write")
    slow.put(WRITE, 80, [(page.ref, 0, 7)])
    slow.push()
    t.bed.wait_for(lambda: faults.control.held, "the write to be held")
    other.put(READ, 0, [(page.ref, 0, 7)])
    other.push()
    assert other.take(0.3) is None
    faults.release("write")
    assert set(slow.take_all().values()) == set(other.take_all().values()) == {OKAY}
    page.end()
    front.close()


@cases.add
def single_queue_disks_of_a_domain_are_spread(t):
    """Two disks with a queue each: a write that hangs on one does not hold up the other."""
    domain = t.new_domain()
    path, contents = t.bed.image(MIB, "slow.img")
    faults = Faults(t.bed, path)
    t.bed.on_close(faults.calm)
    daemon = t.blkbackd(env=faults.environment(), engine="inline", worker={"queue_threads": 2})
    one = t.disk(daemon, domain=domain, image=(path, contents))
    two = t.disk(daemon, domain=domain, devid=51728)
    slow, quick = one.connect(), two.connect()
    faults.hold("write")
    page = slow.page(b"h" * PAGE, readonly=True)
    slow.put(WRITE, 80, [(page.ref, 0, 7)])
    slow.push()
    t.bed.wait_for(lambda: faults.control.held, "the write to be held")
    assert quick.read(0, 8) == two.contents[:PAGE]
    faults.release("write")
    assert set(slow.take_all().values()) == {OKAY}
    page.end()
    slow.close()
    quick.close()


@cases.over("overlapping-writes-of-different-rings", "uring 1", "uring 4", "aio 3", "inline 2", "inline 4")
def overlapping_writes(t, case):
    """Are never in the store at once, whichever threads they are on."""
    engine, count = case.split()
    disk, faults, front = connect_faulty(t, 4, int(count), engine=engine)
    rng, pages = random.Random(5), [front.page(bytes([n]) * PAGE, readonly=True) for n in range(4)]
    rings = [front.on(n) for n in range(4)]
    faults.delay(1500, one_in=2)
    for _ in range(6):
        for n, ring in enumerate(rings):
            for _ in range(24):
                first = rng.randrange(8)
                ring.put(WRITE, rng.randrange(24), [(pages[n].ref, first, rng.randrange(first, 8))])
        for ring in rings:
            ring.push()
        for ring in rings:
            assert set(ring.take_all().values()) == {OKAY}
    faults.calm()
    writes = [e for e in faults.log() if e.kind == "W"]
    assert len(writes) > 200, f"{len(writes)} writes were seen"
    met = 0
    for i, one in enumerate(writes):
        for two in writes[i + 1:]:
            if two.start > one.end:
                break
            met += 1
            assert two.offset >= one.offset + one.length or one.offset >= two.offset + two.length, (one, two)
    assert met or engine == "inline", "no two writes were in flight at once"
    for page in pages:
        page.end()
    front.close()


def in_background(front, disk, **options):
    """side_by_side() while the caller does something else; the function returned waits for it."""
    wrong = []

    def run():
        try:
            side_by_side(front, disk, **options)
        except Exception as e:  # noqa: BLE001 - told by whoever waits
            wrong.append(str(e))

    thread = threading.Thread(target=run)
    thread.start()

    def wait():
        thread.join()
        assert not wrong, wrong[0]
    return thread, wait


@cases.over("growth-under-load", 1, 4)
def growth_under_load(t, count):
    disk, front = connect(t, 4, threads=count)
    thread, wait = in_background(front, disk, requests=1500, depth=16)
    size, grown = len(disk.contents), 0
    while thread.is_alive() and grown < 30:
        size, grown = size + MIB, grown + 1
        disk.contents.extend(bytes(MIB))
        os.truncate(disk.path, size)
        assert disk.daemon.control(RESIZE, disk.vbd.back) == (0, 0, str(size))
    wait()
    for n in range(4):
        assert front.on(n).write(size // 512 - 8, bytes([n]) * PAGE) == OKAY, f"queue {n} has not grown"
    assert grown > 2
    front.close()


@cases.over("media-under-load", 1, 4)
def media_under_load(t, count):
    """A drive with four queues: each read comes whole from the one or the other medium, and none fails."""
    daemon = t.blkbackd(max_queues=4, worker={"queue_threads": count})
    media = []
    for n in (1, 2):
        media.append(f"{t.bed.dir}/{n}.iso")
        with open(media[-1], "wb") as f:
            f.write(bytes([n]) * MIB)
    vbd = Vbd(t.new_domain(), daemon.backend_class, 51728)
    vbd.create({**daemon.nodes(media[0]), "device-type": "cdrom", "removable": 1}, mode="r")
    daemon.hook_in_background(vbd)
    vbd.wait_backend(2)
    front = Frontend(vbd).connect(queues=4)
    rings = [front.on(n) for n in range(4)]
    for turn in range(1, 16):
        pages = []
        for ring in rings:
            for i in range(24):
                pages.append(front.page())
                ring.put(READ, i * 16, [(pages[-1].ref, 0, 7)])
            ring.push()
        assert daemon.control(INSERT, vbd.back, media[turn % 2])[0] == 0
        for ring in rings:
            assert set(ring.take_all().values()) == {OKAY}
        for page in pages:
            assert page.data() in (b"\1" * PAGE, b"\2" * PAGE)
            page.end()
        for ring in rings:
            assert ring.read(0, 8) == bytes([turn % 2 + 1]) * PAGE
    front.close()


@cases.over("a-flush-that-fails-on-one-ring", 0, 1)
def a_flush_that_fails_on_one_ring(t, number):
    """With O_DIRECT it is repeated until it goes well, whatever the ring's thread; the other ring waits with it, and goes on."""
    disk, faults, front = connect_faulty(t, 2, 2, image=t.bed.direct_image(8 * MIB))
    bad, good = front.on(number), front.on(1 - number)
    faults.fail("flush", errno.EIO, count=2)
    bad.put(FLUSH)
    bad.push()
    assert bad.take(0.3) is None, "a flush that fails was answered"
    assert good.write(0, b"g" * PAGE) == OKAY
    assert set(bad.take_all().values()) == {OKAY}
    assert faults.seen("flush") == 3
    assert good.flush() == OKAY and bad.flush() == OKAY
    front.close()


@cases.add
def after_a_failed_flush_no_ring_trusts_the_page_cache(t):
    """It reports a loss once, to whichever ring asked: no flush on another ring is answered, nor begun."""
    disk, faults, front = connect_faulty(t, 2, 2, direct="no")
    faults.fail("flush", errno.EIO, count=1)
    for n in (0, 1):
        ring = front.on(n)
        ring.put(FLUSH)
        ring.push()
        assert ring.take(0.5) is None, f"ring {n} answered"
    assert faults.seen("flush") == 1
    disk.vbd.set_front_state(CLOSED)
    disk.vbd.wait_backend(CLOSED)
    front.free(strict=True)
    front.reset()
    front.connect(queues=2)
    assert front.on(0).flush() == OKAY and front.on(1).flush() == OKAY, "the next kernel begins anew"
    front.close()


@cases.over("leaving-a-slow-disk", 1, 4)
def leaving_a_slow_disk(t, count):
    """The rings are given back at once, on every thread; what is in flight ends, and the next kernel is served."""
    disk, faults, front = connect_faulty(t, 4, count, engine="aio")
    for _ in range(3):
        pages = [front.page() for _ in range(80)]
        faults.hold("read")
        for i, page in enumerate(pages):
            front.on(i % 4).put(READ, i * 16, [(page.ref, 0, 7)])
        for n in range(4):
            front.on(n).push()
        t.bed.wait_for(lambda: faults.control.held or faults.seen("read") >= 80, "the reads to be held")
        disk.vbd.set_front_state(CLOSING)
        disk.vbd.set_front_state(CLOSED)
        faults.release("read")
        disk.vbd.wait_backend(CLOSED)
        front.free(strict=True)
        disk.check_nothing_mapped()
        front.reset()
        front.connect(queues=4)
    side_by_side(front, disk, requests=200, depth=16)
    front.close()


@cases.over("engine", "uring", "aio", "inline")
def engine(t, name):
    disk, front = connect(t, 4, 1, engine=name, threads=4)
    side_by_side(front, disk, requests=600, depth=32)
    front.close()


@cases.add
def large_requests_and_grants_that_stay(t):
    disk, front = connect(t, 4, 2, persistent=True, size=32 * MIB, persistent_grants="yes")
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
    pool = front.pool(240, aliases=False)
    for n in range(4):
        ring = front.on(n)
        for i in range(60):
            ring.put(READ, i * 8, [(front.lib.front_pool_ref(pool, n * 60 + i, False), 0, 7)])
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
