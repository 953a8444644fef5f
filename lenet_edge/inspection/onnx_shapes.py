"""Shapes of the tensors of an .onnx file, for one image."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

# Operators that compute shapes from shapes.
_ON_SHAPES = ("Add", "Cast", "Concat", "Constant", "Div", "Gather", "Identity", "Mul", "ReduceProd",
              "Shape", "Size", "Slice", "Squeeze", "Sub", "Unsqueeze")  # fmt: skip
_MAX_SHAPE_VALUES = 64
_MAX_ROUNDS = 256


def fix_batch(images: list[Any]) -> tuple[bool, int, str | None]:
    """Set a free batch axis of a graph's inputs to one image.

    Returns:
        True if the batch was free; the number of images in one call; the name of a free batch.
    """
    images = [value for value in images if value.type.HasField("tensor_type")]
    first = images[0].type.tensor_type.shape.dim if images else ()
    if not first:
        return False, 1, None
    free, name = size_of_axis(first[0]) is None, first[0].dim_param
    for value in images:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            is_batch = free and axis == 0 and size_of_axis(dim) is None
            if is_batch or (name and dim.dim_param == name):
                dim.dim_value = 1
    return free, max(1, first[0].dim_value), name or None


def infer_shapes(model: Any, batch: str | None) -> tuple[dict[str, Any], set[str]]:
    """Infer the shape of each tensor of a model.

    onnx infers no shape behind a Reshape whose target is computed. So constants are folded into
    such targets until no further shape follows.

    Args:
        model: the model.
        batch: the name of its free batch, which holds one image; None if it has none.

    Returns:
        The shapes, and the names of the tensors that hold constants computed from shapes.
    """
    import onnx
    from onnx import helper, numpy_helper

    shapes: dict[str, Any] = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    values = {
        tensor.name: value
        for tensor in model.graph.initializer
        if _is_shape(count_values(tensor.dims), tensor.data_type)
        and tensor.data_location != onnx.TensorProto.EXTERNAL
        for value in [_array(tensor)]
        if value is not None
    }
    # A copy without weights: inference needs only their shapes, and has a limit of 2 GiB.
    graph = model.graph
    bare = helper.make_model(
        helper.make_graph(
            graph.node, graph.name, graph.input, graph.output, value_info=graph.value_info
        ),
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
    )
    names = {value.name for value in bare.graph.input}
    for tensor in model.graph.initializer:
        if tensor.name in values:
            bare.graph.initializer.append(tensor)
        elif tensor.name not in names:
            bare.graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    # The declared sizes of a free batch would contradict the batch of one image.
    for value in (*bare.graph.output, *bare.graph.value_info):
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    folded: set[str] = set()
    for _ in range(_MAX_ROUNDS):
        try:
            inferred = onnx.shape_inference.infer_shapes(bare, data_prop=True).graph
        except Exception:  # the file contradicts itself, or has operators of a later standard
            inferred = bare.graph
        for value in _all_values(inferred):
            if value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape"):
                shapes[value.name] = tuple(map(size_of_axis, value.type.tensor_type.shape.dim))
        new = _fold(bare, shapes, values)
        if not new:
            break
        folded |= set(new)
        values.update(new)
        rest = [node for node in bare.graph.node if not set(node.output) & set(new)]
        del bare.graph.node[:]
        bare.graph.node.extend(rest)
        bare.graph.initializer.extend(
            numpy_helper.from_array(value, name) for name, value in new.items()
        )
    # The sizes that the graph declares fill the gaps.
    for value in (*model.graph.value_info, *model.graph.output):
        if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
            continue
        sizes = [
            1 if batch and dim.dim_param == batch else size_of_axis(dim)
            for dim in value.type.tensor_type.shape.dim
        ]
        found = shapes.get(value.name)
        if found is None or len(found) != len(sizes):
            found = (None,) * len(sizes)
        shapes[value.name] = tuple(
            declared if size is None else size for size, declared in zip(found, sizes, strict=True)
        )
    return shapes, folded


def _fold(
    model: Any, shapes: dict[str, Any], known: dict[str, npt.NDArray[Any]]
) -> dict[str, npt.NDArray[Any]]:
    """Return the value of each tensor of a model that follows from known shapes and values."""
    from onnx.reference import ReferenceEvaluator

    opsets = {opset.domain: opset.version for opset in model.opset_import}
    outputs = {value.name for value in model.graph.output}
    new: dict[str, npt.NDArray[Any]] = {}
    for node in model.graph.node:
        if node.op_type not in _ON_SHAPES or node.domain or len(node.output) != 1:
            continue
        (name,) = node.output
        inputs = {source: new.get(source, known.get(source)) for source in node.input if source}
        if node.op_type in ("Shape", "Size"):
            shape = shapes.get(node.input[0])
            if shape is None or None in shape:
                continue
            value = np.array(shape, np.int64)
            if node.op_type == "Size":
                value = value.prod()
            else:
                ends = {attribute.name: attribute.i for attribute in node.attribute}
                value = value[ends.get("start", 0) : ends.get("end", len(value))]
        elif name in outputs or any(value is None for value in inputs.values()):
            continue
        else:
            try:
                (value,) = ReferenceEvaluator(node, opsets=opsets).run(None, inputs)
            except Exception:  # a wrong node has no value, so its shape stays unknown
                continue
            value = np.asarray(value)
        if value.size <= _MAX_SHAPE_VALUES and value.dtype in (np.int64, np.int32):
            new[name] = np.asarray(value)
    return new


def _all_values(graph: Any) -> Iterator[Any]:
    """Yield the described tensors of a graph and of its nested graphs."""
    yield from (*graph.input, *graph.value_info, *graph.output)
    for node in graph.node:
        for _, nested in nested_graphs(node):
            yield from _all_values(nested)


def nested_graphs(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield the graphs inside a node, such as the branches of an If, each with its role."""
    # The then branch before the else branch.
    for attribute in sorted(node.attribute, key=lambda a: a.name == "else_branch"):
        role = attribute.name.removesuffix("_branch")
        if attribute.HasField("g"):
            yield role, attribute.g
        for graph in attribute.graphs:
            yield role, graph


def _array(tensor: Any) -> npt.NDArray[Any] | None:
    """Return the values of a small constant; None if they do not fit its shape."""
    from onnx import numpy_helper

    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError):
        return None


def _is_shape(size: int, data_type: int) -> bool:
    import onnx

    integers = (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
    return size <= _MAX_SHAPE_VALUES and data_type in integers


def size_of_axis(dim: Any) -> int | None:
    """Return the size of an axis; None if it is free, which some writers state as -1."""
    return int(dim.dim_value) if dim.HasField("dim_value") and dim.dim_value >= 0 else None


def count_values(dims: Any) -> int:
    """Return the number of values of a tensor with the sizes `dims`."""
    return max(0, int(math.prod(dims)))
