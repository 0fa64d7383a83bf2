#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""What a worker says is an attacker's word: one that does not keep to the protocol is ended, its disk is not served, and
nobody else notices."""

import os
import re
import stat
import sys

from bedlib.testing import MIB, Cases
from bedlib.vbd import Vbd

cases = Cases()

with open(f"{os.path.dirname(os.path.abspath(__file__))}/../../include/blkback/worker_protocol.h", encoding="utf-8") as header:
    VERSION = int(re.search(r"WORKER_PROTOCOL_VERSION (\d+)U", header.read()).group(1))  # with another one all would be refused

WORKER = r'''
import array, os, socket, struct, sys, time
MAGIC, VERSION = 0x5742444b, %d
READY, OPEN_STORE, STORE_OPENED, STORE_FAILED, QUEUE_CONNECTED, DISCONNECTED, DRAINED, STORE_CLOSED, RING_BROKEN = 1, 2, 3, 4, 6, 9, 10, 12, 13
STORE_CHANGED, SIZE = 16, 18
link = socket.socket(fileno=3)

def message(kind, vbd=0, error=0, body=b"", magic=MAGIC, version=VERSION):
    return struct.pack("=IHHIi256s", magic, version, kind, vbd, error, body)

def opened(size=1 << 20, sector=512, physical=512, read_only=0, engine=b"aio", discard=0):
    return struct.pack("=QIIIIIIIII16s", size, sector, physical, read_only, 1, 0, discard, 0, 0, 0, engine)

def say(*what, fds=()):
    link.sendmsg([message(*what)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])

how = "%s"
if how == "ready twice": say(READY); say(READY)
if how == "ends at once": sys.exit(3)
if how == "nothing but noise": link.send(os.urandom(272))
if how == "too short": link.send(message(READY)[:100])
if how == "too long": link.send(message(READY) + b"x")
if how == "another version": link.send(message(READY, version=VERSION + 1))
if how == "a broker's message": say(READY); say(2)
if how == "descriptors": link.sendmsg([message(READY)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [1, 1]))])
if how == "a disk before there is one": say(STORE_OPENED, 1, 0, opened())
def receive_open():
    """The number of the vbd; the share of grants is told between."""
    while True:
        kind, vbd = struct.unpack_from("=6xHI", link.recv(4096))
        if kind == OPEN_STORE:
            return vbd

say(READY)
vbd = receive_open()
if how == "another's disk": say(STORE_OPENED, vbd + 1, 0, opened())
if how == "disk 0": say(STORE_OPENED, 0, 0, opened())
if how == "sectors of 3 bytes": say(STORE_OPENED, vbd, 0, opened(sector=3))
if how == "sectors of 0 bytes": say(STORE_OPENED, vbd, 0, opened(sector=0))
if how == "half a sector": say(STORE_OPENED, vbd, 0, opened(size=1000))
if how == "a size beyond any": say(STORE_OPENED, vbd, 0, opened(size=(1 << 64) - 512))
if how == "an engine of escapes": say(STORE_OPENED, vbd, 0, opened(engine=b"\033[2J\n"))
if how == "connected out of turn": say(QUEUE_CONNECTED, vbd)
if how == "closed out of turn": say(STORE_CLOSED, vbd)
if how == "drained out of turn": say(DRAINED, vbd)
if how == "broken out of turn": say(RING_BROKEN, vbd, -5, b"no")
if how == "changed out of turn": say(STORE_CHANGED, vbd, 0, opened())
if how == "size out of turn": say(STORE_OPENED, vbd, 0, opened()); say(SIZE, vbd, 0, opened())
if how == "discards of 0 bytes": say(STORE_OPENED, vbd, 0, opened(discard=1))
if how == "opened twice": say(STORE_OPENED, vbd, 0, opened()); say(STORE_OPENED, vbd, 0, opened())
while how == "failed with escapes":
    say(STORE_FAILED, vbd, -5, b"\033[2J%%s%%n" * 30)
    vbd = receive_open()
time.sleep(30)
'''

ENDED = ("ready twice", "ends at once", "nothing but noise", "too short", "too long", "another version",
         "a broker's message", "descriptors", "a disk before there is one", "another's disk", "disk 0",
         "sectors of 3 bytes", "sectors of 0 bytes", "half a sector", "a size beyond any",
         "an engine of escapes", "connected out of turn", "closed out of turn", "drained out of turn",
         "broken out of turn", "opened twice", "changed out of turn", "size out of turn",
         "discards of 0 bytes")


def use_worker(daemon, how):
    path = f"{daemon.dir}/worker"
    with open(path, "w", encoding="utf-8") as f:
        f.write(f"#!{sys.executable}\n{WORKER % (VERSION, how)}")
    os.chmod(path, stat.S_IRWXU)
    with open(daemon.config, encoding="utf-8") as f:
        text = f.read()
    with open(daemon.config, "w", encoding="utf-8") as f:
        f.write(text.replace("[worker]", f"[worker]\nbinary = {path}"))
    assert daemon.control(4)[0] == 0


def refused(t, daemon):
    path, _ = t.bed.image(MIB, "hostile.img")
    vbd = Vbd(t.new_domain(), daemon.backend_class)
    vbd.create(daemon.nodes(path))
    return daemon.refuses(vbd)


def check_others(t, good, front, daemon):
    assert front.read(0, 8) == bytes(good.contents[:4096])
    assert daemon.process.poll() is None, "the broker ended"


@cases.over("worker-says", *ENDED)
def hostile(t, how):
    daemon = t.blkbackd()
    good = t.disk(daemon)
    front = good.connect()
    honest = daemon.workers()
    use_worker(daemon, how)
    if how in ("opened twice", "size out of turn"):  # the first time it may be attached
        try:
            refused(t, daemon)
        except AssertionError:
            pass
    else:
        assert "worker ended" in refused(t, daemon)
    t.bed.wait_for(lambda: daemon.workers() == honest, "the worker's end")
    check_others(t, good, front, daemon)


@cases.add
def reasons_are_shown_escaped(t):
    daemon = t.blkbackd()
    good = t.disk(daemon)
    front = good.connect()
    use_worker(daemon, "failed with escapes")
    reason = refused(t, daemon)
    assert reason.startswith("\\x1b[2J%s%n") and reason.isprintable(), reason
    with open(daemon.log, "rb") as f:
        assert b"\033" not in f.read()
    check_others(t, good, front, daemon)


cases.main()
