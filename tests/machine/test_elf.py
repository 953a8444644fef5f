"""Tests of ELF files: their architectures and loaded bytes; other files, and a missing file."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest

from lenet_edge.machine.elf import elf_architecture, loaded_bytes, python_architecture

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
        assert loaded_bytes(path) is None


@pytest.mark.parametrize(("compiler", "flags"), [
    pytest.param("cc", ("-shared",), marks=pytest.mark.needs("cc")),
    # 32 bits, and big-endian
    pytest.param("arm-none-eabi-gcc", ("-nostdlib", "-Wl,-emain", "-mbig-endian"),
                 marks=pytest.mark.needs("arm-none-eabi-gcc")),
])  # fmt: skip
def test_loaded_bytes(compiler: str, flags: tuple[str, ...], tmp_path: Path) -> None:
    sizes = []
    for debug in ("-s", "-g3"):
        source, built = tmp_path / "main.c", tmp_path / "built"
        source.write_text("const char constants[100000] = {1}; char zeros[5000];"
                          " int main(void) { return 0; }")  # fmt: skip
        command = [compiler, *flags, debug, str(source), "-o", str(built)]
        subprocess.run(command, check=True, timeout=60)
        sizes.append(loaded_bytes(built))
    assert sizes[0] == sizes[1]  # nothing for debuggers
    assert sizes[0] is not None
    assert 100_000 < sizes[0] < 104_000
