#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""blkbackd in a domain other than 0: where its nodes are, and how it learns that a guest has gone if nobody tells it."""

from bedlib.front import OKAY, PAGE, Frontend
from bedlib.testing import MIB, Cases
from bedlib.vbd import CLOSED, CLOSING, CONNECTED, Vbd

cases = Cases()
OWN = 7


def driver_domain(t, deny="hypercalls,release"):
    """A daemon in domain 7. xl devd runs the hook there."""
    own = t.bed.domain(OWN)
    preload = f"{t.bed.lib_dir}/libbed_driver_domain.so"
    daemon = t.blkbackd(env={"LD_PRELOAD": preload, "BLKBACKD_BED_DOMID": str(OWN), "BLKBACKD_BED_DENY": deny,
                             "ASAN_OPTIONS": "verify_asan_link_order=0"})
    t.next_domid = 11
    return own, daemon


def disk_of(t, daemon, domain=None):
    path, contents = t.bed.image(MIB, f"disk{t.next_domid}.img")
    vbd = Vbd(domain or t.new_domain(), daemon.backend_class, backend_domid=OWN)
    vbd.create(daemon.nodes(path))
    daemon.hook_in_background(vbd)
    return vbd, contents


@cases.over("serves", "everything", "hypercalls", "hypercalls,release", "hypercalls,release,introduced")
def serves(t, deny):
    _, daemon = driver_domain(t, "" if deny == "everything" else deny)
    vbd, contents = disk_of(t, daemon)
    front = Frontend(vbd).connect()
    assert front.read(0, 8) == contents[:PAGE]
    assert front.write(8, b"d" * PAGE) == OKAY
    front.close()
    vbd.force_close()
    vbd.wait_backend(CLOSED)
    daemon.detach(vbd)
    vbd.remove()


@cases.over("a-guest-that-dies", "hypercalls", "hypercalls,release")
def a_guest_that_dies(t, deny):
    """Its nodes stay for now: xenstored is asked."""
    _, daemon = driver_domain(t, deny)
    vbd, _ = disk_of(t, daemon)
    front = Frontend(vbd).connect()
    other, contents = disk_of(t, daemon)
    other_front = Frontend(other).connect()
    vbd.domain.destroy()
    vbd.xs.release(vbd.domain.domid)
    vbd.wait_backend(CLOSED)
    assert vbd.domain.mapped() == 0
    assert other.backend_state() == CONNECTED and other_front.read(0, 8) == contents[:PAGE]
    other_front.close()
    front.free()


@cases.add
def a_guest_whose_nodes_go(t):
    """All that is left where nothing is answered."""
    _, daemon = driver_domain(t, "hypercalls,release,introduced")
    vbd, _ = disk_of(t, daemon)
    front = Frontend(vbd).connect()
    vbd.domain.destroy()
    vbd.xs.rm(vbd.front)
    vbd.wait_backend(CLOSING, CLOSED)
    vbd.wait_backend(CLOSED)
    assert vbd.domain.mapped() == 0
    front.free()


@cases.add
def a_guest_that_is_being_built(t):
    """Its disk is there before xenstored knows it."""
    _, daemon = driver_domain(t)
    domain = t.new_domain()
    domain.bed.xs.release(domain.domid)
    vbd, contents = disk_of(t, daemon, domain)
    vbd.wait_backend(2)
    domain.bed.xs.introduce(domain.domid, 1, 1)
    front = Frontend(vbd).connect()
    assert front.read(0, 8) == contents[:PAGE]
    front.close()


if __name__ == "__main__":
    cases.main()
