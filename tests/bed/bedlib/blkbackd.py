# SPDX-License-Identifier: BSD-2-Clause
"""The production daemon, run from a build folder with every path in the bed's own folder."""

import itertools
import os
import select
import signal
import socket
import struct
import threading

from .bed import Missing, tail
from .vbd import INIT_WAIT
from .xs import PATIENCE, XenStore

CONTROL_MAGIC, CONTROL_VERSION = 0x4342444B, 3
PING, ATTACH, DETACH, RELOAD, RESIZE, INSERT, EJECT, RESUME, RESUME_AND_LOSE = range(1, 10)
_numbers = itertools.count(1)


class Refused(Exception):
    """The broker's answer to the hook, when it is no."""


class Blkbackd:
    name = "blkbackd"
    backend_class = "vbd"

    def __init__(self, bed, bin_dir, env=None, claim="script", script=True, uid_base=None,
                 attach_timeout=30, hook="block-blkbackd", log_level="debug", worker=None, **disk):
        """disk: keys of the [disk] section, with _ for -; worker: the [worker] section's. Two daemons of a bed need hooks
        with different names, or both serve every disk."""
        self.bed, self.bin, self.script, self.threads = bed, os.path.abspath(bin_dir), script, []
        self.hook = hook
        if not os.access(f"{self.bin}/blkbackd", os.X_OK):
            raise Missing(f"{self.bin}/blkbackd: not built")
        number = next(_numbers)
        self.dir = f"{bed.dir}/blkbackd{number}"
        self.log_name = f"blkbackd{number}.log"
        os.makedirs(f"{self.dir}/state", mode=0o700)
        os.mkdir(f"{self.dir}/disks.d")
        self.config, self.socket = f"{self.dir}/blkbackd.conf", f"{self.dir}/control"
        if uid_base is None:
            uid_base = 1900000000 if os.geteuid() == 0 else 0
        with open(self.config, "w", encoding="utf-8") as f:
            f.write(f"[daemon]\nclaim = {claim}\nlog-level = {log_level}\nrun-dir = {self.dir}\n"
                    f"state-dir = {self.dir}/state\ncontrol-socket = {self.socket}\ndisks-dir = {self.dir}/disks.d\n"
                    f"hook = {hook}\nattach-timeout = {attach_timeout}\n[worker]\nuid-base = {uid_base}\n{as_lines(worker or {})}"
                    f"[disk]\n{as_lines(disk)}")
        os.chmod(bed.dir, 0o711)  # workers have their own uid
        self.env = env or {}
        self.start()

    def start(self, timeout=PATIENCE):
        """Starts it and waits until it says that it is ready, as its unit does."""
        path = f"{self.dir}/notify"
        if os.path.exists(path):
            os.unlink(path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(path)
            self.process = self.bed.spawn([f"{self.bin}/blkbackd", "--foreground", "--config", self.config],
                                          self.log_name, env={**self.env, **sanitizer_options(self.env),
                                                              "NOTIFY_SOCKET": path})
            said = b""

            def ready():
                nonlocal said
                while select.select([notify], [], [], 0)[0]:
                    said += notify.recv(4096)
                return b"READY=1" in said

            self.bed.wait_for(ready, "blkbackd to be ready", self.process, timeout)

    @property
    def log(self):
        return f"{self.bed.dir}/{self.log_name}"

    def nodes(self, target, script=None):
        """The backend's nodes that libxl writes for script=block-blkbackd and target=..."""
        script = self.script if script is None else script
        nodes = {"params": target, "type": "phy", "direct-io-safe": 0}
        if script:
            nodes["script"] = f"/etc/xen/scripts/{self.hook}"
        return nodes

    def control(self, command, path="", target="", timeout=PATIENCE):
        """One request on the control socket: (error, value, text)."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.settimeout(timeout)
            s.connect(self.socket)
            s.send(struct.pack("=IHH256s256s", CONTROL_MAGIC, CONTROL_VERSION, command, path.encode(),
                               target.encode()))
            reply = s.recv(4096)
        magic, version, _, error, value, text = struct.unpack("=IHHiI512s", reply)
        assert (magic, version) == (CONTROL_MAGIC, CONTROL_VERSION), "the control reply is of another protocol"
        return error, value, text.split(b"\0")[0].decode()

    def attach(self, vbd, xs=None):
        """What the hook does on "add". Refused with the broker's reason."""
        xs = xs or vbd.xs
        error, _, text = self.control(ATTACH, vbd.back)
        if error:
            xs.write(f"{vbd.back}/hotplug-error", text)
            xs.write(f"{vbd.back}/hotplug-status", "error")
            raise Refused(text)
        if text:
            xs.write(f"{vbd.back}/physical-device-path", text)
        xs.write(f"{vbd.back}/hotplug-status", "connected")

    def refuses(self, vbd):
        """Waits for the offer and tries to attach the disk, which must fail: the broker's reason."""
        vbd.wait_backend(INIT_WAIT)
        try:
            self.attach(vbd)
        except Refused as e:
            assert str(e).strip(), "no reason given"
            assert vbd.get("hotplug-error"), "the reason is not in XenStore"
            return str(e)
        raise AssertionError(f"{vbd.back} was attached")

    def detach(self, vbd):
        """What the hook does on "remove"."""
        error, _, text = self.control(DETACH, vbd.back)
        if error:
            raise Refused(text)

    def hook_in_background(self, vbd):
        """libxl: waits for exactly InitWait, then runs the hook."""
        if not self.script:
            return

        def run():
            xs = XenStore(self.bed.socket)
            try:
                xs.wait(f"{vbd.back}/state", lambda v: v == str(INIT_WAIT))
                self.attach(vbd, xs)
            except (Refused, OSError):
                pass  # the frontend's wait for the next state tells
            finally:
                xs.close()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self.threads.append(thread)

    def workers(self):
        """Process ids of its workers."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as f:
            return [int(pid) for pid in f.read().split()]

    def stop(self):
        """Ends it as its unit does. None, or what was wrong."""
        for thread in self.threads:
            thread.join(10)
        if self.process.poll() is not None and self.process not in self.bed.processes:
            return None
        early = self.process.poll()
        status = self.bed.stop(self.process, signal.SIGTERM)
        log = tail(self.log, 2000)
        for sign in ("ERROR: AddressSanitizer", "runtime error:", "ERROR: LeakSanitizer", "ThreadSanitizer:"):
            if sign in log:
                return f"{sign} in the daemon's log: {log[log.index(sign):][:1500]}"
        if early is not None:
            return f"blkbackd ended by itself with {early}: {tail(self.log, 5)}"
        if status != 0:
            return f"blkbackd ended with {status}: {tail(self.log, 5)}"
        return None

    def kill(self):
        """SIGKILL, for tests of what comes after."""
        self.bed.stop(self.process, signal.SIGKILL)


def as_lines(settings):
    return "".join(f"{key.replace('_', '-')} = {value}\n" for key, value in settings.items())


def sanitizer_options(env):
    """The fault library comes before the sanitizer's, which ASan takes for an accident."""
    asan = "abort_on_error=0:detect_leaks=1"
    if "LD_PRELOAD" in env:
        asan += ":verify_asan_link_order=0"
    suppressions = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tsan.supp")
    return {"ASAN_OPTIONS": asan, "UBSAN_OPTIONS": "print_stacktrace=1", "TSAN_OPTIONS": f"suppressions={suppressions}"}
