"""Data set in memory: labelled images, and their conversion to the input of a model."""

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
        """Height and width in pixels, and the number of channels."""
        _, height, width, channels = self.images.shape
        return height, width, channels

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: npt.NDArray[np.intp] | slice, name: str | None = None) -> Dataset:
        """Return a data set of the images at `indices`, in that order; `name` renames it."""
        return Dataset(
            name or self.name, self.images[indices], self.labels[indices], self.class_names
        )


def check_dataset(data: Dataset) -> None:
    """Check that a data set is not empty and that its labels are valid.

    Raises:
        DataError: there are no images; the numbers of images and labels differ; or a label is not
            an index into `class_names`.
    """
    if len(data.images) != len(data.labels):
        raise DataError(
            f"{data.name} has {len(data.images)} images but {len(data.labels)} labels;"
            " give one label for each image"
        )
    if len(data) == 0:
        raise DataError(f"there are no images in {data.name}; give at least one")
    lowest, highest = int(data.labels.min()), int(data.labels.max())
    if lowest < 0 or highest >= len(data.class_names):
        raise DataError(
            f"labels of {data.name} are {lowest}..{highest}; they must lie in"
            f" 0..{len(data.class_names) - 1}"
        )


def to_input(images: npt.NDArray[Any], pixel_scale: float = 1 / 255) -> npt.NDArray[np.float32]:
    """Scale pixels to the input values of a model.

    Args:
        images: pixels 0 to 255, of any shape.
        pixel_scale: the factor. The default gives 0 to 1, the range of LeNet's training.

    Returns:
        float32 of the same shape.
    """
    if pixel_scale == 1 / 255:  # x / 255 and x * (1 / 255) differ in the last bit
        return (images / np.float32(255)).astype(np.float32, copy=False)
    return (images * np.float32(pixel_scale)).astype(np.float32, copy=False)
