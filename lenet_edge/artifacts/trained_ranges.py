"""Ranges of a quantization-aware training, inside the .keras file of its checkpoint.

The file is an ordinary .keras file: Keras ignores the further member of the archive. If somebody
trains and saves the model again, Keras leaves the member out, so old ranges never describe new
weights.
"""

from __future__ import annotations

import dataclasses
import json
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path

from lenet_edge.errors import ModelFileError
from lenet_edge.support import typed_json

MEMBER = "trained_ranges.json"  # in the archive of a .keras file
PRECISIONS = ("int8", "int4")
INPUT = "image"  # the name of the range of the model's input
_MAX_BYTES = 2**24


@dataclass(frozen=True)
class WeightScales:
    """Quantization of the weights of one layer: symmetric, so the zero point is 0.

    Attributes:
        bits: 4 or 8. The integers are -7 to 7 or -127 to 127.
        scales: a scale for each output channel.
    """

    bits: int
    scales: tuple[float, ...]

    @property
    def largest(self) -> int:
        """The largest integer."""
        return int(2 ** (self.bits - 1) - 1)


@dataclass(frozen=True)
class TrainedRanges:
    """Ranges of the activations, and scales of the weights, that a model was trained with.

    Names are those of Keras layers. A layer of a nested model has the name "model/layer". A
    SeparableConv2D has weights under "layer/depthwise" and "layer/pointwise".

    Attributes:
        precision: the precision of the training: "int8", or "int4" for weights of 4 bits.
        activations: the smallest and the largest value of the input, under `INPUT`, and of the
            output of each layer that quantizes it. A convolution and the ReLU after it are
            quantized once, after the ReLU. Pools and reshapes keep the range of their input.
        weights: the weights of each layer that has some, batch normalization folded into them.
    """

    precision: str
    activations: dict[str, tuple[float, float]]
    weights: dict[str, WeightScales]

    def to_json(self) -> str:
        """Return the ranges as a JSON text."""
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> TrainedRanges:
        """Return the ranges that `to_json` wrote.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: the text is something else.
        """
        facts = json.loads(text)
        activations = {name: tuple(limits) for name, limits in facts["activations"].items()}
        weights = {
            name: WeightScales(entry["bits"], tuple(entry["scales"]))
            for name, entry in facts["weights"].items()
        }
        ranges = cls(facts["precision"], activations, weights)
        typed_json.check_types(ranges)
        if ranges.precision not in PRECISIONS or INPUT not in activations:
            raise ValueError("it is not complete")
        for low, high in activations.values():
            if not (math.isfinite(low + high) and low <= 0 <= high and low < high):
                raise ValueError(f"it has the range {low} to {high}")
        for entry in weights.values():
            if entry.bits not in (4, 8) or not all(0 < scale < math.inf for scale in entry.scales):
                raise ValueError("it has an impossible scale")
        return ranges


def add_ranges(path: Path, ranges: TrainedRanges) -> None:
    """Write the ranges into a .keras file that has none."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(zipfile.ZipInfo(MEMBER), ranges.to_json())


def read_ranges(path: Path) -> TrainedRanges | None:
    """Return the ranges in a .keras file; None if it has none, or is no archive.

    Raises:
        ModelFileError: the ranges are damaged.
    """
    if not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            if MEMBER not in archive.namelist():
                return None
            if archive.getinfo(MEMBER).file_size > _MAX_BYTES:
                raise ValueError(f"they have over {_MAX_BYTES:,} bytes")
            return TrainedRanges.from_json(archive.read(MEMBER))
    except Exception as error:  # zipfile, json and `from_json` each raise their own
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise ModelFileError(
            f"{path} has damaged trained ranges ({reason}); train it again"
        ) from error
