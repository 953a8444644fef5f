"""Layer times in the terminal, in the page, as CSV and as node data for Model Explorer."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from lenet_edge.errors import DataError
from lenet_edge.report.layer_files import layers_to_csv, to_node_data, write_node_data
from lenet_edge.report.page import build
from lenet_edge.report.terminal.layers import layer_views
from lenet_edge.results.layer_times import LayerTime, LayerTimes, with_layer_errors
from lenet_edge.results.result_file import BenchRun

HOSTILE = "=<b>\x1b[31mconv"
LAYERS = (
    LayerTime("conv1", "Conv_fused", "Conv", 6e-6, ("conv1", "relu1"), "relu1;conv1", 100, 10, 40),
    LayerTime(HOSTILE, "Conv", "Conv", 2e-6, (HOSTILE,), "relu1;conv1", 50, 5, 20),
    LayerTime("Reorder", "Reorder", "Reorder", 1e-6),
)
TIMES = LayerTimes("net.tflite", "0" * 64, "litert-xnnpack", "1", 1, 2, "cuts", 10e-6, 0.5e-6, 60,
                   LAYERS)  # fmt: skip
RUN = dataclasses.replace(BenchRun.of_this_machine(), layer_times=(TIMES,))


def test_the_rest_is_named() -> None:
    assert TIMES.agrees
    assert [name for name, _ in TIMES.rests] == ["call of the runtime", "not attributed"]
    assert TIMES.summary == (
        "conv1 takes 60% of 10.0 µs: change this layer first. All layers take 90%;"
        " call of the runtime 5%, not attributed 5%."
    )
    slowed = dataclasses.replace(TIMES, whole_s=5e-6, call_s=None)
    assert not slowed.agrees
    assert [name for name, _ in slowed.rests] == ["added by the profiler"]
    small = dataclasses.replace(TIMES, whole_s=20e-6, call_s=11e-6)
    assert "the call of the runtime takes longer than any layer" in small.summary


def test_errors_of_fused_layers() -> None:
    errors = [("relu1", 30.0, 1.0), ("conv1", 40.0, 5.0), ("other", 1.0, 9.0)]
    times = with_layer_errors(TIMES, errors)
    assert times.summary.endswith(" conv1 loses most to quantization: 5.0 dB.")
    assert "quantization" not in TIMES.summary
    first, second, _ = times.layers
    assert (first.sqnr_db, first.lost_db) == (30.0, 5.0)
    assert (second.sqnr_db, second.lost_db) == (None, None)


def test_the_terminal_fits_80_columns() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    times = with_layer_errors(TIMES, [("relu1", 30.0, 1.0)])
    for view in layer_views([times]):
        console.print(view)
    text = console.export_text()
    assert "\x1b" not in text
    lines = text.splitlines()
    row = next(line for line in lines if line.startswith("conv1"))
    assert row.split() == ["conv1", "Conv", "6.0", "60", "████", "100", "10", "40", "1.0"]
    assert "net.tflite  layers on litert-xnnpack ×2, batch 1" in text


@pytest.mark.costly
def test_the_page_has_a_chapter_with_bars() -> None:
    report = build([("run.json", RUN)])
    page = report.render(".html")
    assert "Layers of net.tflite on litert-xnnpack ×2" in page
    assert "time of each layer of net.tflite" in page
    assert "<b>\x1b" not in page
    assert "change this layer first" in report.render(".md")


def test_a_notebook_shows_the_layers() -> None:
    page = RUN._repr_html_()
    assert "Layers of net.tflite on litert-xnnpack" in page
    assert "60.0%" in page
    assert "<b>" not in page


def test_csv_has_all_times() -> None:
    rows = list(csv.DictReader(io.StringIO(layers_to_csv(RUN))))
    assert [row["layer"] for row in rows][2:] == [
        "Reorder", "call of the runtime", "not attributed",
    ]  # fmt: skip
    assert rows[1]["layer"].startswith("'=<b>")
    assert sum(float(row["share"]) for row in rows) == pytest.approx(1)
    assert layers_to_csv(dataclasses.replace(RUN, layer_times=())) == "artifact\n"


def test_node_data(tmp_path: Path) -> None:
    """Steps of one tensor add up; a step without a tensor of the file has no node."""
    assert to_node_data(TIMES)["results"] == {"relu1;conv1": {"value": 8.0}}
    assert [stop["stop"] for stop in to_node_data(TIMES)["gradient"]] == [0, 1]
    without = dataclasses.replace(TIMES, artifact="net.c", layers=LAYERS[2:])
    run = dataclasses.replace(RUN, layer_times=(TIMES, without))
    (path,) = write_node_data(run, tmp_path / "new")
    assert path.name == "net.tflite-litert-xnnpack-layers.json"
    assert json.loads(path.read_text()) == to_node_data(TIMES)


def test_result_files_with_layer_times(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    RUN.save(path)
    assert BenchRun.load(path).layer_times == (TIMES,)
    facts = RUN.to_json()
    for wrong in (
        {"whole_s": 0.0},
        {"layers": [{**dataclasses.asdict(LAYERS[0]), "time_s": -1.0}]},
        {"layers": [{**dataclasses.asdict(LAYERS[0]), "time_s": "1"}]},
        {"batch_size": 0},
    ):
        entry = {**facts["layer_times"][0], **wrong}
        path.write_text(json.dumps({**facts, "layer_times": [entry]}))
        with pytest.raises(DataError, match="is not a result file, or it is damaged"):
            BenchRun.load(path)
    del facts["layer_times"]  # as earlier versions wrote it
    path.write_text(json.dumps(facts))
    assert BenchRun.load(path).layer_times == ()
