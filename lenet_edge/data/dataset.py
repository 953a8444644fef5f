"""Data set in memory: labelled images, and their conversion to the input of a model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.artifacts.preprocessing import UNIT, apply
from lenet_edge.errors import DataError

TEST_SHARE = 0.15  # of each class, in data without a test part


@dataclass(frozen=True)
class FileFacts:
    """Facts about the files of a data set that its arrays do not show.

    Attributes:
        sizes: width and height of the smallest and of the largest image file; None if the images
            were not scaled.
        remarks: a sentence for each file or folder that is not used, and for each choice.
        value_range: the range of the stored values, if they are scaled pixels: (0, 1) or (-1, 1).
    """

    sizes: tuple[tuple[int, int], tuple[int, int]] | None = None
    remarks: tuple[str, ...] = ()
    value_range: tuple[float, float] | None = None


@dataclass(frozen=True)
class LabelledImages:
    """Images of any shape (N, ...) and any numeric dtype, with labels (N,) if there are any.

    `remarks` has a sentence for each file or folder that is not used.
    """

    images: npt.NDArray[Any]
    labels: npt.NDArray[np.int32] | None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """Labelled images.

    `images` is uint8 of shape (N, height, width, channels); `labels` is int32 of shape (N,), each
    an index into `class_names`. `files` has facts about the files of the images.
    """

    name: str
    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int32]
    class_names: tuple[str, ...]
    files: FileFacts = FileFacts()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height and width in pixels, and the number of channels."""
        _, height, width, channels = self.images.shape
        return height, width, channels

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: npt.NDArray[np.intp] | slice, name: str | None = None) -> Dataset:
        """Return a data set of the images at `indices`, in that order; `name` renames it."""
        return replace(
            self,
            name=name or self.name,
            images=self.images[indices],
            labels=self.labels[indices],
        )


def split_by_class(data: Dataset) -> tuple[Dataset, Dataset]:
    """Split a data set into a training part and a test part of 15 % of each class.

    The choice is random and always the same.

    Raises:
        DataError: a class has only one image.
    """
    parts: tuple[list[Any], list[Any]] = ([], [])
    for label, class_name in enumerate(data.class_names):
        (indices,) = np.nonzero(data.labels == label)
        if len(indices) == 1:
            raise DataError(
                f"class {class_name} in {data.name} has one image; add at least one more"
            )
        order = indices[np.random.default_rng(0).permutation(len(indices))]
        count = max(1, round(TEST_SHARE * len(indices)))
        parts[1].append(np.sort(order[:count]))
        parts[0].append(np.sort(order[count:]))
    training, test = (np.concatenate(part) for part in parts)
    return data.subset(training, f"{data.name}-train"), data.subset(test, f"{data.name}-test")


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


def to_input(images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Scale pixels of 0 to 255, of any shape, to 0 to 1, the input values of LeNet."""
    return apply(images, UNIT)
