"""`inspect` of graphs beyond a list of layers: control flow, signatures, types, damaged files."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet_edge import worker
from lenet_edge.errors import LenetEdgeError, ModelFileError
from lenet_edge.inspection import inspect_graph
from lenet_edge.inspection import read_graph as read_in_worker
from lenet_edge.inspection.onnx import read_graph as read_onnx
from lenet_edge.inspection.tflite import read_graph as read_tflite
from lenet_edge.inspection.tflite_file import BUILTIN
from tests.conftest import LenetEdge
from tests.tflite_files import Graph, quantized, two_heads, write_tflite

WEIGHTS = np.arange(48, dtype=np.float32).reshape(4, 12)


def dense(name: str, weights: Any = WEIGHTS) -> Graph:
    """Return a graph of one dense layer."""
    rows, columns = weights.shape
    tensors = {"x": ("float32", (1, columns)), "w": weights, "y": ("float32", (1, rows))}
    return Graph(name, tensors, [("FULLY_CONNECTED", ["x", "w", None], ["y"])], ["x"], ["y"])


def options(kind: str, **numbers: int) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    made = getattr(schema, f"{kind}OptionsT")()
    for name, number in numbers.items():
        setattr(made, name, number)
    return made


def loop_file(path: Path) -> Path:
    """Write a loop over a dense layer; its weights enter the loop, and a state of zeros too."""
    square = np.ones((12, 12), np.float32)
    main = Graph(
        "main",
        {"x": ("float32", (1, 12)), "w": square, "zeros": np.zeros((1, 12), np.float32),
         "y": ("float32", (1, 12)), "same": ("float32", (12, 12)), "sum": ("float32", (1, 12))},
        [("WHILE", ["x", "w", "zeros"], ["y", "same", "sum"])],
        ["x"],
        ["y"],
    )  # fmt: skip
    ends = {"x": ("float32", (1, 12)), "w": ("float32", (12, 12)), "s": ("float32", (1, 12))}
    condition = Graph("cond", {**ends, "go": ("bool", ())}, [], ["x", "w", "s"], ["go"])
    body = Graph(
        "body",
        {**ends, "y": ("float32", (1, 12)), "t": ("float32", (1, 12))},
        [("FULLY_CONNECTED", ["x", "w", None], ["y"]), ("ADD", ["s", "y"], ["t"])],
        ["x", "w", "s"],
        ["y", "w", "t"],
    )
    loops = {"WHILE": options("While", condSubgraphIndex=1, bodySubgraphIndex=2)}
    return write_tflite(path, main, condition, body, options=loops)


def test_a_loop_is_named_as_not_counted(tmp_path: Path, lenet_edge_here: LenetEdge) -> None:
    """FIELD: an LSTM with a loop showed a "?" for its parameters."""
    path = loop_file(tmp_path / "loop.tflite")
    graph = read_tflite(path)
    # The weights of the loop count once; the zeros of its state are no parameters.
    assert (graph.parameters, graph.macs, graph.counted_macs) == (144, None, 0)
    assert graph.parameter_bytes == 4 * 144
    assert graph.operators == {"WHILE": 1, "FULLY_CONNECTED": 1, "ADD": 1}
    assert [sub.called_by for sub in graph.subgraphs] == [("WHILE y: condition",),
                                                          ("WHILE y: body",)]  # fmt: skip
    done = lenet_edge_here("inspect", path, "--json", "loop.json")
    assert done.returncode == 0, done.stderr
    assert "Not counted: the MACs of WHILE y (MACs of one run: body: 144)." in done.stdout
    assert "100.0 % of 144 parameters" not in done.stdout  # they enter the loop, not the layer
    assert max(map(len, done.stdout.splitlines())) <= 80
    facts = json.loads((tmp_path / "loop.json").read_text())
    assert (facts["macs"], facts["parameters"], facts["counted_macs"]) == (None, 144, 0)
    assert facts["inputs"] == [{"name": "x", "dtype": "float32", "shape": [1, 12],
                                "scale": None, "zero_point": None}]  # fmt: skip


def calls_file(path: Path) -> Path:
    """Write a file with CALL, IF, CALL_ONCE, a variable, a custom operator and two signatures."""
    main = Graph(
        "main",
        {"x": quantized((-1, 12), 0.5, -128), "go": ("bool", ()), "f": ("float32", (-1, 12)),
         "a": ("float32", (1, 4)), "b": ("float32", (1, 4)), "c": ("float32", (1, 4)),
         "handle": ("resource", (1,))},
        [
            ("CALL_ONCE", [], []),
            ("VAR_HANDLE", [], ["handle"]),
            ("DEQUANTIZE", ["x"], ["f"]),
            ("CALL", ["f"], ["a"]),
            ("IF", ["go", "f"], ["b"]),
            ("TheirNms", ["b"], ["c"]),
        ],
        ["x", "go"],
        ["a", "c"],
    )  # fmt: skip
    setup = Graph("setup", {}, [], [], [])
    return write_tflite(
        path, main, dense("called"), dense("then", WEIGHTS + 1), dense("else", WEIGHTS[:2]), setup,
        signatures=[("serving_default", 0), ("called_alone", 1)],
        options={
            "CALL": options("Call", subgraph=1),
            "IF": options("If", thenSubgraphIndex=2, elseSubgraphIndex=3),
            "CALL_ONCE": options("CallOnce", initSubgraphIndex=4),
        },
    )  # fmt: skip


def test_calls_branches_variables_and_custom_operators(
    tmp_path: Path, lenet_edge_here: LenetEdge
) -> None:
    path = calls_file(tmp_path / "calls.tflite")
    graph = read_tflite(path)
    macs = {layer.kind: layer.macs for layer in graph.layers}
    assert macs == {"CALL_ONCE": 0, "VAR_HANDLE": 0, "DEQUANTIZE": 0, "CALL": 48, "IF": None,
                    "TheirNms": None}  # fmt: skip
    assert graph.not_counted == ("IF b (MACs of one run: then: 48, else: 24)",
                                 "custom operator TheirNms")  # fmt: skip
    assert (graph.parameters, graph.counted_macs) == (48 + 48 + 24, 48)
    assert graph.inputs is not None
    assert [(end.name, end.dtype, end.shape, end.scale) for end in graph.inputs] == [
        ("x", "int8", (None, 12), 0.5), ("go", "bool", (), None),
    ]  # fmt: skip
    assert graph.subgraphs[0].called_by == ("CALL a: graph", "signature called_alone")
    done = lenet_edge_here("inspect", path)
    assert done.returncode == 0, done.stderr
    assert ["input", "x", "int8", "?x12", "0.5,", "zero", "-128"] in [
        line.split() for line in done.stdout.splitlines()
    ]
    for line in (
        "Signature serving_default: x, go to a, c.",
        "Custom operators, which a runtime needs in addition: TheirNms.",
        "Variables that keep a state between inferences: 1.",
    ):
        assert line in done.stdout


def test_names_of_the_operators() -> None:
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    known = {name: n for name, n in vars(BuiltinOperator).items() if name.isupper()}
    assert [BUILTIN[number] for number in known.values()] == list(known)


def control_flow_onnx() -> Any:
    """Return a model with an If, a Loop, a local function, a sequence and a string input."""
    from onnx import TensorProto, helper, numpy_helper

    def info(name: str, shape: Any, kind: int = TensorProto.FLOAT) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    def product(name: str, columns: int) -> Any:
        weights = numpy_helper.from_array(np.ones((12, columns), "f4"), f"{name}_w")
        node = helper.make_node("MatMul", ["x", f"{name}_w"], [f"{name}_y"])
        return helper.make_graph([node], name, [], [info(f"{name}_y", [1, columns])], [weights])

    body = helper.make_graph(
        [helper.make_node("MatMul", ["state", "loop_w"], ["next"]),
         helper.make_node("Identity", ["go"], ["still"])],
        "body",
        [info("i", [], TensorProto.INT64), info("go", [], TensorProto.BOOL), info("state", [1, 4])],
        [info("still", [], TensorProto.BOOL), info("next", [1, 4])],
        [numpy_helper.from_array(np.ones((4, 4), "f4"), "loop_w")],
    )  # fmt: skip
    nodes = [
        helper.make_node("If", ["flag"], ["branch"], then_branch=product("yes", 4),
                         else_branch=product("no", 4)),
        helper.make_node("Loop", ["count", "", "branch"], ["looped"], body=body, name="the_loop"),
        helper.make_node("Twice", ["looped"], ["twice"], domain="local"),
        helper.make_node("SequenceAt", ["many", "zero"], ["one"]),
        helper.make_node("TheirOp", ["one"], ["y"], domain="com.vendor"),
    ]  # fmt: skip
    twice = helper.make_function(
        "local", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    many = helper.make_tensor_sequence_value_info("many", TensorProto.FLOAT, ["n", 3])
    graph = helper.make_graph(
        nodes,
        "main",
        [info("x", ["batch", 12]), info("flag", [], TensorProto.BOOL),
         info("words", ["n"], TensorProto.STRING), many],
        [info("twice", [1, 4]), info("y", None)],
        [numpy_helper.from_array(np.array(3), name) for name in ("count", "zero")],
    )  # fmt: skip
    opsets = [
        helper.make_opsetid(name, v) for name, v in (("", 17), ("local", 1), ("com.vendor", 1))
    ]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=[twice])


def test_control_flow_functions_and_types_of_onnx(
    tmp_path: Path, lenet_edge_here: LenetEdge
) -> None:
    import onnx

    onnx.save(control_flow_onnx(), tmp_path / "flow.onnx")
    graph = read_onnx(tmp_path / "flow.onnx")
    assert graph.parameters == 48 + 48 + 16
    assert graph.macs is None
    assert graph.not_counted == (
        "If branch (MACs of one run: then: 48, else: 48)",
        "Loop the_loop (MACs of one run: body: 16)",
        "TheirOp, an operator of com.vendor",
    )
    assert graph.inputs is not None
    assert [(end.dtype, end.shape) for end in graph.inputs] == [
        ("float32", ("batch", 12)), ("bool", ()), ("string", ("n",)),
        ("sequence of float32", ("n", 3)),
    ]  # fmt: skip
    assert graph.operators["MatMul"] == 3
    done = lenet_edge_here("inspect", tmp_path / "flow.onnx", "--json", "flow.json")
    assert done.returncode == 0, done.stderr
    assert "Functions of the file itself: Twice." in done.stdout
    assert "Operators outside of the ONNX standard: com.vendor.TheirOp." in done.stdout
    assert "input  words scalar" not in done.stdout
    facts = json.loads((tmp_path / "flow.json").read_text())
    assert [graph["name"] for graph in facts["subgraphs"]] == ["yes", "no", "body"]


def damaged(content: bytes, count: int) -> list[bytes]:
    """Return versions of a file that are cut off, or have some wrong bytes."""
    chance = random.Random(5)
    versions = [content[: len(content) * part // 8] for part in range(2, 8)]
    for _ in range(count):
        wrong = bytearray(content)
        for _ in range(chance.randint(1, 8)):
            wrong[chance.randrange(8, len(wrong))] = chance.choice((0, 1, 127, 128, 255))
        versions.append(bytes(wrong))
    return versions


def test_damaged_tflite_files(tmp_path: Path) -> None:
    for make in (loop_file, calls_file, two_heads):
        content = make(tmp_path / "good.tflite").read_bytes()
        for number, version in enumerate(damaged(content, 150)):
            path = tmp_path / f"{number}.tflite"
            path.write_bytes(version)
            try:
                assert read_tflite(path).to_json()
            except ModelFileError as error:
                assert str(error).startswith(f"{path} is damaged (")  # noqa: PT017


def test_damaged_onnx_files(tmp_path: Path) -> None:
    """The parser and the inference of shapes are C++, so that a worker reads the files."""
    content = control_flow_onnx().SerializeToString()
    reader = worker.Worker()
    try:
        for number, version in enumerate(damaged(content, 60)):
            path = tmp_path / f"{number}.onnx"
            path.write_bytes(version)
            try:
                assert reader.run(read_in_worker.bind(path, "onnx"))
            except ModelFileError as error:
                assert str(error).startswith(f"{path} is damaged (")  # noqa: PT017
    finally:
        reader.close()


def test_a_file_that_is_no_graph(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").write_bytes(b"\x08\x08")
    with pytest.raises(LenetEdgeError, match=r"empty\.onnx"):
        inspect_graph(tmp_path / "empty.onnx")
