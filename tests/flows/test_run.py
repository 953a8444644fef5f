"""Test of `run`, from a checkpoint to the recommendation, in one real process."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from lenet_edge.results.result_file import BenchRun
from tests import needs
from tests.conftest import LenetEdge


def test_run_from_a_checkpoint(lenet_edge: LenetEdge, exports: Path, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.lenet-edge.int8]\nmax-abs-error = 77\n")
    done = lenet_edge("run", exports / "lenet.keras", "--output-dir", "out", "--batch-size", "1")
    assert done.returncode == 0, done.stderr
    run = BenchRun.load(tmp_path / "out" / "results.json")
    files = {report.candidate for report in run.parity}
    exported = {
        "lenet.keras", "lenet_float32.tflite", "lenet_float32.onnx", "lenet_int8.tflite",
        "lenet_int8.onnx", "lenet_dynamic.tflite",
    }  # fmt: skip
    native = {f"lenet_native_{precision}.c" for precision in ("float32", "dynamic", "int8")}
    has_compiler = needs.missing("cc") is None
    assert files == exported | (native if has_compiler else set())
    assert {measurement.artifact for measurement in run.measurements} == files
    targets = {"litert-xnnpack", "onnxruntime-cpu", "tensorflow-function"}
    if has_compiler:
        targets.add("native-cpu")
    if sys.version_info < (3, 12):
        targets.add("tflite-runtime-cpu")
    assert targets <= {measurement.target for measurement in run.measurements}
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
