"""int4 weights: the rewritten .tflite file, and rubbish in such files."""

import re
from typing import Any

import numpy as np
import pytest

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.errors import ModelFileError
from lenet_edge.export import exporter, int4
from lenet_edge.export.embed import read_tflite, write_tflite
from lenet_edge.export.native import compiler, tflite_graph
from lenet_edge.inspection import inspect_graph
from lenet_edge.microcontrollers import footprint
from lenet_edge.microcontrollers.cores import CORES
from lenet_edge.runtimes.litert import open_reference_kernels
from tests.export.tflite_files import File

Matrix = dict[tuple[str, str], Artifact]


def dense_file(inputs: int = 5, scales: int = 1, low: int = -8) -> bytes:
    """Return a file of one dense layer with int4 weights."""
    random = np.random.default_rng(inputs)
    file = File()
    image = file.input((1, inputs), "int8", 0.1, 3)
    weights = random.integers(low, 8, (3, inputs)).astype(np.int8)
    more = [
        file.constant(weights, "int4", scale=[0.02] * scales),
        file.constant(np.array([9, -9, 50], np.int32), scale=[0.002] * scales),
    ]
    output = file.tensor((1, 3), "int8", 0.05, -2)
    file.operator("FULLY_CONNECTED", [image, *more], output)
    return file.finish([output])


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_packing_is_that_of_tensorflow_lite(count: int) -> None:
    values = np.arange(-8, -8 + count).astype(np.int8)
    data = int4.pack(values)
    assert data.size == (count + 1) // 2
    np.testing.assert_array_equal(int4.unpack(data, count), values)
    if count == 2:
        assert data.tolist() == [0x98]


def test_scales_clip_rare_weights() -> None:
    random = np.random.default_rng(0)
    weights = random.standard_normal((4, 300)).astype(np.float32)
    weights[:, 0] = 5
    (scale,) = int4.choose_scales(weights)  # one for all: the outputs are alike
    assert 2 / 7 < scale < 4 / 7
    weights[1:] /= 4
    scales = int4.choose_scales(weights)
    assert len(scales) == 4
    assert (scales[1:] < scales[0] / 3).all()


def test_rounded_weights_keep_their_scale() -> None:
    weights = np.float32(0.013) * np.array([[-6, 1, 2], [5, 6, -1], [1, 0, 6]], np.float32)
    np.testing.assert_allclose(int4.choose_scales(weights), 0.013, rtol=1e-6)
    trained = [0.05, float(np.float32(0.013))]
    assert int4.choose_scales(weights, trained).tolist() == trained[1:]


def test_only_dense_layers_are_packed(matrix: Matrix) -> None:
    file = {name: matrix["tflite", name] for name in ("int8", "int4")}
    graphs = {name: tflite_graph.read(each.path.read_bytes(), "") for name, each in file.items()}
    for old, new in zip(graphs["int8"].operators, graphs["int4"].operators, strict=True):
        assert old.kind == new.kind
        assert new.output.has_same_quantization(old.output)
        if new.kind == "FULLY_CONNECTED":
            assert new.input(1).is_int4
            assert len(new.input(1).scales) == 1  # else tflite-runtime refuses the file
            values = new.input(1).values
            assert values is not None
            assert (values.min(), values.max()) == (-7, 7)
        elif new.kind == "CONV_2D":
            assert np.array_equal(new.input(1).values, old.input(1).values)  # type: ignore[arg-type]
    assert file["int4"].oldest_runtime == "2.11.0"
    inspected = inspect_graph(file["int4"].path)
    assert inspected.parameters == 60_074
    assert inspected.parameter_bytes == 918 + (48_000 + 10_080 + 840) // 2 + 4 * 236


def test_trained_integers_are_kept(matrix: Matrix) -> None:
    content = matrix["tflite", "int4"].path.read_bytes()
    as_int8 = read_tflite(content)
    for tensor in as_int8.subgraphs[0].tensors:
        if tensor.type == 17:
            buffer = as_int8.buffers[tensor.buffer]
            values = int4.unpack(np.asarray(buffer.data, np.uint8), int(np.prod(tensor.shape)))
            buffer.data, tensor.type = values.view(np.uint8), 9
    repacked = int4.pack_dense_layers(write_tflite(as_int8))
    image = np.random.default_rng(1).integers(-128, 128, (1, 28, 28, 1)).astype(np.int8)
    outputs = []
    for each in (content, repacked):
        interpreter = open_reference_kernels(each)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    np.testing.assert_array_equal(*outputs)


def test_c_file_has_two_weights_in_a_byte(matrix: Matrix) -> None:
    content = matrix["tflite", "int4"].path.read_bytes()
    code = compiler.compile_tflite(content, "lenet", "lenet.tflite")
    assert set(re.findall(r"^  (dense\w*)\(", code.source, re.MULTILINE)) >= {"dense_int4"}
    assert "void dense(" not in code.source
    assert footprint.estimate(code.file("int4"), CORES["cortex-m4"]).constant_bytes <= 36_000


@pytest.mark.parametrize(
    ("facts", "is_packed"),
    [({}, False), ({"low": -7}, True), ({"low": -7, "inputs": 1}, True)],
)
def test_two_weights_of_minus_eight_stay_bytes(facts: dict[str, int], is_packed: bool) -> None:
    # Twice -128 x -128 would not fit the 16 bits in which NEON adds them.
    content = dense_file(**{"inputs": 30, **facts})
    code = compiler.compile_tflite(content, "net", "net.tflite")
    assert ("void dense_int4(" in code.source) == is_packed


@pytest.mark.parametrize(
    ("chosen", "precision"), [((), "int8"), (("int4",), "int4"), (("int8", "int4"), "int8")]
)
def test_firmware_takes_int4_if_only_that_is_chosen(
    chosen: tuple[str, ...], precision: str
) -> None:
    jobs = exporter.jobs(("firmware",), ("float32", *chosen))
    assert jobs == [("tflite", precision), ("native", precision)]


def test_model_without_dense_layers() -> None:
    file = File()
    image = file.input((1, 2), "int8", 0.1, 0)
    output = file.operator("RELU", [image], file.tensor((1, 2), "int8", 0.1, 0))
    with pytest.raises(ModelFileError, match="no dense layer"):
        int4.pack_dense_layers(file.finish([output]))


def weights_of(model: Any) -> Any:
    return next(tensor for tensor in model.subgraphs[0].tensors if tensor.type == 17)


@pytest.mark.parametrize("size", [0, 7, 9, 15])
def test_wrong_number_of_bytes_is_one_error(size: int) -> None:
    model = read_tflite(dense_file())
    model.buffers[weights_of(model).buffer].data = np.zeros(size, np.uint8)
    message = "before it is computed" if size == 0 else "damaged .* four bits"
    with pytest.raises(ModelFileError, match=message) as error:
        compiler.compile_tflite(write_tflite(model), "net", "x.tflite")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("change", ["shape", "scale", "zero", "axis"])
def test_contradictions_are_one_error(change: str) -> None:
    model = read_tflite(dense_file(scales=3))
    tensor = weights_of(model)
    if change == "shape":
        tensor.shape = [3, 4]  # 12 weights in 8 bytes
    elif change == "scale":
        tensor.quantization.scale = [0.02, 0.0, 0.02]
    elif change == "zero":
        tensor.quantization.zeroPoint = [9, 9, 9]
    else:
        tensor.quantization.quantizedDimension = 1
    with pytest.raises(ModelFileError) as error:
        compiler.compile_tflite(write_tflite(model), "net", "x.tflite")
    assert "\n" not in str(error.value)
