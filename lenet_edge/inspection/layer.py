"""A layer of a model, whatever the format of its file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """One layer, or one operator of an exported graph.

    `output_shape` has the batch first, None where it is free. `macs` are the multiply-accumulate
    operations for one image; convolutions and matrix products have them, what else a layer does
    is counted as none. `dense` tells the fully connected ones.
    """

    name: str
    kind: str
    output_shape: tuple[int | None, ...]
    parameters: int
    macs: int
    dense: bool
