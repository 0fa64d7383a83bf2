# SPDX-License-Identifier: BSD-2-Clause
"""What the tests of xenstored's restarts share."""

import os
import subprocess

LOST, BACK = "connection to xenstored is lost", "connected to xenstored again"


def log_of(daemon):
    with open(daemon.log, encoding="utf-8") as f:
        return f.read()


def wait_for_log(t, daemon, sign, count=1):
    t.bed.wait_for(lambda: log_of(daemon).count(sign) >= count, f"'{sign}' in the log ({count})")


def serves(disk, front):
    assert front.read(8, 8) == bytes(disk.contents[4096:8192])


def stop_xenstored(t, daemon):
    """Until the daemon has noticed. The contents."""
    before = log_of(daemon).count(LOST)
    contents = t.bed.stop_xenstored()
    wait_for_log(t, daemon, LOST, before + 1)
    return contents


def start_xenstored(t, daemon, contents=None):
    before = log_of(daemon).count(BACK)
    t.bed.start_xenstored(contents)
    wait_for_log(t, daemon, BACK, before + 1)


def status(t, disk):
    return subprocess.run([f"{t.options.bin}/blkbackctl", "--config", disk.daemon.config, "status"], check=True,
                          capture_output=True, text=True).stdout


def state_files(daemon):
    return sorted(os.listdir(f"{daemon.dir}/state"))


def detach_as_libxl(disk, front):
    disk.vbd.force_close()
    front.close()
    disk.daemon.detach(disk.vbd)
    disk.vbd.remove()
