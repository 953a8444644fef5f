"""Which processor a program or library is built for, as its ELF header says."""

from __future__ import annotations

import sys
from pathlib import Path

# e_machine, 16 bits at byte 18, in the order of bytes that byte 5 names; source: elf(5).
_MACHINES = {3: "i386", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv"}


def architecture(path: Path) -> str | None:
    """Return the processor that an ELF file is for; None where it is no such file."""
    try:
        with path.open("rb") as file:
            head = file.read(20)
    except OSError:
        return None
    if len(head) < 20 or head[:4] != b"\x7fELF":
        return None
    number = int.from_bytes(head[18:20], "little" if head[5] == 1 else "big")
    return _MACHINES.get(number, f"machine {number}")


def own_architecture() -> str | None:
    """Return what this Python is for, which a 64-bit kernel's name does not tell."""
    return architecture(Path(sys.executable).resolve())
