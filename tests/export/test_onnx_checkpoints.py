"""Export of .onnx files from elsewhere, such as PyTorch's."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from lenet_edge.artifacts.artifact import Artifact, load_artifact
from lenet_edge.artifacts.embedded import read_contract
from lenet_edge.artifacts.reference import Reference, reference_path
from lenet_edge.artifacts.stated_input import StatedInput
from lenet_edge.classifier_io import infer_all, to_model_input
from lenet_edge.data import mnist
from lenet_edge.data.dataset import Dataset
from lenet_edge.errors import DataError, LenetEdgeError, ModelFileError
from lenet_edge.export.exporter import Options, export
from lenet_edge.export.onnx_model import OnnxModel
from lenet_edge.runtimes import get_target, open_session
from lenet_edge.target import dequantize, quantize
from tests.conftest import MakeOnce, first_images
from tests.export.onnx_networks import FLATTENS, Network, write_lenet, write_two_inputs


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
@pytest.mark.slow
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


# With opset 11, Unsqueeze has no input for its axes, which the chain needs.
WAYS = [
    (flatten, opset)
    for opset in (11, 17, 20)
    for flatten in FLATTENS
    if (flatten, opset) != ("chain", 11)
]


@pytest.mark.parametrize(("flatten", "opset"), WAYS)
def test_every_way_to_flatten_leaves_one_reshape(
    exports: Path, tmp_path: Path, flatten: str, opset: int
) -> None:
    path = write_lenet(tmp_path / "lenet.onnx", exports / "lenet.keras", flatten, opset=opset)
    graph = OnnxModel(path).graph.graph
    kinds = [node.op_type for node in graph.node]
    assert kinds[6:8] in (["Reshape", "Gemm"], ["Flatten", "Gemm"])
    assert len(kinds) == 12


def test_fixed_batch_of_one_becomes_free(exports: Path, tmp_path: Path, test_part: Dataset) -> None:
    part = first_images(test_part, 300)
    source = write_lenet(tmp_path / "lenet.onnx", exports / "lenet.keras", "constant", batch=1)
    (artifact,) = export(source, tmp_path, part, part, ("tflite",), options=Options(batch_size=4))
    assert artifact.inputs[0].shape == (4, 28, 28, 1)
    (artifact,) = export(source, tmp_path, part, part, ("tflite",))
    assert artifact.batch_size is None


def test_fixed_batch_stays_fixed(exports: Path, tmp_path: Path, test_part: Dataset) -> None:
    part = first_images(test_part, 300)
    source = write_lenet(tmp_path / "lenet.onnx", exports / "lenet.keras", batch=4)
    with pytest.raises(ModelFileError, match="has a fixed batch of 4; export it"):
        export(source, tmp_path, part, part, options=Options(batch_size=2))
    artifacts = export(source, tmp_path, part, part, precisions=("int8",))
    assert [file.inputs[0].shape for file in artifacts] == [(4, 28, 28, 1), (4, 1, 28, 28)]
    expected = Reference.load(reference_path(tmp_path, load_artifact(source).sha256)).logits[:200]
    for artifact, target in zip(artifacts, ("litert-xnnpack", "onnxruntime-cpu"), strict=True):
        found = logits(artifact, mnist.load("test").images[:200], target)
        assert artifact.batch_size == 4
        assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.97


def test_weights_in_another_file_are_copied(
    exports: Path, tmp_path: Path, test_part: Dataset
) -> None:
    whole = onnx.load(write_lenet(tmp_path / "whole.onnx", exports / "lenet.keras"))
    source = tmp_path / "lenet.onnx"
    onnx.save(whole, source, save_as_external_data=True, location="lenet.onnx.data")
    folder = tmp_path / "out"
    (artifact,) = export(source, folder, test_part, test_part, ("tflite",))
    assert artifact.parent_sha256 == load_artifact(folder / "lenet.onnx").sha256
    copy = load_artifact(folder / "lenet.onnx")
    assert copy.size_bytes > 200_000
    assert [part.name for part in copy.parts] == ["lenet.onnx.data"]
    images = mnist.load("test").images[:20]
    expected = logits(copy, images, "onnxruntime-cpu")
    found = logits(artifact, images, "litert-xnnpack")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_quantized_file_is_refused(lenet_exports: Path, tmp_path: Path, test_part: Dataset) -> None:
    with pytest.raises(ModelFileError, match="is quantized already"):
        export(lenet_exports / "lenet_int8.onnx", tmp_path, test_part, test_part)
    assert not list(tmp_path.iterdir())


def test_model_of_several_inputs_and_outputs(tmp_path: Path, test_part: Dataset) -> None:
    source = write_two_inputs(tmp_path / "two.onnx")
    random = np.random.default_rng(0)
    values = {
        "input": random.random((20, 3, 8, 6), np.float32),
        "state": random.random((20, 7), np.float32),
    }
    with pytest.raises(DataError, match="has the inputs input, state, and int8 needs values"):
        export(source, tmp_path, test_part, test_part, precisions=("int8",))
    np.savez(tmp_path / "values.npz", **values)
    options = Options(calibration_file=tmp_path / "values.npz")
    artifacts = export(
        source, tmp_path, test_part, test_part, precisions=("float32", "int8"), options=options
    )
    session = onnxruntime.InferenceSession(str(source), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    expected = dict(zip(names, session.run(None, values), strict=True))
    for artifact in artifacts:
        target = "litert-reference" if artifact.format == "tflite" else "onnxruntime-cpu"
        with closing(open_session(artifact, get_target(target))) as opened:
            assert [spec.name for spec in opened.input_specs] == ["input", "state"]
            image = values["input"]
            if artifact.format == "tflite":
                image = np.ascontiguousarray(np.moveaxis(image, 1, -1))
            arrays = {"input": image, "state": values["state"]}
            opened.prepare(
                {spec.name: quantize(arrays[spec.name], spec) for spec in opened.input_specs}
            )
            opened.infer()
            arrays = opened.outputs()
            found = {spec.name: dequantize(arrays[spec.name], spec) for spec in opened.output_specs}
        bound = 1e-5 if artifact.precision == "float32" else 0.1
        assert list(found) == names
        for name in names:
            np.testing.assert_allclose(found[name], expected[name], atol=bound, rtol=0)


def test_operators_that_cannot_be_converted_are_named_together(
    tmp_path: Path, test_part: Dataset
) -> None:
    network = Network(("batch", 1, 28, 28))
    network.add("Reshape", network.value, network.constant(np.array([-1, 28, 28])))
    network.add("Einsum", equation="bij->bji")
    network.add("CumSum", network.value, network.constant(np.array(1)))
    network.add("Einsum", equation="bij->bji")
    network.add("Flatten", axis=1)
    network.dense(10, 784)
    source = network.save(tmp_path / "odd.onnx", ("batch", 10))
    folder = tmp_path / "out"
    with pytest.raises(
        ModelFileError,
        match=r"Einsum \(layer1/Einsum, layer3/Einsum\), CumSum \(layer2/CumSum\); export to onnx",
    ):
        export(source, folder, test_part, test_part, ("tflite",))
    assert not [path for path in folder.iterdir() if path.suffix == ".tflite"]
    (artifact,) = export(source, folder, test_part, test_part, ("onnx",))
    assert artifact.path.exists()


def damage(path: Path, kind: str) -> None:
    """Make a file that cannot be exported of a LeNet."""
    model = onnx.load(path)
    graph = model.graph
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
        return
    if kind == "outside":
        tensor = graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "/etc/passwd"
    elif kind == "cycle":
        graph.node[0].input[0] = graph.node[-1].output[0]
    elif kind == "huge":
        shape = onnx.numpy_helper.from_array(np.full(4, 2**20), "sizes")
        graph.initializer.append(shape)
        graph.node.insert(0, onnx.helper.make_node("ConstantOfShape", ["sizes"], ["many"]))
        graph.node.insert(1, onnx.helper.make_node("ReduceSum", ["many"], ["sum"], keepdims=0))
        graph.node.append(onnx.helper.make_node("Add", [graph.output[0].name, "sum"], ["end"]))
        graph.output[0].name = "end"
    elif kind == "wrong weights":
        graph.initializer[0].raw_data = graph.initializer[0].raw_data[:-8]
    elif kind == "integers":
        graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    elif kind == "any size":
        graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    elif kind == "batch":  # multiplies by the size of the batch
        name, end = graph.output[0].name, "end"
        for added in (
            onnx.helper.make_node("Shape", [graph.input[0].name], ["sizes"], end=1),
            onnx.helper.make_node("Cast", ["sizes"], ["size"], to=1),
            onnx.helper.make_node("Mul", [name, "size"], [end]),
        ):
            graph.node.append(added)
        graph.output[0].name = end
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("truncated", "damaged|cannot be"),
        ("outside", "outside of its folder"),
        pytest.param("cycle", "cannot be|cannot open", marks=pytest.mark.slow),
        ("huge", "cannot run in ONNX Runtime|cannot convert|cannot be"),
        pytest.param("wrong weights", "cannot be|cannot open", marks=pytest.mark.slow),
        pytest.param("integers", "float32|cannot", marks=pytest.mark.slow),
        pytest.param("any size", "any size|cannot", marks=pytest.mark.slow),
        ("batch", "computes with the size of the batch"),
    ],
)
def test_damaged_file_is_refused_in_one_line(
    exports: Path, tmp_path: Path, test_part: Dataset, kind: str, message: str
) -> None:
    path = write_lenet(tmp_path / "lenet.onnx", exports / "lenet.keras", "constant")
    damage(path, kind)
    with pytest.raises(LenetEdgeError, match=message) as raised:
        export(path, tmp_path / "out", test_part, test_part, ("tflite", "onnx"))
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.glob("out/*_float32*"))
