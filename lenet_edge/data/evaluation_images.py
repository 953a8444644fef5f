"""Images to verify and time an artifact on."""

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
    """Return the images that a reference has logits for.

    Args:
        reference: the recorded logits of a checkpoint.
        class_names: the names of the classes, for a reference with its own images.

    Returns:
        The images recorded in the reference; without any, the embedded test images of MNIST.
    """
    if reference.images is None or reference.labels is None:
        return mnist.load("test")
    return Dataset(reference.dataset, reference.images, reference.labels, class_names)


def evaluation_images(artifact: Artifact, count: int = 16) -> npt.NDArray[np.uint8]:
    """Return images of the shape that an artifact takes.

    These are the images of its reference. Without a reference, they are the test images of MNIST
    if the shape fits, and otherwise random images, which suffice for timing.

    Args:
        artifact: the model file.
        count: the number of random images.

    Returns:
        uint8 of shape (N, height, width, channels); random images have the artifact's own shape.

    Raises:
        DataError: the artifact does not fix the size of its images.
    """
    if has_reference(artifact):
        return evaluation_dataset(reference_for(artifact), artifact.labels).images
    if has_test_images(artifact):
        return mnist.load("test").images
    shape = _image_shape(artifact)
    if None in shape:
        raise DataError(
            f"{artifact.name} takes images of any size {shape}; export it with a fixed size"
        )
    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


def has_test_images(artifact: Artifact) -> bool:
    """Return whether `evaluation_images` returns real images, not random images."""
    return has_reference(artifact) or _image_shape(artifact) == (28, 28, 1)


def has_reference(artifact: Artifact) -> bool:
    """Return whether the reference of an artifact is recorded beside it."""
    parent = artifact.parent_sha256 or artifact.sha256
    return reference_path(artifact.path.parent, parent).exists()


def _image_shape(artifact: Artifact) -> tuple[Any, ...]:
    return artifact.inputs[0].shape[1:] if artifact.inputs else (28, 28, 1)
