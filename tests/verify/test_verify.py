"""Tests of verification: wrong files fail, and a file without a reference does not pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lenet_edge.artifacts.artifact import Artifact, load_artifact, write_manifest
from lenet_edge.artifacts.reference import Reference, reference_path
from lenet_edge.errors import ModelFileError
from lenet_edge.results.result_file import BenchRun
from lenet_edge.runtimes import get_target
from lenet_edge.selection import Pair
from lenet_edge.support.files import sha256_of
from lenet_edge.verify.verify import verify
from tests.conftest import LenetEdge


def shuffle_weights(path: Path) -> Artifact:
    """Shuffle the largest weights of a TFLite file, and update its manifest."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    largest = max(
        (
            details
            for details in interpreter.get_tensor_details()
            if details["dtype"] is np.int8 and len(details["shape"]) == 2
        ),
        key=lambda details: int(np.prod(details["shape"])),
    )
    weights = interpreter.get_tensor(largest["index"]).tobytes()
    content = path.read_bytes()
    assert content.count(weights) == 1
    shuffled = np.random.default_rng(0).permutation(np.frombuffer(weights, np.int8)).tobytes()
    artifact = load_artifact(path)
    path.write_bytes(content.replace(weights, shuffled))
    write_manifest(dataclasses.replace(artifact, sha256=sha256_of(path)))
    return load_artifact(path)


def test_a_file_with_wrong_weights_fails(
    lenet_edge_here: LenetEdge, own: Path, tmp_path: Path
) -> None:
    shuffle_weights(own / "lenet_int8.tflite")
    done = lenet_edge_here("verify", own / "lenet_int8.tflite", "--target", "litert-xnnpack",
                      "--json", "out.json")  # fmt: skip
    (report,) = BenchRun.load(tmp_path / "out.json").parity
    assert done.returncode == 3
    assert "FAIL" in done.stdout
    assert not report.passed
    assert report.accuracy_drop is not None
    assert report.mcnemar_p is not None
    assert report.accuracy_drop > 5
    assert report.mcnemar_p < 1e-9
    assert report.top1_agreement is not None
    assert len(report.flips) == round((1 - report.top1_agreement) * report.num_samples)


def test_the_bound_on_the_accuracy_drop_decides(exported: Callable[[str], Artifact]) -> None:
    pair = Pair(exported("lenet_int8.onnx"), get_target("onnxruntime-cpu"))
    (report,), skipped = verify([pair], {"max_accuracy_drop": 0, "min_agreement": 0})
    assert not skipped
    assert report.accuracy_drop is not None
    assert report.passed == (report.accuracy_drop <= 0)
    (lenient,), _ = verify([pair], {"max_accuracy_drop": 100, "min_agreement": 0})
    assert lenient.passed
    assert lenient.accuracy_drop == report.accuracy_drop


def test_a_file_with_non_finite_logits_fails(
    exported: Callable[[str], Artifact], own: Path
) -> None:
    """A NaN in the weights of a real file fails even with the widest bounds."""
    artifact = load_artifact(own / "lenet_float32.onnx")
    import onnx

    model = onnx.load(artifact.path)
    last = next(t for t in model.graph.initializer if list(t.dims) == [10])
    bias = onnx.numpy_helper.to_array(last).copy()
    bias[3] = np.nan
    last.CopyFrom(onnx.numpy_helper.from_array(bias, last.name))
    onnx.save(model, artifact.path)
    write_manifest(dataclasses.replace(artifact, sha256=sha256_of(artifact.path)))
    pair = Pair(load_artifact(artifact.path), get_target("onnxruntime-cpu"))
    (report,), _ = verify([pair], {"max_accuracy_drop": 100, "min_agreement": 0})
    assert report.non_finite == report.num_samples
    assert not report.passed


def test_a_missing_reference_is_an_error(lenet_edge_here: LenetEdge, own: Path) -> None:
    (reference,) = own.glob("reference-*.npz")
    reference.unlink()
    done = lenet_edge_here("verify", own / "lenet_int8.tflite", "--target", "litert-xnnpack")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{reference.name}: no such file" in done.stderr
    assert "lenet-edge export" in done.stderr


def test_the_reference_of_another_checkpoint_is_an_error(own: Path) -> None:
    artifact = load_artifact(own / "lenet_int8.tflite")
    assert artifact.parent_sha256
    path = reference_path(own, artifact.parent_sha256)
    other = dataclasses.replace(Reference.load(path), checkpoint_sha256="0" * 64)
    other.save(path)
    with pytest.raises(ModelFileError, match="another checkpoint; export again"):
        verify([Pair(artifact, get_target("litert-xnnpack"))])


def test_a_damaged_reference_is_an_error(own: Path) -> None:
    artifact = load_artifact(own / "lenet_int8.tflite")
    (path,) = own.glob("reference-*.npz")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ModelFileError, match=r"is damaged .*; export again"):
        verify([Pair(artifact, get_target("litert-xnnpack"))])


def test_a_pair_that_cannot_run_is_skipped_with_its_reason(
    exported: Callable[[str], Artifact],
) -> None:
    wrong = Pair(exported("lenet_int8.tflite"), get_target("onnxruntime-cpu"))
    right = Pair(exported("lenet_int8.tflite"), get_target("litert-xnnpack"))
    lines: list[str] = []
    reports, (skipped,) = verify([wrong, right], on_progress=lines.append)
    assert [report.target for report in reports] == ["litert-xnnpack"]
    assert (skipped.artifact, skipped.target) == ("lenet_int8.tflite", "onnxruntime-cpu")
    assert "onnxruntime-cpu runs onnx files" in skipped.reason
    assert len(lines) == 2
