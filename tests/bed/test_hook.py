#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The xl hook itself and blkbackctl, against the daemon: what the toolstack and the administrator are told."""

import json
import os
import subprocess

from bedlib.front import PAGE, Frontend
from bedlib.testing import MIB, Cases, Skip
from bedlib.vbd import CLOSED, CONNECTED, INIT_WAIT, Vbd

cases = Cases()
HOOK = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../conf/block-blkbackd")


def hook(t, daemon, action, vbd, relative=True):
    """Runs the hook as libxl does. The finished process."""
    path = vbd.back.removeprefix("/local/domain/0/") if relative else vbd.back
    env = t.bed.environment({"XENBUS_PATH": path, "BLKBACKCTL": f"{daemon.bin}/blkbackctl",
                             "BLKBACKD_SOCKET": daemon.socket, "BLKBACKD_DEFAULTS": "/dev/null"})
    if not os.access(HOOK, os.X_OK):
        raise Skip("no conf/block-blkbackd")
    return subprocess.run([HOOK, action], env=env, capture_output=True, text=True, timeout=60, check=False)


def ctl(t, daemon, *arguments):
    return subprocess.run([f"{daemon.bin}/blkbackctl", "--config", daemon.config, *arguments],
                          env=t.bed.environment(), capture_output=True, text=True, timeout=60, check=False)


def new_vbd(t, daemon, target, mode="w"):
    vbd = Vbd(t.new_domain(), daemon.backend_class)
    vbd.create(daemon.nodes(target), mode)
    vbd.wait_backend(INIT_WAIT)
    return vbd


@cases.over("add-and-remove", "relative path", "absolute path")
def add_and_remove(t, kind):
    daemon = t.blkbackd()
    path, contents = t.bed.image(MIB)
    vbd = new_vbd(t, daemon, path)
    done = hook(t, daemon, "add", vbd, relative=kind == "relative path")
    assert done.returncode == 0, done.stderr
    assert vbd.get("hotplug-status") == "connected"
    assert vbd.get("physical-device-path") == path
    assert vbd.get("hotplug-error") is None
    front = Frontend(vbd).connect()
    assert front.read(0, 8) == contents[:PAGE]
    vbd.force_close()
    vbd.wait_backend(5, 6)
    front.close()
    vbd.wait_backend(CLOSED)
    done = hook(t, daemon, "remove", vbd)
    assert done.returncode == 0, done.stderr
    vbd.remove()
    t.bed.wait_for(lambda: not os.listdir(f"{daemon.dir}/state"), "the state files to go")


@cases.add
def a_refused_disk_says_why(t):
    daemon = t.blkbackd()
    for target in ("/no/such/file", "disk:nothing", "null:0"):
        vbd = new_vbd(t, daemon, target)
        done = hook(t, daemon, "add", vbd)
        assert done.returncode != 0
        assert vbd.get("hotplug-status") == "error"
        reason = vbd.get("hotplug-error")
        assert reason and reason in done.stderr, (reason, done.stderr)
        vbd.force_close()
        vbd.wait_backend(CLOSED)
        assert hook(t, daemon, "remove", vbd).returncode == 0
        vbd.remove()


@cases.add
def without_a_daemon(t):
    """add says so; remove succeeds, since the next daemon cleans up."""
    daemon = t.blkbackd()
    path, _ = t.bed.image(MIB)
    vbd = new_vbd(t, daemon, path)
    daemon.kill()
    done = hook(t, daemon, "add", vbd)
    assert done.returncode != 0 and vbd.get("hotplug-error"), done.stderr
    assert hook(t, daemon, "remove", vbd).returncode == 0


@cases.add
def null_disks_have_no_path_for_qemu(t):
    """QEMU would open physical-device-path as a raw file."""
    daemon = t.blkbackd()
    vbd = new_vbd(t, daemon, "null:8M")
    assert hook(t, daemon, "add", vbd).returncode == 0
    assert vbd.get("physical-device-path") is None and vbd.get("hotplug-status") == "connected"


@cases.add
def disks_from_disks_d(t):
    daemon = t.blkbackd()
    path, contents = t.bed.image(MIB)
    with open(f"{daemon.dir}/disks.d/root.conf", "w", encoding="utf-8") as f:
        f.write(f"[disk]\ntarget = {path}\nmax-ring-page-order = 1\n")
    vbd = new_vbd(t, daemon, "disk:root")
    done = hook(t, daemon, "add", vbd)
    assert done.returncode == 0, done.stderr
    assert vbd.get("max-ring-page-order") == "1"
    front = Frontend(vbd).connect(order=1)
    assert front.read(0, 8) == contents[:PAGE]
    front.close()


@cases.add
def bad_disk_files_are_told_with_their_line(t):
    daemon = t.blkbackd()
    with open(f"{daemon.dir}/disks.d/bad.conf", "w", encoding="utf-8") as f:
        f.write("[disk]\ntarget = /dev/null\nspeed = high\n")
    vbd = new_vbd(t, daemon, "disk:bad")
    assert hook(t, daemon, "add", vbd).returncode != 0
    reason = vbd.get("hotplug-error")
    assert "bad.conf:3" in reason and "speed" in reason, reason


@cases.add
def status_shows_the_disks(t):
    disk = t.disk("blkbackd")
    daemon = disk.daemon
    front = disk.connect(order=2)
    front.exercise(disk.contents, requests=100, depth=32, weights=(50, 40, 10, 0))
    text = ctl(t, daemon, "status")
    assert text.returncode == 0, text.stderr
    assert disk.path in text.stdout, text.stdout
    one = ctl(t, daemon, "status", str(disk.vbd.domain.domid), "xvda")
    assert one.returncode == 0 and disk.path in one.stdout, one.stdout + one.stderr
    data = ctl(t, daemon, "status", "--json")
    assert data.returncode == 0, data.stderr
    shown = json.dumps(json.loads(data.stdout))
    assert disk.path in shown
    assert ctl(t, daemon, "status", "999", "xvda").returncode == 4
    front.close()


@cases.add
def status_of_a_stopped_daemon(t):
    daemon = t.blkbackd()
    assert ctl(t, daemon, "ping").returncode == 0
    assert daemon.stop() is None
    done = ctl(t, daemon, "ping")
    assert done.returncode == 3 and done.stderr.strip(), done


@cases.add
def reload_takes_a_file_whole_or_not_at_all(t):
    daemon = t.blkbackd()
    with open(daemon.config, encoding="utf-8") as f:
        good = f.read()
    with open(daemon.config, "w", encoding="utf-8") as f:
        f.write(good + "max-ring-page-order = 2\nnonsense = 1\n")
    done = ctl(t, daemon, "reload")
    assert done.returncode == 1 and "nonsense" in done.stderr + done.stdout, done
    path, _ = t.bed.image(MIB)
    assert new_vbd(t, daemon, path).get("max-ring-page-order") == "5", "nothing changes"
    with open(daemon.config, "w", encoding="utf-8") as f:
        f.write(good + "max-ring-page-order = 2\n")
    done = ctl(t, daemon, "reload")
    assert done.returncode == 0, done
    assert new_vbd(t, daemon, path).get("max-ring-page-order") == "2"


@cases.over("bad-configuration", "[daemon]\ncolour = red\n", "[disk]\nengine = steam\n", "[nothing]\nx = 1\n",
            "[disk]\nmax-ring-page-order = 99\n", "[disk]\nengine\n")
def bad_configuration(t, text):
    """The daemon does not start, and says file and line."""
    config = f"{t.bed.dir}/bad.conf"
    with open(config, "w", encoding="utf-8") as f:
        f.write(text)
    if not t.options.bin:
        raise Skip("no --bin")
    done = subprocess.run([f"{t.options.bin}/blkbackd", "--foreground", "--config", config],
                          env=t.bed.environment(), capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode not in (0, -11, -6), done
    assert "bad.conf:" in done.stderr, done.stderr


@cases.add
def a_second_daemon_with_the_same_paths_is_refused(t):
    disk = t.disk("blkbackd")
    front = disk.connect()
    done = subprocess.run([f"{disk.daemon.bin}/blkbackd", "--foreground", "--config", disk.daemon.config],
                          env=t.bed.environment(), capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode not in (0, -11, -6) and done.stderr.strip(), done
    assert disk.vbd.backend_state() == CONNECTED
    disk.serves(front)


if __name__ == "__main__":
    cases.main()
