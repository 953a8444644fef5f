"""Operators of TFLite: their weights, biases and states, and the multiplications that they make."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

# For each operator with weights: the indexes of its matrices among its inputs, those of its biases,
# and those of its state, which is no weight. Source: tensorflow/lite/kernels.
MATRICES: dict[str, tuple[int, ...]] = {
    "CONV_2D": (1,),
    "CONV_3D": (1,),
    "DEPTHWISE_CONV_2D": (1,),
    "FULLY_CONNECTED": (1,),
    "TRANSPOSE_CONV": (1,),
    "SVDF": (1, 2),
    "RNN": (1, 2),
    "UNIDIRECTIONAL_SEQUENCE_RNN": (1, 2),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (*range(1, 9), 16),
}
BIASES: dict[str, tuple[int, ...]] = {
    "CONV_2D": (2,),
    "CONV_3D": (2,),
    "DEPTHWISE_CONV_2D": (2,),
    "FULLY_CONNECTED": (2,),
    "TRANSPOSE_CONV": (3,),
    "SVDF": (3,),
    "RNN": (3,),
    "UNIDIRECTIONAL_SEQUENCE_RNN": (3,),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (12, 13, 14, 15, 17),
}
STATES: dict[str, tuple[int, ...]] = {
    "SVDF": (4,),
    "RNN": (4,),
    "UNIDIRECTIONAL_SEQUENCE_RNN": (4,),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (18, 19),
}
# Operators that run other subgraphs, which the interpreter does not list.
NESTED = ("WHILE", "IF", "CALL", "CALL_ONCE", "STABLEHLO_WHILE", "STABLEHLO_COMPOSITE")
# Operators that multiply matrices in a number of steps that is not counted.
_UNCOUNTED = (
    *NESTED,
    "LSTM",
    "BIDIRECTIONAL_SEQUENCE_LSTM",
    "BIDIRECTIONAL_SEQUENCE_RNN",
    "CONV_3D_TRANSPOSE",
    "STABLEHLO_CONVOLUTION",
    "STABLEHLO_DOT_GENERAL",
    "STABLEHLO_CUSTOM_CALL",
)


def count_macs(
    operator: dict[str, Any], tensors: dict[int, dict[str, Any]], batch_size: int
) -> int | None:
    """Return the number of multiply-accumulate operations of an operator for one image.

    Args:
        operator: an entry of `_get_ops_details`.
        tensors: the entries of `get_tensor_details`, by index.
        batch_size: the number of images in a call of the interpreter.

    Returns:
        None for an operator that cannot be counted; 0 for one that multiplies no matrices.
    """
    kind = operator["op_name"]
    # Builtin operators have names in capitals. A custom operator may do anything.
    if kind in _UNCOUNTED or not re.fullmatch("[A-Z0-9_]+", kind) or kind == "CUSTOM":
        return None

    def shape(side: str, index: int) -> Any:
        tensor = operator[side][index] if index < len(operator[side]) else -1
        return tensors[tensor]["shape"] if tensor >= 0 else np.zeros(1, int)

    if kind == "BATCH_MATMUL":
        # Either side may be transposed, so the inner size follows from the three sizes.
        (first, second), product = (shape("inputs", i) for i in (0, 1)), shape("outputs", 0)
        rows, columns = product[-2:]
        both = int(np.prod(first[-2:])) * int(np.prod(second[-2:]))
        inner = math.isqrt(both // (int(rows) * int(columns) or 1))
        return int(np.prod(product, dtype=int)) * inner // batch_size
    if kind not in MATRICES:
        return 0
    weights = sum(int(np.prod(shape("inputs", index))) for index in MATRICES[kind])
    if kind == "FULLY_CONNECTED":  # it may multiply each row of an image
        calls = int(np.prod(shape("inputs", 0))) // int(shape("inputs", 1)[-1])
    elif kind == "UNIDIRECTIONAL_SEQUENCE_LSTM" or kind.endswith("SEQUENCE_RNN"):
        calls = int(np.prod(shape("inputs", 0)[:-1]))
    elif kind in ("SVDF", "RNN"):
        calls = int(shape("inputs", 0)[0])
    else:
        # A transposed convolution multiplies once per input position.
        positions = shape("inputs", 2) if kind == "TRANSPOSE_CONV" else shape("outputs", 0)
        calls = int(np.prod(positions[:-1]))
    return weights * calls // batch_size
