# SPDX-License-Identifier: BSD-2-Clause
"""A bed: a folder with the hypervisor file and a xenstored, in which domains are made and backends are started."""

import ctypes
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import uuid

from . import native
from .xs import PATIENCE, XenStore

XENSTORED = ("/usr/lib/xen-4.17/bin/xenstored", "/usr/sbin/xenstored")


class Missing(Exception):
    """Something the bed needs is not installed: the test is skipped."""


def find_program(*paths):
    for path in paths:
        if os.access(path, os.X_OK):
            return path
    raise Missing(f"none of {', '.join(paths)}")


def scratch_base():
    """Memory when there is enough of it, else the ordinary temporary folder."""
    if "BLKBACKD_BED_TMP" in os.environ:
        return os.environ["BLKBACKD_BED_TMP"]
    try:
        space = os.statvfs("/dev/shm")
        if space.f_bavail * space.f_frsize > 1 << 30:
            return "/dev/shm"
    except OSError:
        pass
    return tempfile.gettempdir()


class Domain:
    """A guest as far as a toolstack and xenstored know it."""

    def __init__(self, bed, domid):
        self.bed, self.domid = bed, domid
        self.uuid = uuid.uuid4()
        self.path = f"/local/domain/{domid}"
        native.check(bed.lib.bed_domain_create(domid, self.uuid.bytes))
        xs, vm = bed.xs, f"/vm/{self.uuid}"

        def nodes(tx):
            xs.rm(self.path, tx)
            xs.mkdir(self.path, tx)
            xs.perms(self.path, ["n0", f"r{domid}"], tx)
            xs.write(f"{self.path}/vm", vm, tx)
            xs.write(f"{self.path}/name", f"guest{domid}", tx)
            xs.write(f"{self.path}/domid", domid, tx)
            xs.write(f"{vm}/uuid", self.uuid, tx)
            xs.write(f"{vm}/name", f"guest{domid}", tx)
            for name in ("device", "device/vbd"):
                xs.mkdir(f"{self.path}/{name}", tx)

        xs.transaction(nodes)
        xs.introduce(domid, 1, 1)
        bed.domains.append(self)

    def destroy(self):
        """The hypervisor's part: the domain is gone, or dying as long as its pages are mapped."""
        native.check(self.bed.lib.bed_domain_destroy(self.domid))
        self.bed.domains.remove(self)

    def forget(self):
        """The toolstack's part."""
        self.bed.xs.rm(self.path)
        self.bed.xs.rm(f"/vm/{self.uuid}")

    def mapped(self):
        """How many mappings of its pages exist anywhere."""
        native.check(self.bed.lib.bed_reap())
        return native.check(self.bed.lib.bed_mapped(self.domid))


class Bed:
    """with Bed(lib_dir) as bed: ... One per process, since the stand-ins are chosen by the environment."""

    def __init__(self, lib_dir, keep=False):
        self.lib_dir, self.keep = os.path.abspath(lib_dir), keep
        self.processes = []
        self.dir = tempfile.mkdtemp(prefix="blkbackd-bed.", dir=scratch_base())
        self.closing = []
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self):
        if not os.path.exists(f"{self.lib_dir}/libbedfront.so"):
            raise Missing(f"{self.lib_dir}/libbedfront.so: build the bed first")
        self.lib = native.load(self.lib_dir)
        native.check(self.lib.bed_create(self.dir.encode()))
        self.run_dir = f"{self.dir}/xenstored"
        self.socket = f"{self.run_dir}/socket"
        os.mkdir(self.run_dir)
        with open(f"{self.dir}/xsd_kva", "wb") as f:
            f.truncate(4096)
        with open(f"{self.dir}/xsd_port", "w", encoding="ascii") as f:
            f.write("1")
        self.domains = []
        self.xs = None
        self.start_xenstored()

    def start_xenstored(self, restore=None):
        """Starts xenstored with nothing but what domain 0's toolstack writes first; or with the contents that an xs.save()
        had, and our domains: these are there before anybody can connect."""
        listens_at = f"{self.socket}.new"
        self.xenstored = self.spawn([find_program(*XENSTORED), "-N"], "xenstored.log",
                                    env={"LD_PRELOAD": f"{self.lib_dir}/libbed_xenstored.so",
                                         "XENSTORED_PATH": listens_at})
        first = []

        def listens():
            try:
                first.append(XenStore(listens_at))
            except (FileNotFoundError, ConnectionRefusedError):
                return False
            return True

        self.wait_for(listens, "xenstored", self.xenstored)
        if restore is None:
            first[0].write("/tool/xenstored", "")
            first[0].write("/local/domain/0/domid", "0")
            first[0].write("/local/domain/0/name", "Domain-0")
        else:
            first[0].restore(restore)
            for domain in self.domains:
                first[0].introduce(domain.domid, 1, 1)
        first[0].close()
        os.rename(listens_at, self.socket)
        if self.xs is None:
            self.xs = XenStore(self.socket)
        else:
            self.xs.connect()

    def stop_xenstored(self):
        """Kills it. Returns its contents, for start_xenstored()."""
        contents = self.xs.save()
        self.stop(self.xenstored, signal.SIGKILL)
        return contents

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close(failed=kind is not None)

    def requests(self, pid):
        """How many requests a process has made of xenstored, since that was started."""
        with open(f"{self.dir}/xsd_requests", "rb") as f:
            return sum(count for of, count in struct.iter_unpack("=II", f.read()) if of == pid)

    def environment(self, extra=None):
        env = dict(os.environ)
        env.update(BLKBACKD_BED_DIR=self.dir, LD_LIBRARY_PATH=self.lib_dir, XENSTORED_RUNDIR=self.run_dir,
                   XENSTORED_PATH=self.socket)
        env.pop("LD_PRELOAD", None)
        env.update(extra or {})
        return env

    def spawn(self, argv, log, env=None, **options):
        """Starts a process of the bed, its output going to a file of the bed's folder."""
        with open(f"{self.dir}/{log}", "ab") as out:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                       env=self.environment(env), preexec_fn=die_with_parent, **options)
        process.log = f"{self.dir}/{log}"
        self.processes.append(process)
        return process

    def stop(self, process, sig=signal.SIGTERM, timeout=PATIENCE):
        """Ends a process we started; returns its exit status."""
        if process.poll() is None:
            process.send_signal(sig)
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process in self.processes:
            self.processes.remove(process)
        return process.returncode

    def freeze(self, broker):
        """Stops it with SIGSTOP, but not between the parts of a request: xenstored waits for the rest and answers nobody."""
        while True:
            broker.send_signal(signal.SIGSTOP)
            if self._xenstored_answers():
                return
            broker.send_signal(signal.SIGCONT)
            time.sleep(0.05)

    def _xenstored_answers(self):
        asking = XenStore(self.socket)
        asking.sock.settimeout(1.0)
        try:
            return asking.list("/") != []
        except TimeoutError:
            return False
        finally:
            asking.close()

    def wait_for(self, condition, what, process=None, timeout=PATIENCE):
        end = time.monotonic() + timeout
        while not condition():
            if process is not None and process.poll() is not None:
                raise RuntimeError(f"{process.args[0]} ended with {process.returncode}:\n{tail(process.log)}")
            if time.monotonic() > end:
                log = tail(process.log) if process is not None else ""
                raise TimeoutError(f"waited {timeout} s for {what}\n{log}")
            time.sleep(0.005)

    def domain(self, domid):
        return Domain(self, domid)

    def counters(self, domid=0):
        values = (native.u64 * len(native.COUNTERS))()
        native.check(self.lib.bed_counters(domid, values, len(values)))
        return dict(zip(native.COUNTERS, values))

    def image(self, size, name="disk.img", fill=True):
        """A raw image below the bed's folder with contents that differ in every sector. (path, contents)"""
        path = f"{self.dir}/{name}"
        contents = bytearray(os.urandom(size) if fill else size)
        with open(path, "wb") as f:
            f.write(contents)
        return path, contents

    def direct_image(self, size):
        """The same on a file system that has O_DIRECT, which a tmpfs may not."""
        folder = tempfile.mkdtemp(prefix="blkbackd-bed.", dir="/var/tmp")
        self.on_close(lambda: shutil.rmtree(folder, ignore_errors=True))
        os.chmod(folder, 0o711)
        path, contents = f"{folder}/disk.img", bytearray(os.urandom(size))
        with open(path, "wb") as f:
            f.write(contents)
        try:
            os.close(os.open(path, os.O_RDWR | os.O_DIRECT))
        except OSError as e:
            raise Missing("O_DIRECT in /var/tmp") from e
        return path, contents

    def on_close(self, function):
        self.closing.append(function)

    def close(self, failed=False):
        for function in reversed(self.closing):
            function()
        self.closing = []
        if getattr(self, "xs", None):
            self.xs.close()
        for process in reversed(list(self.processes)):
            self.stop(process)
        if failed and (self.keep or "BLKBACKD_BED_KEEP" in os.environ):
            print(f"kept: {self.dir}")
            return
        shutil.rmtree(self.dir, ignore_errors=True)


def die_with_parent():
    """In a new process: a test that is killed leaves no daemons behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def tail(path, lines=30):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return "".join(f.readlines()[-lines:])
    except OSError:
        return ""


def as_pointer(buffer):
    """A bytearray as uint8_t *; it must not be resized meanwhile."""
    return ctypes.cast((native.u8 * len(buffer)).from_buffer(buffer), ctypes.POINTER(native.u8))
