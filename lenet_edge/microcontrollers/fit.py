"""Comparison of the memory that a network takes with that of a board."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lenet_edge.microcontrollers.boards import MicrocontrollerBoard
from lenet_edge.microcontrollers.footprint import Footprint


@dataclass(frozen=True)
class BoardFit:
    """A network on a board: the shares of flash and RAM, and the bytes that remain."""

    board: MicrocontrollerBoard
    footprint: Footprint

    @property
    def flash_left(self) -> int:
        """Bytes of flash for the rest of the program; negative if the network is too large."""
        return self.board.flash_bytes - self.footprint.flash_bytes

    @property
    def ram_left(self) -> int:
        """Bytes of RAM for the rest of the program; negative if the network is too large."""
        return self.board.ram_bytes - self.footprint.ram_bytes

    @property
    def fits(self) -> bool:
        """True if the network alone leaves flash and RAM."""
        return min(self.flash_left, self.ram_left) >= 0

    def __str__(self) -> str:
        footprint, board = self.footprint, self.board
        bound = "" if footprint.compiler else " at most"
        verdict = "fits" if self.fits else "does not fit"
        shares = (
            f"it takes{bound} {footprint.flash_bytes:,} of {board.flash_bytes:,} bytes of flash"
            f" ({footprint.flash_bytes / board.flash_bytes:.1%}) and {footprint.ram_bytes:,} of"
            f" {board.ram_bytes:,} bytes of RAM ({footprint.ram_bytes / board.ram_bytes:.1%})"
        )
        excess = [
            f"{-left:,} bytes of {memory}"
            for left, memory in ((self.flash_left, "flash"), (self.ram_left, "RAM"))
            if left < 0
        ]
        rest = (
            f"{' and '.join(excess)} too many"
            if excess
            else f"{self.flash_left:,} bytes of flash and {self.ram_left:,} of RAM remain"
        )
        return f"{verdict} on {board.title} ({board.processor}): {shares}; {rest}"

    def to_json(self) -> dict[str, Any]:
        """Return the fields and the derived figures as a JSON object."""
        return {
            "board": vars(self.board),
            "footprint": self.footprint.to_json(),
            "fits": self.fits,
            "flash_left": self.flash_left,
            "ram_left": self.ram_left,
        }
