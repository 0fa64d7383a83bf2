# SPDX-License-Identifier: BSD-2-Clause
"""A way to xenstored that is cut at a chosen request, as if xenstored had ended there; the next connection is whole."""

import socket
import threading

from .xs import HEADER


class Cutter:
    """Listens at .path, for a daemon's XENSTORED_PATH. cut_after(n): the n-th request from now on is not answered."""

    def __init__(self, bed):
        self.bed, self.path, self.left, self.cuts = bed, f"{bed.dir}/cutter", None, 0
        self.lock = threading.Lock()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen()
        bed.on_close(self.listener.close)
        threading.Thread(target=self.accept, daemon=True).start()

    def environment(self):
        return {"XENSTORED_PATH": self.path}

    def cut_after(self, requests):
        with self.lock:
            self.left = requests

    def is_cut(self):
        with self.lock:
            if self.left is None:
                return False
            self.left -= 1
            if self.left > 0:
                return False
            self.left = None
            self.cuts += 1
            return True

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
                server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                server.connect(self.bed.socket)
            except OSError:
                return
            threading.Thread(target=self.requests, args=(client, server), daemon=True).start()
            threading.Thread(target=self.answers, args=(client, server), daemon=True).start()

    def requests(self, client, server):
        try:
            while True:
                header = receive(client, HEADER.size)
                body = receive(client, HEADER.unpack(header)[3])
                if self.is_cut():
                    break
                server.sendall(header + body)
        except (OSError, EOFError):
            pass
        hang_up(client, server)

    @staticmethod
    def answers(client, server):
        try:
            while True:
                data = server.recv(65536)
                if not data:
                    break
                client.sendall(data)
        except OSError:
            pass
        hang_up(client, server)


def receive(sock, size):
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def hang_up(*sockets):
    for sock in sockets:
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
