"""Tests of ELF architectures: two real ones, files that are not ELF, and a missing file."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest

from lenet_edge.machine.elf import elf_architecture, python_architecture

CROSS_COMPILER = "aarch64-linux-gnu-gcc"


def test_architecture_of_this_python() -> None:
    machine = {"armv7l": "arm", "armv6l": "arm", "riscv64": "riscv"}
    assert python_architecture() == machine.get(platform.machine(), platform.machine())


@pytest.mark.needs(CROSS_COMPILER)
def test_architecture_of_cross_compiled_library(tmp_path: Path) -> None:
    library = tmp_path / "empty.so"
    command = [CROSS_COMPILER, "-shared", "-x", "c", "/dev/null", "-o", str(library)]
    subprocess.run(command, check=True, timeout=60)
    assert elf_architecture(library) == "aarch64"


def test_files_that_are_not_elf(tmp_path: Path) -> None:
    (tmp_path / "half").write_bytes(b"\x7fELF\2\1")
    for path in (Path(__file__), tmp_path / "half", tmp_path, tmp_path / "missing"):
        assert elf_architecture(path) is None
