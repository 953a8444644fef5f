"""Readers of the operator that computes the output of a .tflite or .onnx file.

They need only the standard library, because a board has no onnx or TensorFlow.
"""

from __future__ import annotations

import contextlib
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

from lenet_edge.artifacts import embedded
from lenet_edge.artifacts.embedded import Data

# Source: tensorflow/lite/schema/schema.fbs: the numbers of the fields and of the operators.
_OPERATOR_CODES, _SUBGRAPHS = 1, 2
_SUBGRAPH_OUTPUTS, _SUBGRAPH_OPERATORS = 2, 3
_OPCODE_INDEX, _OPERATOR_INPUTS, _OPERATOR_OUTPUTS = 0, 1, 2
_OLD_CODE, _CODE = 0, 3
_TFLITE = {14: "sigmoid", 25: "softmax", 50: "log_softmax"}
# DEQUANTIZE, RESHAPE, SQUEEZE, CAST, QUANTIZE: the values stay what they are.
_TFLITE_COPIES = (6, 22, 43, 53, 114)
_ONNX = {"Sigmoid": "sigmoid", "Softmax": "softmax", "LogSoftmax": "log_softmax",
         "QLinearSigmoid": "sigmoid", "QLinearSoftmax": "softmax"}  # fmt: skip
_ONNX_COPIES = ("Cast", "DequantizeLinear", "Flatten", "Identity", "QuantizeLinear", "Reshape",
                "Squeeze", "Unsqueeze")  # fmt: skip
_MAX_OPERATORS = 100_000
OTHER = "other"


def output_operator(path: Path, format: str) -> str | None:
    """Return the operator that computes the output of a model file.

    Args:
        path: the model file.
        format: the name of its format.

    Returns:
        "softmax", "sigmoid", "log_softmax" or "other"; None if the file does not tell. Operators
        that copy, reshape or quantize values are skipped.
    """
    readers = {"tflite": _read_tflite, "onnx": _read_onnx}
    if format not in readers:
        return None
    # The runtime judges a damaged file. Here it only has no known operator.
    with (
        contextlib.suppress(struct.error, IndexError, ValueError, OSError),
        path.open("rb") as file,
    ):
        # The map is not closed here: the traceback of an error may still hold views of it.
        return readers[format](mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return None


def _read_tflite(data: Data) -> str | None:
    model = embedded.u32(data, 0)
    codes = embedded.elements(data, embedded.field(data, model, _OPERATOR_CODES))
    for subgraph in embedded.elements(data, embedded.field(data, model, _SUBGRAPHS))[:1]:
        outputs = _integers(data, embedded.field(data, subgraph, _SUBGRAPH_OUTPUTS))
        if len(outputs) != 1:
            return None
        (wanted,) = outputs
        operators = embedded.elements(data, embedded.field(data, subgraph, _SUBGRAPH_OPERATORS))
        for operator in reversed(operators):  # they stand in the order of execution
            if wanted not in _integers(data, embedded.field(data, operator, _OPERATOR_OUTPUTS)):
                continue
            index = embedded.field(data, operator, _OPCODE_INDEX)
            code = _code(data, codes[embedded.u32(data, index) if index else 0])
            if code not in _TFLITE_COPIES:
                return _TFLITE.get(code, OTHER)
            wanted = _integers(data, embedded.field(data, operator, _OPERATOR_INPUTS))[0]
    return None


def _code(data: Data, table: int) -> int:
    """Return the number of an operator; old files have it in a field of 8 bits."""
    old, new = (embedded.field(data, table, number) for number in (_OLD_CODE, _CODE))
    return max(data[old] if old else 0, embedded.u32(data, new) if new else 0)


def _integers(data: Data, at: int) -> tuple[int, ...]:
    if not at:
        return ()
    start = at + embedded.u32(data, at)
    count = embedded.u32(data, start)
    if count > _MAX_OPERATORS:
        raise IndexError(f"a vector has {count:,} numbers")
    return struct.unpack_from(f"<{count}i", data, start + 4)


# Source: onnx.proto: the numbers of the fields.
_MODEL_GRAPH, _GRAPH_NODE, _GRAPH_OUTPUT, _VALUE_NAME = 7, 1, 12, 1
_NODE_INPUT, _NODE_OUTPUT, _NODE_KIND = 1, 2, 4


def _read_onnx(data: mmap.mmap) -> str | None:
    for number, graph in embedded.messages(memoryview(data)):
        if number == _MODEL_GRAPH:
            return _of_graph(graph)
    return None


def _of_graph(graph: memoryview) -> str | None:
    nodes: list[list[tuple[int, bytes]]] = []
    outputs: list[bytes] = []
    for number, content in embedded.messages(graph):
        if number == _GRAPH_NODE:
            kinds = (_NODE_INPUT, _NODE_OUTPUT, _NODE_KIND)
            nodes.append([(n, bytes(c)) for n, c in embedded.messages(content) if n in kinds])
        elif number == _GRAPH_OUTPUT:
            outputs += _texts(((n, bytes(c)) for n, c in embedded.messages(content)), _VALUE_NAME)
    if len(outputs) != 1:
        return None
    (wanted,) = outputs
    for node in reversed(nodes):
        if wanted not in _texts(node, _NODE_OUTPUT):
            continue
        kind = b"".join(_texts(node, _NODE_KIND)).decode("utf-8")
        if kind not in _ONNX_COPIES:
            return _ONNX.get(kind, OTHER)
        wanted = _texts(node, _NODE_INPUT)[0]
    return None


def _texts(
    fields: Iterator[tuple[int, bytes]] | list[tuple[int, bytes]], wanted: int
) -> list[bytes]:
    return [content for number, content in fields if number == wanted]
