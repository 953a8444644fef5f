"""The sections of ELF files for 32-bit Arm: the bytes of flash and of RAM that they take."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

_FILE_HEADER = struct.Struct("<16sHHIIIIIHHHHHH")
_SECTION_HEADER = struct.Struct("<IIIIIIIIII")
_NOBITS, _WRITE, _ALLOC, _EXECUTE = 8, 1, 2, 4


@dataclass(frozen=True)
class Sizes:
    """Bytes of machine code, constants, initialized variables, and zeroed variables."""

    code: int
    constants: int
    initialized: int
    zeroed: int

    @property
    def flash(self) -> int:
        """Bytes of flash; it holds the first values of variables too."""
        return self.code + self.constants + self.initialized

    @property
    def ram(self) -> int:
        """Bytes of RAM without the stack."""
        return self.initialized + self.zeroed


def read_sizes(*files: Path) -> Sizes:
    """Return the sizes of the sections of object files or of a program, all together.

    Tables for the unwinding of exceptions do not count: the linker discards them.
    """
    totals = {"code": 0, "constants": 0, "initialized": 0, "zeroed": 0}
    for file in files:
        for name, kind, flags, size in _sections(file.read_bytes()):
            if flags & _ALLOC and not name.startswith(".ARM."):
                if flags & _WRITE:
                    totals["zeroed" if kind == _NOBITS else "initialized"] += size
                else:
                    totals["code" if flags & _EXECUTE else "constants"] += size
    return Sizes(**totals)


def _sections(content: bytes) -> list[tuple[str, int, int, int]]:
    """Return the name, the type, the flags and the size of each section."""
    header = _FILE_HEADER.unpack_from(content)
    start, size, count, names_at = header[6], header[11], header[12], header[13]
    rows = [_SECTION_HEADER.unpack_from(content, start + n * size) for n in range(count)]
    names = rows[names_at][4]
    return [
        (content[names + row[0] : content.index(b"\0", names + row[0])].decode(), row[1], row[2],
         row[5])
        for row in rows
    ]  # fmt: skip
