"""What a data set is to the rest of the package, and what a model sees of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.errors import DataError


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

    def subset(self, chosen: npt.NDArray[np.intp] | slice, name: str | None = None) -> Dataset:
        """Return some of it: the images at these places, in this order."""
        return Dataset(
            name or self.name, self.images[chosen], self.labels[chosen], self.class_names
        )


def check_dataset(data: Dataset) -> None:
    """Make sure that a data set can be used.

    Raises:
        DataError: it is empty, has images and labels of different number, or labels that name
            no class.
    """
    if len(data.images) != len(data.labels):
        raise DataError(
            f"{data.name} has {len(data.images)} images but {len(data.labels)} labels;"
            " each image needs one"
        )
    if len(data) == 0:
        raise DataError(f"there are no images in {data.name}")
    lowest, highest = int(data.labels.min()), int(data.labels.max())
    if lowest < 0 or highest >= len(data.class_names):
        raise DataError(
            f"labels of {data.name} must lie in 0..{len(data.class_names) - 1};"
            f" found {lowest}..{highest}"
        )


def to_input(images: npt.NDArray[Any], pixel_scale: float = 1 / 255) -> npt.NDArray[np.float32]:
    """Scale 0 to 255 pixels to what the model was trained on: float32, 0 to 1."""
    if pixel_scale == 1 / 255:  # x / 255 and x * (1 / 255) differ in the last bit
        return (images / np.float32(255)).astype(np.float32, copy=False)
    return (images * np.float32(pixel_scale)).astype(np.float32, copy=False)
