"""Each layer gets the precision it was given, and no other."""

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
from lenet_edge.export.exporter import write_artifact
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
    types = {one["index"]: np.dtype(one["dtype"]).name for one in opened.get_tensor_details()}
    return [
        types[operator["inputs"][1]]
        for operator in opened._get_ops_details()
        if operator["op_name"] in ("CONV_2D", "FULLY_CONNECTED")
    ]


def activation_types(opened: Any) -> list[str]:
    types = {one["index"]: np.dtype(one["dtype"]).name for one in opened.get_tensor_details()}
    return [
        types[operator["inputs"][0]]
        for operator in opened._get_ops_details()
        if operator["op_name"] in ("CONV_2D", "FULLY_CONNECTED")
    ]


def test_the_layers_of_lenet(plain: bytes) -> None:
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
    chosen = dict(zip(tensors, (names[one] for one in precisions), strict=True))
    content = mix.quantize(plain, layers, chosen, ranges)
    opened = interpreter(content)
    assert weight_types(opened) == [types[one] for one in weights]
    assert activation_types(opened) == [types[one] for one in activations]
    assert opened.get_input_details()[0]["name"] == "image"
    assert opened.get_output_details()[0]["name"] == "logits"
    assert opened.get_input_details()[0]["dtype"] == np.float32
    assert content == mix.quantize(plain, layers, chosen, ranges)


def test_ranges_are_those_of_all_images(plain: bytes, ranges: Any, tmp_path: Path) -> None:
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
def test_an_old_runtime_refuses_what_it_cannot_compute(
    plain: bytes, ranges: Any, matrix: Matrix, tmp_path: Path, precisions: str
) -> None:
    names = {"f": "float", "d": "dynamic", "i": "int8"}
    layers = mix.layers(plain)
    tensors = [layer.tensor for layer in layers if layer.tunable]
    chosen = dict(zip(tensors, (names[one] for one in precisions), strict=True))
    artifact = write_artifact(
        tmp_path / "mix.tflite",
        mix.quantize(plain, layers, chosen, ranges),
        precision="mixed", batch_size=None, parent_sha256=None, converter="", calibration=None,
    )  # fmt: skip
    labels = mnist.load("test").labels
    accuracies = {}
    # Each in a process of its own: the two runtimes do not bear each other.
    for target in ("litert-xnnpack", "tflite-runtime-cpu"):
        output = tmp_path / f"{target}.npz"
        worker.run(write_logits.bind([artifact.path], target, "test", output))
        with np.load(output) as logits:
            for array in logits.values():  # none where it refused the file
                accuracies[target] = (array.argmax(axis=1) == labels).mean()
    # int8 weights per channel with float inputs came after tflite-runtime's last release.
    assert ("tflite-runtime-cpu" in accuracies) == ("d" not in precisions)
    assert max(accuracies.values()) - min(accuracies.values()) < 0.002
    assert accuracies["litert-xnnpack"] > 0.9
