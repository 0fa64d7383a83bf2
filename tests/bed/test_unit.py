#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""conf/blkbackd.service under systemd, with all that it takes away from the daemon. Skipped where systemd does not run:
tests/bed/in-systemd boots one around this file."""

import os
import re
import signal
import subprocess
import time

from bedlib.blkbackd import Blkbackd
from bedlib.calls import TREE
from bedlib.processes import threads_of
from bedlib.testing import Cases, Skip
from bedlib.vbd import CONNECTED

cases = Cases()
UNITS = "/run/systemd/system"
NOTHING_ELSE = "[Unit]\nDefaultDependencies=no\n"  # of what a host starts before services


def jobs():
    return subprocess.run(["systemctl", "list-jobs", "--no-pager"], capture_output=True, text=True, check=False).stdout


def systemctl(*arguments, check=True):
    done = subprocess.run(["timeout", "30", "systemctl", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 or not check, f"systemctl {' '.join(arguments)}: {done.stdout}{done.stderr} {jobs()}"
    return done.stdout.strip()


class MainProcess:
    """The unit's, as the bed knows processes."""

    def __init__(self, log):
        self.args, self.log, self.returncode = ["blkbackd.service"], log, None

    @property
    def pid(self):
        return int(systemctl("show", "-P", "MainPID", "blkbackd"))

    def poll(self):
        return None if self.pid else 1


class Unit(Blkbackd):
    def start(self, timeout=20.0):
        with open(f"{TREE}/conf/blkbackd.service", encoding="ascii") as f:
            unit = f.read().replace("@BLKBACKD_SBINDIR@", self.bin)
        unit = re.sub(r"^(ConditionPathExists=.*|ExecStart=.*)$",
                      lambda line: f"{line[0]} --config {self.config}" if line[0].startswith("Exec") else "", unit, flags=re.M)
        with open(f"{UNITS}/blkbackd.service", "w", encoding="ascii") as f:
            f.write(unit)
        with open(f"{TREE}/conf/run-blkbackd-state.mount", encoding="ascii") as f:
            mount = re.sub(r"^ConditionPathExists=.*$", "", f.read(), flags=re.M)
        with open(f"{UNITS}/run-blkbackd-state.mount", "w", encoding="ascii") as f:
            f.write(mount + NOTHING_ELSE)
        os.makedirs(f"{UNITS}/blkbackd.service.d", exist_ok=True)
        of_bed = {name: value for name, value in self.bed.environment(self.env).items() if os.environ.get(name) != value}
        with open(f"{UNITS}/blkbackd.service.d/bed.conf", "w", encoding="ascii") as f:
            f.write(NOTHING_ELSE + "[Service]\nStandardOutput=null\n" + "".join(f'Environment="{name}={value}"\n' for name, value in of_bed.items()) +
                    f"StandardError=append:{self.log}\n")
        systemctl("daemon-reload")
        systemctl("start", "blkbackd")  # returns when it has said that it is ready
        self.process = MainProcess(self.log)

    def stop(self):
        for thread in self.threads:
            thread.join(10)
        systemctl("stop", "blkbackd")
        result = systemctl("show", "-P", "Result", "blkbackd")
        return None if result == "success" else f"the unit's result is {result}"


@cases.add
def served_reloaded_killed_and_stopped(t):
    if not os.path.isdir(UNITS):
        raise Skip("systemd does not run here")
    daemon = Unit(t.bed, t.options.bin)
    t.backends.append(daemon)
    disk = t.disk(daemon)
    front = disk.connect()
    disk.quick_io(front)
    assert disk.status()["sandbox"] == "full", disk.status()["sandbox"]
    for thread in threads_of(daemon.process.pid):
        assert thread["NoNewPrivs"] == "1" and thread["Seccomp"] == "2", thread

    with open(daemon.config, encoding="ascii") as f:
        text = f.read()
    with open(daemon.config, "w", encoding="ascii") as f:
        f.write(text + "max-ring-page-order = 2\n")
    systemctl("reload", "blkbackd")
    t.bed.wait_for(lambda: "configuration reloaded" in open(daemon.log, encoding="utf-8").read(), "the reload")

    killed = daemon.process.pid
    start = time.monotonic()
    os.kill(killed, signal.SIGKILL)
    t.bed.wait_for(lambda: daemon.process.pid not in (0, killed), "another main process")
    assert front.read(8, 8) == bytes(disk.contents[4096:8192])
    print(f"     served again {time.monotonic() - start:.2f} s after the main process was killed")
    assert systemctl("show", "-P", "NRestarts", "blkbackd") == "1"
    assert disk.vbd.backend_state() == CONNECTED
    disk.quick_io(front)

    systemctl("restart", "blkbackd")
    disk.quick_io(front)
    front.close()
    systemctl("stop", "blkbackd")
    assert systemctl("is-active", "blkbackd", check=False) == "inactive"


if __name__ == "__main__":
    cases.main()
