"""Equal boards of a fleet: one ranking for each kind, outliers, and the table of boards."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from lenet_edge.machine.conditions import Conditions
from lenet_edge.report import page
from lenet_edge.report.equal_boards import find_outliers, relative_latencies
from lenet_edge.report.join_runs import group_by_machine, pool
from lenet_edge.report.page_tables import boards_section
from lenet_edge.report.recommend import recommend
from lenet_edge.report.terminal.fleet import fleet_view
from lenet_edge.results.result_file import BenchRun, FleetRun, LostBoard, Measurement, Skipped
from tests.report.builders import measurement, parity_report, process_samples


def board(name: str, machine: str = "Pi 5", slow: float = 1.0, **fields: Any) -> BenchRun:
    """Return a board that takes 10 µs for a.tflite and 20 µs for b.tflite, times `slow`."""
    cells = (measurement("a.tflite", 10 * slow, 300), measurement("b.tflite", 20 * slow, 200))
    run = BenchRun.of_this_machine(cells, (parity_report("a.tflite"), parity_report("b.tflite")))
    environment = dataclasses.replace(run.environment, machine=machine, container=None)
    return dataclasses.replace(run, board=name, environment=environment, **fields)


def fleet_text(fleet: FleetRun) -> str:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(fleet_view(fleet))
    return console.export_text()


def test_equal_boards_are_pooled_and_different_machines_are_not() -> None:
    fives, fours = group_by_machine([board("a"), board("x", "Pi 4", 3), board("b", slow=1.02)])
    assert [[run.board for run in group] for group in (fives, fours)] == [["a", "b"], ["x"]]
    pooled = pool(fives)
    for cell in pooled.measurements:
        assert len(cell.processes) == 2
        samples = [
            own.latencies_s for run in fives for own in run.measurements if own.key == cell.key
        ]
        assert np.array_equal(cell.latencies_s, np.concatenate(samples))
    assert pool(fours) is fours[0]
    assert str(recommend(pooled)).startswith("Ship a.tflite")


def test_of_two_runs_of_one_board_only_the_newer_cells_count() -> None:
    old = board("a", slow=5, created_at="2020-01-01T00:00:00+00:00")
    (group,) = group_by_machine([old, board("a"), board("b")])
    assert [run.board for run in group] == ["a", "b"]
    assert [cell.p50_s for cell in group[0].measurements] == [
        cell.p50_s for cell in board("a").measurements
    ]


def test_a_slow_board_does_not_blur_the_ranking_of_files() -> None:
    same_plan = pool([board("a"), board("b", slow=3)])
    assert same_plan.paired
    assert str(recommend(same_plan)).startswith("Ship a.tflite")  # twice as fast on both boards
    # Boards that share the work measure different cells, so nothing is paired.
    first, second = board("a"), board("b")
    shared = [
        dataclasses.replace(first, measurements=first.measurements[:1]),
        dataclasses.replace(second, measurements=second.measurements[1:]),
    ]
    assert not pool(shared).paired


def test_invalid_processes_are_dropped_and_the_worst_verdict_counts() -> None:
    good, bad = board("a"), board("b", slow=9)
    broken = dataclasses.replace(
        bad,
        measurements=tuple(
            dataclasses.replace(cell, invalid="the board is throttled") for cell in bad.measurements
        ),
        parity=(parity_report("a.tflite", passed=False), parity_report("b.tflite")),
    )
    pooled = pool([good, broken])
    assert [cell.p50_s for cell in pooled.measurements] == [
        cell.p50_s for cell in good.measurements
    ]
    assert {report.candidate: report.verdict for report in pooled.parity} == {
        "a.tflite": "fail", "b.tflite": "pass",
    }  # fmt: skip


@pytest.mark.parametrize("others", [1, 2, 3, 10])
def test_only_the_slow_board_is_an_outlier(others: int) -> None:
    boards = [board(f"n{number}", slow=1 + number / 200) for number in range(others)]
    boards.insert(others // 2, board("slow", slow=1.4))
    outliers = find_outliers(boards)
    assert list(outliers) == ["slow"]
    assert re.search(r"takes 1\.(37|38|39|40) times as long", outliers["slow"])
    assert find_outliers([run for run in boards if run.board != "slow"]) == {}


def test_latency_is_relative_to_the_median_of_the_other_boards() -> None:
    relative = relative_latencies([board("a", slow=1), board("b", slow=2), board("c", slow=4)])
    assert relative == pytest.approx([1 / 3, 2 / 2.5, 4 / 1.5])
    assert relative_latencies([board("a")]) == [None]


def test_a_throttled_board_is_an_outlier_with_its_temperature() -> None:
    hot = Conditions(throttled=("frequency capped",), temperature_celsius=84.0)
    latencies = np.full(100, 1e-5)
    cells: tuple[Measurement, ...] = (
        dataclasses.replace(
            measurement("a.tflite", 10, 300), processes=(process_samples(latencies, after=hot),)
        ),
    )
    throttled = dataclasses.replace(board("hot"), measurements=cells)
    assert find_outliers([board("a"), throttled]) == {
        "hot": "is throttled (frequency capped), at 84 °C"
    }


def test_the_table_has_a_row_for_each_board_and_a_dash_for_failed_files() -> None:
    failed = dataclasses.replace(board("b"), parity=(parity_report("a.tflite", passed=False),))
    table = boards_section([board("a"), failed]).table
    assert table
    assert table.columns == ("board", "a.tflite", "b.tflite", "relative")
    assert table.rows == (("a", "10.0", "20.0", "1.00"), ("b", "–", "20.0", "1.00"))


def test_many_boards_are_sorted_the_slowest_first() -> None:
    section = boards_section(
        [board(f"n{number:02}", slow=1 + number / 100) for number in range(25)]
    )
    assert section.table
    assert [row[0] for row in section.table.rows] == [
        f"n{number:02}" for number in range(24, -1, -1)
    ]
    assert section.notes[0].endswith("The slowest boards come first.")


def test_the_terminal_has_a_block_for_each_kind_and_lists_lost_boards() -> None:
    skipped = (Skipped("litert-xnnpack", "b was lost", "a.tflite"),)
    text = fleet_text(
        FleetRun(
            (board("a"), board("b", slow=1.5, skipped=skipped), board("x", "Pi 4", 3)),
            (LostBoard("b", "its worker disconnected"),),
        )
    )
    assert "Pi 5" in text
    assert "Pi 4" in text
    assert "outlier: b takes 1.50 times as long as equal boards" in text
    assert "lost b: its worker disconnected" in text
    assert text.count("Ship a.tflite") == 2
    assert max(map(len, text.splitlines())) <= 80


def test_the_page_has_a_section_of_boards(tmp_path: Path) -> None:
    fleet = [("fleet.json", run) for run in (board("a"), board("b"), board("x", "Pi 4", 3))]
    machines = page.write(tmp_path / "report.md", fleet).machines
    assert [machine.name[:4] for machine in machines] == ["Pi 5", "Pi 4"]
    assert machines[0].name.endswith(": 2 boards")
    assert machines[1].name.endswith(": x")
    written = (tmp_path / "report.md").read_text()
    assert written.count("## Boards") == 2
    assert "| a | 10.0 | 20.0 | 1.00 |" in written
    assert "from fleet.json. The HTML report" in written
