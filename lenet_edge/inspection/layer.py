"""A layer of a model, and the interface of the modules that list layers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Layer:
    """One layer, or one operator of an exported graph.

    Attributes:
        output_shape: the batch first, None where a size is free; None if the shape is unknown.
        parameters: the number of weights and biases; None if they cannot be counted.
        macs: multiply-accumulate operations for one image, of convolutions, matrix products and
            recurrent layers. Other operations count as none. None if they cannot be counted.
        dense: whether the layer is fully connected.
        parameter_bytes: the size of the weights and biases in the file; None if it is unknown.
    """

    name: str
    kind: str
    output_shape: tuple[int | None, ...] | None
    parameters: int | None
    macs: int | None
    dense: bool
    parameter_bytes: int | None = None


def total(counts: Iterable[int | None]) -> int | None:
    """Return the sum of some counts; None if one of them is unknown."""
    result = 0
    for count in counts:
        if count is None:
            return None
        result += count
    return result


class LayerReader(Protocol):
    """A module of this package that lists the layers in files of one format."""

    def read(self, path: str) -> Iterable[Layer]:
        """Return the layers of a file, in the order in which they run.

        Raises:
            MissingPackageError: the package that reads the format is not installed.
        """
