#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""blkbackd: persistent grants whose data is copied by the processor (persistent-grants = copy). All that holds for I/O on
the guest's pages holds here; but no I/O is ever done on them."""

import test_persistent
from bedlib.fault import Faults
from bedlib.front import READ, WRITE
from bedlib.vbd import CLOSED

test_persistent.KEPT = "copy"
cases = test_persistent.cases


@cases.over("io-in-flight-holds-no-page", "write", "read")
def io_in_flight_holds_no_page(t, kind):
    """Storage that does not answer while the frontend leaves: its pages are given back all the same."""
    def environment(path):
        t.faults = Faults(t.bed, path)
        return t.faults.environment()

    disk = t.disk("blkbackd", persistent_grants="copy", engine="uring", faults=environment)
    front = disk.connect(order=2, persistent=True)
    pool = front.pool(352, aliases=False)
    front.exercise(disk.contents, requests=500, pool=pool, readonly=0)
    before = t.faults.seen(kind)
    t.faults.hold(kind)
    for n in range(20):  # no neighbours, which would go as one
        front.put(WRITE if kind == "write" else READ, n * 16, [(front.lib.front_pool_ref(pool, n, False), 0, 7)])
    front.push()
    t.bed.wait_for(lambda: t.faults.seen(kind) == before + 20, "I/O in flight")
    disk.vbd.domain.destroy()
    disk.vbd.xs.release(disk.vbd.domain.domid)
    disk.vbd.xs.rm(disk.vbd.front)
    disk.vbd.wait_backend(CLOSED)
    disk.check_nothing_mapped()
    t.faults.release(kind)
    front.free(strict=False)


if __name__ == "__main__":
    cases.main()
