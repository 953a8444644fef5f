"""The limit is of this machine and of these files, or is not there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.bench import limit, peak
from lenet_edge.results.result_file import BenchRun

EXPORTED = Path(__file__).parents[2] / "exported"
FILES = [load_artifact(path) for path in EXPORTED.iterdir() if path.suffix in (".tflite", ".onnx")]


def test_every_exported_file_needs_the_same_multiply_adds() -> None:
    """But for int8 ONNX, whose convolutions make 24 x 24 and 10 x 10 values: no pool drops any."""
    assert len(FILES) >= 5
    cropped = 24 * 24 * 9 * 6 + 10 * 10 * 54 * 16 + 400 * 120 + 120 * 84 + 84 * 10
    assert limit.macs(FILES) == {
        one.sha256: cropped if one.name == "lenet_int8.onnx" else 199_968 for one in FILES
    }


def test_a_checkpoint_and_a_file_that_cannot_be_read_have_none(tmp_path: Path) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(FILES[0].path.read_bytes()[:100])
    unreadable = (
        load_artifact(EXPORTED / "lenet.keras"),
        FILES[0].__class__(**{**vars(FILES[0]), "path": broken, "sha256": "broken"}),
    )
    assert limit.macs(unreadable) == {}


def test_the_peak_of_each_number_of_threads() -> None:
    found = limit.peaks([2, 1, 1])
    assert list(found) == [1, 2]
    assert all(one > 0 for one in found.values())


def test_where_it_cannot_be_measured_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert limit.peaks([1]) == {}


def test_threads_are_chosen_before_numpy_is_loaded() -> None:
    with pytest.raises(RuntimeError, match="loaded already"):
        peak.peak_macs_per_s(1)


def test_result_files_from_before_hold_no_limit() -> None:
    old = BenchRun.load(EXPORTED.parent / "tests" / "golden" / "schema-2.json")
    assert (old.macs, old.peak_macs_per_s) == ({}, {})
