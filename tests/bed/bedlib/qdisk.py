# SPDX-License-Identifier: BSD-2-Clause
"""QEMU's disk backend as Debian ships it, one process a domain."""

from .bed import find_program

QEMU = ("/usr/libexec/xen-qemu-system-i386", "/usr/lib/xen-4.17/bin/qemu-system-i386")
CLASS = "qdisk"


class Qdisk:
    name = "qdisk"
    backend_class = CLASS
    max_order = 4

    def __init__(self, bed, domain, env=None):
        self.bed, self.domain = bed, domain
        state = f"/local/domain/0/device-model/{domain.domid}/state"
        bed.xs.rm(state)
        self.process = bed.spawn(
            [find_program(*QEMU), "-M", "xenpv", "-xen-attach", "-xen-domid", str(domain.domid), "-nographic",
             "-nodefaults", "-monitor", "none", "-serial", "none", "-m", "1"], f"qemu-{domain.domid}.log", env=env)
        bed.wait_for(lambda: bed.xs.get(state) == "running", "QEMU to run", self.process)

    @staticmethod
    def nodes(path, direct=False):
        """What libxl writes for a raw file. direct-io-safe=1 (O_DIRECT) needs an AIO that Debian's lacks."""
        return {"params": f"aio:{path}", "type": "qdisk", "direct-io-safe": 1 if direct else 0,
                "hotplug-status": "connected"}

    def stop(self):
        return self.bed.stop(self.process)
