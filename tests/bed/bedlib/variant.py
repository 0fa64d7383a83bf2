# SPDX-License-Identifier: BSD-2-Clause
"""The product built from changed sources, for tests of upgrades. Builds are kept beside the build under test."""

import hashlib
import os
import re
import shutil
import subprocess

from .bed import Missing

TREE = os.path.abspath(f"{os.path.dirname(__file__)}/../../..")
PARTS = ("CMakeLists.txt", "cmake", "conf", "include", "src")
STATE_FILES = "include/blkback/state_files.h"

# Another minor version: a field more in the connection file, a reserved one of the slab taken into use.
MINOR = (
    (STATE_FILES, r"(#define STATE_VERSION_MINOR )\d+U", r"\g<1>77U"),
    (STATE_FILES, r"(struct connection_file \{.*?)(\n\};)", r"\g<1>\n    uint64_t appended;\g<2>"),
    (STATE_FILES, r"(struct slab_header \{.*?)uint64_t reserved\[(\d+)\]", r"\g<1>uint64_t used, reserved[\g<2> - 1]"),
    ("src/base/state_files.c", r"(connection->size = sizeof\(\*connection\);)", r"\g<1> connection->appended = 7;"),
    ("src/blkif/slab.c", r"(header->epoch = [^;]*;)", r"\g<1> header->used = 7;"),
)
MAJOR = ((STATE_FILES, r"(#define STATE_VERSION_MAJOR )\d+U", r"\g<1>99U"),)


def sources_hash(edits):
    digest = hashlib.sha256(repr(edits).encode())
    for part in PARTS:
        path = f"{TREE}/{part}"
        files = [path] if os.path.isfile(path) else sorted(os.path.join(d, f) for d, _, names in os.walk(path) for f in names)
        for file in files:
            with open(file, "rb") as f:
                digest.update(file.encode() + f.read())
    return digest.hexdigest()[:16]


def cached_setting(build, name):
    with open(f"{build}/CMakeCache.txt", encoding="utf-8") as f:
        found = re.search(rf"^{name}:[A-Z]+=(.*)$", f.read(), re.MULTILINE)
    return found.group(1) if found else ""


def edit(source, edits):
    for path, pattern, replacement in edits:
        with open(f"{source}/{path}", encoding="utf-8") as f:
            text = f.read()
        text, count = re.subn(pattern, replacement, text, flags=re.DOTALL)
        assert count, f"{path} has nothing like {pattern}"
        with open(f"{source}/{path}", "w", encoding="utf-8") as f:
            f.write(text)


def run(*argv):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stdout[-2000:]} {done.stderr[-2000:]}"


def build(bin_dir, name, edits):
    """A folder with the programs of the sources as edited, with the compiler and sanitizers of bin_dir's build."""
    like = os.path.abspath(f"{bin_dir}/..")
    if not os.path.exists(f"{like}/CMakeCache.txt") or not shutil.which("cmake") or not shutil.which("ninja"):
        raise Missing(f"a build folder around {bin_dir}, cmake and ninja")
    folder = f"{like}/variants/{name}-{sources_hash(edits)}"
    if os.path.exists(f"{folder}/built"):
        return f"{folder}/build/bin"
    for old in os.listdir(f"{like}/variants") if os.path.isdir(f"{like}/variants") else ():
        if old.startswith(f"{name}-"):
            shutil.rmtree(f"{like}/variants/{old}")
    for part in PARTS:
        copy = shutil.copy if os.path.isfile(f"{TREE}/{part}") else shutil.copytree
        os.makedirs(f"{folder}/source", exist_ok=True)
        copy(f"{TREE}/{part}", f"{folder}/source/{part}")
    edit(f"{folder}/source", edits)
    run("cmake", "-G", "Ninja", "-S", f"{folder}/source", "-B", f"{folder}/build", "-DBLKBACKD_TESTS=OFF",
        "-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_C_FLAGS_DEBUG=-O1",
        f"-DCMAKE_C_COMPILER={cached_setting(like, 'CMAKE_C_COMPILER') or 'cc'}",
        f"-DBLKBACKD_SANITIZE={cached_setting(like, 'BLKBACKD_SANITIZE')}")
    run("ninja", "-C", f"{folder}/build", "blkbackd", "blkbackd-worker", "blkbackctl")
    with open(f"{folder}/built", "w", encoding="ascii"):
        pass
    return f"{folder}/build/bin"
