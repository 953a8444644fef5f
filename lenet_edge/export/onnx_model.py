"""ONNX models to export: the original in ONNX Runtime, and its graph for the converters."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge import __version__
from lenet_edge.artifacts.artifact import MAX_BYTES
from lenet_edge.artifacts.embedded import size_of
from lenet_edge.errors import LenetEdgeError, ModelFileError
from lenet_edge.export.onnx_graph import attribute
from lenet_edge.export.onnx_simplify import simplify
from lenet_edge.target import Images, Logits

import onnx  # isort: skip
from onnx import numpy_helper  # isort: skip

_BATCH_SIZE = 100  # of the reference, if the file leaves it free
_NUM_COMPARED = 3  # images, to test that a batch of 1 may become free
# Operators that keep the layout of an image, and those that put the channels first.
_PASSIVE = {
    "Add", "Sub", "Mul", "Div", "Cast", "Clip", "Identity", "Relu", "Neg", "Pad",
    "Dropout", "Abs", "Sqrt", "Pow", "Min", "Max",
}  # fmt: skip
_CHANNELS_FIRST = {
    "Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool",
    "GlobalMaxPool", "BatchNormalization", "InstanceNormalization", "DepthToSpace",
    "SpaceToDepth",
}  # fmt: skip


class OnnxModel:
    """One float .onnx file with one input and one output.

    Images have their channels last everywhere outside of the graph.

    Attributes:
        path: the file.
        graph: the simplified `onnx.ModelProto`.
        input_shape: the shape of the input, channels last; None for a free batch.
        output_shape: the shape of the output.
        is_channels_first: True if the graph takes images with their channels first.
    """

    CONVERTER = f"lenet-edge {__version__} with onnx {onnx.__version__}"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.graph = _read(path)
        (image,), (logits,) = self.graph.graph.input, self.graph.graph.output
        shape = _shape(image)
        self.is_channels_first = len(shape) == 4 and _is_channels_first(self.graph.graph, shape)
        self.input_shape = (shape[0], *shape[2:], shape[1]) if self.is_channels_first else shape
        self.output_shape = _shape(logits)

    @property
    def batch_size(self) -> int | None:
        """The batch size that the graph fixes, None if it is free."""
        return self.input_shape[0]

    @property
    def for_converters(self) -> OnnxModel:
        """The model itself: the converters know this class."""
        return self

    def layers_alone(self) -> Iterator[tuple[str, str, Any]]:
        """Yield nothing: the errors of the conversion name the nodes."""
        return iter(())

    @staticmethod
    def read_producer(path: Path) -> str:
        """Return the program that wrote a file, with its version."""
        model = onnx.load(path, load_external_data=False)
        return f"{model.producer_name} {model.producer_version}".strip()

    def with_batch(self, batch_size: int | None) -> Any:
        """Return a copy of the graph, with a fixed batch unless `batch_size` is None."""
        graph = onnx.ModelProto()
        graph.CopyFrom(self.graph)
        if batch_size is not None:
            self._check_batch(batch_size)
            for value in (*graph.graph.input, *graph.graph.output):
                value.type.tensor_type.shape.dim[0].dim_value = batch_size
        return graph

    def _check_batch(self, batch_size: int | None) -> None:
        if batch_size not in (None, self.batch_size) and self.batch_size is not None:
            raise ModelFileError(
                f"{self.path} has a fixed batch of {self.batch_size}; export it from its framework"
                f" with a free batch, or use --batch-size {self.batch_size}"
            )

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(
            str(self.path), options, providers=["CPUExecutionProvider"]
        )

    def predict(self, values: Images) -> Logits:
        """Return the outputs that ONNX Runtime computes with the original file.

        Args:
            values: input values, channels last.
        """
        return _run(self._session, self.arrange(values))

    def arrange(self, values: Images) -> Images:
        """Return images in the layout of the graph's input."""
        return (
            np.ascontiguousarray(np.moveaxis(values, -1, 1)) if self.is_channels_first else values
        )

    def inference_function(self, batch_size: int | None = None) -> Any:
        """Return the inference as a `tf.function` from ``image``, channels last, to ``logits``.

        Args:
            batch_size: None leaves the batch as it is in the graph.

        Raises:
            ModelFileError: an operator cannot be converted.
        """
        from lenet_edge.export.onnx_to_tensorflow import convert_graph
        from lenet_edge.export.onnx_values import Value, channels_last, plain

        import tensorflow as tf  # isort: skip

        (entry,), (end,) = self.graph.graph.input, self.graph.graph.output
        self._check_batch(batch_size)
        shape = (batch_size or self.batch_size, *self.input_shape[1:])

        def infer(image: Any) -> dict[str, Any]:
            first = self.is_channels_first
            value = Value(image, channels_last(len(shape))) if first else plain(image)
            outputs = convert_graph(self.graph, {entry.name: value}, str(self.path))
            return {"logits": tf.identity(outputs[end.name].plain().tensor, "logits")}

        return tf.function(
            infer,
            input_signature=[tf.TensorSpec(shape, tf.float32, name="image")],
            autograph=False,
        )


def read_input_shape(path: Path) -> tuple[int | None, ...] | None:
    """Return the shape of the first input of an .onnx file, None if it is unknown."""
    try:
        graph = onnx.load(path, load_external_data=False).graph
        constants = {tensor.name for tensor in graph.initializer}
        return next(_shape(value) for value in graph.input if value.name not in constants)
    except Exception:  # Protocol Buffers raises various types; `OnnxModel` reports the fault
        return None


def _read(path: Path) -> Any:
    """Read and simplify a model.

    Raises:
        ModelFileError: the file cannot be read, or it is no float model with one input and output.
    """
    if size_of(path) > MAX_BYTES:
        raise ModelFileError(f"{path} and its weights have over {MAX_BYTES:,} bytes")
    try:
        model = onnx.load(path)  # `check_format` has checked the files that it names
        _check_ends(path, model.graph)
        graph = simplify(model)
    except LenetEdgeError as error:
        text = str(error)
        raise ModelFileError(text if str(path) in text else f"{path}: {text}") from error
    except Exception as error:  # Protocol Buffers, onnx and NumPy raise various types
        reason = (" ".join(str(error).split()) or type(error).__name__)[:200]
        raise ModelFileError(f"{path} cannot be read by onnx: {reason}") from error
    (image,) = graph.graph.input
    if not image.type.tensor_type.HasField("shape") or None in _shape(image)[1:]:
        raise ModelFileError(
            f"{path} takes images of any size {_shape(image)[1:]}; export it from its framework"
            " with a fixed size, or fix it with onnxruntime.tools.make_dynamic_shape_fixed"
        )
    if graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1:
        return _with_free_batch(graph)
    return graph


def _check_ends(path: Path, graph: Any) -> None:
    quantized = [n.op_type for n in graph.node if n.op_type.startswith(("Quantize", "QLinear"))]
    if quantized:
        raise ModelFileError(
            f"{path} is quantized already ({quantized[0]}); export the float model that it was"
            " made from"
        )
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise ModelFileError(
            f"{path} has {len(inputs)} inputs and {len(graph.output)} outputs; lenet-edge exports"
            " classifiers with one of each"
        )
    kind = inputs[0].type.tensor_type.elem_type
    if kind != onnx.TensorProto.FLOAT:
        name = onnx.TensorProto.DataType.Name(kind).lower()
        raise ModelFileError(f"{path} takes {name} values; export it with a float32 input")


def _shape(value: Any) -> tuple[int | None, ...]:
    return tuple(
        dim.dim_value if dim.HasField("dim_value") else None
        for dim in value.type.tensor_type.shape.dim
    )


def _is_channels_first(graph: Any, shape: tuple[int | None, ...]) -> bool:
    """Return True if the operators after an input of four axes expect the channels first."""
    reached = {graph.input[0].name}
    for node in graph.node:
        if not reached.intersection(node.input):
            continue
        if node.op_type in _CHANNELS_FIRST:
            return True
        if node.op_type == "Transpose":
            return list(attribute(node, "perm") or ()) != [0, 3, 1, 2]
        if node.op_type in _PASSIVE:
            reached.update(node.output)
    return shape[1] in (1, 3) and shape[3] not in (1, 3)


def _run(session: Any, values: Images) -> Logits:
    """Return the output of an ONNX Runtime session for all images, in batches."""
    (entry,), (end,) = session.get_inputs(), session.get_outputs()
    fixed = entry.shape[0] if isinstance(entry.shape[0], int) else None
    size = fixed or _BATCH_SIZE
    parts = []
    for start in range(0, len(values), size):
        batch = values[start : start + size]
        missing = size - len(batch) if fixed else 0
        if missing:
            batch = np.concatenate([batch, np.zeros((missing, *batch.shape[1:]), np.float32)])
        (output,) = session.run([end.name], {entry.name: batch})
        parts.append(output[: len(output) - missing])
    logits: Logits = np.concatenate(parts).astype(np.float32, copy=False)
    return logits


def _with_free_batch(model: Any) -> Any:
    """Return a model of batch size 1 with a free batch, if that computes the same.

    PyTorch's exporters fix the batch of the example, unless they are told otherwise.
    """
    freed = onnx.ModelProto()
    freed.CopyFrom(model)
    for value in (*freed.graph.input, *freed.graph.output):
        dims = value.type.tensor_type.shape.dim
        if not dims or dims[0].dim_value != 1:
            return model
        dims[0].dim_param = "batch"
    for tensor in freed.graph.initializer:
        targets = [
            n for n in freed.graph.node if n.op_type == "Reshape" and n.input[1] == tensor.name
        ]
        sizes = numpy_helper.to_array(tensor)
        if targets and len(sizes) > 1 and sizes[0] == 1 and (sizes[1:] > 0).all():
            tensor.CopyFrom(
                numpy_helper.from_array(np.array([-1, *sizes[1:]], np.int64), tensor.name)
            )
    try:
        freed = simplify(freed)
        shape = [size or 0 for size in _shape(freed.graph.input[0])[1:]]
        values = np.random.default_rng(0).random((_NUM_COMPARED, *shape), np.float32)
        single, many = (_run(_open(each), values) for each in (model, freed))
    except Exception:  # the graph needs its batch of 1
        return model
    is_equal = single.shape == many.shape and np.allclose(single, many, rtol=1e-3, atol=1e-5)
    return freed if is_equal and _shape(freed.graph.output[0])[0] is None else model


def _open(model: Any) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
