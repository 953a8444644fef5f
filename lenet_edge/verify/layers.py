"""Where a quantized file goes wrong: its activations against those of its float sibling.

Noise travels: behind a broken layer every layer looks bad. So what counts is what a layer itself
loses, the fall of the signal-to-noise ratio from its inputs to its output, capped by what its
number of bits could hold at best.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.artifact import FORMATS, Artifact, load_artifact, manifest_path
from lenet_edge.errors import LenetEdgeError, MissingPackageError, ModelFileError
from lenet_edge.results import LayerError, layer_error
from lenet_edge.runtimes._tflite import plain_interpreter
from lenet_edge.target import quantize
from lenet_edge.verify.infer import fit, scale
from lenet_edge.verify.truth import Truth, in_worker

NUM_IMAGES = 200
BIT_DB = 6.02  # one bit: a layer that loses less is as it should be
_EXACT_DB = 150.0  # what float32 itself holds, roughly
_CLIPPED = 0.001  # a share of values beyond the range that calibration does not explain
_TOO_WIDE = 4.0  # a range so many times wider than its values wastes two bits


@dataclass
class _Tensor:
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
        if self.noise == 0:
            return _EXACT_DB
        return min(_EXACT_DB, 10 * math.log10(max(self.signal, 1e-30) / self.noise))

    @property
    def best_db(self) -> float:
        """The ratio if the range were exactly that of the values: noise is step^2 / 12."""
        if self.limits is None or not self.step or not self.signal:
            return _EXACT_DB
        steps = round((self.limits[1] - self.limits[0]) / self.step) or 1
        step = (self.seen[1] - self.seen[0]) / steps
        return 10 * math.log10(self.signal / self.count / max(step**2 / 12, 1e-30))


def find_sibling(artifact: Artifact) -> Artifact:
    """Return the float32 file of the same checkpoint and format beside a file.

    Raises:
        ModelFileError: there is none.
    """
    for path in sorted(artifact.path.parent.iterdir()):
        if FORMATS.get(path.suffix) != artifact.format or not manifest_path(path).exists():
            continue
        other = load_artifact(path)
        if (other.precision, other.parent_sha256) == ("float32", artifact.parent_sha256):
            return other
    raise ModelFileError(
        f"--layers compares {artifact.name} with the float32 .{artifact.format} file of the same"
        " checkpoint, and there is none beside it; export it, or give one with --reference"
    )


def compare_layers(artifact: Artifact, sibling: Artifact, truth: Truth) -> list[LayerError]:
    """Return the layers of a file against those of its float sibling, the worst first.

    Raises:
        LenetEdgeError: the files cannot be compared layer by layer.
    """
    if artifact.format != sibling.format or artifact.format not in ("tflite", "onnx"):
        raise LenetEdgeError(
            f"--layers compares .tflite with .tflite and .onnx with .onnx, not {artifact.name}"
            f" with {sibling.name}"
        )
    _, found = in_worker(
        "verify.layers:measure",
        truth.images[:NUM_IMAGES],
        artifact=artifact.to_json(),
        sibling=sibling.to_json(),
    )
    layers = [layer_error(one) for one in found]
    if not layers:
        raise LenetEdgeError(f"{artifact.name} and {sibling.name} have no layer of the same name")
    return sorted(layers, key=lambda one: -one.lost_db)


def measure(
    artifact: dict[str, Any], sibling: dict[str, Any], images: str, output: str
) -> list[dict[str, Any]]:
    """Return the layers in their order, as JSON; called in a fresh process."""
    file, other = Artifact.from_json(artifact), Artifact.from_json(sibling)
    given = np.load(images, allow_pickle=False)
    walk = _walk_tflite if file.format == "tflite" else _walk_onnx
    tensors: dict[str, _Tensor] = {}
    for tensor, wanted, found in walk(file, other, given):
        tensors.setdefault(tensor.name, tensor).add(wanted, found)
    return [vars(_judged(one, tensors)) for one in tensors.values()]


def _judged(one: _Tensor, tensors: Mapping[str, _Tensor]) -> LayerError:
    before = [tensors[name].sqnr_db for name in one.inputs if name in tensors]
    possible = min([one.best_db, *before])
    saturation = one.outside / max(one.count, 1)
    lost = max(0.0, possible - one.sqnr_db)
    return LayerError(
        name=one.name,
        kind=one.kind,
        sqnr_db=None if one.noise == 0 else one.sqnr_db,
        lost_db=lost,
        max_abs_error=one.worst,
        saturation=saturation,
        range=one.limits,
        seen=(one.seen[0], one.seen[1]),
        hint=_hint(one, saturation) if lost > BIT_DB else "",
    )


def _hint(one: _Tensor, saturation: float) -> str:
    if one.limits is None:
        return "its activations are float, so its weights lose it; give this layer more bits"
    low, high = one.limits
    held = f"it holds {low:.3g} to {high:.3g} and sees {one.seen[0]:.3g} to {one.seen[1]:.3g}"
    wider = (high - low) / max(one.seen[1] - one.seen[0], 1e-30)
    if saturation > _CLIPPED:
        return (
            f"{held}, so {saturation:.1%} of its values are clipped; calibrate with images like"
            " these, scaled like these"
        )
    if wider > _TOO_WIDE:
        return (
            f"{held}, a range {wider:.0f} times too wide, so few steps are left; the calibration"
            " images were scaled otherwise"
        )
    return (
        f"{held}, which fits, so its weights lose it; quantize them per channel, or give this"
        " layer more bits (int16x8, or float)"
    )


def _walk_tflite(file: Artifact, other: Artifact, given: Any) -> Iterator[tuple[_Tensor, Any, Any]]:
    quantized, real = (plain_interpreter(str(one.path)) for one in (file, other))
    ours, theirs = ({d["index"]: d for d in one.get_tensor_details()} for one in (quantized, real))
    operators = quantized._get_ops_details()
    (entry,), (real_entry,) = quantized.get_input_details(), real.get_input_details()
    # Operators make the same tensors in the same order; a name may be lost on the way.
    made = [one["outputs"][0] for one in real._get_ops_details()]
    by_name = {theirs[index]["name"]: index for index in made}
    matches: list[tuple[_Tensor, int, int]] = [
        (_of_tflite("input", "input", [], entry), entry["index"], real_entry["index"])
    ]
    names = {entry["index"]: "input"}
    for one in operators:
        index = one["outputs"][0]
        names[index] = ours[index]["name"].split(";")[0]
        match = by_name.get(ours[index]["name"])
        if match is None and len(operators) == len(made):
            match = made[operators.index(one)]
        inputs = [names[i] for i in one["inputs"] if i in names]
        if match is None or list(ours[index]["shape"]) != list(theirs[match]["shape"]):
            continue
        tensor = _of_tflite(names[index], one["op_name"], inputs, ours[index])
        matches.append((tensor, index, match))
    batch = int(entry["shape"][0])
    fed, expected = (fit(scale(given, one.pixel_scale), one.inputs[0]) for one in (file, other))
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


def _of_tflite(name: str, kind: str, inputs: list[str], details: dict[str, Any]) -> _Tensor:
    step, zero = details["quantization"]
    dtype = np.dtype(details["dtype"])
    if not step or dtype.kind == "f":
        return _Tensor(name, kind, inputs)
    ends = np.iinfo(dtype)
    limits = (float((ends.min - zero) * step), float((ends.max - zero) * step))
    return _Tensor(name, kind, inputs, limits, float(step))


# Operators that belong to the layer before them: they quantize, rectify or only lay out anew.
_PASSIVE = ("QuantizeLinear", "DequantizeLinear", "Cast", "Relu", "Clip", "Identity", "Constant",
            "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose")  # fmt: skip


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


def _walk_onnx(file: Artifact, other: Artifact, given: Any) -> Iterator[tuple[_Tensor, Any, Any]]:
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
        if values.size != expected.size:
            continue
        tensor = _Tensor(its.name, its.kind, [theirs[i].name for i in mine.inputs])
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
    images = quantize(fit(scale(given, artifact.pixel_scale), spec), spec)
    size = artifact.batch_size or len(images)
    wanted = [name for name in names if name != entry]
    starts = range(0, len(images) - size + 1, size)
    parts = [session.run(wanted, {entry: images[start : start + size]}) for start in starts]
    columns = zip(*parts, strict=True)
    values = {name: np.concatenate(found) for name, found in zip(wanted, columns, strict=True)}
    return {**values, entry: images[: len(starts) * size].astype(np.float32)}
