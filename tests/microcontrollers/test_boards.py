"""The table of microcontroller boards."""

from __future__ import annotations

import pytest

from lenet_edge.errors import UsageError
from lenet_edge.microcontrollers.boards import BOARDS, NOT_COVERED, find_board
from lenet_edge.microcontrollers.cores import CORES
from tests.test_docs import TEXTS


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_has_a_known_core_and_a_source_for_each_figure(name: str) -> None:
    board = find_board(name.upper())
    assert board.name == name
    assert board.core in CORES
    assert board.processor.lower().startswith(board.core)
    assert board.ram_bytes < board.flash_bytes
    assert 16_000_000 <= board.clock_hz <= 600_000_000
    assert all((board.flash_source, board.ram_source, board.clock_source))
    assert not board.note.endswith(".")


@pytest.mark.parametrize(("name", "message"), [
    ("piko", "'piko' is no board of the table; did you mean pico"),
    ("uno", "'uno' is no board of the table; choose one of (pico,"),
    *((name, f"{name} is not covered: its processor is") for name in NOT_COVERED),
])  # fmt: skip
def test_other_boards_are_refused_with_the_reason(name: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_board(name)
    assert str(caught.value).startswith(message)


def test_the_documents_have_the_figures_of_the_table() -> None:
    rows = [line for line in TEXTS["microcontroller.md"].splitlines() if line.startswith("| `")]
    assert rows[1:] == [
        f"| `{board.name}` | {board.title} | {board.chip} | {board.processor}"
        f" | {kibibytes(board.flash_bytes)} | {kibibytes(board.ram_bytes)}"
        f" | {board.clock_hz / 1e6:.0f} MHz |"
        for board in BOARDS.values()
    ]


def kibibytes(size: int) -> str:
    assert size % 1024 == 0
    return f"{size >> 10} KiB" if size % 2**20 else f"{size >> 20} MiB"
