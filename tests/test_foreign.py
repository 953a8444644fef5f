"""Tests of foreign files: without a manifest, and with other dtypes and shapes."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.classifier_io import infer_all
from lenet_edge.errors import LenetEdgeError
from lenet_edge.results.parity_report import Bounds
from lenet_edge.runtimes import get_target, open_session
from lenet_edge.selection import load_artifacts
from lenet_edge.verify.inference import record_logits
from lenet_edge.verify.parity import compare_logits
from lenet_edge.verify.verdict import judge_parity
from tests import needs
from tests.conftest import LenetEdge

DTYPES = ("float32", "float16", "int8", "uint8", "int16")


def write_onnx(path: Path, dtype: str, output_shape: tuple[Any, ...] = ("n", 4)) -> Path:
    """Write a model that maps (n, 2, 2) images to their four pixels as float32."""
    import onnx
    from onnx import TensorProto as Types
    from onnx import helper

    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    shape = [-1 if isinstance(size, str) else size for size in output_shape]
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["real"], to=Types.FLOAT),
            helper.make_node("Reshape", ["real", "shape"], ["y"]),
        ],
        "pixels",
        [helper.make_tensor_value_info("x", kind, ["n", 2, 2])],
        [helper.make_tensor_value_info("y", Types.FLOAT, output_shape)],
        [helper.make_tensor("shape", Types.INT64, [len(shape)], shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def logits(artifact: Artifact, target: str, images: Any) -> Any:
    with closing(open_session(artifact, get_target(target))) as session:
        return infer_all(session, images, artifact.batch_size or 2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_onnx_inputs_of_every_dtype(tmp_path: Path, dtype: str) -> None:
    (artifact,) = load_artifacts([write_onnx(tmp_path / "foreign.onnx", dtype)], tmp_path)
    assert (artifact.inputs[0].dtype, artifact.inputs[0].shape) == (dtype, (None, 2, 2))
    assert (artifact.precision, artifact.batch_size) == ("unknown", None)
    assert (artifact.preprocessing.scale, artifact.preprocessing.origin) == ((1.0,), "assumed")
    images = np.array([[[0, 1], [2, 100]], [[3, 2], [1, 0]], [[5, 5], [5, 7]]], np.float32)
    pixels = logits(artifact, "onnxruntime-cpu", images)
    np.testing.assert_array_equal(pixels, images.reshape(3, 4))


@pytest.mark.parametrize("shape", [("n", 1, 1, 4), ("n", 4, 1, 1), ("n", "c")], ids=str)
def test_classes_on_any_axis(tmp_path: Path, shape: tuple[Any, ...]) -> None:
    path = tmp_path / "foreign.onnx"
    if shape == ("n", "c"):  # the graph does not define the number of classes
        import onnx

        write_onnx(path, "float32")
        model = onnx.load(path)
        model.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "c"
        onnx.save(model, path)
    else:
        write_onnx(path, "float32", shape)
    (artifact,) = load_artifacts([path], tmp_path)
    images = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    np.testing.assert_array_equal(logits(artifact, "onnxruntime-cpu", images), images.reshape(3, 4))


def test_a_model_without_classes_is_compared_by_its_errors(tmp_path: Path) -> None:
    (artifact,) = load_artifacts(
        [write_onnx(tmp_path / "a.onnx", "float32", ("n", 2, 2))], tmp_path
    )
    assert artifact.head == "values"
    images = np.random.default_rng(0).normal(size=(30, 2, 2)).astype(np.float32)
    outputs = logits(artifact, "onnxruntime-cpu", images)
    assert outputs.shape == (30, 4)
    comparison = compare_logits(outputs, 1.001 * outputs, head=artifact.stated_head)
    assert comparison["top1_agreement"] is None
    assert comparison["snr_db"] == pytest.approx(60, abs=0.1)
    assert judge_parity(comparison, Bounds(min_snr_db=50)) == ("pass", ())
    verdict, reasons = judge_parity(comparison, Bounds(min_snr_db=70))
    assert verdict == "fail"
    assert "60.0 dB, less than the 70 required" in reasons[0]


def write_tflite(path: Path, dtype: str) -> Path:
    """Write a .tflite file with TensorFlow's converter, with an input of `dtype`."""
    import tensorflow as tf

    class Pixels(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec((1, 2, 2, 1), tf.float32)])  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            return tf.matmul(tf.reshape(x, (1, 4)), tf.eye(4))

    module = Pixels()
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.__call__.get_concrete_function()], module
    )
    if dtype in ("int8", "uint8", "int16"):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: (
            [np.full((1, 2, 2, 1), value, np.float32)] for value in (0, 255)
        )
        sets = tf.lite.OpsSet
        converter.target_spec.supported_ops = [
            sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
            if dtype == "int16"
            else sets.TFLITE_BUILTINS_INT8
        ]
        converter.inference_input_type = converter.inference_output_type = tf.as_dtype(dtype)
    path.write_bytes(converter.convert())
    return path


@pytest.mark.costly
@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8", "int16"])
@pytest.mark.parametrize(
    "target",
    [
        "litert-reference",
        pytest.param("tflite-runtime-cpu", marks=needs.tflite_runtime),
        "openvino-cpu",
    ],
)
def test_tflite_inputs_of_every_dtype(tmp_path: Path, dtype: str, target: str) -> None:
    if (target, dtype) == ("openvino-cpu", "int16"):
        pytest.skip("OpenVINO does not read int16x8 files")
    (artifact,) = load_artifacts([write_tflite(tmp_path / "foreign.tflite", dtype)], tmp_path)
    assert (artifact.inputs[0].dtype, artifact.batch_size) == (dtype, 1)
    images = np.random.default_rng(0).integers(0, 256, (5, 2, 2, 1)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    call = record_logits.bind(
        artifact=artifact.to_json(),
        target=asdict(get_target(target)),
        num_threads=1,
        images=tmp_path / "images.npy",
        output=tmp_path / "logits.npy",
    )
    worker.run(call)  # tflite-runtime and LiteRT must not share a process
    pixels = np.load(tmp_path / "logits.npy")
    np.testing.assert_allclose(pixels, images.reshape(5, 4), atol=2.5)


@pytest.mark.costly
def test_the_error_for_two_inputs_is_one_line(tmp_path: Path, lenet_edge_here: LenetEdge) -> None:
    import onnx
    from onnx import TensorProto as Types
    from onnx import helper

    inputs = [helper.make_tensor_value_info(name, Types.FLOAT, ["n", 4]) for name in "ab"]
    output = helper.make_tensor_value_info("y", Types.FLOAT, ["n", 4])
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["y"])], "sum", inputs, [output])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "two.onnx")
    done = lenet_edge_here("predict", "digit.png", "--model", "two.onnx")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "Error: two.onnx has 2 inputs and 1 output, and this needs a classifier with one of each;"
        " bench and inspect take any model"
    ]


def test_a_damaged_file_is_a_lenet_edge_error(tmp_path: Path) -> None:
    """The file has the magic bytes of TFLite and no valid content. A runtime may abort on it."""
    path = tmp_path / "foreign.tflite"
    path.write_bytes(b"\x20\0\0\0TFL3" + bytes(range(256)) * 4)
    with pytest.raises(LenetEdgeError, match=r"foreign\.tflite"):
        load_artifacts([path], tmp_path)


@pytest.mark.costly
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_bench_measures_a_foreign_file(
    tmp_path: Path, lenet_edge_here: LenetEdge, dtype: str
) -> None:
    write_onnx(tmp_path / "foreign.onnx", dtype)
    done = lenet_edge_here(
        "bench", "foreign.onnx", "--target", "onnxruntime-cpu", "--batch-size", "1,4", "--rounds",
        "1", "--min-time", "0.01", "--max-time", "0.1", "--json", "-",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    measurements = json.loads(done.stdout)["measurements"]
    assert [m["batch_size"] for m in measurements] == [1, 4]


def test_an_artifact_is_restored_from_its_json(exported: Callable[[str], Artifact]) -> None:
    artifact = exported("lenet_int8.tflite")
    assert Artifact.from_json(json.loads(json.dumps(artifact.to_json()))) == artifact
