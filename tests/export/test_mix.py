"""Tests of mixed precision: each layer gets exactly its precision."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.data import mnist
from lenet_edge.data.dataset import to_input
from lenet_edge.export import mix
from lenet_edge.export.artifact_writer import write_artifact
from lenet_edge.flows.held_out import write_logits
from tests import needs

Matrix = dict[tuple[str, str], Artifact]
LAYERS = ["conv1", "conv2", "dense1", "dense2", "logits"]


@pytest.fixture(scope="module")
def plain(matrix: Matrix) -> bytes:
    return mix.with_signature(matrix["tflite", "float32"].path.read_bytes())


@pytest.fixture(scope="module")
def ranges(plain: bytes) -> Any:
    return mix.calibrate(plain, to_input(mnist.load("train").images[:200]))


def interpreter(content: bytes) -> Any:
    opened = Interpreter(
        model_content=content,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    opened.allocate_tensors()
    return opened


def weight_types(opened: Any) -> list[str]:
    types = {x["index"]: np.dtype(x["dtype"]).name for x in opened.get_tensor_details()}
    return [
        types[operator["inputs"][1]]
        for operator in opened._get_ops_details()
        if operator["op_name"] in ("CONV_2D", "FULLY_CONNECTED")
    ]


def activation_types(opened: Any) -> list[str]:
    types = {x["index"]: np.dtype(x["dtype"]).name for x in opened.get_tensor_details()}
    return [
        types[operator["inputs"][0]]
        for operator in opened._get_ops_details()
        if operator["op_name"] in ("CONV_2D", "FULLY_CONNECTED")
    ]


def test_layers_of_lenet(plain: bytes) -> None:
    layers = mix.layers(plain)
    assert [layer.name for layer in layers if layer.tunable] == LAYERS
    assert [layer.weights for layer in layers if layer.tunable] == [54, 864, 48000, 10080, 840]


@pytest.mark.parametrize(
    ("precisions", "weights", "activations"),
    [
        ("fffff", "fffff", "fffff"),
        ("ddddd", "iiiii", "fffff"),
        ("iiiii", "iiiii", "iiiii"),
        ("fidfi", "fiifi", "fiffi"),
        ("dfiff", "ififf", "ffiff"),
    ],
)
def test_precisions(
    plain: bytes, ranges: Any, precisions: str, weights: str, activations: str
) -> None:
    names = {"f": "float", "d": "dynamic", "i": "int8"}
    types = {"f": "float32", "i": "int8"}
    layers = mix.layers(plain)
    tensors = [layer.tensor for layer in layers if layer.tunable]
    chosen = dict(zip(tensors, (names[letter] for letter in precisions), strict=True))
    content = mix.quantize(plain, layers, chosen, ranges)
    opened = interpreter(content)
    assert weight_types(opened) == [types[letter] for letter in weights]
    assert activation_types(opened) == [types[letter] for letter in activations]
    assert opened.get_input_details()[0]["name"] == "image"
    assert opened.get_output_details()[0]["name"] == "logits"
    assert opened.get_input_details()[0]["dtype"] == np.float32
    assert content == mix.quantize(plain, layers, chosen, ranges)


def test_ranges_cover_all_images(plain: bytes, ranges: Any, tmp_path: Path) -> None:
    opened = Interpreter(model_content=plain)
    images = to_input(mnist.load("train").images[:200])
    opened.resize_tensor_input(opened.get_input_details()[0]["index"], images.shape)
    opened.allocate_tensors()
    opened.set_tensor(opened.get_input_details()[0]["index"], images)
    opened.invoke()
    logits = opened.get_tensor(opened.get_output_details()[0]["index"])
    assert float(np.squeeze(ranges["logits"]["min"])) == pytest.approx(logits.min(), abs=1e-3)
    assert float(np.squeeze(ranges["logits"]["max"])) == pytest.approx(logits.max(), abs=1e-3)


@needs.tflite_runtime
@pytest.mark.parametrize("precisions", ["iiiii", "ddddd", "fidfi"])
def test_old_runtime_refuses_unsupported_files(
    plain: bytes, ranges: Any, matrix: Matrix, tmp_path: Path, precisions: str
) -> None:
    names = {"f": "float", "d": "dynamic", "i": "int8"}
    layers = mix.layers(plain)
    tensors = [layer.tensor for layer in layers if layer.tunable]
    chosen = dict(zip(tensors, (names[letter] for letter in precisions), strict=True))
    artifact = write_artifact(
        tmp_path / "mix.tflite",
        mix.quantize(plain, layers, chosen, ranges),
        precision="mixed", batch_size=None, parent_sha256=None, converter="", calibration=None,
    )  # fmt: skip
    test = mnist.load("test")
    images = tmp_path / "images.npz"
    np.savez(images, images=test.images)
    accuracies = {}
    # Use one process per target: the two runtimes cannot share a process.
    for target in ("litert-xnnpack", "tflite-runtime-cpu"):
        output = tmp_path / f"{target}.npz"
        worker.run(write_logits.bind([artifact.path], target, images, output))
        with np.load(output) as logits:
            for array in logits.values():  # no array if the runtime refused the file
                accuracies[target] = (array.argmax(axis=1) == test.labels).mean()
    # The last tflite-runtime has no per-channel int8 weights with float inputs.
    assert ("tflite-runtime-cpu" in accuracies) == ("d" not in precisions)
    assert max(accuracies.values()) - min(accuracies.values()) < 0.002
    assert accuracies["litert-xnnpack"] > 0.9
