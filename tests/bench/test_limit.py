"""The peak rate of this machine, and the multiply-accumulates of the exported files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.bench import limit, peak
from lenet_edge.results.result_file import BenchRun

EXPORTED = Path(__file__).parents[2] / "exported"
ARTIFACTS = [
    load_artifact(path) for path in EXPORTED.iterdir() if path.suffix in (".tflite", ".onnx")
]


def test_every_exported_file_needs_the_same_multiply_accumulates() -> None:
    """The int8 ONNX file is an exception: its convolutions compute only what the pools use.

    That is 24 x 24 and 10 x 10 values.
    """
    assert len(ARTIFACTS) >= 5
    cropped = 24 * 24 * 9 * 6 + 10 * 10 * 54 * 16 + 400 * 120 + 120 * 84 + 84 * 10
    assert limit.count_macs(ARTIFACTS) == {
        artifact.sha256: cropped if artifact.name == "lenet_int8.onnx" else 199_968
        for artifact in ARTIFACTS
    }


def test_a_checkpoint_and_an_unreadable_file_have_no_count(tmp_path: Path) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(ARTIFACTS[0].path.read_bytes()[:100])
    unreadable = (
        load_artifact(EXPORTED / "lenet.keras"),
        ARTIFACTS[0].__class__(**{**vars(ARTIFACTS[0]), "path": broken, "sha256": "broken"}),
    )
    assert limit.count_macs(unreadable) == {}


def test_the_peak_of_each_number_of_threads() -> None:
    peaks = limit.measure_peaks([2, 1, 1])
    assert list(peaks) == [1, 2]
    assert all(peak > 0 for peak in peaks.values())


def test_a_peak_that_cannot_be_measured_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert limit.measure_peaks([1]) == {}


def test_the_peak_refuses_a_loaded_numpy() -> None:
    with pytest.raises(RuntimeError, match="loaded already"):
        peak.peak_macs_per_s(1)


def test_old_result_files_hold_no_limit() -> None:
    old = BenchRun.load(EXPORTED.parent / "tests" / "golden" / "schema-2.json")
    assert (old.macs, old.peak_macs_per_s) == ({}, {})
