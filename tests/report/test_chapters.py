"""Chapters of the report that need more than latencies: confusion, training, energy, axes."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from lenet_edge.flows.report import with_folders
from lenet_edge.report.confusion import confusion_matrix
from lenet_edge.report.eligibility import Limits
from lenet_edge.report.page import Report, build
from lenet_edge.report.page_tables import energy_section
from lenet_edge.report.recommend import recommend
from lenet_edge.report.training_section import read_training
from lenet_edge.results.result_file import BenchRun
from tests.report.builders import measurement, parity_report
from tests.report.test_join_runs import BENCH
from tests.report.test_page import RECORDED


def test_the_confusion_matrix_is_that_of_the_recommended_file() -> None:
    run = BenchRun.load(RECORDED[-1])
    advice = recommend(run, Limits())
    matrix = confusion_matrix(run, advice)
    assert matrix
    assert matrix.section.notes[0].startswith("lenet_native_int8.c on native-cpu is wrong on 52 of")
    (report,) = [each for each in run.parity if each.candidate == "lenet_native_int8.c"]
    counts = tuple(tuple(count for count, _ in cells) for _, cells in matrix.rows)
    assert counts == report.confusion
    wrong = sum(sum(row) - row[label] for label, row in enumerate(counts))
    assert wrong == 52
    shades = {shade for _, cells in matrix.rows for _, shade in cells}
    assert shades >= {"right", "", "level4"}
    unlabelled = dataclasses.replace(BENCH, parity=(parity_report("a.tflite"),))
    assert confusion_matrix(unlabelled, recommend(unlabelled, Limits())) is None
    # Many classes: only the list of mistakes.
    wide = dataclasses.replace(
        report, confusion=tuple(tuple(int(x == y + 1) for x in range(40)) for y in range(40))
    )
    many = confusion_matrix(dataclasses.replace(run, parity=(wide,)), advice)
    assert many
    assert many.rows == ()
    assert many.section.table_title == "The 20 most frequent of 39 kinds of mistake"


def trained(folder: Path, text: str) -> Report:
    """Return the report of recorded results beside a history of their training."""
    (folder / "lenet.training").mkdir(exist_ok=True)
    (folder / "lenet.training" / "history.json").write_text(text)
    return with_folders(build([("r.json", BenchRun.load(RECORDED[-1]))]), [folder])


def test_the_training_is_read_from_the_file_beside_the_results(tmp_path: Path) -> None:
    epochs = [
        {"epoch": n, "loss": 1 / n, "accuracy": 0.9, "seconds": 1.5, "later": 1} for n in (1, 2)
    ]
    facts = {
        "settings": {"recipe": {"name": "quick"}}, "dataset": "MNIST", "epochs": epochs,
        "test_accuracy": 0.98,
    }  # fmt: skip
    text = trained(tmp_path, json.dumps(facts)).render(".md")
    assert "Recipe quick on MNIST: 2 epochs in 3 s, and 98.00 % of the test images." in text
    assert "| 2 | 0.5000 | 10.00 | 1.5 |" in text
    assert read_training(tmp_path, "another.keras") is None
    for hostile in ("../lenet.keras", "..", ""):  # names in result files are untrusted
        read_training(tmp_path / "elsewhere", hostile)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"epochs": [{"epoch": 1}]}', "[" * 100_000, '{"epochs": 3}']
)
def test_a_damaged_history_is_a_note(tmp_path: Path, text: str) -> None:
    report = trained(tmp_path, text)
    (section,) = [each for each in report.machines[0].sections if each.anchor == "training"]
    assert section.table is None
    assert section.notes[0].startswith("history.json cannot be read: ")


def test_energy_is_listed_where_a_meter_was_read() -> None:
    assert energy_section(BENCH) is None
    cell = measurement("a.tflite", 100, 300, 8)
    processes = tuple(dataclasses.replace(process, energy_j=4e-3) for process in cell.processes)
    metered = dataclasses.replace(cell, processes=processes, energy_covers="the CPU package")
    section = energy_section(dataclasses.replace(BENCH, measurements=(metered,)))
    assert section
    assert section.table
    assert section.table.rows == (
        ("a.tflite", "litert-xnnpack", "1", "8", "500 µJ", "40 W", "2,000"),
    )
    assert section.notes == ("The meter includes the CPU package.",)


def test_axes_end_at_100_percent_and_have_no_exponents() -> None:
    cells = [
        measurement(f"{n}.tflite", p50, 300, batch)
        for n, p50 in enumerate((1e3, 4e5, 3e6))
        for batch in (1, 8)
    ]
    parity = [
        dataclasses.replace(parity_report(f"{n}.tflite"), candidate_accuracy=accuracy)
        for n, accuracy in enumerate((1.0, 0.9999, 0.98))
    ]
    run = dataclasses.replace(
        BENCH, measurements=tuple(cells), parity=tuple(parity), macs={"0.tflite": 10**8}
    )
    page = build([("r.json", run)]).render(".html")
    charts = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(charts) == 3
    texts = [text for chart in charts for text in re.findall(r">([^<>]+)</text>", chart)]
    assert "limit 2,000" in texts
    assert not [text for text in texts if re.search(r"\de[+-]?\d", text)]
    percents = [float(text) for text in texts if re.fullmatch(r"\d+\.\d\d", text)]
    assert max(percents) == 100
    # Every mark has its text, and its row of the table.
    for chart in charts:
        marks = re.findall(r'<g class="mark" data-row="([^"]+)"><title>([^<]+)</title>', chart)
        assert marks
        assert all("file" in row and "batch" in text for row, text in marks)
