"""Tests of the errors of layers, on files with one broken layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.data import mnist
from lenet_edge.data.dataset import to_input
from lenet_edge.errors import LenetEdgeError
from lenet_edge.export import onnx as to_onnx
from lenet_edge.export import tflite as to_tflite
from lenet_edge.export.checkpoint import load_checkpoint
from lenet_edge.export.converter import ConversionRequest
from lenet_edge.export.embed import read_tflite, write_tflite
from lenet_edge.results.parity_report import LayerError
from lenet_edge.verify.expected import expected_from_reference
from lenet_edge.verify.layer_errors import compare_layers, find_sibling
from tests.conftest import LenetEdge
from tests.verify.conftest import rewrite

FORMATS = ("tflite", "onnx")


def layers_of(path: Path) -> list[LayerError]:
    artifact = load_artifact(path)
    return compare_layers(artifact, find_sibling(artifact), expected_from_reference(artifact))


@pytest.mark.parametrize("format", FORMATS)
def test_no_layer_of_a_good_file_has_a_large_error(exports: Path, format: str) -> None:
    layers = layers_of(exports / f"lenet_int8.{format}")
    assert len(layers) >= 8
    for layer in layers:
        assert layer.lost_db < 6.02, layer
        assert layer.hint == ""
        assert layer.saturation < 0.01
    lost = [layer.lost_db for layer in layers]
    assert lost == sorted(lost, reverse=True)


def narrow_tflite(path: Path, layer: str, factor: float) -> bytes:
    """Divide the range of the output of a layer by `factor`."""
    graph = read_tflite(path.read_bytes())
    (tensor,) = (
        t
        for t in graph.subgraphs[0].tensors
        if layer in t.name.decode() and len(t.shape) > 1 and len(t.quantization.scale) == 1
        and -1 in (t.shapeSignature if t.shapeSignature is not None else [])
    )  # fmt: skip
    tensor.quantization.scale = [float(tensor.quantization.scale[0]) / factor]
    return write_tflite(graph)


def narrow_onnx(path: Path, layer: str, factor: float) -> bytes:
    import onnx

    model = onnx.load(path)
    products = [node for node in model.graph.node if node.op_type == "Gemm"]
    output = products[["dense1", "dense2"].index(layer)].output[0]
    (quantizer,) = (node for node in model.graph.node if output in node.input)
    (scale,) = (t for t in model.graph.initializer if t.name == quantizer.input[1])
    value = np.asarray(onnx.numpy_helper.to_array(scale) / factor, np.float32)
    scale.CopyFrom(onnx.numpy_helper.from_array(value, scale.name))
    content = model.SerializeToString()
    assert isinstance(content, bytes)
    return content


def is_layer(error: LayerError, layer: str) -> bool:
    """Match a dense layer. ONNX files name layers by operator and position, such as Gemm_8."""
    return layer in error.name or error.name == {"dense1": "Gemm_8", "dense2": "Gemm_10"}[layer]


@pytest.mark.parametrize("layer", ["dense1", "dense2"])
@pytest.mark.parametrize("format", FORMATS)
def test_a_clipped_layer_is_the_worst(own: Path, format: str, layer: str) -> None:
    path = own / f"lenet_int8.{format}"
    narrow = {"tflite": narrow_tflite, "onnx": narrow_onnx}[format]
    rewrite(path, narrow(path, layer, 8))
    worst = layers_of(path)[0]
    assert is_layer(worst, layer), worst
    assert worst.saturation > 0.01
    assert "clipped; calibrate with images like these" in worst.hint
    assert worst.range is not None
    assert worst.range[1] < worst.seen[1]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("factor", "hint"), [(255, "times too wide"), (1 / 16, "are clipped")])
def test_calibration_on_wrongly_scaled_images_is_named(
    own: Path, format: str, factor: float, hint: str
) -> None:
    """All ranges are wrong then; the first one, that of the input, is the worst."""
    images: Any = to_input(mnist.load("train").images[:100]) * np.float32(factor)
    convert = {"tflite": to_tflite.convert, "onnx": to_onnx.convert}[format]
    path, model = own / f"lenet_int8.{format}", load_checkpoint(own / "lenet.keras")
    rewrite(path, convert(ConversionRequest(model, "int8", images)).content)
    worst = layers_of(path)[0]
    assert worst.name == "input"
    assert hint in worst.hint


def test_wrong_weights_are_told_from_a_wrong_range(own: Path) -> None:
    path = own / "lenet_int8.tflite"
    graph = read_tflite(path.read_bytes())
    (tensor,) = (t for t in graph.subgraphs[0].tensors if list(t.shape) == [84, 120])
    buffer = graph.buffers[tensor.buffer]
    buffer.data = np.random.default_rng(0).permutation(np.array(buffer.data))
    rewrite(path, write_tflite(graph))
    worst = layers_of(path)[0]
    assert is_layer(worst, "dense2"), worst
    assert "the error is in its weights" in worst.hint


def test_the_command_prints_the_layers(lenet_edge_here: LenetEdge, own: Path) -> None:
    path = own / "lenet_int8.tflite"
    rewrite(path, narrow_tflite(path, "dense1", 8))
    done = lenet_edge_here("verify", path, "--target", "litert", "--layers", "--json", "out.json")
    lines = done.stdout.splitlines()
    assert done.returncode == 3, done.stderr
    assert max(map(len, lines)) <= 80
    head = next(i for i, line in enumerate(lines) if "layer, worst first" in line)
    assert "dense1" in lines[head + 1]
    (report,) = json.loads((own.parent / "out.json").read_text())["parity"]
    assert report["layers"][0]["name"].count("dense1")


def test_a_missing_sibling_is_an_error_with_instructions(own: Path) -> None:
    for name in ("lenet_float32.tflite", "lenet_float32.tflite.json"):
        (own / name).unlink()
    with pytest.raises(LenetEdgeError, match=r"there is none beside it.*--reference"):
        layers_of(own / "lenet_int8.tflite")


def test_a_file_with_a_fixed_batch_is_compared(own: Path) -> None:
    """The batch of the sibling is free, and 200 images are not a multiple of 64."""
    images = to_input(mnist.load("train").images[:200])
    path = own / "lenet_int8.tflite"
    free, model = layers_of(path), load_checkpoint(own / "lenet.keras")
    content = to_tflite.convert(ConversionRequest(model, "int8", images, 64)).content
    rewrite(path, content, batch_size=64)
    fixed = layers_of(path)
    assert {layer.kind for layer in fixed} == {layer.kind for layer in free}
    assert max(layer.lost_db for layer in fixed) < 6.02
