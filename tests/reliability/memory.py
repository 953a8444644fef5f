"""Memory of other processes: its peak during a step, and the memory that they keep."""

from __future__ import annotations

from pathlib import Path


class Peak:
    """The resident memory of a process from now on."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        # 5 resets the peak to the present memory; see proc(5).
        (self._folder / "clear_refs").write_text("5")
        self._before = self._kilobytes("VmRSS")

    def growth_bytes(self) -> int:
        """Return by how much the peak exceeds the memory at the start; 0 for an ended process."""
        return self._since_start("VmHWM")

    def kept_bytes(self) -> int:
        """Return by how much the process has grown; 0 for an ended process."""
        return self._since_start("VmRSS")

    def _since_start(self, field: str) -> int:
        try:
            return 1024 * max(0, self._kilobytes(field) - self._before)
        except (OSError, IndexError):  # a zombie has no such field
            return 0

    def _kilobytes(self, field: str) -> int:
        status = (self._folder / "status").read_text()
        return int(status.split(f"{field}:")[1].split()[0])
