"""The processor and the loaded bytes of programs and libraries, read from their ELF headers."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

_LOAD = 1  # a segment that is loaded into memory
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


def loaded_bytes(path: Path) -> int | None:
    """Return the bytes of machine code, constants and variables that a file brings into memory.

    Symbols for debuggers and other parts that stay on the disk do not count. The return value is
    None if it is not an ELF file.
    """
    try:
        content = path.read_bytes()
        wide, order = content[4] == 2, "<" if content[5] == 1 else ">"
        if content[:4] != b"\x7fELF":
            return None

        # Offset, size and number of the program headers; in each, the type and the bytes in the
        # file. Source: elf(5).
        def number(kind: str, at: int) -> int:
            return int(struct.unpack_from(order + kind, content, at)[0])

        word = "Q" if wide else "I"
        start = number(word, 32 if wide else 28)
        size, count = (number("H", at + (54 if wide else 42)) for at in (0, 2))
        loaded = (start + n * size for n in range(count) if number("I", start + n * size) == _LOAD)
        return sum(number(word, at + (32 if wide else 16)) for at in loaded)
    except (OSError, IndexError, struct.error):
        return None


def python_architecture() -> str | None:
    """Return the architecture of this Python.

    It can differ from the kernel's: a 64-bit kernel also runs a 32-bit Python.
    """
    return elf_architecture(Path(sys.executable).resolve())
