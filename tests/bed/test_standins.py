#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The stand-ins for libxen* themselves: what a backend may rely on is what Linux and Xen promise."""

import ctypes as c
import errno
import mmap
import os
import select
import signal
import socket

from bedlib.testing import Cases

cases = Cases()
GUEST = 3
PAGE = 4096


class Segment(c.Structure):
    """xengnttab_grant_copy_segment_t, with both forms of a side in eight bytes."""
    _fields_ = [("source", c.c_uint64), ("dest", c.c_uint64), ("len", c.c_uint16), ("flags", c.c_uint16),
                ("status", c.c_int16)]


SOURCE_GREF, DEST_GREF = 1, 2


def foreign(ref, domid, offset=0):
    return ref | offset << 32 | domid << 48


class Xen:
    """Domain 0's view through the stand-ins, and a guest."""

    def __init__(self, t):
        self.t, self.guest = t, t.bed.domain(GUEST)
        self.evtchn = c.CDLL(f"{t.bed.lib_dir}/libxenevtchn.so.1", use_errno=True)
        self.gnttab = c.CDLL(f"{t.bed.lib_dir}/libxengnttab.so.1", use_errno=True)
        for f in ("xenevtchn_open", "xenevtchn_fdopen"):
            getattr(self.evtchn, f).restype = c.c_void_p
        for f in ("xengnttab_open", "xengnttab_map_domain_grant_refs"):
            getattr(self.gnttab, f).restype = c.c_void_p

    def e(self, name, handle, *args):
        """xenevtchn_NAME(handle, ...): the result, or -errno."""
        result = getattr(self.evtchn, f"xenevtchn_{name}")(c.c_void_p(handle), *args)
        return result if result != -1 else -c.get_errno()

    def open(self):
        return self.evtchn.xenevtchn_open(None, 0)

    def guest_queue(self):
        return self.t.bed.lib.front_queue_new(GUEST, 0, 0, 0)

    def bound(self):
        """A guest's queue and a handle of domain 0 bound to its port: (queue, handle, port), the first event taken."""
        queue = self.guest_queue()
        handle = self.open()
        port = self.e("bind_interdomain", handle, GUEST, self.t.bed.lib.front_queue_port(queue))
        assert port > 0, port
        assert self.events(handle) == [port], "binding raises the port"
        return queue, handle, port

    def readable(self, handle, timeout=0.0):
        return bool(select.select([self.e("fd", handle)], [], [], timeout)[0])

    def events(self, handle):
        """Ports that are delivered now."""
        found = []
        while self.readable(handle):
            found.append(self.e("pending", handle))
        return found

    def map(self, xgt, refs, prot=mmap.PROT_READ | mmap.PROT_WRITE, domid=GUEST):
        array = (c.c_uint32 * len(refs))(*refs)
        return self.gnttab.xengnttab_map_domain_grant_refs(c.c_void_p(xgt), len(refs), domid, array, prot)

    def unmap(self, xgt, address, count):
        return self.gnttab.xengnttab_unmap(c.c_void_p(xgt), c.c_void_p(address), count)

    def copy(self, xgt, segments):
        array = (Segment * len(segments))(*segments)
        result = self.gnttab.xengnttab_grant_copy(c.c_void_p(xgt), len(segments), array)
        return (0 if result == 0 else -c.get_errno()), [s.status for s in array]


def child(function):
    """Runs function in another process: its exit status, or minus the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(function() or 0)
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# --- event channels ----------------------------------------------------------------------------------------------

@cases.add
def events_coalesce_while_masked(t):
    xen = Xen(t)
    queue, handle, port = xen.bound()
    for _ in range(3):
        t.bed.lib.front_notify(queue)
    assert not xen.readable(handle), "a delivered port is masked until it is unmasked"
    assert xen.e("unmask", handle, port) == 0
    assert xen.events(handle) == [port], "what came while masked is delivered once"
    assert xen.e("unmask", handle, port) == 0
    assert not xen.readable(handle)
    t.bed.lib.front_notify(queue)
    assert xen.events(handle) == [port]


@cases.add
def notifications_reach_the_guest(t):
    xen = Xen(t)
    queue, handle, port = xen.bound()
    before = t.bed.counters(GUEST)["deliveries"]
    assert xen.e("notify", handle, port) == 0
    assert t.bed.counters(GUEST)["deliveries"] == before + 1
    assert xen.e("notify", handle, port + 1) == -errno.ENOTCONN
    assert t.bed.lib.front_queue_free(queue) == 0
    assert xen.e("notify", handle, port) == 0, "to a guest that has closed its end: dropped"


@cases.add
def a_port_has_one_owner(t):
    xen = Xen(t)
    queue, handle, port = xen.bound()
    remote = t.bed.lib.front_queue_port(queue)
    assert xen.e("bind_interdomain", xen.open(), GUEST, remote) == -errno.EINVAL
    assert xen.e("unbind", handle, port) == 0
    assert t.bed.lib.bed_port_state(GUEST, remote) == 1, "unbound again"
    assert xen.e("bind_interdomain", xen.open(), GUEST, remote) > 0


@cases.add
def a_guest_is_told_what_a_killed_owner_could_not(t):
    """The guest's port is marked, and the owner was killed before it could say so."""
    xen = Xen(t)
    queue, handle, port = xen.bound()
    guest = t.bed.lib.front_fd(queue)
    assert xen.e("notify", handle, port) == 0
    os.read(guest, 4)
    assert xen.e("close", handle) == 0
    assert xen.e("bind_interdomain", xen.open(), GUEST, t.bed.lib.front_queue_port(queue)) > 0
    assert select.select([guest], [], [], 0)[0], "the guest waits for ever"


@cases.add
def a_killed_owner_lets_go(t):
    xen = Xen(t)
    queue = xen.guest_queue()
    remote = t.bed.lib.front_queue_port(queue)
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        xen.e("bind_interdomain", xen.open(), GUEST, remote)
        os.write(tell, b"x")
        signal.pause()
    os.read(ready, 1)
    assert t.bed.lib.bed_port_state(GUEST, remote) == 2
    assert xen.e("bind_interdomain", xen.open(), GUEST, remote) == -errno.EINVAL
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    successor = xen.open()
    port = xen.e("bind_interdomain", successor, GUEST, remote)
    assert port > 0 and xen.events(successor) == [port]


@cases.add
def descriptors_can_be_passed_on(t):
    """The broker binds and closes its copy; the worker adopts the descriptor."""
    xen = Xen(t)
    queue, handle, port = xen.bound()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    socket.send_fds(ours, [b"x"], [xen.e("fd", handle)])
    assert xen.e("close", handle) == 0
    remote = t.bed.lib.front_queue_port(queue)
    assert t.bed.lib.bed_port_state(GUEST, remote) == 2, "on its way the channel stays bound"
    fd = socket.recv_fds(theirs, 1, 1)[1][0]
    adopted = xen.evtchn.xenevtchn_fdopen(None, fd, 0)
    assert xen.e("unmask", adopted, port) == 0
    t.bed.lib.front_notify(queue)
    assert xen.events(adopted) == [port]
    assert xen.e("notify", adopted, port) == 0
    assert xen.e("close", adopted) == 0
    assert t.bed.lib.bed_port_state(GUEST, remote) == 1, "the last copy is closed"


@cases.add
def restriction_is_for_one_domain_and_once(t):
    xen = Xen(t)
    queue = xen.guest_queue()
    other = t.bed.domain(7)
    other_queue = t.bed.lib.front_queue_new(other.domid, 0, 0, 0)
    handle = xen.open()
    assert xen.e("restrict", handle, 0) == -errno.EINVAL, "domain 0 is no valid restriction"
    assert xen.e("restrict", handle, GUEST) == 0
    assert xen.e("restrict", handle, GUEST) == -errno.EACCES
    assert xen.e("bind_interdomain", handle, 7, t.bed.lib.front_queue_port(other_queue)) == -errno.EACCES
    assert xen.e("bind_interdomain", handle, GUEST, t.bed.lib.front_queue_port(queue)) > 0


# --- grants ------------------------------------------------------------------------------------------------------

def granted(t, count=1, readonly=False, to=0):
    return t.bed.lib.bed_grant(GUEST, to, count, readonly)


@cases.add
def mapping_is_counted_and_shared(t):
    xen = Xen(t)
    refs = [granted(t), granted(t), granted(t)]
    xgt = xen.gnttab.xengnttab_open(None, 0)
    address = xen.map(xgt, list(reversed(refs)))
    c.memset(address + PAGE, 0x77, PAGE)
    assert c.string_at(t.bed.lib.bed_page(GUEST, refs[1]), PAGE) == b"\x77" * PAGE
    assert xen.guest.mapped() == 3
    assert t.bed.lib.bed_grant_end(GUEST, refs[0]) == 1, "in use"
    assert xen.unmap(xgt, address, 2) == -1 and c.get_errno() == errno.EINVAL, "all of a mapping or nothing"
    assert xen.unmap(xgt, address, 3) == 0
    assert xen.guest.mapped() == 0
    assert t.bed.lib.bed_grant_end(GUEST, refs[0]) == 0


@cases.add
def bad_references_are_not_mapped(t):
    xen = Xen(t)
    good, readonly, other = granted(t), granted(t, readonly=True), granted(t, to=5)
    xgt = xen.gnttab.xengnttab_open(None, 0)
    for refs in ([good, 5000], [other], [readonly], [0xffffffff], [good, readonly]):
        assert not xen.map(xgt, refs), refs
        assert c.get_errno() == errno.EINVAL
    assert not xen.map(xgt, [good], domid=9), "no such domain"
    assert xen.guest.mapped() == 0
    assert xen.map(xgt, [readonly], mmap.PROT_READ)


@cases.add
def touching_what_is_not_mapped_faults(t):
    xen = Xen(t)
    readonly, writable = granted(t, readonly=True), granted(t)

    def write_readonly():
        c.memset(xen.map(xen.gnttab.xengnttab_open(None, 0), [readonly], mmap.PROT_READ), 1, 1)

    def use_after_unmap():
        xgt = xen.gnttab.xengnttab_open(None, 0)
        address = xen.map(xgt, [writable])
        c.memset(address, 1, 1)
        xen.unmap(xgt, address, 1)
        c.memset(address, 1, 1)

    assert child(write_readonly) == -signal.SIGSEGV
    assert child(use_after_unmap) == -signal.SIGSEGV


@cases.add
def a_killed_process_maps_nothing(t):
    xen = Xen(t)
    ref = granted(t, 4)
    assert child(lambda: xen.map(xen.gnttab.xengnttab_open(None, 0), [ref + i for i in range(4)]) is None) == 0
    assert t.bed.lib.bed_mapped(GUEST) == 4, "not yet noticed"
    assert xen.guest.mapped() == 0


@cases.add
def copies_have_a_status_each(t):
    xen = Xen(t)
    good, readonly = granted(t), granted(t, readonly=True)
    xgt = xen.gnttab.xengnttab_open(None, 0)
    data = c.create_string_buffer(b"copied", PAGE)
    local = c.addressof(data)
    result, statuses = xen.copy(xgt, [
        Segment(local, foreign(good, 3, 100), 6, DEST_GREF), Segment(local, foreign(readonly, 3), 6, DEST_GREF),
        Segment(local, foreign(4444, 3), 6, DEST_GREF), Segment(local, foreign(good, 11), 6, DEST_GREF),
        Segment(foreign(readonly, 3), local + 100, 6, SOURCE_GREF)])
    assert result == 0
    assert [s == 0 for s in statuses] == [True, False, False, False, True], statuses
    assert c.string_at(t.bed.lib.bed_page(GUEST, good), 106)[100:] == b"copied"
    assert c.string_at(t.bed.lib.bed_page(GUEST, readonly), 6) == bytes(6)


@cases.add
def a_refused_call_leaves_queued_copies_undone(t):
    """gntdev's trap: they are marked okay, and nothing was copied."""
    xen = Xen(t)
    ref = granted(t)
    xgt = xen.gnttab.xengnttab_open(None, 0)
    data = c.create_string_buffer(b"never", PAGE)
    local = c.addressof(data)
    good = Segment(local, foreign(ref, 3), 5, DEST_GREF, -1)
    beyond = Segment(local, foreign(ref, 3, PAGE - 4), 5, DEST_GREF, -1)
    result, statuses = xen.copy(xgt, [good, good, beyond, good])
    assert result == -errno.EINVAL
    assert statuses == [0, 0, -1, -1]
    assert c.string_at(t.bed.lib.bed_page(GUEST, ref), 5) == bytes(5)


@cases.add
def a_dying_domain_is_neither_copied_nor_mapped(t):
    xen = Xen(t)
    ref = granted(t)
    xgt = xen.gnttab.xengnttab_open(None, 0)
    address = xen.map(xgt, [ref])
    xen.guest.destroy()
    assert xen.guest.mapped() == 1, "it lives on in its mappings"
    data = c.create_string_buffer(PAGE)
    local = c.addressof(data)
    assert xen.copy(xgt, [Segment(local, foreign(ref, 3), 5, DEST_GREF)])[1][0] < 0
    assert not xen.map(xgt, [ref])
    assert xen.unmap(xgt, address, 1) == 0
    assert xen.guest.mapped() == 0
    t.bed.domain(GUEST)


if __name__ == "__main__":
    cases.main()
