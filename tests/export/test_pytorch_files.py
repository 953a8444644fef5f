"""Export of the ONNX files that PyTorch's two exporters wrote."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.classifier_io import infer_all, to_model_input
from lenet_edge.runtimes import get_target, open_session
from tests import needs
from tests.conftest import LenetEdge
from tests.export.test_onnx_checkpoints import operators
from tests.onnx_models import LENET, MODELS, TWO_OUTPUTS, OnnxModel

QUICKER = ("lenet_script17", "ds_cnn_dynamo18_unfolded", "resnet8_script17")
EXPORTED = [
    pytest.param(
        model,
        path,
        id=path.stem,
        marks=pytest.mark.costly if path.stem in QUICKER else pytest.mark.slow,
    )
    for model in MODELS
    if model is not TWO_OUTPUTS
    for path in model.paths
]
OPENED_BY = {
    ".tflite": "litert-xnnpack",
    ".onnx": "onnxruntime-cpu",
    ".c": "native-cpu",
    ".wasm": "wasmtime-cpu",
}


def export(model: OnnxModel, path: Path, run: LenetEdge, folder: Path, *options: str) -> list[Path]:
    """Export a file with 300 training images, and return the paths of the results."""
    images, _ = model.data("train", 300)
    np.savez(folder / "images.npz", images=images)
    done = run(
        "export", path, *model.options(), "--calibration", "images.npz", "--output-dir", "out",
        *options,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "ALARM" not in done.stderr
    files = [file for file in sorted((folder / "out").iterdir()) if file.name != path.name]
    return [file for file in files if file.suffix in OPENED_BY]


def original(model: OnnxModel, path: Path, images: Any) -> Any:
    """Return the outputs of a file of PyTorch on images."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    values = model.values(images)
    parts = [session.run(None, {"image": part})[0] for part in np.array_split(values, 10)]
    return np.concatenate(parts)


def outputs(path: Path, images: Any) -> Any:
    """Return the outputs of an exported file on images."""
    artifact = load_artifact(path)
    with closing(open_session(artifact, get_target(OPENED_BY[path.suffix]))) as session:
        return infer_all(session, to_model_input(images, artifact), 100)


@pytest.mark.parametrize(("model", "path"), EXPORTED)
def test_float_files_equal_the_original_and_int8_agrees(
    model: OnnxModel, path: Path, lenet_edge_here: LenetEdge, tmp_path: Path
) -> None:
    images, _ = model.data("test", 300)
    expected = original(model, path, images).reshape(300, -1)
    files = export(model, path, lenet_edge_here, tmp_path, "--int8")
    assert len(files) == 4
    for file in files:
        actual = outputs(file, images)
        if "float32" in file.name:
            assert np.abs(actual - expected).max() < (1e-4 if model is LENET else 1e-3), file
        elif model.is_classifier:
            assert np.mean(actual.argmax(1) == expected.argmax(1)) >= 0.98, file
        else:
            assert np.mean((actual > 0) == (expected > 0)) >= 0.995, file
        if file.suffix == ".tflite":
            assert not {"TRANSPOSE", "SHAPE", "PACK"} & set(operators(file))


@pytest.mark.slow
@pytest.mark.needs("cc")
@pytest.mark.needs(*needs.BUILD_WASM)
def test_lenet_keeps_its_accuracy_in_every_format(
    lenet_edge_here: LenetEdge, tmp_path: Path
) -> None:
    images, labels = LENET.data("test")
    path = LENET.paths[0]
    before = np.mean(original(LENET, path, images).argmax(1) == labels)
    formats = [text for name in ("tflite", "onnx", "native", "wasm") for text in ("--format", name)]
    files = export(LENET, path, lenet_edge_here, tmp_path, *formats, "--all")
    assert {file.suffix for file in files} == set(OPENED_BY)
    assert len(files) >= 13
    for file in files:
        loss = before - np.mean(outputs(file, images).argmax(1) == labels)
        assert loss <= 0.001, (file.name, loss)


@pytest.mark.costly
def test_two_outputs_are_verified_and_a_broken_one_is_named(
    lenet_edge_here: LenetEdge, tmp_path: Path
) -> None:
    (path,) = TWO_OUTPUTS.paths
    files = export(TWO_OUTPUTS, path, lenet_edge_here, tmp_path, "--format", "tflite")
    images = TWO_OUTPUTS.data("test", 50)[0]
    np.savez(tmp_path / "images.npz", images=images)  # pixels, channels last
    np.savez(tmp_path / "values.npz", image=TWO_OUTPUTS.values(images))
    data = ("--reference", path, "--data", "images.npz", "--target")
    done = lenet_edge_here("verify", *files, *data, "litert")
    assert done.returncode == 0, done.stdout + done.stderr
    data = ("--reference", path, "--data", "values.npz", "--target")
    model = onnx.load(path)
    (last,) = (node for node in model.graph.node if "mask" in node.output)
    (weights,) = (tensor for tensor in model.graph.initializer if tensor.name == last.input[1])
    array = -onnx.numpy_helper.to_array(weights)
    weights.CopyFrom(onnx.numpy_helper.from_array(array, weights.name))
    onnx.save(model, tmp_path / "broken.onnx")
    done = lenet_edge_here("verify", "broken.onnx", *data, "onnxruntime-cpu")
    assert done.returncode == 3, done.stdout
    assert "output mask:" in done.stdout
    assert "output logits:" not in done.stdout
