"""Reader of the graphs in a .tflite file, with the standard library alone.

A runtime opens only the files whose operators it has, and lists only the main graph. This reader
takes every file. The files are untrusted: the number of values that it reads is bounded.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lenet_edge.artifacts.embedded import elements, field, text, u32
from lenet_edge.errors import ModelFileError

_MAX_VALUES = 3_000_000  # in all vectors of a file

# Source: tensorflow/lite/schema/schema.fbs: the names of the operators in the order of their
# numbers, the types, and the numbers of the fields.
_NAMES = """
ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE
EMBEDDING_LOOKUP FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D
LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1
RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM
CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND
SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE
BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM
CAST PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE
SIN TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW
ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK
REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR
LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS
WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE
NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM
BATCH_MATMUL PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG
REAL COMPLEX_ABS HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL
CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL
BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD
UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2 UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR
RIGHT_SHIFT STABLEHLO_LOGISTIC STABLEHLO_ADD STABLEHLO_DIVIDE STABLEHLO_MULTIPLY
STABLEHLO_MAXIMUM STABLEHLO_RESHAPE STABLEHLO_CLAMP STABLEHLO_CONCATENATE
STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONVOLUTION STABLEHLO_SLICE STABLEHLO_CUSTOM_CALL
STABLEHLO_REDUCE STABLEHLO_ABS STABLEHLO_AND STABLEHLO_COSINE STABLEHLO_EXPONENTIAL
STABLEHLO_FLOOR STABLEHLO_LOG STABLEHLO_MINIMUM STABLEHLO_NEGATE STABLEHLO_OR STABLEHLO_POWER
STABLEHLO_REMAINDER STABLEHLO_RSQRT STABLEHLO_SELECT STABLEHLO_SUBTRACT STABLEHLO_TANH
STABLEHLO_SCATTER STABLEHLO_COMPARE STABLEHLO_CONVERT STABLEHLO_DYNAMIC_SLICE
STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_PAD STABLEHLO_IOTA STABLEHLO_DOT_GENERAL
STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE STABLEHLO_GATHER STABLEHLO_TRANSPOSE
DILATE STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW STABLEHLO_COMPOSITE STABLEHLO_SHIFT_LEFT
STABLEHLO_CBRT STABLEHLO_CASE
"""
BUILTIN = tuple(_NAMES.split())
_TYPES = ("float32", "float16", "int32", "uint8", "int64", "string", "bool", "int16", "complex64",
          "int8", "float64", "complex128", "uint64", "resource", "variant", "uint32", "uint16",
          "int4", "bfloat16", "int2", "uint4", "float8_e4m3fn", "float8_e5m2")  # fmt: skip
_CODES, _SUBGRAPHS, _BUFFERS, _SIGNATURES = 1, 2, 4, 7
_CODE_OLD, _CODE_CUSTOM, _CODE_NEW = 0, 1, 3
_BUFFER_DATA, _BUFFER_SIZE = 0, 2
_TENSORS, _INPUTS, _OUTPUTS, _OPERATORS, _NAME = range(5)
(_SHAPE, _TYPE, _BUFFER, _TENSOR_NAME, _QUANTIZATION, _IS_VARIABLE, _SIGNATURE_SHAPE, _HAS_RANK) = (
    0, 1, 2, 3, 4, 5, 7, 8)  # fmt: skip
_SCALE, _ZERO_POINT = 2, 3
_OPCODE, _OP_INPUTS, _OP_OUTPUTS, _OPTIONS, _OPTIONS_2 = 0, 1, 2, 4, 12
_ENTRY_INPUTS, _ENTRY_OUTPUTS, _ENTRY_KEY, _ENTRY_GRAPH = 0, 1, 2, 4
# For each operator that runs other subgraphs: the field of its options, and the role and the number
# of the field of each subgraph.
_CALLS: dict[str, tuple[int, tuple[tuple[str, int], ...]]] = {
    "WHILE": (_OPTIONS, (("condition", 0), ("body", 1))),
    "IF": (_OPTIONS, (("then", 0), ("else", 1))),
    "CALL": (_OPTIONS, (("graph", 0),)),
    "CALL_ONCE": (_OPTIONS, (("graph", 0),)),
    "STABLEHLO_WHILE": (_OPTIONS_2, (("condition", 0), ("body", 1))),
    "STABLEHLO_COMPOSITE": (_OPTIONS_2, (("graph", 1),)),
}


@dataclass(frozen=True)
class TfliteTensor:
    """A tensor of a graph.

    Attributes:
        shape: the sizes of the example that the converter used, 1 for a free size.
        free_shape: the same, None for a free size; None if the number of axes is free.
        buffer: the number of the buffer of a constant; 0 for a computed tensor.
        num_bytes: the size of that buffer.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    free_shape: tuple[int | None, ...] | None
    buffer: int
    num_bytes: int
    is_variable: bool
    scales: tuple[float, ...]
    zero_points: tuple[int, ...]


@dataclass(frozen=True)
class TfliteOperator:
    """An operator: its kind (the name of a custom one), and the subgraphs it runs, by role."""

    kind: str
    is_custom: bool
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    calls: dict[str, int]


@dataclass(frozen=True)
class TfliteGraph:
    """A subgraph of a file; the first one is the main graph."""

    name: str
    tensors: tuple[TfliteTensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[TfliteOperator, ...]


@dataclass(frozen=True)
class TfliteSignature:
    """A named entry: for each of its names, the number of the tensor in its graph."""

    name: str
    graph: int
    inputs: dict[str, int]
    outputs: dict[str, int]


@dataclass(frozen=True)
class TfliteFile:
    """The content of a .tflite file, without its weights."""

    graphs: tuple[TfliteGraph, ...]
    signatures: tuple[TfliteSignature, ...]


def read_file(path: Path) -> TfliteFile:
    """Read the graphs of a .tflite file.

    Raises:
        ModelFileError: the file is truncated or damaged.
    """
    try:
        with path.open("rb") as file:
            return _FileReader(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)).read()
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise ModelFileError(f"{path} is damaged ({error}); get the file again") from error


class _FileReader:
    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._values = 0

    def read(self) -> TfliteFile:
        data = self._data
        model = u32(data, 0)
        self._codes = [self._code(table) for table in self._tables(model, _CODES)]
        self._sizes = [self._size(table) for table in self._tables(model, _BUFFERS)]
        graphs = tuple(self._graph(table) for table in self._tables(model, _SUBGRAPHS))
        if not graphs:
            raise IndexError("it has no graph")
        entries = [self._signature(table) for table in self._tables(model, _SIGNATURES)]
        return TfliteFile(graphs, tuple(e for e in entries if e.graph < len(graphs)))

    def _count(self, number: int) -> None:
        self._values += number
        if self._values > _MAX_VALUES:
            raise IndexError(f"it has more than {_MAX_VALUES:,} values")

    def _tables(self, table: int, number: int) -> list[int]:
        found = elements(self._data, field(self._data, table, number))
        self._count(len(found))
        return found

    def _numbers(self, table: int, number: int, code: str = "i") -> tuple[int, ...]:
        at = field(self._data, table, number)
        if not at:
            return ()
        start = at + u32(self._data, at)
        count = u32(self._data, start)
        self._count(count)
        return struct.unpack_from(f"<{count}{code}", self._data, start + 4)

    def _number(self, table: int, number: int, code: str = "I", default: int = 0) -> int:
        at = field(self._data, table, number)
        value: int = struct.unpack_from("<" + code, self._data, at)[0] if at else default
        return value

    def _text(self, table: int, number: int) -> str:
        found = text(self._data, field(self._data, table, number))
        self._count(len(found) // 100)
        return found.decode("utf-8", "replace")

    def _code(self, table: int) -> tuple[str, bool]:
        number = max(self._number(table, _CODE_OLD, "b"), self._number(table, _CODE_NEW, "i"))
        if not 0 <= number < len(BUILTIN):
            return f"operator {number}", True
        if BUILTIN[number] != "CUSTOM":
            return BUILTIN[number], False
        return self._text(table, _CODE_CUSTOM) or "CUSTOM", True

    def _size(self, table: int) -> int:
        at = field(self._data, table, _BUFFER_DATA)
        if not at:
            return self._number(table, _BUFFER_SIZE, "Q")
        return u32(self._data, at + u32(self._data, at))

    def _graph(self, table: int) -> TfliteGraph:
        tensors = tuple(self._tensor(entry) for entry in self._tables(table, _TENSORS))
        inputs, outputs = (self._numbers(table, side) for side in (_INPUTS, _OUTPUTS))
        operators = tuple(self._operator(entry) for entry in self._tables(table, _OPERATORS))
        used = [*inputs, *outputs]
        for operator in operators:
            used += [*operator.inputs, *operator.outputs]
        if used and not -1 <= min(used) <= max(used) < len(tensors):
            raise IndexError("an operator names a tensor that does not exist")
        name = self._text(table, _NAME)
        return TfliteGraph(name, tensors, inputs, outputs, operators)

    def _tensor(self, table: int) -> TfliteTensor:
        data = self._data
        shape = self._numbers(table, _SHAPE)
        signature = self._numbers(table, _SIGNATURE_SHAPE) or shape
        has_rank = bool(shape) or bool(self._number(table, _HAS_RANK, "b"))
        type_ = self._number(table, _TYPE, "b")
        buffer = self._number(table, _BUFFER)
        quantization = field(data, table, _QUANTIZATION)
        at = quantization + u32(data, quantization) if quantization else 0
        scales: tuple[float, ...] = self._numbers(at, _SCALE, "f") if at else ()
        free = tuple(None if size < 0 else size for size in signature)
        return TfliteTensor(
            name=self._text(table, _TENSOR_NAME),
            dtype=_TYPES[type_] if 0 <= type_ < len(_TYPES) else f"type {type_}",
            shape=tuple(max(0, size) for size in shape),
            free_shape=free if has_rank or self._size_of(buffer) else None,
            buffer=buffer if self._size_of(buffer) else 0,
            num_bytes=self._size_of(buffer),
            is_variable=bool(self._number(table, _IS_VARIABLE, "b")),
            scales=scales,
            zero_points=self._numbers(at, _ZERO_POINT, "q") if at else (),
        )

    def _size_of(self, buffer: int) -> int:
        return self._sizes[buffer] if buffer < len(self._sizes) else 0

    def _operator(self, table: int) -> TfliteOperator:
        kind, is_custom = self._codes[self._number(table, _OPCODE)]
        calls: dict[str, int] = {}
        if kind in _CALLS and not is_custom:
            options, roles = _CALLS[kind]
            at = field(self._data, table, options)
            if at:
                at += u32(self._data, at)
                calls = {role: self._number(at, number, "i") for role, number in roles}
        inputs, outputs = (self._numbers(table, side) for side in (_OP_INPUTS, _OP_OUTPUTS))
        return TfliteOperator(kind, is_custom, inputs, outputs, calls)

    def _signature(self, table: int) -> TfliteSignature:
        inputs, outputs = (
            dict(self._pairs(entry) for entry in self._tables(table, side))
            for side in (_ENTRY_INPUTS, _ENTRY_OUTPUTS)
        )
        name = self._text(table, _ENTRY_KEY)
        return TfliteSignature(name, self._number(table, _ENTRY_GRAPH), inputs, outputs)

    def _pairs(self, table: int) -> tuple[str, int]:
        return self._text(table, 0), self._number(table, 1)


def constants(graph: TfliteGraph) -> Iterator[int]:
    """Yield the numbers of the tensors with values in the file."""
    for number, tensor in enumerate(graph.tensors):
        if tensor.buffer and not tensor.is_variable:
            yield number
