"""Which processor a file is for; of real files of two, of no ELF file, and of none."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from lenet_edge.machine.elf import architecture, own_architecture

CROSS_COMPILER = "aarch64-linux-gnu-gcc"


def test_this_python_s_own() -> None:
    machine = {"armv7l": "arm", "armv6l": "arm", "riscv64": "riscv"}
    assert own_architecture() == machine.get(platform.machine(), platform.machine())


@pytest.mark.skipif(shutil.which(CROSS_COMPILER) is None, reason=f"there is no {CROSS_COMPILER}")
def test_another_s(tmp_path: Path) -> None:
    command: list[str] = [
        CROSS_COMPILER,
        "-shared",
        "-x",
        "c",
        "/dev/null",
        "-o",
        str(tmp_path / "empty.so"),
    ]
    subprocess.run(command, check=True, timeout=60)
    assert architecture(tmp_path / "empty.so") == "aarch64"


def test_what_is_no_elf_file(tmp_path: Path) -> None:
    (tmp_path / "half").write_bytes(b"\x7fELF\2\1")
    for path in (Path(__file__), tmp_path / "half", tmp_path, tmp_path / "nowhere"):
        assert architecture(path) is None
