"""What a data set is to the rest of the package, and what a model sees of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Dataset:
    """Labelled images.

    `images` is uint8 of shape (N, height, width, channels); `labels` is int32 of shape (N,), each
    an index into `class_names`.
    """

    name: str
    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int32]
    class_names: tuple[str, ...]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        _, height, width, channels = self.images.shape
        return height, width, channels

    def __len__(self) -> int:
        return len(self.labels)


def to_input(images: npt.NDArray[Any], pixel_scale: float = 1 / 255) -> npt.NDArray[np.float32]:
    """Scale 0 to 255 pixels to what the model was trained on: float32, 0 to 1."""
    if pixel_scale == 1 / 255:  # x / 255 and x * (1 / 255) differ in the last bit
        return (images / np.float32(255)).astype(np.float32, copy=False)
    return (images * np.float32(pixel_scale)).astype(np.float32, copy=False)
