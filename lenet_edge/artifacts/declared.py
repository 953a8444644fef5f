"""Readers of the preprocessing and the labels that foreign model files declare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_edge.artifacts.preprocessing import Preprocessing

if TYPE_CHECKING:
    from lenet_edge.artifacts.artifact import TensorSpec


def declared_preprocessing(
    path: Path, format: str, inputs: Sequence[TensorSpec]
) -> tuple[Preprocessing | None, tuple[str, ...]]:
    """Return the preprocessing and the labels that a foreign file or its neighbours declare.

    Args:
        path: the model file.
        format: the name of its format, a key of `formats.BY_NAME`.
        inputs: its input tensors, as a runtime reads them.

    Returns:
        The preprocessing with the origin "read" and its source as detail, None if nothing declares
        it; and the labels in the order of the outputs, empty if nothing declares them.
    """
    return None, ()
