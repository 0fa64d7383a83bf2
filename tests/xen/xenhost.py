# SPDX-License-Identifier: BSD-2-Clause
#
# A real Xen host in QEMU's software emulation, and commands run in its dom0: what tests/xen/run and scripts/demo share.
#
#     with XenHost(image, folder) as host:
#         host.start()
#         status, output = host.run("xl info", timeout=30)
#
# Everything QEMU needs from outside lies in one folder of the caller's: the share that dom0 sees as /share, the console's
# log, the scratch disks. QEMU is ended when the block is left, whatever happened.

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.realpath(__file__))

XEN_OPTIONS = ("dom0_mem=2048M,max:2048M dom0_max_vcpus=1 dom0_vcpus_pin console=com1 com1=115200 "
               "loglvl=warning guest_loglvl=warning noreboot")
LINUX_OPTIONS = "console=hvc0 panic=-1 quiet loglevel=4"
CPU = "max,smap=off,smep=off,rdtscp=off"
# What tests do without, and measurements don't. XSAVE, and with it AVX: what QEMU makes of both is slow, and not always right.
LIGHT = {"xen": " spec-ctrl=no", "linux": " mitigations=off", "cpu": ",xsave=off"}
BOOT_SECONDS = 180
# A command is ended within dom0 at its time-out; when no answer comes this much later, dom0 itself hangs.
GRACE_SECONDS = 20


class HostError(Exception):
    """The host could not be started, or no longer answers."""


def build_image():
    """Builds the host's image when the cache lacks it; returns its folder."""
    built = subprocess.run([os.path.join(HERE, "build-host")], stdout=subprocess.PIPE, text=True, check=False)
    if built.returncode != 0:
        raise HostError("the Xen host's image cannot be built")
    return built.stdout.strip().splitlines()[-1]


class XenHost:
    """One Xen host: dom0 on CPU 0, CPUs 1 and 2 for guests (a CPU shared by two PV domains corrupts them under TCG)."""

    def __init__(self, image, folder, memory_mb=4096, cpus=3, extra=(), light=True):
        self.image = image
        self.folder = folder
        self.share = os.path.join(folder, "share")
        self.console_log = os.path.join(folder, "console.log")
        self.memory_mb = memory_mb
        self.cpus = cpus
        self.extra = list(extra)
        self.light = LIGHT if light else {"xen": "", "linux": "", "cpu": ""}
        self.qemu = None
        self.sockets = None
        self.port = None
        self.received = b""
        self.jobs = 0
        for name in ("jobs", "console", "product/bin", "product/lib"):
            os.makedirs(os.path.join(self.share, name), exist_ok=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    # --- the machine -------------------------------------------------------------------------------------------------

    def start(self):
        """Boots the host; returns the seconds it took until dom0 runs commands."""
        begun = time.monotonic()
        # Socket paths are limited to 107 bytes, the caller's folder is not.
        self.sockets = tempfile.mkdtemp(prefix="xenhost.")
        self._make_disks()
        with open(os.path.join(self.folder, "qemu.log"), "wb") as log:
            self.qemu = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                         preexec_fn=_die_with_parent)
        deadline = begun + BOOT_SECONDS
        self.port = self._connect("agent.sock", deadline)
        while self._line(deadline, "dom0 did not come up") != "hello":
            pass
        return time.monotonic() - begun

    def stop(self):
        """Ends QEMU and removes the disks; what was logged stays in the folder."""
        if self.port:
            self.port.close()
            self.port = None
        if self.qemu:
            self.qemu.terminate()
            try:
                self.qemu.wait(10)
            except subprocess.TimeoutExpired:
                self.qemu.kill()
                self.qemu.wait()
            self.qemu = None
        for name in ("scratch.img", "block.img"):
            try:
                os.unlink(os.path.join(self.folder, name))
            except FileNotFoundError:
                pass
        if self.sockets:
            shutil.rmtree(self.sockets, ignore_errors=True)
            self.sockets = None

    def _make_disks(self):
        """/dev/vdb, mounted at /scratch, for images on a file system with direct I/O; /dev/vdc, a raw block device."""
        scratch = os.path.join(self.folder, "scratch.img")
        for path, size in ((scratch, 6 << 30), (os.path.join(self.folder, "block.img"), 1 << 30)):
            with open(path, "wb") as disk:
                disk.truncate(size)
        mke2fs = shutil.which("mke2fs", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") or "mke2fs"
        subprocess.run([mke2fs, "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard",
                        scratch], check=True)

    def _command(self):
        image, folder = self.image, self.folder
        drive = "if=none,id=%s,file=%s,format=raw,cache=unsafe,discard=unmap"
        command = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", CPU + self.light["cpu"],
                   "-smp", str(self.cpus), "-m", str(self.memory_mb), "-display", "none", "-no-reboot", "-nodefaults",
                   "-chardev", "socket,id=console,path=%s/console.sock,server=on,wait=off,logfile=%s,logappend=on"
                   % (self.sockets, self.console_log),
                   "-serial", "chardev:console",
                   "-device", "virtio-serial-pci",
                   "-chardev", "socket,id=agent,path=%s/agent.sock,server=on,wait=off" % self.sockets,
                   "-device", "virtserialport,chardev=agent,name=org.blkbackd.test",
                   "-virtfs", "local,path=%s,mount_tag=share,security_model=none" % self.share,
                   "-drive", drive % ("root", os.path.join(image, "root.ext4")) + ",snapshot=on",
                   "-device", "virtio-blk-pci,drive=root",
                   "-drive", drive % ("scratch", os.path.join(folder, "scratch.img")),
                   "-device", "virtio-blk-pci,drive=scratch",
                   "-drive", drive % ("block", os.path.join(folder, "block.img")),
                   "-device", "virtio-blk-pci,drive=block",
                   "-kernel", os.path.join(image, "xen.elf"), "-append", XEN_OPTIONS + self.light["xen"],
                   "-initrd", "%s/vmlinux %s,%s/dom0.cpio" % (image, LINUX_OPTIONS + self.light["linux"], image)]
        return command + self.extra

    def _connect(self, name, deadline):
        path = os.path.join(self.sockets, name)
        while True:
            self._check_alive()
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            try:
                connection.connect(path)
                return connection
            except OSError:
                connection.close()
                if time.monotonic() > deadline:
                    raise HostError("QEMU does not answer at %s" % path) from None
            time.sleep(0.05)

    def _check_alive(self):
        if self.qemu.poll() is not None:
            raise HostError("QEMU has ended (status %d)\n%s" % (self.qemu.returncode, self.tail()))

    def tail(self, lines=25):
        """The last lines of QEMU's messages and of the console, for reports."""
        parts = []
        for name in ("qemu.log", "console.log"):
            try:
                with open(os.path.join(self.folder, name), errors="replace") as log:
                    text = [line.rstrip() for line in log.readlines()[-lines:]]
            except FileNotFoundError:
                continue
            if text:
                parts.append("--- end of %s\n%s" % (os.path.join(self.folder, name), "\n".join(text)))
        return "\n".join(parts)

    def cpu_seconds(self):
        """What QEMU has used of the processors so far, in seconds."""
        with open("/proc/%d/stat" % self.qemu.pid) as source:
            fields = source.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    # --- commands in dom0 --------------------------------------------------------------------------------------------

    def _line(self, deadline, complaint):
        """The next line from the agent."""
        while b"\n" not in self.received:
            left = deadline - time.monotonic()
            if left <= 0:
                raise HostError("%s\n%s" % (complaint, self.tail()))
            self.port.settimeout(min(left, 1.0))
            try:
                data = self.port.recv(4096)
            except socket.timeout:
                self._check_alive()
                continue
            if not data:
                self.qemu.wait(10)
                self._check_alive()
            self.received += data
        line, self.received = self.received.split(b"\n", 1)
        return line.decode(errors="replace").strip()

    def run(self, script, timeout=60, follow=None):
        """Runs a bash script in dom0; returns its exit status and output (124: timed out).

        follow, when given, is called with each new piece of the output as it comes."""
        self.jobs += 1
        job = "%04d" % self.jobs
        base = os.path.join(self.share, "jobs", job)
        with open(base + ".sh", "w") as out:
            out.write(script + "\n")
        done = threading.Event()
        reader = threading.Thread(target=_follow_file, args=(base + ".out", follow, done)) if follow else None
        if reader:
            reader.start()
        try:
            self.port.sendall(("%s %d\n" % (job, timeout)).encode())
            status = self._wait_for(job, timeout + GRACE_SECONDS)
        finally:
            done.set()
            if reader:
                reader.join()
        with open(base + ".out", errors="replace") as out:
            return status, out.read()

    def _wait_for(self, job, seconds):
        deadline = time.monotonic() + seconds
        while True:
            words = self._line(deadline, "dom0 does not answer for %d s" % seconds).split()
            if len(words) == 3 and words[:2] == ["done", job]:
                return int(words[2])

    # --- a person at the console -------------------------------------------------------------------------------------

    def attach_terminal(self):
        """Connects this terminal with dom0's console until Ctrl-\\ is typed or the host ends."""
        import termios
        import tty
        import select
        console = self._connect("console.sock", time.monotonic() + 5)
        console.sendall(b"\n")
        stdin = sys.stdin.fileno()
        saved = termios.tcgetattr(stdin)
        try:
            tty.setraw(stdin)
            while True:
                readable, _, _ = select.select([stdin, console], [], [])
                if console in readable:
                    data = console.recv(4096)
                    if not data:
                        return
                    os.write(sys.stdout.fileno(), data)
                if stdin in readable:
                    data = os.read(stdin, 1024)
                    if not data or b"\x1c" in data:
                        return
                    console.sendall(data)
        finally:
            termios.tcsetattr(stdin, termios.TCSADRAIN, saved)
            console.close()


def _die_with_parent():
    """Runs between fork and exec: QEMU ends when its parent is killed, and keyboard signals are the parent's to handle."""
    import ctypes
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    os.setpgrp()


def _follow_file(path, call, done):
    position = 0
    last = False
    while not last:
        last = done.wait(0.2)
        try:
            with open(path, errors="replace") as source:
                source.seek(position)
                text = source.read()
                position = source.tell()
        except FileNotFoundError:
            continue
        if text:
            call(text)


def install_product(host, binaries, conf, extra_programs=()):
    """Puts the product into the share: binaries, the libraries they need, configuration and hook; dom0's init copies them.

    binaries: the build's bin folder, or None for a host without the product."""
    product = os.path.join(host.share, "product")
    programs = list(extra_programs)
    if binaries:
        for name in ("blkbackd", "blkbackd-worker", "blkbackctl"):
            path = os.path.join(binaries, name)
            if not os.path.exists(path):
                raise HostError("%s is missing: build first" % path)
            programs.append(path)
    for path in programs:
        shutil.copy2(path, os.path.join(product, "bin"))
        for library in _libraries(path):
            shutil.copy2(library, os.path.join(product, "lib"))
    if conf and os.path.isdir(conf):
        shutil.copytree(conf, os.path.join(product, "conf"), dirs_exist_ok=True)
    setup = os.path.join(host.share, "setup")
    shutil.copy2(os.path.join(HERE, "share", "setup"), setup)
    os.chmod(setup, 0o755)


def install_cases(host):
    """Puts the cases, the demo and the helpers that they are written with into the share."""
    for name in ("lib.sh", "deaths.sh", "hostile.sh", "demo.sh"):
        shutil.copy2(os.path.join(HERE, "share", name), host.share)
    shutil.copytree(os.path.join(HERE, "cases"), os.path.join(host.share, "cases"))


def install_attacker(host, binaries):
    """Puts the malicious frontend of the same build into the share, for cases with a guest that attacks."""
    path = os.path.join(os.path.dirname(os.path.realpath(binaries)), "xen", "blkback-attacker")
    if not os.path.exists(path):
        raise HostError("%s is missing: build first" % path)
    os.makedirs(os.path.join(host.share, "attacker"), exist_ok=True)
    shutil.copy2(path, os.path.join(host.share, "attacker"))


def _libraries(program):
    listing = subprocess.run(["ldd", program], stdout=subprocess.PIPE, text=True, check=True).stdout
    for line in listing.splitlines():
        words = line.split()
        if "not found" in line:
            raise HostError("%s needs %s, which is not on this machine" % (program, words[0]))
        if len(words) >= 3 and words[1] == "=>" and words[2].startswith("/"):
            yield words[2]
