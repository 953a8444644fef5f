"""Conversion of ONNX graphs to TensorFlow functions with channels last.

It covers the operators of classifiers and of small vision networks. Every operator becomes
operators that TensorFlow Lite has built in, without a computation of shapes at run time, so that
delegates accept the graph. The library onnx2tf covers more operators. It needs 2.5 GB for versions
of TensorFlow and NumPy of its own, see docs/decisions.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

import lenet_edge.model  # noqa: F401  imported first: it quiets TensorFlow
from lenet_edge.errors import ModelFileError
from lenet_edge.export.onnx_gelu import join_gelu
from lenet_edge.export.onnx_operators import (  # noqa: F401  these modules fill OPERATORS
    elementwise,
    layers,
    places,
    pools,
)
from lenet_edge.export.onnx_operators.node import OPERATORS, Node, Unsupported
from lenet_edge.export.onnx_values import Value, plain
from lenet_edge.support.printable import make_printable

import tensorflow as tf  # isort: skip
from onnx import numpy_helper  # isort: skip

_MAX_NAMED = 5  # nodes of one operator that an error names


def convert_graph(model: Any, inputs: dict[str, Value], path: str) -> dict[str, Value]:
    """Compute the outputs of an ONNX graph with TensorFlow.

    Args:
        model: an `onnx.ModelProto` from `onnx_simplify.simplify`.
        inputs: the value of each input, by its name.
        path: the name of the file, for messages.

    Returns:
        The value of each output, by its name.

    Raises:
        ModelFileError: an operator cannot be converted. The message names all of them.
    """
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)
    constants = {
        tensor.name: np.asarray(numpy_helper.to_array(tensor)) for tensor in model.graph.initializer
    }
    values: dict[str, Value | None] = {name: plain(array) for name, array in constants.items()}
    values.update(inputs)
    outputs = {value.name for value in model.graph.output}
    failed: dict[str, list[str]] = {}
    for node in join_gelu(model.graph.node, constants, outputs):
        name = make_printable(node.name or (node.output[0] if node.output else "")).strip("/")
        convert = None if node.domain not in ("", "ai.onnx") else OPERATORS.get(node.op_type)
        if convert is None:
            failed.setdefault(make_printable(node.op_type), []).append(name)
            results: Sequence[Value | None] = [None] * len(node.output)
        elif any(name and values.get(name) is None for name in node.input):
            results = [None] * len(node.output)  # it depends on a node that failed
        else:
            arguments = [values[name] if name else None for name in node.input]
            try:
                with tf.name_scope(_scope(node)):
                    result = convert(Node(node, arguments, opset))
                results = result if isinstance(result, list) else [result]
            except Unsupported as error:
                failed.setdefault(node.op_type, []).append(f"{name}: {error}")
                results = [None] * len(node.output)
            except (ValueError, TypeError, IndexError, tf.errors.OpError) as error:
                reason = " ".join(str(error).split())[:100]
                failed.setdefault(node.op_type, []).append(f"{name}: {reason}")
                results = [None] * len(node.output)
        values.update(zip(node.output, results, strict=False))
    if failed:
        raise ModelFileError(
            f"{path} has operators that lenet-edge cannot convert: {_list(failed)}; export to onnx"
            " alone (--format onnx), replace them, or use onnx2tf (docs/pytorch.md)"
        )
    return {value.name: _present(values.get(value.name), path) for value in model.graph.output}


def _present(value: Value | None, path: str) -> Value:
    if value is None:
        raise ModelFileError(f"{path} has an output that no node computes; export it again")
    return value


def _list(failed: dict[str, list[str]]) -> str:
    texts = []
    for kind, nodes in failed.items():
        more = len(nodes) - _MAX_NAMED
        named = ", ".join(nodes[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
        texts.append(f"{kind} ({named})")
    return ", ".join(texts)


def _scope(node: Any) -> str:
    """Return a name for the operators of a node; the layers of the .tflite file have it."""
    name = str(node.name or node.output[0]).strip("/")
    name = name.removesuffix(f"/{node.op_type}") or node.op_type
    name = re.sub(r"[^A-Za-z0-9_.\-]+", "_", name).lstrip("_.-")
    return name[:100] or "node"
