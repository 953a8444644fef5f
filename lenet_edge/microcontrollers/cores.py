"""Cortex-M cores, and the boards of QEMU that have them."""

from __future__ import annotations

from dataclasses import dataclass

_KIBIBYTE = 1024


@dataclass(frozen=True)
class Core:
    """A Cortex-M core, and the board of QEMU that has it.

    Attributes:
        name: the name of the core, which GCC's -mcpu takes.
        board: QEMU's name of the board.
        float_unit: the name of its floating-point unit, which GCC's -mfpu takes; None without one.
        clock_hz: the clock of SysTick on the board.
        flash, ram: the addresses of flash and RAM.
        flash_bytes, ram_bytes: their sizes. Larger programs are refused.
    """

    name: str
    board: str
    float_unit: str | None
    clock_hz: int
    flash: int
    ram: int
    flash_bytes: int = 2048 * _KIBIBYTE
    ram_bytes: int = 2048 * _KIBIBYTE


CORES = {
    core.name: core
    for core in (
        Core("cortex-m0", "microbit", None, 16_000_000, 0, 0x20000000, 256 * _KIBIBYTE,
             16 * _KIBIBYTE),
        Core("cortex-m3", "mps2-an385", None, 25_000_000, 0, 0x20000000),
        Core("cortex-m4", "mps2-an386", "fpv4-sp-d16", 25_000_000, 0, 0x20000000),
        Core("cortex-m7", "mps2-an500", "fpv5-d16", 25_000_000, 0, 0x20000000),
        Core("cortex-m33", "mps2-an505", "fpv5-sp-d16", 20_000_000, 0x10000000, 0x38000000),
        Core("cortex-m55", "mps3-an547", "auto", 32_000_000, 0, 0x20000000, 512 * _KIBIBYTE,
             512 * _KIBIBYTE),
    )
}  # fmt: skip
