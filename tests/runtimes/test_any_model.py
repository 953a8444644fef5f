"""Models of any inputs and outputs, on every runtime that reads a format of other tools."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet_edge.artifacts.artifact import batch_size_of
from lenet_edge.bench import timing
from lenet_edge.bench.sampling import StopRule, take_samples
from lenet_edge.errors import ModelFileError, TargetError
from lenet_edge.model_inputs import random_inputs
from lenet_edge.runtimes import absence, get_target, open_session
from lenet_edge.selection import load_artifacts
from lenet_edge.target import Array
from tests import needs
from tests.conftest import LenetEdge, MakeOnce
from tests.runtimes.any_model import opened, run

pytestmark = pytest.mark.costly

DTYPES = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")
RANKS = range(6)
ONNX_TARGETS = (
    "onnxruntime-cpu",
    "onnxruntime-cpu-run",
    "openvino-cpu",
    "openvino-cpu-infer",
    pytest.param("opencv-cpu", marks=needs.opencv),
)
TFLITE_TARGETS = ("litert-xnnpack", "litert-reference", "tflite-runtime-cpu", "tflite-micro-cpu")


def name_of(dtype: str, rank: int) -> str:
    return f"{dtype}_{rank}"


def shape_of(rank: int) -> tuple[int, ...]:
    return (1, 2, 3, 1, 2)[:rank]


def write_onnx(
    path: Path, nodes: list[Any], inputs: list[tuple[Any, ...]], outputs: list[tuple[Any, ...]]
) -> Path:
    """Write a graph whose tensors are given as (name, type, shape)."""
    import onnx
    from onnx import helper

    sides = [[helper.make_tensor_value_info(*tensor) for tensor in s] for s in (inputs, outputs)]
    graph = helper.make_graph(nodes, "graph", *sides)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


def write_every_type_onnx(path: Path) -> Path:
    """Write a graph with an input of each type and rank, and an output that is equal to it."""
    from onnx import helper

    tensors = [
        (name_of(dtype, rank), helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape_of(rank))
        for dtype in DTYPES
        for rank in RANKS
    ]
    nodes = [helper.make_node("Identity", [name], [f"same_{name}"]) for name, *_ in tensors]
    return write_onnx(path, nodes, tensors, [(f"same_{name}", *rest) for name, *rest in tensors])


def write_two_onnx(path: Path, batch: int | str = "n") -> Path:
    """Write a graph: sum = a + b; scaled = a * factor, where factor is a scalar of int64."""
    from onnx import TensorProto as Types
    from onnx import helper

    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Cast", ["factor"], ["real"], to=Types.FLOAT),
        helper.make_node("Mul", ["a", "real"], ["scaled"]),
    ]
    vectors = [(name, Types.FLOAT, [batch, 4]) for name in ("a", "b", "sum", "scaled")]
    return write_onnx(path, nodes, [*vectors[:2], ("factor", Types.INT64, [])], vectors[2:])


@pytest.fixture(scope="session")
def tflite_models(make_once: MakeOnce) -> Path:
    """A folder with every.tflite, two.tflite, variable.tflite and pair.tflite."""
    return make_once("tflite_models", write_tflite_models)


def write_tflite_models(folder: Path) -> None:
    import tensorflow as tf

    def write(name: str, function: Any, owner: Any, variables: bool = False) -> None:
        concrete = function.get_concrete_function()
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], owner)
        converter.experimental_enable_resource_variables = variables
        (folder / name).write_bytes(converter.convert())

    signature = [
        tf.TensorSpec(shape_of(rank), dtype, name_of(dtype, rank))
        for dtype in DTYPES
        for rank in RANKS
    ]

    class Every(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
        def call(self, *values: Any) -> Any:
            return {
                f"out_{spec.name}": tf.reshape(value, (1, *spec.shape))
                for spec, value in zip(signature, values, strict=True)
            }

    vector = tf.TensorSpec((None, 4), tf.float32)
    two = [vector, vector, tf.TensorSpec((), tf.int32)]

    class Two(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=two)  # type: ignore[untyped-decorator]
        def call(self, a: Any, b: Any, factor: Any) -> Any:
            return {"sum": a + b, "scaled": a * tf.cast(factor, tf.float32)}

    class Counter(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.total = tf.Variable(tf.zeros((1, 4)))

        @tf.function(input_signature=[tf.TensorSpec((1, 4), tf.float32, "a")])  # type: ignore[untyped-decorator]
        def call(self, a: Any) -> Any:
            self.total.assign_add(a)
            return self.total.read_value()

    pair = [
        tf.TensorSpec((1, 1, 1, 4), tf.float32, "b"),
        tf.TensorSpec((1, 1, 1, 2), tf.float32, "a"),
    ]

    class Pair(tf.Module):  # type: ignore[misc]
        """Its outputs have another order by name than by use, and so have its inputs."""

        @tf.function(input_signature=pair)  # type: ignore[untyped-decorator]
        def call(self, b: Any, a: Any) -> Any:
            return {"z": b * 2.0, "y": a + 1.0}

    owners: dict[str, Any] = {"every": Every(), "two": Two(), "variable": Counter(), "pair": Pair()}
    for name, owner in owners.items():
        write(f"{name}.tflite", owner.call, owner, variables=name == "variable")


def run_elsewhere(path: Path, target: str, values: dict[str, Array], folder: Path) -> Any:
    """Run a model twice in a process of its own, because some runtimes cannot share one."""
    np.savez(folder / "in.npz", **values)
    code = f"""
import numpy as np, sys
from pathlib import Path
from tests.runtimes.any_model import run
values = dict(np.load({str(folder / "in.npz")!r}))
np.savez({str(folder / "out.npz")!r}, **run(Path({str(path)!r}), {target!r}, values, values))
"""
    subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=120, cwd=Path(__file__).parents[2]
    )
    with np.load(folder / "out.npz") as outputs:
        return dict(outputs)


def assert_equal_by_name(outputs: dict[str, Array], inputs: dict[str, Array]) -> None:
    """Assert that each output has the values and the type of the input that its name ends with."""
    assert len(outputs) == len(inputs)
    for values in inputs.values():
        same = [
            output
            for output in outputs.values()
            if output.dtype == values.dtype and output.size == values.size
        ]
        assert any(np.array_equal(output.ravel(), values.ravel()) for output in same)


@pytest.mark.parametrize("target", ONNX_TARGETS)
def test_onnx_models_take_and_return_every_type_and_rank(tmp_path: Path, target: str) -> None:
    path = write_every_type_onnx(tmp_path / "every.onnx")
    with closing(open_session(opened(path), get_target(target))) as session:
        (values,) = random_inputs(session.input_specs, 1, 1)
        session.prepare(values)
        session.infer()
        outputs = session.outputs()
    for dtype in DTYPES:
        for rank in RANKS:
            expected, output = values[name_of(dtype, rank)], outputs[f"same_{name_of(dtype, rank)}"]
            assert (output.dtype, output.shape) == (np.dtype(dtype), shape_of(rank))
            np.testing.assert_array_equal(output, expected)


@pytest.mark.costly
@pytest.mark.parametrize("target", TFLITE_TARGETS)
def test_tflite_models_take_and_return_types_and_ranks(
    tflite_models: Path, tmp_path: Path, target: str
) -> None:
    path = tflite_models / "every.tflite"
    code = opened(path)
    with closing(open_session(code, get_target("litert-reference"))) as session:
        (values,) = random_inputs(session.input_specs, 1, 1)
    assert_equal_by_name(run_elsewhere(path, target, values, tmp_path), values)


TWO = {
    "a": np.arange(8, dtype=np.float32).reshape(2, 4),
    "b": np.ones((2, 4), np.float32),
    "factor": np.array(3),
}
RESULTS = [TWO["a"] + 1, TWO["a"] * 3]


@pytest.mark.parametrize("target", ONNX_TARGETS)
@pytest.mark.parametrize("batch", [2, "n"])
def test_two_inputs_and_outputs_of_an_onnx_model(
    tmp_path: Path, target: str, batch: int | str
) -> None:
    path = write_two_onnx(tmp_path / "two.onnx", batch)
    outputs = run(path, target, TWO)
    np.testing.assert_array_equal(outputs["sum"], RESULTS[0])
    np.testing.assert_array_equal(outputs["scaled"], RESULTS[1])


@pytest.mark.costly
@pytest.mark.parametrize("target", [*TFLITE_TARGETS[:3], "openvino-cpu"])
def test_two_inputs_and_outputs_of_a_tflite_model(
    tflite_models: Path, tmp_path: Path, target: str
) -> None:
    path = tflite_models / "two.tflite"
    with closing(open_session(opened(path), get_target("litert-reference"))) as session:
        names = [spec.name for spec in session.input_specs]
        assert [spec.shape for spec in session.input_specs].count((None, 4)) == 2
    values = {name: TWO[name.removeprefix("serving_default_").split(":")[0]] for name in names}
    outputs = run_elsewhere(path, target, values, tmp_path)
    assert sorted(map(np.sum, outputs.values())) == sorted(map(np.sum, RESULTS))


@pytest.mark.parametrize("target", ONNX_TARGETS)
def test_sizes_that_depend_on_the_values(tmp_path: Path, target: str) -> None:
    from onnx import TensorProto as Types
    from onnx import helper

    path = write_onnx(
        tmp_path / "nonzero.onnx",
        [helper.make_node("NonZero", ["x"], ["indexes"])],
        [("x", Types.FLOAT, ["n"])],
        [("indexes", Types.INT64, [1, "count"])],
    )
    none, two = np.zeros(3, np.float32), np.array([0, 1, 1], np.float32)
    assert run(path, target, none, two)["indexes"].tolist() == [[1, 2]]
    assert run(path, target, two, none)["indexes"].size == 0


@pytest.mark.parametrize("target", ONNX_TARGETS)
def test_a_model_without_inputs(tmp_path: Path, target: str) -> None:
    from onnx import TensorProto as Types
    from onnx import helper

    node = helper.make_node("Constant", [], ["y"], value_floats=[1.0, 2.0])
    path = write_onnx(tmp_path / "constant.onnx", [node], [], [("y", Types.FLOAT, [2])])
    (artifact,) = load_artifacts([path], tmp_path)
    assert timing.make_batches(artifact, 1)[0] == {}
    assert run(path, target, {})["y"].tolist() == [1, 2]


def write_text_onnx(path: Path) -> Path:
    """Write a graph whose input and output are strings."""
    from onnx import TensorProto as Types
    from onnx import helper

    node = helper.make_node("Identity", ["words"], ["same"])
    return write_onnx(path, [node], [("words", Types.STRING, [1])], [("same", Types.STRING, [1])])


@pytest.mark.parametrize("target", ONNX_TARGETS)
def test_a_session_refuses_text_in_one_line(tmp_path: Path, target: str) -> None:
    path = write_text_onnx(tmp_path / "text.onnx")
    with pytest.raises(TargetError, match="the input words is of type string"):
        open_session(opened(path), get_target(target))


def test_a_file_that_takes_text_is_refused_in_one_line(tmp_path: Path) -> None:
    path = write_text_onnx(tmp_path / "text.onnx")
    with pytest.raises(ModelFileError, match=r"text.onnx cannot be used: the input words"):
        load_artifacts([path], tmp_path)


@pytest.mark.parametrize("target", ONNX_TARGETS)
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (TWO["a"], "the model has 3 inputs; give an array for each: a, b, factor"),
        ({"a": TWO["a"]}, "no array for b; the inputs of the model are a, b, factor"),
        ({**TWO, "c": TWO["a"]}, "c is no input"),
        ({**TWO, "a": TWO["a"][:, :2]}, "the input a takes shape any x 4, not 2 x 2"),
    ],
)
def test_wrong_inputs_are_refused(tmp_path: Path, target: str, values: Any, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        run(write_two_onnx(tmp_path / "two.onnx"), target, values)


def test_logits_are_those_of_one_output(tmp_path: Path) -> None:
    path = write_two_onnx(tmp_path / "two.onnx")
    with closing(open_session(opened(path), get_target("onnxruntime-cpu"))) as session:
        session.prepare(TWO)
        session.infer()
        with pytest.raises(TargetError, match="the model has 2 outputs"):
            session.logits()


class Recorder:
    """A wrapper that records the names of the methods that are called."""

    def __init__(self, wrapped: Any) -> None:
        self._wrapped, self.called = wrapped, list[str]()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.called.append(name)
            return getattr(self._wrapped, name)(*arguments)

        return call


@pytest.mark.costly
def test_bench_times_the_calls_of_a_loop_by_hand(tflite_models: Path, tmp_path: Path) -> None:
    """A loop by hand sets the inputs, invokes, and gets the outputs. `infer` only invokes."""
    with closing(
        open_session(opened(tflite_models / "two.tflite"), get_target("litert-xnnpack"))
    ) as session:
        batches: list[Any] = [*random_inputs(session.input_specs, 1, 2)]
        session.prepare(batches[0])
        interpreter: Any = session
        interpreter._interpreter = recorder = Recorder(interpreter._interpreter)
        take_samples(session, batches, 1, StopRule(0, 1, 1e9, 3))
        one_call = ["set_tensor"] * 3 + ["invoke"] + ["get_tensor"] * 2
        assert recorder.called[:18] == one_call * 3
        recorder.called.clear()
        session.infer()
        assert recorder.called == ["invoke"]
    path = write_two_onnx(tmp_path / "two.onnx")
    with closing(open_session(opened(path), get_target("onnxruntime-cpu"))) as bound:
        bound.prepare(TWO)
        run_bound: Any = bound
        assert run_bound._run.func == run_bound._session._sess.run_with_iobinding


@pytest.mark.costly
def test_a_variable_is_carried_from_call_to_call(tflite_models: Path, tmp_path: Path) -> None:
    path = tflite_models / "variable.tflite"
    with closing(open_session(opened(path), get_target("litert-xnnpack"))) as session:
        assert timing.state_of(session) == session.state == "carried"
        name = session.input_specs[0].name
    for target in TFLITE_TARGETS[1:3]:
        (total,) = run_elsewhere(
            path, target, {name: np.ones((1, 4), np.float32)}, tmp_path
        ).values()
        assert total.tolist() == [[2.0] * 4]


def test_the_batch_is_the_first_size_of_every_input(tmp_path: Path) -> None:
    for batch, expected in ((2, 2), ("n", None)):
        (artifact,) = load_artifacts([write_two_onnx(tmp_path / "two.onnx", batch)], tmp_path)
        assert (artifact.batch_size, batch_size_of(artifact.inputs)) == (expected, expected)


BRIEF = ("--batch-size", "1", "--rounds", "1", "--min-time", "0", "--max-time", "0.02")


def bench(folder: Path, lenet_edge_here: LenetEdge, *arguments: str) -> list[dict[str, Any]]:
    done = lenet_edge_here("bench", *arguments, *BRIEF, "--json", "out.json")
    assert done.returncode == 0, done.stderr
    measurements: list[dict[str, Any]] = json.loads((folder / "out.json").read_text())[
        "measurements"
    ]
    return measurements


@pytest.mark.costly
def test_bench_measures_any_model(tmp_path: Path, lenet_edge_here: LenetEdge) -> None:
    write_two_onnx(tmp_path / "two.onnx")
    np.savez(tmp_path / "three.npz", a=np.ones((3, 4)), b=np.ones((3, 4)), factor=np.array(2))
    ort = ("two.onnx", "--target", "onnxruntime-cpu")
    (read,) = bench(tmp_path, lenet_edge_here, *ort, "--inputs", "three.npz")
    assert (read["inputs"], read["state"]) == ("three.npz", None)


@pytest.mark.costly
def test_bench_states_free_sizes(tmp_path: Path, lenet_edge_here: LenetEdge) -> None:
    from onnx import TensorProto as Types
    from onnx import helper

    write_onnx(
        tmp_path / "free.onnx",
        [helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
         helper.make_node("Identity", ["state"], ["next"])],
        [("x", Types.FLOAT, ["n", 3, 48, "width"]), ("state", Types.FLOAT, [2, "n", 8, 1])],
        [("mean", Types.FLOAT, ["n", 3, 1, 1]), ("next", Types.FLOAT, [2, "n", 8, 1])],
    )  # fmt: skip
    ort = ("free.onnx", "--target", "onnxruntime-cpu")
    done = lenet_edge_here("bench", *ort)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "Error: free.onnx cannot be measured: the input x takes any x 3 x 48 x any; state its"
        " sizes, such as --input-shape x=1,3,48,48"
    )
    shapes = ("--input-shape", "x=1,3,48,20", "--input-shape", "state=2,1,8,1")
    (measured,) = bench(tmp_path, lenet_edge_here, *ort, *shapes)
    facts = {name: measured[name] for name in ("batch_size", "inputs", "state")}
    assert facts == {"batch_size": 1, "inputs": "random", "state": "reset"}


@pytest.mark.slow
@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("target", ["litert-gpu", "litert-npu", "onnxruntime-webgpu"])
def test_accelerators_keep_the_order_of_inputs_and_outputs(
    tflite_models: Path, tmp_path: Path, target: str
) -> None:
    if reason := absence(get_target(target)):
        pytest.skip(reason)
    path = tflite_models / "pair.tflite"
    first, second = "serving_default_b:0", "serving_default_a:0"
    if target.startswith("onnxruntime"):
        path = write_two_onnx(tmp_path / "two.onnx")
        outputs = run_elsewhere(path, target, TWO, tmp_path)
        expected: dict[str, Any] = dict(zip(("sum", "scaled"), RESULTS, strict=True))
    else:
        values = {
            first: np.arange(4, dtype=np.float32).reshape(1, 1, 1, 4),
            second: np.arange(2, dtype=np.float32).reshape(1, 1, 1, 2),
        }
        outputs = run_elsewhere(path, target, values, tmp_path)
        expected = run_elsewhere(path, "litert-reference", values, tmp_path)
    assert outputs.keys() == expected.keys()
    for name, output in expected.items():
        np.testing.assert_allclose(outputs[name], output, atol=1e-5)


@pytest.mark.slow
def test_a_keras_model_of_two_inputs_and_outputs(tmp_path: Path) -> None:
    code = f"""
import keras, numpy as np
from pathlib import Path
from tests.runtimes.any_model import run
from tests.runtimes.test_any_model import TWO
a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
sides = {{"b": b, "a": a}}
path = Path({str(tmp_path / "two.keras")!r})
keras.Model(sides, [keras.layers.Add()([a, b]), keras.layers.Multiply()([a, b])]).save(path)
for target in ("tensorflow-function", "tensorflow-eager", "tensorflow-xla"):
    outputs = run(path, target, {{"a": TWO["a"], "b": TWO["b"] * 2}})
    first, second = outputs.values()
    np.testing.assert_array_equal(first, TWO["a"] + 2)
    np.testing.assert_array_equal(second, TWO["a"] * 2)
"""
    subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=120, cwd=Path(__file__).parents[2]
    )
