"""Activations of a quantized file and of its float sibling, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.errors import MissingPackageError, ModelFileError
from lenet_edge.runtimes._tflite import plain_interpreter
from lenet_edge.target import quantize

EXACT_DB = 150.0  # about the precision of float32


@dataclass
class Activation:
    """Statistics of the output of one layer, over all images.

    Attributes:
        name: name of the output.
        kind: type of the operator.
        inputs: names of the outputs that the layer reads.
        limits: smallest and largest value that the quantized output can hold; None for floats.
        step: distance between two such values; None for floats.
        signal: sum of the squares of the float values.
        noise: sum of the squared errors.
        worst: largest absolute error.
        outside: number of float values that round to a value outside `limits`.
        count: number of values.
        low: smallest float value.
        high: largest float value.
    """

    name: str
    kind: str
    inputs: list[str]
    limits: tuple[float, float] | None = None
    step: float | None = None
    signal: float = 0.0
    noise: float = 0.0
    worst: float = 0.0
    outside: int = 0
    count: int = 0
    low: float = math.inf
    high: float = -math.inf

    def add(self, float_values: npt.NDArray[Any], values: npt.NDArray[Any]) -> None:
        """Add the values of some images.

        Args:
            float_values: output of the float sibling, of any shape.
            values: dequantized output of the quantized file, of the same shape.
        """
        float_values, values = float_values.astype(np.float64), values.astype(np.float64)
        error = values - float_values
        self.signal += float((float_values**2).sum())
        self.noise += float((error**2).sum())
        self.worst = max(self.worst, float(np.abs(error).max(initial=0.0)))
        self.count += float_values.size
        self.low = min(self.low, float(float_values.min()))
        self.high = max(self.high, float(float_values.max()))
        if self.limits is not None and self.step is not None:
            low, high = self.limits[0] - self.step / 2, self.limits[1] + self.step / 2
            self.outside += int(((float_values < low) | (float_values > high)).sum())

    @property
    def sqnr_db(self) -> float:
        """The signal-to-quantization-noise ratio in dB, at most `EXACT_DB`."""
        if self.noise == 0:
            return EXACT_DB
        return min(EXACT_DB, 10 * math.log10(max(self.signal, 1e-30) / self.noise))

    @property
    def best_db(self) -> float:
        """The ratio in dB if the range were exactly that of the values: noise is step^2 / 12."""
        if self.limits is None or not self.step or not self.signal:
            return EXACT_DB
        steps = round((self.limits[1] - self.limits[0]) / self.step) or 1
        step = (self.high - self.low) / steps
        return 10 * math.log10(self.signal / self.count / max(step**2 / 12, 1e-30))


# A layer with its float values and its dequantized values.
Comparison = tuple[Activation, npt.NDArray[Any], npt.NDArray[Any]]


# The values of each input, in the order of the file, for each call.
Calls = Sequence[Sequence[npt.NDArray[Any]]]


def compare_tflite(
    file: Artifact, sibling: Artifact, calls: Calls, sibling_calls: Calls
) -> Iterator[Comparison]:
    """Run two .tflite files, and yield the values of each layer, call by call.

    Args:
        file: the quantized file.
        sibling: the float file.
        calls: the inputs of the quantized file.
        sibling_calls: the same inputs of the float file, in its layout.
    """
    quantized, real = (
        _interpreter(artifact, values[0])
        for artifact, values in ((file, calls), (sibling, sibling_calls))
    )
    tensors, real_tensors = (
        {details["index"]: details for details in interpreter.get_tensor_details()}
        for interpreter in (quantized, real)
    )
    operators = quantized._get_ops_details()
    entries, real_entries = quantized.get_input_details(), real.get_input_details()
    # Match tensors by name. If the converter changed a name, use the order of the operators, which
    # is the same in both files.
    real_outputs = [
        operator["outputs"][0] for operator in real._get_ops_details() if len(operator["outputs"])
    ]
    by_name = {real_tensors[index]["name"]: index for index in real_outputs}
    names = {entry["index"]: _input_name(entry["name"], entries) for entry in entries}
    matches: list[tuple[Activation, int, int]] = [
        (_tflite_activation(names[entry["index"]], "input", [], entry), entry["index"], other)
        for entry, other in zip(entries, (e["index"] for e in real_entries), strict=True)
        if list(entry["shape"]) == list(real_tensors[other]["shape"])
    ]
    for number, operator in enumerate(operators):
        if not len(operator["outputs"]):
            continue
        index = operator["outputs"][0]
        short = tensors[index]["name"].split(";")[0]
        names[index] = tensors[index]["name"] if short in names.values() else short
        match = by_name.get(tensors[index]["name"])
        if match is None and len(operators) == len(real_outputs):
            match = real_outputs[number]
        inputs = [names[i] for i in operator["inputs"] if i in names]
        if match is None or list(tensors[index]["shape"]) != list(real_tensors[match]["shape"]):
            continue
        activation = _tflite_activation(names[index], operator["op_name"], inputs, tensors[index])
        matches.append((activation, index, match))
    for values, float_values in zip(calls, sibling_calls, strict=True):
        for interpreter, artifact, arrays in (
            (quantized, file, values),
            (real, sibling, float_values),
        ):
            _feed(interpreter, artifact, arrays)
            interpreter.invoke()
        for activation, index, match in matches:
            found = quantized.get_tensor(index)
            if activation.step is not None:
                scale, zero_point = tensors[index]["quantization"]
                found = (found.astype(np.float64) - zero_point) * scale
            yield activation, real.get_tensor(match), found


def _interpreter(artifact: Artifact, values: Sequence[npt.NDArray[Any]]) -> Any:
    """Return an interpreter whose inputs have the shapes of some values."""
    interpreter = plain_interpreter(str(artifact.path))
    for details, array in zip(interpreter.get_input_details(), values, strict=True):
        if tuple(details["shape"]) != array.shape:
            interpreter.resize_tensor_input(details["index"], array.shape)
    interpreter.allocate_tensors()
    return interpreter


def _feed(interpreter: Any, artifact: Artifact, values: Sequence[npt.NDArray[Any]]) -> None:
    details = interpreter.get_input_details()
    for entry, spec, array in zip(details, artifact.inputs, values, strict=True):
        interpreter.set_tensor(entry["index"], quantize(array, spec).astype(entry["dtype"]))


def _input_name(name: str, entries: Sized) -> str:
    """Return the name of an input in the table of layers."""
    return "input" if len(entries) == 1 else name


def _tflite_activation(
    name: str, kind: str, inputs: list[str], details: dict[str, Any]
) -> Activation:
    step, zero_point = details["quantization"]
    dtype = np.dtype(details["dtype"])
    if not step or dtype.kind == "f":
        return Activation(name, kind, inputs)
    ends = np.iinfo(dtype)
    limits = (float((ends.min - zero_point) * step), float((ends.max - zero_point) * step))
    return Activation(name, kind, inputs, limits, float(step))


# Operators that count as part of the layer before them: they quantize, rectify or only rearrange.
PASSIVE = ("QuantizeLinear", "DequantizeLinear", "Cast", "Relu", "Clip", "Identity", "Constant",
            "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice")  # fmt: skip


@dataclass(frozen=True)
class _OnnxLayer:
    """Layer of an ONNX graph: an operator with the passive operators after it.

    `output` is the final output. `quantizer` is the QuantizeLinear node, or None. `inputs` are the
    numbers of the layers that it reads.
    """

    name: str
    kind: str
    output: str
    quantizer: Any
    inputs: tuple[int, ...]


def _entries(graph: Any) -> list[str]:
    """Return the names of the inputs; early files list the weights among them."""
    weights = {tensor.name for tensor in graph.initializer}
    return [value.name for value in graph.input if value.name not in weights]


def _onnx_layers(graph: Any) -> list[_OnnxLayer]:
    """Return the layers of a graph in their order; the first is the input of the graph."""
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    entries = _entries(graph)
    # The number of the layer that computes each value.
    layer_of = {name: number for number, name in enumerate(entries)}
    operators: list[tuple[str, str, str, list[int]]] = [
        (_input_name(name, entries), "input", name, []) for name in entries
    ]
    for node in graph.node:
        inputs = [layer_of[name] for name in node.input if name in layer_of]
        if node.op_type in PASSIVE:
            layer_of.update({name: inputs[0] for name in node.output if inputs})
        elif inputs:
            layer_of.update(dict.fromkeys(node.output, len(operators)))
            operators.append((node.name or node.output[0], node.op_type, node.output[0], inputs))
    layers = []
    for name, kind, output, inputs in operators:
        quantizer, last = None, output
        while len(readers.get(last, ())) == 1 and readers[last][0].op_type in PASSIVE:
            (node,) = readers[last]
            if node.op_type == "QuantizeLinear":
                quantizer = node
            last = node.output[0]
        layers.append(_OnnxLayer(name, kind, last, quantizer, tuple(inputs)))
    return layers


def compare_onnx(
    file: Artifact, sibling: Artifact, calls: Calls, sibling_calls: Calls
) -> Iterator[Comparison]:
    """Run two .onnx files, and yield the values of each layer.

    Args:
        file: the quantized file.
        sibling: the float file.
        calls: the inputs of the quantized file.
        sibling_calls: the same inputs of the float file, in its layout.

    Raises:
        MissingPackageError: onnx is not installed.
        ModelFileError: the operators of the two files differ.
    """
    try:
        import onnx
    except ImportError:
        raise MissingPackageError("onnx", "host") from None
    quantized, real = onnx.load(file.path), onnx.load(sibling.path)
    layers, real_layers = _onnx_layers(quantized.graph), _onnx_layers(real.graph)
    if [layer.kind for layer in layers] != [layer.kind for layer in real_layers]:
        raise ModelFileError(
            f"{file.name} and {sibling.name} have different layers; give the float file that"
            f" {file.name} was quantized from with --reference"
        )
    constants = {
        tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer
    }
    outputs = _run_onnx(quantized, [layer.output for layer in layers], file, calls)
    real_outputs = _run_onnx(real, [layer.output for layer in real_layers], sibling, sibling_calls)
    for layer, real_layer in zip(layers, real_layers, strict=True):
        values, float_values = outputs[layer.output], real_outputs[real_layer.output]
        if (
            values.ndim == float_values.ndim
            and (np.array(values.shape) <= float_values.shape).all()
        ):
            # The export of an int8 file may crop an output to the part that is read.
            float_values = float_values[tuple(map(slice, values.shape))]
        if values.size != float_values.size:
            continue
        inputs = [real_layers[i].name for i in layer.inputs]
        activation = Activation(real_layer.name, real_layer.kind, inputs)
        if layer.quantizer is not None:
            step, zero_point = (constants[name] for name in layer.quantizer.input[1:3])
            ends = np.iinfo(zero_point.dtype)
            low, high = (
                float((end - int(zero_point)) * float(step)) for end in (ends.min, ends.max)
            )
            activation.limits, activation.step = (low, high), float(step)
        yield activation, float_values.reshape(values.shape), values


def _run_onnx(model: Any, names: list[str], artifact: Artifact, calls: Calls) -> dict[str, Any]:
    """Run a model with the tensors `names` as additional outputs, and return their values."""
    import onnx
    import onnxruntime

    entries = _entries(model.graph)
    existing = {output.name for output in model.graph.output} | {*entries}
    for name in names:
        if name not in existing:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    requested = [name for name in names if name not in entries]
    feeds = [
        {
            name: quantize(array, spec)
            for name, spec, array in zip(entries, artifact.inputs, values, strict=True)
        }
        for values in calls
    ]
    parts = [session.run(requested, feed) for feed in feeds]
    columns = zip(*parts, strict=True)
    values = {name: np.concatenate(column) for name, column in zip(requested, columns, strict=True)}
    given = {name: np.concatenate([feed[name] for feed in feeds]) for name in entries}
    return {**values, **{name: array.astype(np.float32) for name, array in given.items()}}
