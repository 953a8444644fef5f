"""Reader of the inputs and outputs of an .onnx file, for runtimes that do not report them.

It needs only the standard library, because a board has no onnx package.
"""

from __future__ import annotations

import mmap
from pathlib import Path

from lenet_edge.artifacts.artifact import TensorSpec
from lenet_edge.artifacts.embedded import fields, integer_of, messages
from lenet_edge.errors import ModelFileError

# Source: onnx.proto: the numbers of the fields and of the element types.
_MODEL_GRAPH = 7
_INITIALIZER, _INPUT, _OUTPUT, _SPARSE_INITIALIZER = 5, 11, 12, 15
_TENSOR_NAME, _SPARSE_VALUES = 8, 1
_VALUE_NAME, _VALUE_TYPE = 1, 2
_TYPE_TENSOR, _ELEMENT, _SHAPE, _SIZE, _SIZE_VALUE = 1, 1, 2, 1, 1
_TYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
    8: "string", 9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64",
    16: "bfloat16",
}  # fmt: skip


def read_onnx_tensors(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return the inputs and the outputs of an .onnx file, without its weights.

    A tensor without a shape has the shape (). The type of a value that is no tensor is "unknown".

    Raises:
        ModelFileError: the file is truncated or damaged.
    """
    try:
        with path.open("rb") as file:
            # The map is not closed here: the traceback of an error may still hold views of it.
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        graphs = (content for number, content in messages(data) if number == _MODEL_GRAPH)
        graph = next(graphs, None)
        if graph is None:
            raise ValueError("it has no graph")
        weights: set[str] = set()
        sides: dict[int, list[TensorSpec]] = {_INPUT: [], _OUTPUT: []}
        for number, content in messages(graph):
            if number == _INITIALIZER:
                weights.add(_text(content, _TENSOR_NAME))
            elif number == _SPARSE_INITIALIZER:
                weights.add(_text(dict(messages(content))[_SPARSE_VALUES], _TENSOR_NAME))
            elif number in sides:
                sides[number].append(_tensor(content))
    except (IndexError, KeyError, ValueError) as error:
        raise ModelFileError(f"{path} is damaged ({error}); export it again") from error
    inputs = (spec for spec in sides[_INPUT] if spec.name not in weights)
    return tuple(inputs), tuple(sides[_OUTPUT])


def _text(message: memoryview, number: int) -> str:
    return bytes(dict(messages(message)).get(number, b"")).decode("utf-8")


def _tensor(value: memoryview) -> TensorSpec:
    """Return the tensor that a ValueInfoProto describes."""
    type_ = dict(messages(value)).get(_VALUE_TYPE, memoryview(b""))
    tensor = dict(messages(type_)).get(_TYPE_TENSOR, memoryview(b""))
    shape = dict(messages(tensor)).get(_SHAPE, memoryview(b""))
    return TensorSpec(
        _text(value, _VALUE_NAME),
        tuple(_size(content) for number, content in messages(shape) if number == _SIZE),
        _TYPES.get(_integer(tensor, _ELEMENT), "unknown"),
    )


def _size(dimension: memoryview) -> int | None:
    """Return a size of a shape, None if it is free."""
    size = _integer(dimension, _SIZE_VALUE)
    return size if 0 < size < 2**63 else None


def _integer(message: memoryview, wanted: int) -> int:
    """Return the integer in the last field of a number, 0 without such a field."""
    values = [integer_of(field) for number, _, field in fields(message) if number == wanted]
    return values[-1] if values else 0
