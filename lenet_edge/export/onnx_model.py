"""ONNX models to export: the original in ONNX Runtime, and its graph for the converters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge import __version__
from lenet_edge.artifacts.file_check import MAX_BYTES
from lenet_edge.artifacts.parts import size_of
from lenet_edge.errors import LenetEdgeError, ModelFileError
from lenet_edge.export.onnx_graph import attribute
from lenet_edge.export.onnx_simplify import simplify
from lenet_edge.support.printable import make_printable
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


@dataclass(frozen=True)
class OnnxInput:
    """One input of an .onnx file.

    Attributes:
        name: its name.
        shape: its shape with the channels of images last; None for a free batch.
        is_channels_first: True if the graph takes images with their channels first.
    """

    name: str
    shape: tuple[int | None, ...]
    is_channels_first: bool

    @property
    def original_shape(self) -> tuple[int | None, ...]:
        """The shape in the layout of the graph."""
        first, *rest = self.shape
        return (first, rest[-1], *rest[:-1]) if self.is_channels_first else self.shape

    def arrange(self, values: Any) -> Any:
        """Return values with channels last in the layout of the graph."""
        if not self.is_channels_first:
            return values
        return np.ascontiguousarray(np.moveaxis(values, -1, 1))


class OnnxModel:
    """One float .onnx file.

    Images have their channels last everywhere outside of the graph.

    Attributes:
        path: the file.
        graph: the simplified `onnx.ModelProto`.
        inputs: the inputs.
        input_shape: the shape of the first input, channels last.
        output_shape: the shape of the first output.
    """

    CONVERTER = f"lenet-edge {__version__} with onnx {onnx.__version__}"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.graph = _read(path)
        self.inputs = tuple(_describe(self.graph.graph, value) for value in self.graph.graph.input)
        self.input_shape = self.inputs[0].shape
        self.output_shape = _shape(self.graph.graph.output[0])

    @property
    def is_single(self) -> bool:
        """True if the model has one input and one output."""
        return len(self.inputs) == len(self.graph.graph.output) == 1

    @property
    def end_names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The names of the inputs and outputs in exported files."""
        if self.is_single:
            return ("image",), ("logits",)
        outputs = tuple(value.name for value in self.graph.graph.output)
        return tuple(entry.name for entry in self.inputs), outputs

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
                for dim in value.type.tensor_type.shape.dim[:1]:
                    if not dim.HasField("dim_value"):
                        dim.dim_value = batch_size
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
        """Return the first output that ONNX Runtime computes with the original file.

        Args:
            values: input values, channels last, of a model with one input.
        """
        try:
            logits: Logits = _run(self._session, self.arrange(values))[0]
        except Exception as error:  # ONNX Runtime raises a different class per failure
            reason = " ".join(str(error).split())[:200]
            raise ModelFileError(f"{self.path} cannot run in ONNX Runtime: {reason}") from error
        return logits

    def arrange(self, values: Images) -> Images:
        """Return images in the layout of the first input of the graph."""
        arranged: Images = self.inputs[0].arrange(values)
        return arranged

    def inference_function(self, batch_size: int | None = None) -> Any:
        """Return the inference as a `tf.function` with channels last.

        Args:
            batch_size: None leaves the batch as it is in the graph.

        Raises:
            ModelFileError: an operator cannot be converted.
        """
        from lenet_edge.export.onnx_to_tensorflow import convert_graph
        from lenet_edge.export.onnx_values import Value, channels_last, plain

        import tensorflow as tf  # isort: skip

        self._check_batch(batch_size)
        names = [value.name for value in self.graph.graph.output]

        def infer(*tensors: Any) -> Any:
            values = {
                entry.name: Value(tensor, channels_last(len(entry.shape)))
                if entry.is_channels_first
                else plain(tensor)
                for entry, tensor in zip(self.inputs, tensors, strict=True)
            }
            outputs = convert_graph(self.graph, values, str(self.path))
            ends = [outputs[name].plain().tensor for name in names]
            if self.is_single:
                return {"logits": tf.identity(ends[0], "logits")}
            return [tf.identity(end, f"output_{number}") for number, end in enumerate(ends)]

        signature = [
            tf.TensorSpec(
                (entry.shape[0] or batch_size, *entry.shape[1:]),
                tf.float32,
                name="image" if self.is_single else f"input_{number}",
            )
            for number, entry in enumerate(self.inputs)
        ]
        return tf.function(infer, input_signature=signature, autograph=False)


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
        ModelFileError: the file cannot be read, or it is no float model.
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
    for value in graph.graph.input:
        if not value.type.tensor_type.HasField("shape") or None in _shape(value)[1:]:
            sizes = ", ".join(str(size or "any") for size in _shape(value)[1:])
            raise ModelFileError(
                f"{path}: the input {make_printable(value.name)} takes any size ({sizes}); export"
                " it with a fixed size, or fix it with onnxruntime.tools.make_dynamic_shape_fixed"
            )
    if {1} == {size[0] for value in graph.graph.input if (size := _shape(value))}:
        return _with_free_batch(graph)
    return graph


def _check_ends(path: Path, graph: Any) -> None:
    names = (name for n in graph.node for name in (n.name, n.op_type, *n.input, *n.output))
    if not all(isinstance(name, str) for name in names):  # bytes, if they are not UTF-8
        raise ModelFileError(f"{path} is damaged (a name is not UTF-8); check where it came from")
    quantized = [n.op_type for n in graph.node if n.op_type.startswith(("Quantize", "QLinear"))]
    if quantized:
        raise ModelFileError(
            f"{path} is quantized already ({quantized[0]}); export the float model that it was"
            " made from"
        )
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if not inputs or not graph.output:
        raise ModelFileError(f"{path} has no input or no output; export it again")
    for value in inputs:
        kind = value.type.tensor_type.elem_type
        if kind != onnx.TensorProto.FLOAT:
            name = onnx.TensorProto.DataType.Name(kind).lower()
            raise ModelFileError(
                f"{path}: the input {make_printable(value.name)} takes {name} values; lenet-edge"
                " exports models that take float32"
            )


def _describe(graph: Any, value: Any) -> OnnxInput:
    shape = _shape(value)
    is_first = len(shape) == 4 and _is_channels_first(graph, value.name, shape)
    return OnnxInput(value.name, (shape[0], *shape[2:], shape[1]) if is_first else shape, is_first)


def _shape(value: Any) -> tuple[int | None, ...]:
    return tuple(
        dim.dim_value if dim.HasField("dim_value") else None
        for dim in value.type.tensor_type.shape.dim
    )


def _is_channels_first(graph: Any, name: str, shape: tuple[int | None, ...]) -> bool:
    """Return True if the operators after an input of four axes expect the channels first."""
    reached = {name}
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


def _run(session: Any, *values: Any) -> list[Any]:
    """Return the outputs of an ONNX Runtime session for all images, in batches.

    Args:
        session: the session.
        values: an array for each input, of one length.
    """
    entries = session.get_inputs()
    first = entries[0].shape[0]
    fixed = first if isinstance(first, int) else None
    size, count = fixed or _BATCH_SIZE, len(values[0])
    parts = []
    for start in range(0, count, size):
        missing = size - min(size, count - start) if fixed else 0
        feeds = {}
        for entry, array in zip(entries, values, strict=True):
            batch = array[start : start + size]
            if missing:
                padding = np.zeros((missing, *batch.shape[1:]), np.float32)
                batch = np.concatenate([batch, padding])
            feeds[entry.name] = batch
        parts.append([output[: len(output) - missing] for output in session.run(None, feeds)])
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


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
        generator = np.random.default_rng(0)
        shapes = [[size or 0 for size in _shape(value)[1:]] for value in freed.graph.input]
        values = [generator.random((_NUM_COMPARED, *shape), np.float32) for shape in shapes]
        single, many = (_run(open_graph(each), *values) for each in (model, freed))
    except Exception:  # the graph needs its batch of 1
        return model
    are_equal = all(
        one.shape == other.shape and np.allclose(one, other, rtol=1e-3, atol=1e-5)
        for one, other in zip(single, many, strict=True)
    )
    are_free = all(_shape(value)[:1] == (None,) for value in freed.graph.output)
    return freed if are_equal and are_free else model


def open_graph(model: Any) -> Any:
    """Return a session of ONNX Runtime with an `onnx.ModelProto`, without its warnings."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
