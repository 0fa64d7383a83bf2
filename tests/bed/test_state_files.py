#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""blkbackd's state files: a tmpfs that is full stops the disk that finds no room, says so, and harms no other."""

import subprocess

from bedlib.testing import Cases, Skip
from bedlib.vbd import CLOSING, INIT_WAIT, INITIALISED, Vbd

cases = Cases()
KIB = 1024


def tiny(t, size, **options):
    """A daemon whose state files have that many bytes of room."""
    daemon = t.blkbackd(**options)
    daemon.stop()
    folder = f"{daemon.dir}/state"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", folder], check=False).returncode:
        raise Skip("can't mount a tmpfs here")
    t.bed.on_close(lambda: subprocess.run(["umount", "--lazy", folder], check=False))
    daemon.start()
    return daemon


def full(daemon):
    return f"(in {daemon.dir}/state, which is full)"


def status(daemon):
    command = [f"{daemon.bin}/blkbackctl", "--config", daemon.config, "--state-dir", f"{daemon.dir}/state", "status"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout


@cases.add
def no_room_for_a_rings_requests(t):
    """The frontend's error node and blkbackctl say why, other disks are served on, and when one of them goes there is room."""
    daemon = tiny(t, 1024 * KIB, max_requests=256)
    first, second = t.disk(daemon), t.disk(daemon)
    front = first.connect(order=3)
    late = second.frontend()
    second.vbd.wait_backend(INIT_WAIT)
    late.make_queue(order=3)
    late.publish(late.nodes(order=3), INITIALISED)
    second.vbd.wait_backend(CLOSING)
    assert full(daemon) in second.vbd.error(), second.vbd.error()
    t.bed.wait_for(lambda: full(daemon) in status(daemon), "blkbackctl to say why")
    first.serves(front)
    late.close()
    late.reset()
    late.connect(order=3)
    second.serves(late)


@cases.add
def no_room_for_a_disk(t):
    """The hook says why, and so does blkbackctl."""
    daemon = tiny(t, 32 * KIB)
    path, _ = t.bed.image(1 << 20)
    vbd = Vbd(t.new_domain(), daemon.backend_class)
    vbd.create(daemon.nodes(path))
    reason = daemon.refuses(vbd)
    assert full(daemon) in reason, reason
    assert full(daemon) in status(daemon), status(daemon)


if __name__ == "__main__":
    cases.main()
