"""The activations of a quantized file beside those of its float sibling, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.classifier_io import arrange_images, scale_pixels
from lenet_edge.errors import MissingPackageError, ModelFileError
from lenet_edge.runtimes._tflite import plain_interpreter
from lenet_edge.target import quantize

EXACT_DB = 150.0  # what float32 itself holds, roughly


@dataclass
class Activation:
    """What is summed up of one activation over the images."""

    name: str
    kind: str
    inputs: list[str]
    limits: tuple[float, float] | None = None  # what the quantized tensor can hold
    step: float | None = None
    signal: float = 0.0
    noise: float = 0.0
    worst: float = 0.0
    outside: int = 0
    count: int = 0
    seen: list[float] = field(default_factory=lambda: [math.inf, -math.inf])

    def add(self, wanted: npt.NDArray[Any], found: npt.NDArray[Any]) -> None:
        """Sum up the float and the quantized values of some images."""
        wanted, found = wanted.astype(np.float64), found.astype(np.float64)
        error = found - wanted
        self.signal += float((wanted**2).sum())
        self.noise += float((error**2).sum())
        self.worst = max(self.worst, float(np.abs(error).max(initial=0.0)))
        self.count += wanted.size
        self.seen = [min(self.seen[0], float(wanted.min())), max(self.seen[1], float(wanted.max()))]
        if self.limits is not None and self.step is not None:
            low, high = self.limits[0] - self.step / 2, self.limits[1] + self.step / 2
            self.outside += int(((wanted < low) | (wanted > high)).sum())

    @property
    def sqnr_db(self) -> float:
        """The signal-to-quantization-noise ratio."""
        if self.noise == 0:
            return EXACT_DB
        return min(EXACT_DB, 10 * math.log10(max(self.signal, 1e-30) / self.noise))

    @property
    def best_db(self) -> float:
        """The ratio if the range were exactly that of the values: noise is step^2 / 12."""
        if self.limits is None or not self.step or not self.signal:
            return EXACT_DB
        steps = round((self.limits[1] - self.limits[0]) / self.step) or 1
        step = (self.seen[1] - self.seen[0]) / steps
        return 10 * math.log10(self.signal / self.count / max(step**2 / 12, 1e-30))


Walk = Iterator[tuple[Activation, npt.NDArray[Any], npt.NDArray[Any]]]


def walk_tflite(file: Artifact, other: Artifact, given: Any) -> Walk:
    """Yield each layer of a .tflite file, batch by batch: its float and its dequantized values."""
    quantized, real = (plain_interpreter(str(one.path)) for one in (file, other))
    size = quantized.get_input_details()[0]["shape"]
    if list(real.get_input_details()[0]["shape"]) != list(size):
        real.resize_tensor_input(real.get_input_details()[0]["index"], size)
        real.allocate_tensors()
    ours, theirs = ({d["index"]: d for d in one.get_tensor_details()} for one in (quantized, real))
    operators = quantized._get_ops_details()
    (entry,), (real_entry,) = quantized.get_input_details(), real.get_input_details()
    # Operators make the same tensors in the same order; a name may be lost on the way.
    made = [one["outputs"][0] for one in real._get_ops_details()]
    by_name = {theirs[index]["name"]: index for index in made}
    matches: list[tuple[Activation, int, int]] = [
        (_of_tflite("input", "input", [], entry), entry["index"], real_entry["index"])
    ]
    names = {entry["index"]: "input"}
    for one in operators:
        index = one["outputs"][0]
        short = ours[index]["name"].split(";")[0]
        names[index] = ours[index]["name"] if short in names.values() else short
        match = by_name.get(ours[index]["name"])
        if match is None and len(operators) == len(made):
            match = made[operators.index(one)]
        inputs = [names[i] for i in one["inputs"] if i in names]
        if match is None or list(ours[index]["shape"]) != list(theirs[match]["shape"]):
            continue
        tensor = _of_tflite(names[index], one["op_name"], inputs, ours[index])
        matches.append((tensor, index, match))
    batch = int(entry["shape"][0])
    fed, expected = (
        arrange_images(scale_pixels(given, one.pixel_scale), one.inputs[0]) for one in (file, other)
    )
    for start in range(0, len(given) - batch + 1, batch):
        part = slice(start, start + batch)
        quantized.set_tensor(entry["index"], quantize(fed[part], file.inputs[0]))
        real.set_tensor(real_entry["index"], expected[part].astype(real_entry["dtype"]))
        quantized.invoke()
        real.invoke()
        for tensor, index, match in matches:
            values = quantized.get_tensor(index)
            if tensor.step is not None:
                scale_, zero = ours[index]["quantization"]
                values = (values.astype(np.float64) - zero) * scale_
            yield tensor, real.get_tensor(match), values


def _of_tflite(name: str, kind: str, inputs: list[str], details: dict[str, Any]) -> Activation:
    step, zero = details["quantization"]
    dtype = np.dtype(details["dtype"])
    if not step or dtype.kind == "f":
        return Activation(name, kind, inputs)
    ends = np.iinfo(dtype)
    limits = (float((ends.min - zero) * step), float((ends.max - zero) * step))
    return Activation(name, kind, inputs, limits, float(step))


# Operators that belong to the layer before them: they quantize, rectify or only lay out anew.
_PASSIVE = ("QuantizeLinear", "DequantizeLinear", "Cast", "Relu", "Clip", "Identity", "Constant",
            "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice")  # fmt: skip


@dataclass(frozen=True)
class _Step:
    """One layer of an ONNX graph: its operator, what it makes in the end, and from which layers."""

    name: str
    kind: str
    output: str
    quantizer: Any
    inputs: tuple[int, ...]


def _steps(graph: Any) -> list[_Step]:
    """Return the layers of a graph in their order; the input is the first."""
    takers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            takers.setdefault(name, []).append(node)
    place = {graph.input[0].name: 0}  # of each value, the layer that it comes from
    layers: list[tuple[str, str, str, list[int]]] = [("input", "input", graph.input[0].name, [])]
    for node in graph.node:
        inputs = [place[name] for name in node.input if name in place]
        if node.op_type in _PASSIVE:
            place.update({name: inputs[0] for name in node.output if inputs})
        elif inputs:
            place.update(dict.fromkeys(node.output, len(layers)))
            layers.append((node.name or node.output[0], node.op_type, node.output[0], inputs))
    steps = []
    for name, kind, made, inputs in layers:
        quantizer = None
        output = made
        while len(takers.get(output, ())) == 1 and takers[output][0].op_type in _PASSIVE:
            (node,) = takers[output]
            if node.op_type == "QuantizeLinear":
                quantizer = node
            output = node.output[0]
        steps.append(_Step(name, kind, output, quantizer, tuple(inputs)))
    return steps


def walk_onnx(file: Artifact, other: Artifact, given: Any) -> Walk:
    """Yield each layer of an .onnx file: its float and its dequantized values."""
    try:
        import onnx
    except ImportError:
        raise MissingPackageError("onnx", "host") from None
    quantized, real = onnx.load(file.path), onnx.load(other.path)
    ours, theirs = _steps(quantized.graph), _steps(real.graph)
    if [one.kind for one in ours] != [one.kind for one in theirs]:
        raise ModelFileError(
            f"{file.name} and {other.name} are not made of the same layers; give the float file"
            " that it was quantized from with --reference"
        )
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in quantized.graph.initializer}
    found, wanted = (
        _run_onnx(model, [step.output for step in steps], artifact, given)
        for model, steps, artifact in ((quantized, ours, file), (real, theirs, other))
    )
    for mine, its in zip(ours, theirs, strict=True):
        values, expected = found[mine.output], wanted[its.output]
        if values.ndim == expected.ndim and (np.array(values.shape) <= expected.shape).all():
            expected = expected[tuple(map(slice, values.shape))]  # an int8 file may be cropped
        if values.size != expected.size:
            continue
        tensor = Activation(its.name, its.kind, [theirs[i].name for i in mine.inputs])
        if mine.quantizer is not None:
            step, zero = (constants[name] for name in mine.quantizer.input[1:3])
            ends = np.iinfo(zero.dtype)
            low, high = (float((end - int(zero)) * float(step)) for end in (ends.min, ends.max))
            tensor.limits, tensor.step = (low, high), float(step)
        yield tensor, expected.reshape(values.shape), values


def _run_onnx(model: Any, names: list[str], artifact: Artifact, given: Any) -> dict[str, Any]:
    """Return the values of the tensors with these names, by adding them to the model's outputs."""
    import onnx
    import onnxruntime

    entry = model.graph.input[0].name
    kept = {one.name for one in model.graph.output} | {entry}
    for name in names:
        if name not in kept:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    spec = artifact.inputs[0]
    images = quantize(arrange_images(scale_pixels(given, artifact.pixel_scale), spec), spec)
    size = artifact.batch_size or len(images)
    wanted = [name for name in names if name != entry]
    starts = range(0, len(images) - size + 1, size)
    parts = [session.run(wanted, {entry: images[start : start + size]}) for start in starts]
    columns = zip(*parts, strict=True)
    values = {name: np.concatenate(found) for name, found in zip(wanted, columns, strict=True)}
    return {**values, entry: images[: len(starts) * size].astype(np.float32)}
