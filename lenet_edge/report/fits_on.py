"""Memory of C files on microcontrollers: the boards that they fit on, and their limits."""

from __future__ import annotations

from collections.abc import Sequence

from lenet_edge.microcontrollers.boards import BOARDS, MicrocontrollerBoard
from lenet_edge.report.page_tables import PageSection, PageTable
from lenet_edge.results.formatting import MISSING, whole_number
from lenet_edge.results.result_file import BenchRun, InstructionCount

_NOTES = (
    "Flash holds machine code and weights, RAM the variables and the stack of one call. The rest of"
    " a program comes on top. Instructions are not cycles, and are never compared with latencies.",
    "The verdict is that of verify on the emulated core, such as verify FILE --target cortex-m4.",
    "lenet-edge inspect FILE --board NAME shows the shares of a board, with the bytes that remain.",
)


def fits_section(run: BenchRun) -> PageSection | None:
    """Return the flash, RAM and instructions of files on cores, with the boards; None without any.

    A board is listed if it has the core.
    """
    counts = [count for count in run.instruction_counts if count.flash_total_bytes is not None]
    if not counts:
        return None
    verdicts = {(report.candidate_sha256, report.target): report.verdict for report in run.parity}
    rows, styles = [], []
    for count in sorted(counts, key=lambda count: count.key):
        boards = [board for board in BOARDS.values() if board.core == count.cpu]
        fitting = [board for board in boards if _fits(count, board)]
        too_small = [board for board in boards if board not in fitting]
        rows.append(
            (
                count.artifact,
                count.cpu,
                verdicts.get((count.artifact_sha256, count.target), MISSING),
                _titles(fitting),
                _titles(too_small),
                whole_number(count.instructions),
                whole_number(count.flash_total_bytes),
                whole_number(count.ram_total_bytes),
            )
        )
        styles.append("bad" if boards and not fitting else "")
    columns = ("file", "core", "verdict", "fits on", "too large for", "instructions", "flash",
               "RAM")  # fmt: skip
    table = PageTable(columns, tuple(rows), 5, tuple(styles), prose=3)
    return PageSection("fits", "Microcontrollers", _NOTES, table)


def _fits(count: InstructionCount, board: MicrocontrollerBoard) -> bool:
    flash, ram = count.flash_total_bytes or 0, count.ram_total_bytes or 0
    return flash <= board.flash_bytes and ram <= board.ram_bytes


def _titles(boards: Sequence[MicrocontrollerBoard]) -> str:
    return ", ".join(board.title for board in boards) or MISSING
