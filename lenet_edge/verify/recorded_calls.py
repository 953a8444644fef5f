"""Calls of files that are compared output by output: their inputs, and the recorded outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.classifier_io import to_model_input
from lenet_edge.data.labelled_images import load_images
from lenet_edge.model_inputs import random_inputs, read_inputs, split_inputs
from lenet_edge.selection import Pair
from lenet_edge.support import npz
from lenet_edge.target import Delegation
from lenet_edge.verify.inference import read_calls, record_outputs, write_calls
from lenet_edge.verify.tensor_pairs import TensorPair

_RANDOM_CALLS = 20

Array = npt.NDArray[Any]
Values = Mapping[str, Array]  # of the inputs of one call


@dataclass(frozen=True)
class Recording:
    """The outputs of a file for a number of calls.

    Attributes:
        path: the .npz file with the outputs, dequantized.
        specs: the outputs, as the session describes them.
        delegation: nodes that a delegate or device took.
    """

    path: Path
    specs: tuple[TensorSpec, ...]
    delegation: Delegation | None

    def __iter__(self) -> Iterator[list[Array]]:
        """Yield the outputs of each call, in the order of `specs`."""
        yield from read_calls(self.path)


def random_ranges(
    reference: Artifact, candidate: Artifact, links: Sequence[TensorPair]
) -> dict[str, tuple[float, float]]:
    """Return the range of random values for each input of floats, by its name.

    It is that of the known preprocessing, else that of a quantized input, else 0 to 1.
    """
    ranges = {}
    for link in links:
        own, other = reference.inputs[link.reference], candidate.inputs[link.candidate]
        if np.dtype(own.dtype).kind != "f":
            continue
        rules = [file.preprocessing for file in (reference, candidate)]
        rule = next((rule for rule in rules if not rule.is_assumed), None)
        if rule is not None and len(links) == 1 and own.image_shape:
            ranges[own.name] = rule.input_range
        elif other.scale is not None:
            ends, zero = np.iinfo(other.dtype), other.zero_point or 0
            low, high = ((end - zero) * other.scale for end in (ends.min, ends.max))
            ranges[own.name] = float(low), float(high)
        else:
            ranges[own.name] = 0.0, 1.0
    return ranges


def calls_of_reference(
    reference: Artifact, data: Path | None, batch: int, ranges: Mapping[str, tuple[float, float]]
) -> list[Values]:
    """Return the inputs of each call of the reference."""
    if data is not None and _has_images(data, reference):
        shape, rule = reference.inputs[0].image_shape or (), reference.preprocessing
        images = load_images(data, shape, reference.labels, preprocessing=rule).images
        values = {reference.inputs[0].name: to_model_input(images, reference)}
        return list(split_inputs(values, reference.inputs, batch, data))
    if data is not None:
        return list(read_inputs(data, reference.inputs, batch))
    return [
        {
            name: _scale(values, *ranges[name]) if name in ranges else values
            for name, values in call.items()
        }
        for call in random_inputs(reference.inputs, batch, _RANDOM_CALLS)
    ]


def _has_images(data: Path, reference: Artifact) -> bool:
    """Return True if data holds images as `export --calibration` takes them, not input values."""
    spec = reference.inputs[0] if len(reference.inputs) == 1 else None
    if spec is None or spec.image_shape is None or np.dtype(spec.dtype).kind != "f":
        return False
    if data.suffix != ".npz":
        return True
    with suppress(OSError, ValueError):  # `read_inputs` reports the fault
        names = npz.read_arrays(data)
        return "images" in names and spec.name not in names
    return False


def _scale(values: Array, low: float, high: float) -> Array:
    return np.asarray(values * (high - low) + low, values.dtype)


def record(
    pair: Pair, calls: Sequence[Values], path: Path, num_threads: int, timeout_s: float
) -> Recording:
    """Run a file on the inputs of some calls in a worker."""
    inputs, output = path.with_suffix(".in.npz"), path.with_suffix(".out.npz")
    write_calls(inputs, [[call[spec.name] for spec in pair.artifact.inputs] for call in calls])
    facts = worker.run(
        record_outputs.bind(
            pair.artifact.to_json(), asdict(pair.target), num_threads, inputs, output
        ).within(timeout_s)
    )
    inputs.unlink()
    specs = tuple(TensorSpec(**spec) for spec in facts["outputs"])
    return Recording(output, specs, Delegation.from_json(facts["delegation"]))
