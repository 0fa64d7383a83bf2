#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""blkbackd: which images a disk can have, who may share one, and the reasons for a no."""

import os

from bedlib.front import OKAY, PAGE
from bedlib.testing import Cases
from bedlib.vbd import CLOSED, INIT_WAIT, Vbd

cases = Cases()


def refused_by_the_hook(t, daemon, target, mode="w", domain=None):
    vbd = Vbd(domain or t.new_domain(), daemon.backend_class)
    vbd.create(daemon.nodes(target), mode)
    return daemon.refuses(vbd)


@cases.add
def bad_targets_have_reasons(t):
    daemon = t.blkbackd()
    os.mkdir(f"{t.bed.dir}/folder")
    for target, word in (("/no/such/file", "/no/such/file"), (f"{t.bed.dir}/folder", "folder"),
                         ("relative", "relative"), ("", ""), ("/dev/null", "/dev/null"),
                         ("disk:unknown", "unknown"), ("nbd://x", "nbd"),
                         ("null:", "null"), ("null:12x", "null")):
        reason = refused_by_the_hook(t, daemon, target)
        assert word in reason, f"{target!r}: {reason!r}"


@cases.add
def a_failed_disk_shows_init_wait(t):
    """libxl waits for state 2 also when the image can't be opened; afterwards it can be taken away."""
    daemon = t.blkbackd()
    vbd = Vbd(t.new_domain(), daemon.backend_class)
    vbd.create(daemon.nodes("/no/such/file"))
    vbd.wait_backend(INIT_WAIT)
    vbd.force_close()
    vbd.wait_backend(CLOSED)


@cases.add
def one_writer_for_an_image(t):
    """Also under another name. The reason names who has it."""
    daemon = t.blkbackd(attach_timeout=1)
    disk = t.disk(daemon)
    front = disk.connect()
    link = f"{t.bed.dir}/link.img"
    os.link(disk.path, link)
    for target, mode in ((disk.path, "w"), (link, "w"), (link, "r")):
        reason = refused_by_the_hook(t, daemon, target, mode)
        assert str(disk.vbd.domain.domid) in reason, reason
    disk.serves(front)


@cases.add
def shared_writers_when_asked_for(t):
    """mode w!, as for a cluster file system."""
    daemon = t.blkbackd(attach_timeout=1)
    one = t.disk(daemon, mode="w!")
    two = t.disk(daemon, mode="w!", image=(one.path, one.contents))
    fronts = [one.connect(), two.connect()]
    assert fronts[0].write(0, b"!" * PAGE) == OKAY
    assert fronts[1].read(0, 8) == b"!" * PAGE
    for front in fronts:
        front.close()


@cases.add
def a_stub_domain_shares_its_guests_image(t):
    """It runs the guest's device model and has the guest's disk, too; `target` in its home says whose it is."""
    daemon = t.blkbackd(attach_timeout=1)
    guest = t.disk(daemon)
    guest_front = guest.connect()
    assert "in use" in refused_by_the_hook(t, daemon, guest.path)
    stub = t.new_domain()
    t.bed.xs.write(f"{stub.path}/target", guest.vbd.domain.domid)
    beside = t.disk(daemon, domain=stub, image=(guest.path, guest.contents))
    front = beside.connect()
    assert front.read(0, 8) == guest_front.read(0, 8) == bytes(guest.contents[:PAGE])
    front.close()
    guest.serves(guest_front)


@cases.add
def readers_share_an_image(t):
    daemon = t.blkbackd()
    one = t.disk(daemon, mode="r")
    two = t.disk(daemon, mode="r", image=(one.path, one.contents))
    fronts = [one.connect(), two.connect()]
    for front in fronts:
        assert front.read(0, 8) == one.contents[:PAGE]
        front.close()


@cases.add
def two_daemons_side_by_side(t):
    """Each has its own paths; the hook's name tells whose a disk is. They know of each other's images by the lock."""
    one, two = t.blkbackd(attach_timeout=1), t.blkbackd(hook="block-other", attach_timeout=1)
    disks = [t.disk(one), t.disk(two)]
    fronts = [d.connect() for d in disks]
    assert [len(d.workers()) for d in (one, two)] == [1, 1]
    refused_by_the_hook(t, two, disks[0].path)
    for disk, front in zip(disks, fronts):
        disk.serves(front)


HEADERS = {
    "qcow2": b"QFI\xfb\0\0\0\x03" + (104).to_bytes(8, "big") + (11).to_bytes(4, "big") + (16).to_bytes(4, "big")
             + (1 << 40).to_bytes(8, "big") + b"\0" * 68 + b"/etc/passwd",
    "vmdk": b"# Disk DescriptorFile\nversion=1\ncreateType=\"monolithicFlat\"\nRW 99 FLAT \"/etc/passwd\" 0\n",
    "vhd": b"conectix" + b"\0\0\0\x02" * 20,
    "vhdx": b"vhdxfile" + b"\0" * 64,
    "qed": b"QED\0" + b"\1\0\0\0" * 16,
    "luks": b"LUKS\xba\xbe\0\x02" + b"\0" * 64,
}


@cases.over("what-a-guest-writes-is-no-format", *HEADERS)
def no_format(t, name):
    """The header of another format in a raw image: the disk stays what it was, attached anew or grown."""
    disk = t.disk("blkbackd")
    front = disk.connect()
    written = HEADERS[name].ljust(PAGE, b"\0")
    for sector in (0, front.sectors() - 8):  # some formats have theirs at the end
        assert front.write(sector, written) == OKAY
        disk.contents[sector * 512:sector * 512 + PAGE] = written
    front.close()
    disk.vbd.force_close()
    disk.vbd.wait_backend(CLOSED)
    disk.daemon.detach(disk.vbd)
    disk.vbd.remove()
    again = t.disk(disk.daemon, image=(disk.path, disk.contents))
    front = again.connect()
    assert front.sectors() == len(disk.contents) // 512
    assert front.read(0, 8) == written
    assert front.read(front.sectors() - 8, 8) == written
    again.serves(front)


if __name__ == "__main__":
    cases.main()
