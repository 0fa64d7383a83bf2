#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""blkbackd's processes: workers and brokers that die, hang, restart; and what the guests and the toolstack see of it."""

import os
import resource
import signal
import subprocess
import time

from bedlib.fault import Faults
from bedlib.front import OKAY, WRITE
from bedlib.processes import cpu_ticks, descriptors
from bedlib.ptrace import WALL, Traced
from bedlib.testing import MIB, Cases
from bedlib.vbd import CLOSED, CONNECTED, INIT_WAIT, INITIALISED, Vbd, XVDA

cases = Cases()


def serves(disk, front):
    assert front.read(8, 8) == bytes(disk.contents[4096:8192])


def serves_domain(worker, domid):
    with open(f"/proc/{worker}/cmdline", encoding="ascii") as f:
        return f"--domid\0{domid}\0" in f.read()


def log_of(daemon):
    with open(daemon.log, encoding="utf-8") as f:
        return f.read()


@cases.add
def a_worker_that_is_killed(t):
    disk = t.disk("blkbackd")
    other = t.disk(disk.daemon)
    front, untouched = disk.connect(), other.connect()
    before = disk.daemon.workers()
    assert len(before) == 2
    victim = next(w for w in before if serves_domain(w, disk.vbd.domain.domid))
    with disk.vbd.watch_states() as seen:
        os.kill(victim, signal.SIGKILL)
        serves(disk, front)
        serves(other, untouched)
    assert seen == [], f"the frontend was told: {seen}"
    assert disk.vbd.error() is None, disk.vbd.error()
    assert victim not in disk.daemon.workers() and len(disk.daemon.workers()) == 2


@cases.add
def a_worker_that_is_killed_before_anybody_connects(t):
    disk = t.disk("blkbackd", script=False, claim="all")
    disk.vbd.wait_backend(INIT_WAIT)
    victim = disk.daemon.workers()[0]
    os.kill(victim, signal.SIGKILL)
    t.bed.wait_for(lambda: disk.daemon.workers() not in ([], [victim]), "another worker")
    assert disk.vbd.backend_state() == INIT_WAIT
    serves(disk, disk.frontend().connect())


@cases.add
def a_worker_that_hangs_does_not_hold_up_a_removal(t):
    """It is ended within libxl's 10 s, and the log says which, and why."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    worker = disk.daemon.workers()[0]
    os.kill(worker, signal.SIGSTOP)
    start = time.monotonic()
    disk.vbd.force_close()
    disk.vbd.set_front_state(CLOSED)
    disk.vbd.wait_backend(CLOSED, timeout=10)
    front.free(strict=True)
    disk.check_nothing_mapped()
    assert time.monotonic() - start < 9
    domid = disk.vbd.domain.domid
    assert f"domain {domid}: its worker (pid {worker}) was asked to give rings back, has not answered for 3 s" in log_of(disk.daemon)
    assert "its storage" not in log_of(disk.daemon)
    disk.daemon.detach(disk.vbd)
    disk.vbd.remove()
    t.bed.wait_for(lambda: not disk.daemon.workers(), "the worker's end")


@cases.add
def a_worker_that_hangs_when_its_domain_is_destroyed(t):
    disk = t.disk("blkbackd")
    disk.connect()
    os.kill(disk.daemon.workers()[0], signal.SIGSTOP)
    disk.vbd.domain.destroy()
    disk.vbd.force_close()
    disk.vbd.xs.rm(disk.vbd.front)
    disk.vbd.wait_backend(CLOSED, timeout=9)
    disk.check_nothing_mapped()
    disk.daemon.detach(disk.vbd)
    disk.vbd.remove()


@cases.add
def a_worker_that_hangs_while_one_of_two_disks_closes(t):
    """Its successor serves the other one: what that has asked for meanwhile is answered, once."""
    disk = t.disk("blkbackd")
    other = t.disk(disk.daemon, domain=disk.vbd.domain, devid=XVDA + 16)
    front, stays = disk.connect(), other.connect()
    stays.exercise(other.contents, requests=200, depth=32)
    worker = disk.daemon.workers()[0]
    os.kill(worker, signal.SIGSTOP)
    pages = [stays.page(bytes([i]) * 4096, readonly=True) for i in range(16)]
    for i, page in enumerate(pages):
        stays.put(WRITE, 8 * i, [(page.ref, 0, 7)])
        other.contents[4096 * i:4096 * (i + 1)] = bytes([i]) * 4096
    stays.push()
    with other.vbd.watch_states() as seen:
        disk.vbd.set_front_state(CLOSED)
        disk.vbd.wait_backend(CLOSED, timeout=10)
        front.free(strict=True)
        assert set(stays.take_all().values()) == {OKAY}
        stays.none_more()
    assert seen == [], f"the other frontend was told: {seen}"
    assert worker not in disk.daemon.workers() and len(disk.daemon.workers()) == 1
    for page in pages:
        page.end()
    other.quick_io(stays)
    again = disk.frontend()
    again.reset()
    disk.quick_io(again.connect())
    again.close()
    stays.close()
    disk.check_nothing_mapped()


@cases.add
def a_worker_that_can_not_be_ended(t):
    """As in a system call that nothing interrupts: the broker does not hear of its end, for the one who traces it comes first.
    State 6 waits for that."""
    disk = t.disk("blkbackd")
    disk.connect()
    worker = disk.daemon.workers()[0]
    Traced(worker, f"{disk.daemon.bin}/blkbackd-worker")  # which stops it
    disk.vbd.xs.rm(disk.vbd.front)
    t.bed.wait_for(lambda: "the kernel keeps it" in log_of(disk.daemon), "the broker to notice")
    time.sleep(3)
    assert disk.vbd.backend_state() == CONNECTED, "closed, while its worker is there"
    assert disk.status()["reason"] == "its worker hangs, was ended, and is kept by the kernel", disk.status()["reason"]
    assert log_of(disk.daemon).count("the kernel keeps it") == 1
    os.waitpid(worker, WALL)
    disk.vbd.wait_backend(CLOSED)
    disk.check_nothing_mapped()
    disk.daemon.detach(disk.vbd)


@cases.add
def a_worker_that_closes_late_is_not_ended(t):
    """It answers when the broker has given up waiting and asked again: one worker, and the disk is connected anew."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    worker = disk.daemon.workers()[0]
    os.kill(worker, signal.SIGSTOP)
    disk.vbd.set_front_state(CLOSED)
    t.bed.wait_for(lambda: "not all answered" in open(disk.daemon.log, encoding="utf-8").read(), "the broker's second request")
    os.kill(worker, signal.SIGCONT)
    disk.vbd.wait_backend(CLOSED)
    front.free(strict=True)
    front = disk.frontend()
    front.reset()
    front.connect()
    disk.serves(front)
    assert disk.daemon.workers() == [worker], "another worker"
    front.close()


@cases.add
def a_broker_that_is_held_up_ends_no_worker(t):
    """By a slow XenStore or image, for longer than a worker has to answer: the answer is there when the broker goes on."""
    disk = t.disk("blkbackd")
    disk.connect()
    worker = disk.daemon.workers()[0]
    os.kill(worker, signal.SIGSTOP)
    disk.vbd.xs.rm(disk.vbd.front)
    time.sleep(1)  # the worker is asked
    t.bed.freeze(disk.daemon.process)
    os.kill(worker, signal.SIGCONT)
    time.sleep(3.5)
    disk.daemon.process.send_signal(signal.SIGCONT)
    disk.vbd.wait_backend(CLOSED)
    assert "has not answered" not in log_of(disk.daemon), log_of(disk.daemon)
    assert disk.daemon.workers() == [worker], "another worker"
    disk.check_nothing_mapped()
    disk.daemon.detach(disk.vbd)


def env_of(t, path):
    t.faults = Faults(t.bed, path)
    return t.faults.environment()


@cases.add
def slow_storage_does_not_hold_up_a_removal(t):
    """State 6 comes, the image stays locked until its I/O has finished."""
    disk = t.disk("blkbackd", engine="inline", faults=lambda path: env_of(t, path))
    front = disk.connect()
    page = front.page(b"\x5a" * 4096)
    t.faults.control.delay_us, t.faults.control.delay_one_in = 6_000_000, 1
    front.put(WRITE, 0, [(page.ref, 0, 7)])
    front.push()
    time.sleep(0.2)
    start = time.monotonic()
    disk.vbd.force_close()
    disk.vbd.set_front_state(CLOSED)
    disk.vbd.wait_backend(CLOSED, timeout=9)
    assert time.monotonic() - start < 9
    disk.daemon.detach(disk.vbd)


@cases.add
def a_broker_that_is_killed_takes_its_workers_along(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    workers = disk.daemon.workers()
    disk.daemon.kill()
    t.bed.wait_for(lambda: not any(os.path.exists(f"/proc/{w}") for w in workers), "the workers' end")
    disk.check_nothing_mapped()
    disk.daemon.start()
    serves(disk, front)
    assert disk.vbd.backend_state() == CONNECTED


@cases.add
def a_clean_restart(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    assert disk.daemon.stop() is None
    assert disk.vbd.backend_state() == CONNECTED
    assert sorted(os.listdir(f"{disk.daemon.dir}/state")) == ["1-51712.conn", "1-51712.slab"]
    disk.daemon.start()
    serves(disk, front)
    assert disk.vbd.backend_state() == CONNECTED


@cases.add
def files_of_disks_that_are_gone_are_collected(t):
    disk = t.disk("blkbackd")
    disk.connect()
    assert disk.daemon.stop() is None
    disk.vbd.remove()
    for name in ("notes.txt", ".9-51712.conn.new"):  # the latter of a broker that was killed while it wrote
        with open(f"{disk.daemon.dir}/state/{name}", "w", encoding="ascii"):
            pass
    disk.daemon.start()
    assert os.listdir(f"{disk.daemon.dir}/state") == ["notes.txt"]


@cases.add
def no_xenstored(t):
    daemon = t.blkbackd()
    assert daemon.stop() is None
    env = t.bed.environment()
    env["XENSTORED_PATH"] = f"{t.bed.dir}/nothing"
    alone = subprocess.run([f"{t.options.bin}/blkbackd", "--foreground", "--config", daemon.config],
                           env=env, capture_output=True, text=True, timeout=20)
    assert alone.returncode == 1
    assert "xenstored" in alone.stderr, alone.stderr


@cases.add
def xenstored_dies_under_a_guest(t):
    """The disk goes on being served, nothing spins, and the daemon can still be stopped."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    t.bed.stop(t.bed.xenstored, signal.SIGKILL)
    t.bed.wait_for(lambda: "xenstored is lost" in log_of(disk.daemon), "the loss to be noticed")
    before = cpu_ticks(disk.daemon.process.pid)
    serves(disk, front)
    time.sleep(1)
    assert cpu_ticks(disk.daemon.process.pid) - before < 20, "the broker spins"
    serves(disk, front)
    assert disk.daemon.stop() is None


@cases.add
def xenstored_dies_while_it_is_asked(t):
    """What can't be read is not gone."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    t.bed.freeze(disk.daemon.process)
    disk.vbd.set_front_state(CONNECTED)
    t.bed.xenstored.send_signal(signal.SIGSTOP)
    disk.daemon.process.send_signal(signal.SIGCONT)
    time.sleep(0.3)  # the daemon has the news, and waits for an answer
    t.bed.stop(t.bed.xenstored, signal.SIGKILL)
    t.bed.wait_for(lambda: "xenstored is lost" in log_of(disk.daemon), "the loss to be noticed")
    serves(disk, front)
    assert disk.daemon.stop() is None


@cases.add
def configuration_is_reloaded_on_sighup(t):
    daemon = t.blkbackd(max_ring_page_order=2)
    with open(daemon.config, encoding="ascii") as f:
        text = f.read()

    def reload(text, sign):
        with open(daemon.config, "w", encoding="ascii") as f:
            f.write(text)
        daemon.process.send_signal(signal.SIGHUP)
        t.bed.wait_for(lambda: sign in log_of(daemon), sign)

    reload(text.replace("order = 2", "order = 3") + "nonsense = 1\n", "nonsense")
    assert t.disk(daemon).connect().limit("max-ring-page-order", 0) == 2
    reload(text.replace("order = 2", "order = 3"), "configuration reloaded")
    assert t.disk(daemon).connect().limit("max-ring-page-order", 0) == 3


@cases.add
def an_image_in_use_is_waited_for(t):
    first = t.disk("blkbackd")
    front = first.connect()
    second = Vbd(t.new_domain(), "vbd")
    second.create(first.daemon.nodes(first.path))
    second.wait_backend(INIT_WAIT)
    first.daemon.hook_in_background(second)
    time.sleep(0.6)
    assert second.get("hotplug-status") is None, "it was answered while the image was in use"
    first.vbd.force_close()
    first.vbd.set_front_state(CLOSED)
    first.vbd.wait_backend(CLOSED)
    first.vbd.remove()
    front.free(strict=True)
    second.xs.wait(f"{second.back}/hotplug-status", lambda v: v == "connected")


@cases.add
def a_resumed_guest_brings_a_new_ring(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    serves(disk, front)
    old, front.queues = front.queue, []
    front.make_queue()
    front.publish(front.nodes(), INITIALISED)
    t.bed.wait_for(lambda: "new ring" in log_of(disk.daemon), "the new ring to be noticed")
    t.bed.wait_for(lambda: log_of(disk.daemon).count(" connected: ") == 2, "the new ring to be connected")
    disk.vbd.set_front_state(CONNECTED)
    serves(disk, front)
    assert disk.vbd.backend_state() == CONNECTED
    assert front.lib.front_queue_free(old) == 0, "the old ring is still mapped"


@cases.add
def repeated_initialised_is_ignored(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    for _ in range(20):
        disk.vbd.set_front_state(INITIALISED)
        disk.vbd.set_front_state(CONNECTED)
    serves(disk, front)
    assert log_of(disk.daemon).count(" connected: ") == 1


@cases.add
def a_directory_that_is_made_anew_at_once(t):
    """Removed and created in one transaction with another image: the new one is served, the old one free."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    path, contents = t.bed.image(8 * MIB, "another.img")
    front.free()
    disk.vbd.create(disk.daemon.nodes(path))
    disk.daemon.hook_in_background(disk.vbd)
    disk.contents = contents
    again = disk.frontend().connect()
    serves(disk, again)
    with open(disk.path, "rb") as f:
        third = t.disk(disk.daemon, image=(disk.path, bytearray(f.read())))
    serves(third, third.connect())


@cases.add
def many_disks_and_domains(t):
    daemon = t.blkbackd()
    disks = []
    for _ in range(4):
        domain = t.new_domain()
        disks += [t.disk(daemon, size=MIB, domain=domain, devid=XVDA + 16 * i) for i in range(12)]
    fronts = [d.connect() for d in disks]
    for d, f in zip(disks, fronts):
        serves(d, f)
    assert len(daemon.workers()) == 4
    for d, f in zip(disks, fronts):
        f.close()
        d.vbd.force_close()
        d.vbd.wait_backend(CLOSED)
        d.vbd.remove()
    t.bed.wait_for(lambda: not daemon.workers(), "the workers' end")
    assert os.listdir(f"{daemon.dir}/state") == []
    assert t.bed.xs.get("/local/domain/0/error/backend/vbd/1") is None


@cases.add
def a_worker_that_can_not_be_started(t):
    daemon = t.blkbackd()
    with open(daemon.config, encoding="ascii") as f:
        text = f.read()
    with open(daemon.config, "w", encoding="ascii") as f:
        f.write(text.replace("[worker]", "[worker]\nbinary = /no/such/worker"))
    assert daemon.control(4)[0] == 0, daemon.control(4)
    path, _ = t.bed.image(MIB)
    vbd = Vbd(t.new_domain(), "vbd")
    vbd.create(daemon.nodes(path))
    reason = daemon.refuses(vbd)
    assert "/no/such/worker" in reason, reason


@cases.add
def nothing_stays_open_in_the_broker(t):
    daemon = t.blkbackd()
    broker = daemon.process.pid
    before = descriptors(broker)
    for _ in range(5):
        disk = t.disk(daemon)
        front = disk.connect()
        front.close()
        disk.vbd.force_close()
        disk.vbd.wait_backend(CLOSED)
        daemon.detach(disk.vbd)
        disk.vbd.remove()
    t.bed.wait_for(lambda: not daemon.workers(), "the workers' end")
    t.bed.wait_for(lambda: descriptors(broker) == before,
                   f"descriptors to be closed ({descriptors(broker)} now, {before} before)")


@cases.add
def no_descriptors_are_left(t):
    """The new disk is refused, the old one is served on; when there are some again, the next disk is served."""
    daemon = t.blkbackd(attach_timeout=3)
    old = t.disk(daemon)
    front = old.connect()
    pid = daemon.process.pid
    used = descriptors(pid)
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 1, limits[1]))
    path, _ = t.bed.image(MIB)
    vbd = Vbd(t.new_domain(), "vbd")
    vbd.create(daemon.nodes(path))
    reason = daemon.refuses(vbd)
    assert "open files" in reason, reason
    front.exercise(old.contents, requests=200, depth=16)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    vbd.force_close()
    vbd.wait_backend(CLOSED)
    vbd.remove()
    after = t.disk(daemon)
    after.serves(after.connect())
    old.serves(front)


cases.main()
