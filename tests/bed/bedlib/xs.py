# SPDX-License-Identifier: BSD-2-Clause
"""A XenStore client: the wire protocol over xenstored's socket."""

import errno
import os
import select
import socket
import struct
import threading
import time

PATIENCE = 60.0  # seconds for what is to happen soon, on a machine that is busy with other things; nothing that passes waits so long

(DIRECTORY, READ, GET_PERMS, WATCH, UNWATCH, TRANSACTION_START, TRANSACTION_END, INTRODUCE, RELEASE,
 GET_DOMAIN_PATH, WRITE, MKDIR, RM, SET_PERMS, WATCH_EVENT, ERROR, IS_INTRODUCED) = range(1, 18)
HEADER = struct.Struct("<IIII")


class XsError(OSError):
    """An answer of xenstored that says no: errno is set."""


class XenStore:
    """One connection. Values are str; methods raise XsError."""

    def __init__(self, path):
        self.path, self.sock = path, None
        self.lock = threading.RLock()
        self.next_id = 1
        self.connect()

    def connect(self):
        """Also again, after xenstored has restarted."""
        if self.sock is not None:
            self.sock.close()
        self.events = []
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.connect(self.path)
        except OSError:
            self.sock.close()
            raise
        self.sock.settimeout(PATIENCE)

    def close(self):
        self.sock.close()

    def _receive(self, size):
        data = b""
        while len(data) < size:
            part = self.sock.recv(size - len(data))
            if not part:
                raise ConnectionError("xenstored hung up")
            data += part
        return data

    def _message(self):
        kind, req, _tx, size = HEADER.unpack(self._receive(HEADER.size))
        return kind, req, self._receive(size)

    def _call(self, kind, payload, tx=0):
        with self.lock:
            req = self.next_id
            self.next_id += 1
            self.sock.sendall(HEADER.pack(kind, req, tx, len(payload)) + payload)
            while True:
                got, answer_to, body = self._message()
                if got == WATCH_EVENT:
                    self.events.append(body)
                elif answer_to == req:
                    break
            if got == ERROR:
                name = body.rstrip(b"\0").decode()
                raise XsError(getattr(errno, name, errno.EIO), f"{name}: {payload[:200]!r}")
            return body

    def read(self, path, tx=0):
        return self._call(READ, path.encode() + b"\0", tx).decode("latin-1")

    def get(self, path, default=None, tx=0):
        """read(), or default where there is no such node."""
        try:
            return self.read(path, tx)
        except XsError as e:
            if e.errno in (errno.ENOENT, errno.ENOTDIR):
                return default
            raise

    def write(self, path, value, tx=0):
        data = value if isinstance(value, bytes) else str(value).encode("latin-1")
        self._call(WRITE, path.encode() + b"\0" + data, tx)

    def list(self, path, tx=0):
        body = self._call(DIRECTORY, path.encode() + b"\0", tx)
        return [n.decode() for n in body.split(b"\0") if n]

    def mkdir(self, path, tx=0):
        self._call(MKDIR, path.encode() + b"\0", tx)

    def rm(self, path, tx=0):
        """Removes a tree; it need not exist."""
        try:
            self._call(RM, path.encode() + b"\0", tx)
        except XsError as e:
            if e.errno != errno.ENOENT:
                raise

    def perms(self, path, perms, tx=0):
        """perms: e.g. ["n1", "r0"]: owner domain 1, readable by domain 0."""
        self._call(SET_PERMS, b"\0".join(p.encode() for p in [path, *perms]) + b"\0", tx)

    def introduce(self, domid, mfn, port):
        self._call(INTRODUCE, f"{domid}\0{mfn}\0{port}\0".encode())

    def release(self, domid):
        self._call(RELEASE, f"{domid}\0".encode())

    def transaction(self, work):
        """Runs work(tx) until it could be committed."""
        while True:
            tx = int(self._call(TRANSACTION_START, b"\0").rstrip(b"\0"))
            try:
                work(tx)
            except BaseException:
                self._call(TRANSACTION_END, b"F\0", tx)
                raise
            try:
                self._call(TRANSACTION_END, b"T\0", tx)
                return
            except XsError as e:
                if e.errno != errno.EAGAIN:
                    raise

    def watch(self, path, token="t"):
        self._call(WATCH, f"{path}\0{token}\0".encode())

    def unwatch(self, path, token="t"):
        self._call(UNWATCH, f"{path}\0{token}\0".encode())

    def _drain(self, timeout):
        with self.lock:
            if not self.events and select.select([self.sock], [], [], timeout)[0]:
                kind, _req, body = self._message()
                if kind == WATCH_EVENT:
                    self.events.append(body)
            self.events.clear()

    def take_events(self, timeout):
        """How many events of watches have come, until there is none for so long."""
        count = 0
        while True:
            with self.lock:
                if not self.events and select.select([self.sock], [], [], timeout)[0]:
                    kind, _req, body = self._message()
                    if kind == WATCH_EVENT:
                        self.events.append(body)
                if not self.events:
                    return count
                count += len(self.events)
                self.events.clear()

    def wait(self, path, accept, timeout=PATIENCE):
        """Waits until accept(value) is true, value being None without the node. Returns the value."""
        token = f"wait-{os.getpid()}-{threading.get_ident()}-{time.monotonic_ns()}"
        end = time.monotonic() + timeout
        self.watch(path, token)
        try:
            while True:
                value = self.get(path)
                if accept(value):
                    return value
                left = end - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"{path} is {value!r} after {timeout} s")
                self._drain(min(left, 0.5))
        finally:
            self.unwatch(path, token)

    def get_perms(self, path):
        return [p.decode() for p in self._call(GET_PERMS, path.encode() + b"\0").split(b"\0") if p]

    def save(self, path="/"):
        """The tree below path: [(path, value, permissions)], parents first."""
        nodes = []

        def walk(node):
            for name in self.list(node):
                child = f"{node.rstrip('/')}/{name}"
                nodes.append((child, self.read(child), self.get_perms(child)))
                walk(child)

        walk(path)
        return nodes

    def restore(self, nodes):
        for path, value, perms in nodes:
            if not path.startswith("/@"):
                self.write(path, value)
                self.perms(path, perms)

    def dump(self, path="/"):
        """The tree below path as text, for messages."""
        lines = []

        def walk(node, depth):
            for name in self.list(node):
                child = f"{node.rstrip('/')}/{name}"
                lines.append(f"{'  ' * depth}{name} = {self.get(child)!r}")
                walk(child, depth + 1)

        try:
            walk(path, 0)
        except XsError as e:
            lines.append(str(e))
        return "\n".join(lines)
