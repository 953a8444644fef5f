"""Every table of every command shows every figure, at every width of the terminal."""

from __future__ import annotations

import ast
import dataclasses
import io
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType

import lenet_edge
from lenet_edge.cli import doctor, estimate, fleet, inspect, targets
from lenet_edge.doctor.finding import Finding
from lenet_edge.inspection import Layer, ModelGraph
from lenet_edge.inspection.graph import GraphTensor
from lenet_edge.npu_estimate import NpuEstimate
from lenet_edge.report.comparison import compare_runs
from lenet_edge.report.history import HistoryPoint, Series
from lenet_edge.report.terminal.bench import bench_view
from lenet_edge.report.terminal.comparison import comparison_view
from lenet_edge.report.terminal.deployment import deployment_view
from lenet_edge.report.terminal.fleet import fleet_view
from lenet_edge.report.terminal.history import history_view
from lenet_edge.report.terminal.parity import parity_view
from lenet_edge.report.terminal.search import search_view
from lenet_edge.report.terminal.summary import summary_view
from lenet_edge.report.terminal.table import TableColumn, TerminalTable, figures, texts
from lenet_edge.report.terminal.tuning import tuning_view
from lenet_edge.results.cycle_count import CycleCount
from lenet_edge.results.instruction_count import InstructionCount
from lenet_edge.results.layer_times import LayerTime, LayerTimes
from lenet_edge.results.measurement import Measurement
from lenet_edge.results.parity_report import Bounds, Flip, LayerError, OutputReport, ParityReport
from lenet_edge.results.result_file import BenchRun, FleetRun
from lenet_edge.runtimes import all_targets
from lenet_edge.selection import TargetStatus
from tests.report.builders import measurement, parity_report, process_samples

WIDTHS = (60, 80, 120, 200)
FILE = "visual_wake_words_mobilenet_v1_025_96x96_quantized_per_channel_数字.int8.tflite"
LAYER = "StatefulPartitionedCall/mobilenet/block_13_depthwise/BatchNormalization/FusedBatchNormV3"
TARGET = max((target.name for target in all_targets()), key=len)
KIND = "DEPTHWISE_CONV_2D_WITH_ACTIVATION"


def cell(batch_size: int = 65_536) -> Measurement:
    """Return a measurement of hours, with a spread above its median."""
    samples = process_samples(12_345 * np.geomspace(0.1, 50, 2000), load_time_s=1234.567)
    return dataclasses.replace(
        measurement(FILE, 1, 123_456_789_012, batch_size),
        target=TARGET, num_threads=128, processes=(samples,),
    )  # fmt: skip


def parity(**fields: Any) -> ParityReport:
    report = dataclasses.replace(
        parity_report(FILE, passed=False, drop=100.0), target=TARGET, num_samples=10**9,
        candidate_accuracy=1.0, max_abs_error=1.2e-300, verdict="fail",
        flips=(Flip(999_999_999, 99_999, 99_999, 88_888, 0.12, 0.34),) * 100_000,
    )  # fmt: skip
    return dataclasses.replace(report, **fields)


OUTPUT = OutputReport(
    LAYER, LAYER, "name", "", 10**9, 1.1e-200, 2.2e-300, 123.4, -0.123456, 1.0, 0,
    Bounds(min_snr_db=20.5, min_cosine=0.9999, max_abs_error=12.25, min_agreement=99.75), "fail",
)  # fmt: skip
LAYER_ERROR = LayerError(LAYER, KIND, 123.4, -123.4, 1.2e-200, 1.0, None, (0, 1))
CPUS = [f"cortex-m{number}-with-a-long-name" for number in range(12)]
COUNTS = tuple(
    InstructionCount(
        FILE, "0" * 64, "cortex-m4", cpu, 123_456_789_012_345, 1, layers={LAYER: 987_654_321_098.0},
        flash_bytes={"text": 123_456_789}, ram_bytes=234_567_890, stack_bytes=345_678_901,
    )
    for cpu in CPUS
)  # fmt: skip
CYCLES = CycleCount(
    FILE, "0" * 64, "serial:/dev/serial/by-id/usb-Raspberry_Pi_Pico_E66118604B5A4C32-if00",
    "ticks", 1, 9, *(123_456_789_012.0 + n for n in range(5)),
)  # fmt: skip
LAYERS = LayerTimes(
    FILE, "0" * 64, TARGET, "1", 65_536, 128, "profiler", 12.3, None, 3,
    (LayerTime(LAYER, LAYER, KIND, 12.3, macs=10**10, parameters=10**10, parameter_bytes=10**10,
               lost_db=-123.4),),
)  # fmt: skip
RUN = BenchRun.of_this_machine(tuple(map(cell, (1, 8, 32, 128, 65_536))), (parity(),))
COUNTED = dataclasses.replace(RUN, measurements=(), parity=(), instruction_counts=COUNTS)
POINTS = tuple(HistoryPoint("2026-01-01T00:00:00", None, None, 9.9e11 * n, 0) for n in (1, 99))
GRAPH = ModelGraph(
    (GraphTensor(LAYER, "sequence of float32", (65_536, 4096, 4096, 2048), 1.23457e-10, -128),),
    (),
    (Layer(LAYER, KIND, (None, 65_536, 4096, 2048), 123_456_789_012, 234_567_890_123_456, True),),
)
ESTIMATE = NpuEstimate(
    FILE, "0" * 64, "ethos-u85-2048", "system", "memory", 1234.5, 12.3, 10_000, 9_999, 10**15,
    123_456_789_012, 123_456_789_013, 123_456_789_014, 123_456_789_015, "4",
)  # fmt: skip
BOARDS = tuple(
    dataclasses.replace(
        BenchRun.of_this_machine(
            tuple(measurement(f"lenet_{n}_{FILE}", 123_456_789.0 + n, 1) for n in range(20)),
            tuple(parity_report(f"lenet_{n}_{FILE}") for n in range(20)),
        ),
        board=f"the-board-on-the-shelf-behind-the-door-{number}",
    )
    for number in range(2)
)
MIX = {
    "name": "float32 in all but " + LAYER, "settings": {LAYER: "int8"}, "accuracy_drop": 100.0,
    "top1_agreement": 1.0, "on_front": True, "size_bytes": 123_456_789_012,
    "ratio_to_float32": {"p50_s": 123.4, "median": 123.456},
}  # fmt: skip
TUNED = {
    "candidates": [MIX],
    "winner": {"candidate": MIX["name"], "file": FILE,
               "test": {"accuracy": 1.0, "accuracy_drop": 100.0}},
}  # fmt: skip
SEARCHED = {
    "points": [{
        "on_front": True, "name": LAYER, "precision": "int16x8", "held_out_accuracy": 1.0,
        "test_accuracy": 1.0, "weight_bytes": 123_456_789_012, "instructions": 0,
        "estimated_instructions": 123_456_789_012_345,
    }],
    "smallest": None, "settings": {"min_accuracy": 1.0},
}  # fmt: skip
STATUS = TargetStatus(
    next(target for target in all_targets() if target.name == TARGET), True, f"2.19.0 of {LAYER}"
)
BOARD = {"name": "a-board", "ssh": f"pi@{LAYER}.local", "tags": ["pi5", "kitchen", "arm64"],
         "state": "missing", "last_seen_s": 1_234_567_890.0}  # fmt: skip
FINDING = Finding("the runtime litert", "failure", f"{LAYER} is missing", "it is old", "delete it")

# The function that makes a table: a view with the widest values.
CASES: dict[str, Callable[[], Any]] = {
    "report.terminal.bench.bench_view": lambda: bench_view(RUN),
    "report.terminal.parity.parity_view": lambda: parity_view(RUN),
    "report.terminal.parity._outputs": lambda: parity_view(
        dataclasses.replace(RUN, parity=(parity(outputs=(OUTPUT,)),))
    ),
    "report.terminal.parity._flips": lambda: parity_view(RUN),
    "report.terminal.parity._layers": lambda: parity_view(
        dataclasses.replace(RUN, parity=(parity(layers=(LAYER_ERROR,)),))
    ),
    "report.terminal.summary.summary_view": lambda: summary_view(RUN),
    "report.terminal.comparison._latencies": lambda: comparison_view(
        RUN, compare_runs(RUN, RUN), 0
    ),
    "report.terminal.comparison._counts": lambda: comparison_view(
        COUNTED, compare_runs(COUNTED, COUNTED), 0
    ),
    "report.terminal.counts._table": lambda: bench_view(COUNTED),
    "report.terminal.cycles.cycle_views": lambda: bench_view(
        dataclasses.replace(COUNTED, cycle_counts=(CYCLES,))
    ),
    "report.terminal.layers.layer_views": lambda: bench_view(
        dataclasses.replace(RUN, layer_times=(LAYERS,))
    ),
    "report.terminal.deployment.deployment_view": lambda: deployment_view(RUN, RUN, (), ()),
    "report.terminal.fleet._boards_table": lambda: fleet_view(FleetRun(BOARDS)),
    "report.terminal.history.history_view": lambda: history_view(
        [Series("a machine", FILE, f"{TARGET}, batch 65536, 128 threads", "instructions", POINTS)]
    ),
    "report.terminal.tuning.tuning_view": lambda: tuning_view(TUNED),
    "report.terminal.search.search_view": lambda: search_view(SEARCHED),
    "cli.targets._view": lambda: targets._view([STATUS]),
    "cli.estimate._view": lambda: estimate._view([ESTIMATE]),
    "cli.doctor._view": lambda: doctor._view([FINDING], "board", False),
    "cli.fleet._view": lambda: fleet._view([BOARD]),
    "cli.inspect._table": lambda: inspect._table(FILE, GRAPH.layers, GRAPH),
    "cli.inspect._ends": lambda: inspect._ends(GRAPH),
}


def makers(name: str) -> Iterator[str]:
    """Yield each function of the package that calls a class or function of this name."""
    package = Path(lenet_edge.__file__).parent
    for path in package.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if not re.search(rf"\b{name}\s*\(", text):
            continue  # most modules make no table, and a syntax tree is slow
        tree = ast.parse(text)
        module = ".".join(path.relative_to(package).with_suffix("").parts)
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            calls = (node for node in ast.walk(function) if isinstance(node, ast.Call))
            if any(isinstance(call.func, ast.Name) and call.func.id == name for call in calls):
                yield f"{module}.{function.name}"


def test_every_function_that_makes_a_table_is_tested() -> None:
    assert set(makers("TerminalTable")) == set(CASES)
    assert set(makers("Table")) == {"report.terminal.table._draw"}


def render(view: RenderableType, width: int) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, emoji=False, markup=False).print(view)
    return stream.getvalue()


def tables(view: Any) -> Iterator[TerminalTable]:
    """Yield the tables in a view."""
    if isinstance(view, TerminalTable):
        if view.blocks:
            yield view
    elif isinstance(view, Group):
        for part in view.renderables:
            yield from tables(part)


def check_table(table: TerminalTable, width: int) -> None:
    text = render(table, width)
    assert max(map(cell_len, text.splitlines())) <= width
    shown = Counter(text.split())
    cells = [
        (table.columns[number], cell)
        for block in table.blocks
        for row, _, _ in block.rows
        for number, cell in enumerate(row)
    ]
    wanted = Counter(
        word for column, cell in cells if column.kind == "figure" for word in cell.split()
    )
    assert not wanted - shown, text
    # Names and headings may be folded, so their letters are counted.
    whole = "".join(cell for column, cell in cells if column.kind in ("text", "prose"))
    whole += "".join(column.heading for column in table.columns if column.kind == "figure")
    assert not Counter("".join(whole.split())) - Counter(text), text


@pytest.mark.parametrize("maker", CASES)
def test_every_figure_is_shown_at_every_width(maker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = set[str]()
    create = TerminalTable.__init__

    def note_maker(self: TerminalTable, *arguments: Any, **options: Any) -> None:
        frame = sys._getframe(1)
        module = frame.f_globals["__name__"].removeprefix("lenet_edge.")
        made.add(f"{module}.{frame.f_code.co_name}")
        create(self, *arguments, **options)

    monkeypatch.setattr(TerminalTable, "__init__", note_maker)
    view = CASES[maker]()
    assert maker in made
    for width in WIDTHS:
        for table in tables(view):
            check_table(table, width)
        assert max(map(cell_len, render(view, width).splitlines())) <= width


def test_pictures_go_first_and_names_are_folded_at_their_punctuation() -> None:
    table = TerminalTable([*texts("file"), TableColumn("bar", "picture"), *figures("a", "b")])
    table.row("a-long-name_of.a/file", "█████", "1234567", "7654321")
    assert render(table, 60).splitlines()[1] == "a-long-name_of.a/file  █████  1234567  7654321"
    assert render(table, 38).splitlines() == [
        "file                        a       b",
        "a-long-name_of.a/file 1234567 7654321",
    ]
    assert render(table, 30).splitlines() == [
        "                             a",
        "file                         b",
        "a-long-name_of.a/file  1234567",
        "                       7654321",
    ]
    assert render(table, 20).splitlines()[-2:] == ["a-long-name_ 1234567", "of.a/file    7654321"]


def test_figures_stand_in_the_line_of_their_headings() -> None:
    table = TerminalTable([*texts(""), *figures("one", "two", "three")])
    table.row("name", *("1" * 20, "2" * 20, "3" * 20))
    lines = [line.split() for line in render(table, 50).splitlines()]
    assert lines == [["one", "two"], ["three"], ["name", "1" * 20, "2" * 20], ["3" * 20]]


def test_a_repeated_table_has_its_names_in_each_part() -> None:
    table = TerminalTable([*texts(""), *figures("cpu-1", "cpu-2")], repeat=True)
    table.row("a layer", "1" * 20, "2" * 20)
    lines = render(table, 40).splitlines()
    assert [line.split() for line in lines] == [
        ["cpu-1"], ["a", "layer", "1" * 20], ["cpu-2"], ["a", "layer", "2" * 20],
    ]  # fmt: skip
