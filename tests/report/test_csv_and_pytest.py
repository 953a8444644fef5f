"""Tests of the CSV file that spreadsheets open."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path

import pytest

from lenet_edge.report.csv_and_pytest import to_csv
from lenet_edge.results.result_file import BenchRun

GOLDEN = Path(__file__).parents[1] / "golden" / "schema-4.json"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\n"])
def test_a_name_is_never_a_formula(start: str) -> None:
    run = BenchRun.load(GOLDEN)
    name = start + "HYPERLINK(0).tflite"
    cells = [dataclasses.replace(cell, artifact=name) for cell in run.measurements]
    environment = dataclasses.replace(run.environment, machine=name)
    text = to_csv(dataclasses.replace(run, measurements=tuple(cells), environment=environment))
    for row in csv.DictReader(io.StringIO(text, newline="")):
        assert (row["artifact"], row["machine"]) == (f"'{name}", f"'{name}")


def test_a_name_cannot_start_a_row_and_needs_no_valid_encoding() -> None:
    run = BenchRun.load(GOLDEN)
    cells = [dataclasses.replace(cell, artifact="a\r=1\udc80.tflite") for cell in run.measurements]
    text = to_csv(dataclasses.replace(run, measurements=tuple(cells)))
    assert text.encode().count(b"\r") == 0
    assert text.count("\n") == len(cells) + 1


def test_numbers_and_usual_names_stay_as_they_are() -> None:
    run = BenchRun.load(GOLDEN)
    cells = [dataclasses.replace(cell, size_bytes=-1) for cell in run.measurements]
    rows = list(
        csv.DictReader(to_csv(dataclasses.replace(run, measurements=tuple(cells))).splitlines())
    )
    assert [row["size_bytes"] for row in rows] == ["-1"] * len(cells)
    assert [row["artifact"] for row in rows] == [cell.artifact for cell in cells]
