"""A .tflite file as a graph of operators and tensors.

The file is untrusted: every index is checked, and whatever the FlatBuffers reader raises becomes a
`ModelFileError`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.errors import ModelFileError
from lenet_edge.export import int4
from lenet_edge.support.printable import make_printable

MAX_ELEMENTS = 1 << 28
# Source: TensorType in tensorflow/lite/schema/schema.fbs.
_DTYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 9: "int8", 17: "int4"}
_ITEM = {name: np.dtype(name).newbyteorder("<") for name in _DTYPES.values() if name != "int4"}
_LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int4": (-8, 7)}
Values = npt.NDArray[Any]


@dataclass(eq=False)
class Tensor:
    """A tensor of the file.

    Attributes:
        shape: sizes of the axes; a free batch axis counts 1.
        dtype: name of the NumPy type, or "type N" for another one. Constants of int4 are int8.
        scales: scales of the quantization: none, one, or one per channel.
        zeros: zero points, as many as scales.
        axis: the axis of the channels that have scales of their own.
        values: the values of a constant.
        is_int4: whether the file has them in four bits.
        is_dynamic: True if a size other than the batch is unknown.
        has_free_batch: True if the first size is unknown.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scales: tuple[float, ...] = ()
    zeros: tuple[int, ...] = ()
    axis: int = 0
    values: Values | None = None
    is_int4: bool = False
    is_dynamic: bool = False
    has_free_batch: bool = False

    @property
    def scale(self) -> float:
        """The only scale, or the first one."""
        return self.scales[0]

    @property
    def zero(self) -> int:
        """The only zero point, or the first one."""
        return self.zeros[0]

    @property
    def size(self) -> int:
        """The number of values."""
        return math.prod(self.shape)

    @property
    def is_quantized(self) -> bool:
        """True for integers with one scale."""
        return self.dtype in ("int8", "uint8") and len(self.scales) == 1

    def has_same_quantization(self, other: Tensor) -> bool:
        """Return whether two tensors of one dtype represent numbers in the same way."""
        return (self.dtype, self.scales, self.zeros) == (other.dtype, other.scales, other.zeros)


@dataclass(eq=False)
class Operator:
    """An operator of the file, or one that a pass made.

    Attributes:
        kind: the name in TFLite's schema, such as "CONV_2D".
        place: the position in the file.
        options: the table of the operator's options; None for none.
        inputs: the tensors; None for an omitted one.
        pool: the max-pool whose work this convolution does too.
        padding: rows and columns above, below, left and right, if a pass has set them.
    """

    kind: str
    place: int
    options: Any
    inputs: list[Tensor | None]
    outputs: list[Tensor]
    pool: Operator | None = None
    padding: tuple[int, int, int, int] | None = None

    @property
    def output(self) -> Tensor:
        """The first output."""
        return self.outputs[0]

    @property
    def activation(self) -> int:
        """The number of the fused activation; 0 for none."""
        return int(getattr(self.options, "fusedActivationFunction", 0) or 0)

    def input(self, number: int = 0) -> Tensor:
        """Return an input that must be there."""
        tensor = self.inputs[number] if number < len(self.inputs) else None
        if tensor is None:
            raise ModelFileError(f"{self.described} has no input {number}")
        return tensor

    @property
    def described(self) -> str:
        """Kind, place and name of the output, for messages."""
        name = make_printable(self.outputs[0].name) if self.outputs else "?"
        return f"{self.kind} (operator {self.place}, {name:.60})"


@dataclass
class OperatorGraph:
    """The main graph of a .tflite file."""

    inputs: list[Tensor]
    outputs: list[Tensor]
    operators: list[Operator] = field(default_factory=list)

    def consumers(self, tensor: Tensor) -> list[Operator]:
        """Return the operators that read a tensor."""
        return [operator for operator in self.operators if tensor in operator.inputs]

    def producer(self, tensor: Tensor) -> Operator | None:
        """Return the operator that computes a tensor; None for inputs and constants."""
        return next((each for each in self.operators if tensor in each.outputs), None)


def read(content: bytes, name: str) -> OperatorGraph:
    """Return the main graph of a .tflite file.

    Args:
        content: the file.
        name: the name of the file, for messages.

    Raises:
        ModelFileError: the file is damaged.
    """
    from lenet_edge.export.embed import read_tflite

    try:
        if content[4:8] != b"TFL3":
            raise ValueError("it does not begin like a .tflite file")
        return _graph(read_tflite(content))
    except ModelFileError:
        raise
    except Exception as error:  # the FlatBuffers reader raises various types for damaged files
        reason = " ".join(make_printable(str(error)).split())[:120] or type(error).__name__
        raise ModelFileError(f"{name} is damaged ({reason}); make it again") from error


def _graph(model: Any) -> OperatorGraph:
    from lenet_edge.export.embed import operator_number

    main = model.subgraphs[0]
    tensors = [_tensor(model, tensor) for tensor in main.tensors]
    known = _operator_names()

    def at(index: int) -> Tensor:
        if not 0 <= index < len(tensors):
            raise ValueError(f"there is no tensor {index}")
        return tensors[index]

    graph = OperatorGraph([at(n) for n in main.inputs], [at(n) for n in main.outputs])
    if not graph.outputs or main.operators is None:
        raise ValueError("it has no output")
    ready = {id(tensor) for tensor in (*graph.inputs, *tensors) if tensor.values is not None}
    ready |= {id(tensor) for tensor in graph.inputs}
    for place, operator in enumerate(main.operators):
        number = operator_number(model, operator)
        kind = known.get(number, f"operator {number}")
        if number == 32:  # a custom operator
            code = model.operatorCodes[operator.opcodeIndex]
            kind = make_printable((code.customCode or b"?").decode("utf-8", "replace"))[:40]
        inputs = [] if operator.inputs is None else [int(n) for n in operator.inputs]
        made = Operator(
            kind,
            place,
            operator.builtinOptions,
            [None if n == -1 else at(n) for n in inputs],
            [at(n) for n in operator.outputs if n != -1],
        )
        for tensor in made.inputs:
            if tensor is not None and id(tensor) not in ready:
                raise ValueError(f"{made.described} reads a tensor before it is computed")
        ready |= {id(tensor) for tensor in made.outputs}
        graph.operators.append(made)
    if any(id(tensor) not in ready for tensor in graph.outputs):
        raise ValueError("nothing computes an output")
    return graph


def _operator_names() -> dict[int, str]:
    from ai_edge_litert.schema_py_generated import BuiltinOperator

    names = vars(BuiltinOperator).items()
    return {number: name for name, number in names if isinstance(number, int)}


def _tensor(model: Any, tensor: Any) -> Tensor:
    name = (tensor.name or b"").decode("utf-8", "replace").split(";")[0]
    shape = () if tensor.shape is None else tuple(int(size) for size in tensor.shape)
    signature = shape if tensor.shapeSignature is None else tuple(map(int, tensor.shapeSignature))
    free = [axis for axis, size in enumerate(signature) if size < 0]
    if any(size < 0 for size in shape) or math.prod(shape) > MAX_ELEMENTS:
        raise ValueError(f"tensor {name!r:.60} has the shape {shape}")
    dtype = _DTYPES.get(tensor.type, f"type {tensor.type}")
    made = Tensor(
        name,
        tuple(1 if axis == 0 and axis in free else size for axis, size in enumerate(shape)),
        dtype,
        is_dynamic=any(axis > 0 for axis in free),
        has_free_batch=0 in free,
    )
    quantization = tensor.quantization
    if quantization is not None and quantization.scale is not None and len(quantization.scale):
        made.scales = tuple(float(np.float32(scale)) for scale in quantization.scale)
        zeros = [] if quantization.zeroPoint is None else [int(z) for z in quantization.zeroPoint]
        if len(zeros) not in (0, 1, len(made.scales)):
            raise ValueError(f"tensor {name!r:.60} has {len(zeros)} zero points")
        made.zeros = tuple((zeros or [0]) * (len(made.scales) if len(zeros) < 2 else 1))
        made.axis = int(quantization.quantizedDimension)
        if not all(0 < scale < math.inf for scale in made.scales):
            raise ValueError(f"tensor {name!r:.60} has a scale that is not positive")
        if dtype in _LIMITS:
            low, high = _LIMITS[dtype]
            if not all(low <= zero <= high for zero in made.zeros):
                raise ValueError(f"tensor {name!r:.60} has a zero point out of range")
    data = model.buffers[tensor.buffer].data
    if data is not None and len(data) and dtype == "int4":
        made.values = int4.unpack(np.asarray(data, np.uint8), math.prod(shape)).reshape(shape)
        made.dtype, made.is_int4 = "int8", True
    elif data is not None and len(data) and dtype in _ITEM:
        values = np.frombuffer(np.asarray(data, np.uint8).tobytes(), _ITEM[dtype])
        if values.size != math.prod(shape):
            raise ValueError(f"tensor {name!r:.60} has {values.size} values for shape {shape}")
        made.values = values.reshape(shape)
        if dtype.startswith("float") and not np.isfinite(made.values).all():
            raise ModelFileError(f"{make_printable(name):.60} has weights that are not finite")
    return made
