"""Equal boards share a ranking, the odd one is pointed out, and kinds are never mixed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from lenet_edge.machine.conditions import Conditions
from lenet_edge.report import page
from lenet_edge.report.equal_boards import boards_section, fleet_view, outliers, slowness
from lenet_edge.report.join_runs import by_kind, join
from lenet_edge.report.recommend import recommend
from lenet_edge.results.result_file import BenchRun, FleetRun, LostBoard, Measurement, Skipped
from tests.report.builders import measurement, parity_report, process_samples


def board(name: str, machine: str = "Pi 5", slow: float = 1.0, **facts: Any) -> BenchRun:
    """A board that takes 10 µs for a.tflite and 20 for b.tflite, or `slow` times as long."""
    cells = (measurement("a.tflite", 10 * slow, 300), measurement("b.tflite", 20 * slow, 200))
    run = BenchRun.of_this_machine(cells, (parity_report("a.tflite"), parity_report("b.tflite")))
    environment = dataclasses.replace(run.environment, machine=machine, container=None)
    return dataclasses.replace(run, board=name, environment=environment, **facts)


def text(fleet: FleetRun) -> str:
    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(fleet_view(fleet))
    return console.export_text()


def test_kinds_are_apart_and_boards_of_a_kind_are_pooled() -> None:
    fives, fours = by_kind([board("a"), board("x", "Pi 4", 3), board("b", slow=1.02)])
    assert [[run.board for run in kind] for kind in (fives, fours)] == [["a", "b"], ["x"]]
    joined = join(fives)
    for one in joined.measurements:
        assert len(one.processes) == 2
        assert np.array_equal(
            one.latencies_s,
            np.concatenate([
                next(m for m in run.measurements if m.key == one.key).latencies_s for run in fives
            ]),
        )  # fmt: skip
    assert join(fours) is fours[0]
    assert str(recommend(joined)).startswith("Ship a.tflite")


def test_what_was_measured_in_two_runs_of_one_board_counts_once() -> None:
    old = board("a", slow=5, created_at="2020-01-01T00:00:00+00:00")
    (kind,) = by_kind([old, board("a"), board("b")])
    assert [run.board for run in kind] == ["a", "b"]
    assert [one.p50_s for one in kind[0].measurements] == [
        one.p50_s for one in board("a").measurements
    ]


def test_what_makes_a_board_slow_does_not_blur_the_ranking_of_files() -> None:
    alike = join([board("a"), board("b", slow=3)])
    assert alike.paired
    assert str(recommend(alike)).startswith("Ship a.tflite")  # twice as fast on either
    # Where the boards divided the cells there is nothing to pair.
    first, second = board("a"), board("b")
    shared = [
        dataclasses.replace(first, measurements=first.measurements[:1]),
        dataclasses.replace(second, measurements=second.measurements[1:]),
    ]
    assert not join(shared).paired


def test_invalid_processes_are_left_out_and_the_worst_proof_counts() -> None:
    good, bad = board("a"), board("b", slow=9)
    broken = dataclasses.replace(
        bad,
        measurements=tuple(
            dataclasses.replace(one, invalid="the board says: throttled")
            for one in bad.measurements
        ),
        parity=(parity_report("a.tflite", passed=False), parity_report("b.tflite")),
    )
    joined = join([good, broken])
    assert [one.p50_s for one in joined.measurements] == [one.p50_s for one in good.measurements]
    assert {one.candidate: one.verdict for one in joined.parity} == {
        "a.tflite": "fail", "b.tflite": "pass",
    }  # fmt: skip


@pytest.mark.parametrize("others", [1, 2, 3, 10])
def test_a_slow_twin_is_pointed_out_and_only_that_one(others: int) -> None:
    boards = [board(f"n{number}", slow=1 + number / 200) for number in range(others)]
    boards.insert(others // 2, board("slow", slow=1.4))
    assert list(outliers(boards)) == ["slow"]
    assert "takes 1.4 times as long" in outliers(boards)["slow"].replace("1.40", "1.4").replace(
        "1.39", "1.4"
    ).replace("1.38", "1.4").replace("1.37", "1.4")
    calm = [one for one in boards if one.board != "slow"]
    assert outliers(calm) == {}


def test_slowness_is_against_the_median_of_the_others() -> None:
    found = slowness([board("a", slow=1), board("b", slow=2), board("c", slow=4)])
    assert found == pytest.approx([1 / 3, 2 / 2.5, 4 / 1.5])
    assert slowness([board("a")]) == [None]


def test_a_throttled_board_is_pointed_out_with_its_heat() -> None:
    hot = Conditions(throttled=("frequency capped",), temperature_celsius=84.0)
    times = np.full(100, 1e-5)
    cells: tuple[Measurement, ...] = (
        dataclasses.replace(
            measurement("a.tflite", 10, 300), processes=(process_samples(times, after=hot),)
        ),
    )
    odd = dataclasses.replace(board("hot"), measurements=cells)
    assert outliers([board("a"), odd]) == {
        "hot": "says it is held back (frequency capped), at 84 °C"
    }


def test_the_matrix_has_a_row_for_each_board_and_a_dash_for_what_is_wrong() -> None:
    wrong = dataclasses.replace(board("b"), parity=(parity_report("a.tflite", passed=False),))
    table = boards_section([board("a"), wrong]).table
    assert table
    assert table.columns == ("board", "a.tflite", "b.tflite", "× its equals")
    assert table.rows == (("a", "10.0", "20.0", "1.00"), ("b", "–", "20.0", "1.00"))


def test_of_many_boards_the_slowest_come_first() -> None:
    section = boards_section(
        [board(f"n{number:02}", slow=1 + number / 100) for number in range(25)]
    )
    assert section.table
    assert [row[0] for row in section.table.rows] == [
        f"n{number:02}" for number in range(24, -1, -1)
    ]
    assert section.notes[0].endswith("The slowest come first.")


def test_the_terminal_has_a_block_for_each_kind_and_says_who_was_lost() -> None:
    skipped = (Skipped("litert-xnnpack", "b was lost", "a.tflite"),)
    said = text(
        FleetRun(
            (board("a"), board("b", slow=1.5, skipped=skipped), board("x", "Pi 4", 3)),
            (LostBoard("b", "its worker is gone"),),
        )
    )
    assert "Pi 5" in said
    assert "Pi 4" in said
    assert "outlier: b takes 1.50 times as long as its equals" in said
    assert "lost b: its worker is gone" in said
    assert said.count("Ship a.tflite") == 2
    assert max(map(len, said.splitlines())) <= 80


def test_the_page_has_a_section_of_boards(tmp_path: Path) -> None:
    fleet = [("fleet.json", run) for run in (board("a"), board("b"), board("x", "Pi 4", 3))]
    machines = page.write(tmp_path / "report.md", fleet).machines
    assert [one.name[:4] for one in machines] == ["Pi 5", "Pi 4"]
    assert machines[0].name.endswith(": 2 boards")
    assert machines[1].name.endswith(": x")
    written = (tmp_path / "report.md").read_text()
    assert written.count("## Board by board") == 2
    assert "| a | 10.0 | 20.0 | 1.00 |" in written
    assert "from fleet.json. Pictures" in written
