"""Test of `run`, from a checkpoint to the recommendation, in one real process."""

from __future__ import annotations

import json
from pathlib import Path

from lenet_edge.results.result_file import BenchRun
from tests.conftest import LenetEdge


def test_run_from_a_checkpoint(lenet_edge: LenetEdge, exports: Path, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.lenet-edge.int8]\nmax-abs-error = 77\n")
    done = lenet_edge("run", exports / "lenet.keras", "--output-dir", "out", "--batch-size", "1")
    assert done.returncode == 0, done.stderr
    run = BenchRun.load(tmp_path / "out" / "results.json")
    files = {report.candidate for report in run.parity}
    assert files == {
        "lenet.keras", "lenet_float32.tflite", "lenet_float32.onnx", "lenet_int8.tflite",
        "lenet_int8.onnx", "lenet_dynamic.tflite", "lenet_native_float32.c",
        "lenet_native_dynamic.c", "lenet_native_int8.c",
    }  # fmt: skip
    assert {measurement.artifact for measurement in run.measurements} == files
    targets = {measurement.target for measurement in run.measurements}
    assert {
        "litert-xnnpack",
        "tflite-runtime-cpu",
        "onnxruntime-cpu",
        "tensorflow-function",
        "native-cpu",
    } <= (targets)
    for report in run.parity:
        assert (report.bounds.max_abs_error == 77) == ("int8" in report.candidate)
        if "float32" in report.candidate:
            assert report.top1_agreement == 1.0
            assert report.max_abs_error < 1e-4
    assert done.stdout.splitlines()[-1].strip()
    assert "Ship lenet_" in done.stdout
    assert "The report is in out/report.html" in done.stderr
    # One batch size gives no line for the limit.
    assert "float32 limit" not in (tmp_path / "out" / "report.html").read_text()
    assert run.peak_macs_per_s[1] > 0
    assert set(run.macs.values()) == {199_968, 176_424}  # int8 ONNX crops the image
    for name in files:
        assert (tmp_path / "out" / name).exists()
        assert json.loads((tmp_path / "out" / f"{name}.json").read_text())["sha256"]
