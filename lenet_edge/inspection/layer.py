"""A layer of a model, and the interface of the modules that list layers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Layer:
    """One layer, or one operator of an exported graph.

    Attributes:
        output_shape: the batch first, None where the batch is free.
        parameters: the number of weights and biases.
        macs: multiply-accumulate operations for one image, of convolutions and matrix products.
            Other operations count as none.
        dense: whether the layer is fully connected.
    """

    name: str
    kind: str
    output_shape: tuple[int | None, ...]
    parameters: int
    macs: int
    dense: bool


class LayerReader(Protocol):
    """A module of this package that lists the layers in files of one format."""

    def read(self, path: str) -> Iterable[Layer]:
        """Return the layers of a file, in the order in which they run.

        Raises:
            MissingPackageError: the package that reads the format is not installed.
        """
