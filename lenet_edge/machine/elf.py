"""The processor architecture of programs and libraries, read from their ELF headers."""

from __future__ import annotations

import sys
from pathlib import Path

# e_machine: 16 bits at byte 18, in the byte order that byte 5 names; source: elf(5).
_MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv"}


def elf_architecture(path: Path) -> str | None:
    """Return the architecture that a file is built for, or None if it is not an ELF file."""
    try:
        with path.open("rb") as file:
            header = file.read(20)
    except OSError:
        return None
    if len(header) < 20 or header[:4] != b"\x7fELF":
        return None
    number = int.from_bytes(header[18:20], "little" if header[5] == 1 else "big")
    return _MACHINES.get(number, f"machine {number}")


def python_architecture() -> str | None:
    """Return the architecture of this Python.

    It can differ from the kernel's: a 64-bit kernel also runs a 32-bit Python.
    """
    return elf_architecture(Path(sys.executable).resolve())
