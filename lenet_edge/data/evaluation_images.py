"""The images that a file is verified and timed on."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.artifacts.reference import Reference, reference_for, reference_path
from lenet_edge.data import mnist
from lenet_edge.data.dataset import Dataset
from lenet_edge.errors import DataError


def evaluation_dataset(reference: Reference, class_names: tuple[str, ...]) -> Dataset:
    """Return the images that a reference answers: its own, or the embedded MNIST's."""
    if reference.images is None or reference.labels is None:
        return mnist.load("test")
    return Dataset(reference.dataset, reference.images, reference.labels, class_names)


def evaluation_images(artifact: Artifact, count: int = 16) -> npt.NDArray[np.uint8]:
    """Return test images that fit a file.

    They are those of its reference; where it has none, MNIST's if they fit, and else `count`
    random ones of its shape, which are good enough to time it with.

    Raises:
        DataError: the file leaves the size of its images free.
    """
    if has_reference(artifact):
        return evaluation_dataset(reference_for(artifact), artifact.labels).images
    if has_test_images(artifact):
        return mnist.load("test").images
    shape = _image_shape(artifact)
    if None in shape:
        raise DataError(
            f"{artifact.name} takes images of any size {shape}; export it with a fixed one"
        )
    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


def has_test_images(artifact: Artifact) -> bool:
    """Tell whether real images fit a file, and not only random ones."""
    return has_reference(artifact) or _image_shape(artifact) == (28, 28, 1)


def has_reference(artifact: Artifact) -> bool:
    """Tell whether the answers of the float model that a file was made from are recorded."""
    parent = artifact.parent_sha256 or artifact.sha256
    return reference_path(artifact.path.parent, parent).exists()


def _image_shape(artifact: Artifact) -> tuple[Any, ...]:
    return artifact.inputs[0].shape[1:] if artifact.inputs else (28, 28, 1)
