# SPDX-License-Identifier: BSD-2-Clause
"""The guest's side of a disk: XenBus handshake in as many ways as guests have, requests, checked answers."""

import contextlib
import copy
import ctypes
import struct

from . import native
from .bed import Missing, as_pointer
from .pages import PAGE, Page, Wrong
from .vbd import CLOSED, CLOSING, CONNECTED, INIT_WAIT, INITIALISED, INITIALISING
from .xs import PATIENCE

READ, WRITE, WRITE_BARRIER, FLUSH, DISCARD, INDIRECT = 0, 1, 2, 3, 5, 6
OKAY, ERROR, EOPNOTSUPP = 0, -1, -2
ABIS = {"x86_64-abi": 0, "x86_32-abi": 1}
SECTOR = 512
COMMON_TO_QUEUES = ("ring-page-order", "num-ring-pages")


class Frontend:
    """One vbd's frontend. Every answer is checked: known id, its operation, exactly one. Requests go to its first queue;
    on(n) is the same frontend with the n-th."""

    def __init__(self, vbd):
        self.vbd, self.bed, self.xs = vbd, vbd.domain.bed, vbd.xs
        self.lib, self.domid = self.bed.lib, vbd.domain.domid
        self.queue, self.in_flight, self.next_id = None, {}, 1
        self.queues, self.pools, self.lists = [], [], {}
        self.protocol = "x86_64-abi"
        self.bed.on_close(self.free)

    # --- handshake -------------------------------------------------------------------------------------------

    def make_queue(self, order=0, protocol="x86_64-abi", count=1):
        """count rings, each with its channel."""
        self.protocol = protocol
        for _ in range(count):
            queue = self.lib.front_queue_new(self.domid, self.vbd.backend_domid, order,
                                             ABIS.get(protocol or "x86_64-abi", 0))
            if not queue:
                raise OSError(ctypes.get_errno(), "front_queue_new")
            self.queues.append(queue)
        self.queue = self.queues[0]
        self.in_flight = {}

    def on(self, number):
        """This frontend with another of its queues."""
        other = copy.copy(self)
        other.queue, other.in_flight, other.lists = self.queues[number], {}, {}
        return other

    def ring_nodes(self, order, scheme="order"):
        """The ring's references under one of the key schemes. order: ring-page-order; pages: num-ring-pages; both;
        freebsd: ring-ref and ring-ref1 onwards; plain: ring-ref alone."""
        refs = [self.lib.front_queue_ref(self.queue, i) for i in range(1 << order)]
        if scheme == "plain":
            return {"ring-ref": refs[0]}
        nodes = {f"ring-ref{i}": ref for i, ref in enumerate(refs)}
        if scheme == "freebsd":
            nodes["ring-ref"] = nodes.pop("ring-ref0")
        if scheme in ("order", "both", "freebsd"):
            nodes["ring-page-order"] = order
        if scheme in ("pages", "both", "freebsd"):
            nodes["num-ring-pages"] = 1 << order
        return nodes

    def nodes(self, order=0, scheme=None):
        """Everything the frontend writes but its state."""
        scheme = scheme or ("order" if order else "plain")
        nodes = {"protocol": self.protocol} if self.protocol else {}
        if len(self.queues) == 1:
            return {**self.ring_nodes(order, scheme), "event-channel": self.lib.front_queue_port(self.queue), **nodes}
        nodes["multi-queue-num-queues"] = len(self.queues)
        for number in range(len(self.queues)):
            other = self.on(number)
            of_ring = {**other.ring_nodes(order, scheme), "event-channel": self.lib.front_queue_port(other.queue)}
            for name, value in of_ring.items():
                nodes[name if name in COMMON_TO_QUEUES else f"queue-{number}/{name}"] = value
        return nodes

    def publish(self, nodes, state):
        """Writes nodes (None removes one) and the state in one transaction, as Linux does."""
        def work(tx):
            for name, value in nodes.items():
                if value is None:
                    self.xs.rm(f"{self.vbd.front}/{name}", tx)
                else:
                    self.xs.write(f"{self.vbd.front}/{name}", value, tx)
            self.xs.write(f"{self.vbd.front}/state", state, tx)

        self.xs.transaction(work)

    def connect(self, order=0, protocol="x86_64-abi", scheme=None, wait=True, state=INITIALISED, extra=None, queues=1,
                persistent=False):
        """The whole handshake. wait: for InitWait first; state: the one the ring is offered with."""
        if wait:
            self.vbd.wait_backend(INIT_WAIT)
        self.make_queue(order, protocol, queues)
        keep = {"feature-persistent": 1} if persistent else {}
        self.publish({**self.nodes(order, scheme), **keep, **(extra or {})}, state)
        self.vbd.wait_backend(CONNECTED)
        if state != CONNECTED:
            self.vbd.set_front_state(CONNECTED)
        return self

    def close(self):
        """As Linux' blkfront on removal: 5, wait for the backend's 5 or 6, then 6. Checks that nothing is held."""
        self.vbd.set_front_state(CLOSING)
        self.vbd.wait_backend(CLOSING, CLOSED)
        self.vbd.set_front_state(CLOSED)
        self.vbd.wait_backend(CLOSED, INIT_WAIT, None)
        self.free(strict=True)

    def reset(self):
        """After close(): ready to be connected again, as the next kernel would."""
        self.vbd.set_front_state(INITIALISING)

    def free(self, strict=False):
        queues, self.queues, self.queue = self.queues, [], None
        pools, self.pools = self.pools, []
        if not queues and not pools:
            return
        with contextlib.suppress(OSError):
            self.lib.bed_reap()
        mapped = sum(self.lib.front_queue_free(queue) for queue in queues)
        kept = sum(self.lib.front_pool_free(pool) for pool in pools)
        if strict and (mapped or kept):
            raise Wrong(f"{mapped} ring pages and {kept} persistent grants are still mapped after the backend closed")

    # --- what the backend says -------------------------------------------------------------------------------

    def sectors(self):
        return int(self.vbd.get("sectors"))

    def limit(self, name, default):
        return int(self.vbd.get(name) or default)

    def needs(self, name, value=1):
        """Skips the case when the backend does not offer so much."""
        if self.limit(name, 0) < value:
            raise Missing(f"{name} is {self.vbd.get(name)}, not {value}")

    # --- requests --------------------------------------------------------------------------------------------

    def page(self, data=b"", readonly=False):
        """A granted page. Page objects are freed with end()."""
        return Page(self, data, readonly)

    def pool(self, pages, aliases=True):
        """Pages that stay granted until the frontend closes."""
        pool = self.lib.front_pool_new(self.domid, self.vbd.backend_domid, pages, aliases)
        if not pool:
            raise OSError(ctypes.get_errno(), "front_pool_new")
        self.pools.append(pool)
        return pool

    def slots(self):
        return self.lib.front_queue_slots(self.queue)

    def put(self, op, sector=0, segments=(), *, byte1=None, handle=0, nr_sectors=0, ident=None, **fields):
        """Puts a request without publishing it. segments: (reference, first, last). Returns its id."""
        if ident is None:
            ident = self.next_id << 20 | 0xabcde
            self.next_id += 1
        array = (native.Segment * max(1, len(segments)))(*[native.Segment(r, f, l) for r, f, l in segments])
        request = native.Request(id=ident, sector=sector & (1 << 64) - 1, nr_sectors=nr_sectors, op=op,
                                 byte1=min(255, len(segments)) if byte1 is None else byte1, handle=handle,
                                 segments=len(segments), segment=array)
        for name, value in fields.items():
            setattr(request, name, value)
        native.check(self.lib.front_put(self.queue, ctypes.byref(request)))
        # an indirect request is answered with its inner operation, which is where others have their count
        self.in_flight.setdefault(ident, []).append(request.byte1 if op == INDIRECT else op)
        return ident

    def put_indirect(self, op, sector=0, segments=(), *, count=None, refs=None, ident=None):
        """An indirect request. count: what it says of its segments; refs: its pages', else one that is made for it and
        ended with its answer."""
        if refs is None:
            packed = b"".join(struct.pack("=IBBH", r, f, l, 0) for r, f, l in segments)
            made = [self.page(packed[i:i + PAGE], readonly=True) for i in range(0, max(1, len(packed)), PAGE)]
            refs = [page.ref for page in made]
        else:
            made = []
        ident = self.put(INDIRECT, sector, byte1=op, handle=len(segments) if count is None else count, ident=ident,
                         indirect_refs=len(refs), indirect_ref=(native.u32 * 8)(*refs))
        self.lists[ident] = made
        return ident

    def put_raw(self, slot, ident=None, op=None):
        native.check(self.lib.front_put_raw(self.queue, bytes(slot), len(slot)))
        if ident is not None:
            self.in_flight.setdefault(ident, []).append(op)

    def push(self):
        return self.lib.front_push(self.queue)

    def take(self, timeout=PATIENCE):
        """The next response, checked; None when there is none in time."""
        response = native.Response()
        if not native.check(self.lib.front_take(self.queue, ctypes.byref(response))):
            there = self.lib.front_wait(self.queue, max(1, int(timeout * 1000)))
            if there == 0:
                return None
            if there < 0 and timeout > 1:
                raise Wrong("no event came for a response")
            native.check(self.lib.front_take(self.queue, ctypes.byref(response)))
        ops = self.in_flight.get(response.id)
        if not ops:
            raise Wrong(f"a response with id {response.id:#x}, which is not in flight")
        if response.op not in ops:
            raise Wrong(f"response of id {response.id:#x} has operation {response.op}, not one of {ops}")
        for page in self.lists.pop(response.id, ()):
            page.end()
        ops.remove(response.op)
        if not ops:
            del self.in_flight[response.id]
        return response

    def take_all(self, timeout=PATIENCE):
        """All outstanding responses as {id: status}, in order of arrival; afterwards no more may come."""
        result = {}
        while self.in_flight:
            response = self.take(timeout)
            if response is None:
                raise Wrong(f"no response to {len(self.in_flight)} requests in {timeout} s")
            result[response.id] = response.status
        return result

    def none_more(self, seconds=0.05):
        """Checks that nothing else arrives."""
        if self.take(seconds) is not None:
            raise Wrong("more responses than requests")

    def run(self, op, sector=0, segments=(), **options):
        """One request; its status."""
        ident = self.put(op, sector, segments, **options)
        self.push()
        status = self.take_all()[ident]
        return status

    def discard(self, sector, count, flag=0):
        return self.run(DISCARD, sector, byte1=flag, nr_sectors=count)

    def read(self, sector, count):
        """count sectors, by as many requests as it takes; Wrong on an error status."""
        data = b""
        while count:
            n = min(count, 11 * 8)
            pages = [self.page(b"\xee" * PAGE) for _ in range((n + 7) // 8)]
            status = self.run(READ, sector, [(p.ref, 0, min(7, n - i * 8 - 1)) for i, p in enumerate(pages)])
            if status != OKAY:
                raise Wrong(f"READ of {n} sectors at {sector}: status {status}")
            data += b"".join(p.data() for p in pages)[:n * SECTOR]
            for p in pages:
                p.end()
            sector, count = sector + n, count - n
        return data

    def write(self, sector, data, op=WRITE):
        """Whole sectors, one request of at most 11 pages. Its status."""
        count = len(data) // SECTOR
        pages = [self.page(data[i:i + PAGE], readonly=True) for i in range(0, len(data), PAGE)]
        status = self.run(op, sector, [(p.ref, 0, min(7, count - i * 8 - 1)) for i, p in enumerate(pages)])
        for p in pages:
            p.end()
        return status

    def flush(self):
        return self.run(FLUSH)

    def exercise(self, model, requests=2000, depth=32, seed=1, max_segments=11, weights=(45, 45, 5, 5), **options):
        """Random checked I/O at depth; model is changed along. options: struct front_exercise's. Returns what was
        done."""
        e = native.Exercise(model=as_pointer(model), sectors=len(model) // SECTOR, seed=seed, requests=requests,
                            depth=min(depth, self.slots()), max_segments=max_segments, weight_read=weights[0],
                            weight_write=weights[1], weight_flush=weights[2], weight_barrier=weights[3],
                            timeout_ms=int(PATIENCE * 1000), alignment=1, readonly=1, discard_unit=8)
        for name, value in options.items():
            setattr(e, name, value)
        status = self.lib.front_exercise(self.queue, ctypes.byref(e))
        if e.message:
            raise Wrong(e.message.decode())
        native.check(status)
        return e

    def bench(self, *, write=False, size=4096, depth=1, seconds=2.0, sequential=False, sectors=None, max_segments=11,
              indirect=False):
        b = native.Bench(sectors=sectors or self.sectors(), seed=88172645463325252, write=write, size=size,
                         depth=depth, sequential=sequential, max_segments=max_segments, indirect=indirect,
                         milliseconds=int(seconds * 1000))
        native.check(self.lib.front_bench(self.queue, ctypes.byref(b)))
        return b
