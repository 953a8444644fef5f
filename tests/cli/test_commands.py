"""Tests of verify, bench and targets on real files, as text and as JSON."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.artifacts.reference import Reference, reference_path
from lenet_edge.data import mnist
from lenet_edge.results.result_file import BenchRun
from tests.conftest import LenetEdge


def test_verify_passes_and_its_json_loads(
    lenet_edge: LenetEdge, exports: Path, tmp_path: Path
) -> None:
    done = lenet_edge("verify", exports / "lenet_float32.tflite", exports / "lenet_float32.onnx",
                      "--target", "litert", "--target", "onnx", "--json", "out.json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    run = BenchRun.load(tmp_path / "out.json")
    assert {(report.candidate, report.target) for report in run.parity} == {
        ("lenet_float32.tflite", "litert-xnnpack"),
        ("lenet_float32.onnx", "onnxruntime-cpu"),
    }
    for report in run.parity:
        assert report.passed
        assert report.num_samples == 10_000
        assert report.top1_agreement == 1.0
        assert report.candidate_accuracy is not None
        assert f"{100 * report.candidate_accuracy:.2f}" in done.stdout


def test_json_on_standard_output_is_the_only_output_there(
    lenet_edge: LenetEdge, exports: Path
) -> None:
    done = lenet_edge("bench", exports / "lenet_int8.tflite", "--target", "tflite",
                      "--batch-size", "1,4", "--json", "-")  # fmt: skip
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    cells = [(cell["target"], cell["batch_size"]) for cell in facts["measurements"]]
    assert cells == [("litert-xnnpack", 1), ("litert-xnnpack", 4)]
    assert "litert-xnnpack" in done.stderr  # the target that `tflite` stands for


def test_verify_exits_with_3_if_a_file_loses_too_much_accuracy(
    lenet_edge: LenetEdge, exports: Path, tmp_path: Path
) -> None:
    """Compare a file with a reference that is always right, so that the file loses accuracy."""
    artifact = load_artifact(exports / "lenet_float32.tflite")
    assert artifact.parent_sha256
    for name in (artifact.name, artifact.name + ".json"):
        shutil.copy(exports / name, tmp_path)
    perfect = np.eye(10, dtype=np.float32)[mnist.load("test").labels]
    reference = Reference(artifact.parent_sha256, "mnist-test", perfect)
    reference.save(reference_path(tmp_path, artifact.parent_sha256))

    done = lenet_edge("verify", artifact.name, "--target", "litert", "--json", "out.json")

    (report,) = BenchRun.load(tmp_path / "out.json").parity
    assert report.candidate_accuracy is not None
    assert report.accuracy_drop == pytest.approx(100 * (1 - report.candidate_accuracy))
    assert len(report.flips) == round(10_000 * (1 - report.candidate_accuracy)) > 0
    assert (done.returncode, "more than the 0.1 allowed" in " ".join(done.stdout.split())) == (
        3,
        True,
    )


@pytest.mark.costly
def test_targets_reports_that_the_installed_targets_work(lenet_edge: LenetEdge) -> None:
    done = lenet_edge("targets", "--json", "-")
    targets = {target["name"]: target for target in json.loads(done.stdout)}
    names = ["litert-xnnpack", "onnxruntime-cpu", "tensorflow-function"]
    if sys.version_info < (3, 12):
        names.append("tflite-runtime-cpu")
    for name in names:
        assert targets[name]["works"], targets[name]["detail"]
