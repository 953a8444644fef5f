"""Doubts about a run: one line on the terminal and in the report, details behind a fold."""

from __future__ import annotations

import dataclasses
import io
import re

import pytest
from rich.console import Console

from lenet_edge.report import page
from lenet_edge.report.doubts import disturbance_line, doubt_details
from lenet_edge.report.terminal.bench import bench_view
from lenet_edge.results.result_file import BenchRun, Measurement
from tests.report.builders import measurement, parity_report
from tests.report.test_rank import with_processes

STEADY, DISTURBED = with_processes("a", 8, 8, 8), with_processes("b", 20, 20, 30)
COARSE = with_processes("c", 7.9, 14, 14)


def run_of(*cells: Measurement, load: float = 0.1) -> BenchRun:
    run = BenchRun.of_this_machine(cells, tuple(parity_report(cell.artifact) for cell in cells))
    machine = dataclasses.replace(run.environment, load=load, cores=2, governor=None, emulated=None)
    return dataclasses.replace(run, environment=machine)


@pytest.mark.parametrize(
    ("cells", "load", "line"),
    [
        ((STEADY,), 0.1, None),
        ((STEADY,), 2.1, "Other programs used this machine (load 2.1): no cell was disturbed"),
        (
            (STEADY, DISTURBED),
            0.1,
            "1 of 2 cells disturbed (b on litert-xnnpack, batch 1: 1 of 3 processes took 30.0 µs,"
            " so it is left out), the ranking is fine enough",
        ),
        (
            (STEADY, DISTURBED, COARSE),
            2.1,
            "Other programs used this machine (load 2.1): 2 of 3 cells disturbed, the ranking is"
            " coarse; run again when quiet",
        ),
    ],
)
def test_one_line_sums_up_the_disturbed_cells(
    cells: tuple[Measurement, ...], load: float, line: str | None
) -> None:
    assert disturbance_line(run_of(*cells, load=load)) == line


def test_the_null_target_is_neither_disturbed_nor_refused() -> None:
    null = dataclasses.replace(DISTURBED, target="null")
    run = run_of(STEADY, null)
    assert disturbance_line(run) is None
    failed = dataclasses.replace(parity_report("b", passed=False), target="null")
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(bench_view(dataclasses.replace(run, parity=(failed,))))
    text = console.export_text()
    assert "b on null: it predicts nothing" in text
    assert "Do not use" not in text


def test_details_are_folded_in_the_page() -> None:
    cells = (
        *(with_processes(f"{number}", 8, 8, 12) for number in range(9)),
        measurement("z", 1, 1),
    )
    run = run_of(*cells, load=3.0)
    assert len(doubt_details(run)) == 9
    html = page.build([("run.json", run)]).render(".html")
    parts = re.split("</?details[^>]*>", html)  # shown and folded parts in turn
    assert "9 of 10 cells disturbed" in parts[0]
    assert not any("took 12.0 µs" in shown for shown in parts[::2])
    assert [part.count("took 12.0 µs") for part in parts if "took 12.0 µs" in part] == [9]
