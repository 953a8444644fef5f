"""Export of .onnx files from elsewhere, such as PyTorch's."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet_edge.artifacts.artifact import Artifact, load_artifact
from lenet_edge.artifacts.embedded import read_contract
from lenet_edge.artifacts.reference import Reference, reference_path
from lenet_edge.artifacts.stated_input import StatedInput
from lenet_edge.classifier_io import infer_all, to_model_input
from lenet_edge.data import mnist
from lenet_edge.data.dataset import Dataset
from lenet_edge.errors import ModelFileError
from lenet_edge.export.exporter import Options, export
from lenet_edge.export.onnx_model import OnnxModel
from lenet_edge.runtimes import get_target, open_session
from tests.conftest import MakeOnce
from tests.export.onnx_networks import FLATTENS, write_lenet


def operators(path: Path) -> list[str]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    return [operator["op_name"] for operator in interpreter._get_ops_details()]


def logits(artifact: Artifact, images: Any, target: str) -> Any:
    with closing(open_session(artifact, get_target(target))) as session:
        return infer_all(session, to_model_input(images, artifact), artifact.batch_size or 100)


@pytest.fixture(scope="module")
def lenet_exports(make_once: MakeOnce, exports: Path, test_part: Dataset) -> Path:
    """The exports of a LeNet as PyTorch writes it."""

    def fill(folder: Path) -> None:
        source = write_lenet(folder / "lenet.onnx", exports / "lenet.keras")
        precisions = ("float32", "float16", "int8")
        stated = Options(stated=StatedInput.parse({"pixel_scale": "1/255"}))
        export(source, folder, test_part, test_part, precisions=precisions, options=stated)

    return make_once("lenet-onnx", fill)


def test_files_agree_with_the_original(lenet_exports: Path) -> None:
    source = load_artifact(lenet_exports / "lenet.onnx")
    reference = Reference.load(reference_path(lenet_exports, source.sha256))
    test = mnist.load("test")
    for name, target, bound in (
        ("lenet.onnx", "onnxruntime-cpu", 1e-5),
        ("lenet_float32.onnx", "onnxruntime-cpu", 1e-5),
        ("lenet_float32.tflite", "litert-xnnpack", 1e-4),
        ("lenet_float16.onnx", "onnxruntime-cpu", 0.1),
        ("lenet_float16.tflite", "litert-xnnpack", 0.1),
    ):
        artifact = load_artifact(lenet_exports / name)
        assert artifact.preprocessing == source.preprocessing
        found = logits(artifact, test.images, target)
        np.testing.assert_allclose(found, reference.logits, atol=bound, rtol=0)
    right = (reference.logits.argmax(axis=1) == test.labels).mean()
    for name, target in (
        ("lenet_int8.onnx", "onnxruntime-cpu"),
        ("lenet_int8.tflite", "litert-xnnpack"),
    ):
        found = logits(load_artifact(lenet_exports / name), test.images, target)
        assert right - (found.argmax(axis=1) == test.labels).mean() <= 0.001


@pytest.mark.needs("cc", "clang", "wasm-ld")
@pytest.mark.costly
def test_c_and_wasm_agree_with_the_original(
    exports: Path, tmp_path: Path, test_part: Dataset
) -> None:
    source = write_lenet(tmp_path / "lenet.onnx", exports / "lenet.keras")
    stated = Options(stated=StatedInput.parse({"pixel_scale": "1/255"}))
    artifacts = export(
        source, tmp_path, test_part, test_part, ("native", "wasm"), ("float32", "int8"), stated
    )
    test = mnist.load("test").subset(slice(500))
    expected = Reference.load(reference_path(tmp_path, load_artifact(source).sha256)).logits[:500]
    for artifact in artifacts:
        target = "wasmtime-cpu" if artifact.format == "wasm" else "native-cpu"
        found = logits(artifact, test.images, target)
        if artifact.precision == "float32":
            np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)
        else:
            assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.99


def test_graph_has_channels_last_and_no_transpose(lenet_exports: Path) -> None:
    artifact = load_artifact(lenet_exports / "lenet_float32.tflite")
    assert artifact.inputs[0].shape == (None, 28, 28, 1)
    assert operators(artifact.path) == [
        "CONV_2D", "MAX_POOL_2D", "CONV_2D", "MAX_POOL_2D", "RESHAPE", "FULLY_CONNECTED",
        "FULLY_CONNECTED", "FULLY_CONNECTED",
    ]  # fmt: skip


def test_contract_states_the_layout(lenet_exports: Path) -> None:
    for name, format, layout, shape in (
        ("lenet_float32.onnx", "onnx", "NCHW", [None, 1, 28, 28]),
        ("lenet_int8.tflite", "tflite", "NHWC", [None, 28, 28, 1]),
    ):
        facts = json.loads(read_contract(lenet_exports / name, format) or "")
        assert (facts["layout"], facts["inputs"][0]["shape"]) == (layout, shape)
        assert facts["parent_sha256"] == load_artifact(lenet_exports / "lenet.onnx").sha256


@pytest.mark.parametrize("flatten", FLATTENS)
@pytest.mark.parametrize("opset", [11, 17, 20])
def test_every_way_to_flatten_leaves_one_reshape(
    exports: Path, tmp_path: Path, flatten: str, opset: int
) -> None:
    if opset == 11 and flatten == "chain":
        pytest.skip("Unsqueeze had no input for its axes")
    path = write_lenet(tmp_path / "lenet.onnx", exports / "lenet.keras", flatten, opset=opset)
    graph = OnnxModel(path).graph.graph
    kinds = [node.op_type for node in graph.node]
    assert kinds[6:8] in (["Reshape", "Gemm"], ["Flatten", "Gemm"])
    assert len(kinds) == 12


def test_fixed_batch_of_one_becomes_free(exports: Path, tmp_path: Path, test_part: Dataset) -> None:
    source = write_lenet(tmp_path / "lenet.onnx", exports / "lenet.keras", "constant", batch=1)
    (artifact,) = export(
        source, tmp_path, test_part, test_part, ("tflite",), options=Options(batch_size=4)
    )
    assert artifact.inputs[0].shape == (4, 28, 28, 1)
    (artifact,) = export(source, tmp_path, test_part, test_part, ("tflite",))
    assert artifact.batch_size is None


def test_quantized_file_is_refused(lenet_exports: Path, tmp_path: Path, test_part: Dataset) -> None:
    with pytest.raises(ModelFileError, match="is quantized already"):
        export(lenet_exports / "lenet_int8.onnx", tmp_path, test_part, test_part)
    assert not list(tmp_path.iterdir())
