"""Programs that tests need and a machine may lack.

A test whose program is not installed is left out. The last line of the summary counts these tests
and names the Debian packages to install. With LENET_EDGE_TESTS_COMPLETE=1, as in CI, they fail.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from importlib.util import find_spec

import pytest

from lenet_edge.target import Target

# The Debian package of each program.
PACKAGES = {
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
    "arm-none-eabi-gcc": "gcc-arm-none-eabi",
    "arm-none-eabi-size": "gcc-arm-none-eabi",
    "cc": "gcc",
    "chromedriver": "chromium-driver",
    "chromium": "chromium",
    "clang": "clang",
    "cmake": "cmake",
    "gcc": "gcc",
    "git": "git",
    "ip": "iproute2",
    "mkfs.ext4": "e2fsprogs",
    "mmdebstrap": "mmdebstrap",
    "nm": "binutils",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "qemu-aarch64": "qemu-user",
    "qemu-aarch64-static": "qemu-user-static",
    "qemu-system-arm": "qemu-system-arm",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "/usr/sbin/sshd": "openssh-server",
    "systemd-analyze": "systemd",
    "unshare": "util-linux",
    "valgrind": "valgrind",
    "wasm-ld": "lld",
}
_INSTALL = "apt-get install"
# A mark of tests that use tflite-runtime.
tflite_runtime = pytest.mark.skipif(
    find_spec("tflite_runtime") is None,
    reason="tflite-runtime has no wheel for Python 3.12 or newer",
)
# OpenCV 5 requires NumPy 2, and tflite-runtime an older one. test_opencv.py installs it elsewhere.
opencv = pytest.mark.skipif(find_spec("cv2") is None, reason="OpenCV is not installed")
# ExecuTorch needs PyTorch, and NumPy 2 like OpenCV.
executorch = pytest.mark.skipif(
    find_spec("executorch") is None, reason="ExecuTorch is not installed"
)
# Cortex-M targets run these.
CORTEX_M = ("arm-none-eabi-gcc", "qemu-system-arm")
# Export to WebAssembly runs these.
BUILD_WASM = ("clang", "wasm-ld")


def advice(problem: str, packages: Iterable[str]) -> str:
    """Return a problem and the command that solves it."""
    return f"{problem}; {_INSTALL} {' '.join(sorted({*packages}))}"


def missing(*programs: str) -> str | None:
    """Return that programs are not installed, and the packages to install; None if they are."""
    absent = [name for name in programs if not shutil.which(name)]
    if not absent:
        return None
    verb = "is" if len(absent) == 1 else "are"
    problem = f"{', '.join(absent)} {verb} not installed"
    return advice(problem, (PACKAGES[name] for name in absent))


def leave_out(reason: str) -> None:
    """Skip a test, or fail it where the tests must be complete and a package would solve it."""
    if _INSTALL in reason and os.environ.get("LENET_EDGE_TESTS_COMPLETE") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def require(*programs: str) -> None:
    """Leave the test out if a program is not installed."""
    if reason := missing(*programs):
        leave_out(reason)


def of_target(target: Target) -> tuple[str, ...]:
    """Return the programs that a target runs."""
    return {"native": ("cc",), "cortex-m": CORTEX_M}.get(target.runtime, ())


def summary(reasons: Sequence[str]) -> str | None:
    """Return the closing line about the reasons of all skipped tests; None if nothing to install.

    Example: 31 tests left out: install clang gcc lld openssh-client
    """
    lists = [match[1].split() for reason in reasons if (match := _COMMAND.search(reason))]
    if not lists:
        return None
    packages = sorted({package for packages in lists for package in packages})
    tests = "1 test" if len(lists) == 1 else f"{len(lists)} tests"
    return f"{tests} left out: install {' '.join(packages)}"


_COMMAND = re.compile(rf"{_INSTALL} ([a-z0-9+.\- ]+)$")
