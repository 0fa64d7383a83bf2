#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
#
# The part of scripts/demo that needs the rig: boots the Xen host, runs share/demo.sh in its dom0, and reports.

import argparse
import os
import shutil
import signal
import sys
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE)
import xenhost  # noqa: E402 (found by the path above)

ROOT = os.path.dirname(os.path.dirname(HERE))
SHELL_HELP = """
You are about to be in dom0, with the guest 'demo' running. Try:
    xl list
    blkbackctl status
    xl console demo                # a shell in the guest, its disk at /mnt; Ctrl-] leaves it
    less %s
Ctrl-\\ ends the host."""


def parse_arguments():
    parser = argparse.ArgumentParser(prog="demo", description="Shows a guest running from a disk that blkbackd serves.")
    parser.add_argument("--shell", action="store_true", help="leave me in dom0 with the guest running")
    parser.add_argument("--bin", default=os.path.join(ROOT, "build", "gcc", "bin"), help=argparse.SUPPRESS)
    parser.add_argument("--results", default=os.path.join(ROOT, "build", "demo"), help=argparse.SUPPRESS)
    return parser.parse_args()


def show(options):
    shutil.rmtree(options.results, ignore_errors=True)
    os.makedirs(options.results)
    print("==> preparing the Xen host's image (once)", flush=True)
    image = xenhost.build_image()
    with xenhost.XenHost(image, options.results) as host:
        xenhost.install_product(host, options.bin, os.path.join(ROOT, "conf"))
        xenhost.install_cases(host)
        print("==> booting Xen and dom0 in QEMU", flush=True)
        print("        dom0 runs after %.0f s" % host.start(), flush=True)
        status, output = host.run("export CASE=demo DEMO_SHELL=%d\n. /share/lib.sh\n. /share/demo.sh" % options.shell,
                                  timeout=180, follow=lambda text: print(text, end="", flush=True))
        if status != 0:
            reasons = [line for line in output.splitlines() if line.startswith("FAIL:")]
            raise xenhost.HostError("%s\nlogs: %s" % (reasons[0] if reasons else "it ended with status %d" % status,
                                                      options.results))
        if options.shell:
            print(SHELL_HELP % "/share/logs/demo.blkbackd.log", flush=True)
            host.attach_terminal()


def main():
    options = parse_arguments()
    if options.shell and not sys.stdin.isatty():
        sys.exit("demo: --shell needs a terminal")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begun = time.monotonic()
    try:
        show(options)
    except xenhost.HostError as error:
        sys.exit("demo failed: %s" % error)
    except KeyboardInterrupt:
        sys.exit("demo: interrupted")
    if not options.shell:
        print("""
Shown in %.0f s: Xen 4.17 with a Linux dom0 and a paravirtualised Linux guest, its disk a plain file served by
blkbackd, attached by xl through the block-blkbackd hook; what the guest wrote was read back by the guest and found
unharmed from outside; the daemon and the toolstack left nothing behind.""" % (time.monotonic() - begun))


if __name__ == "__main__":
    main()
