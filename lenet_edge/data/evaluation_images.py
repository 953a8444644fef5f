"""Images to verify and time an artifact on."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.artifacts.reference import Reference, find_reference, reference_for
from lenet_edge.data import mnist
from lenet_edge.data.dataset import LabelledImages
from lenet_edge.errors import DataError


def evaluation_data(reference: Reference) -> LabelledImages:
    """Return the images that a reference has logits for.

    They are the images recorded in the reference; without any, the embedded test images of MNIST.
    """
    if reference.images is None:
        test = mnist.load("test")
        return LabelledImages(test.images, test.labels)
    return LabelledImages(reference.images, reference.labels)


def evaluation_images(artifact: Artifact, count: int = 16) -> npt.NDArray[Any]:
    """Return images of the shape that an artifact takes.

    These are the images of its reference. Without a reference, they are the test images of MNIST
    if the shape fits, and otherwise random images, which suffice for timing.

    Args:
        artifact: the model file.
        count: the number of random images.

    Returns:
        Images as `classifier_io.to_model_input` takes them; random images have the shape of the
        artifact's input.

    Raises:
        DataError: the artifact does not fix the size of its images.
    """
    if has_reference(artifact):
        return evaluation_data(reference_for(artifact)).images
    if has_test_images(artifact):
        return mnist.load("test").images
    shape: tuple[Any, ...] = artifact.inputs[0].shape[1:] if artifact.inputs else (28, 28, 1)
    if None in shape:
        raise DataError(
            f"{artifact.name} takes images of any size {shape}; export it with a fixed size"
        )
    return np.random.default_rng(0).integers(0, 256, (count, *shape), np.uint8)


def has_test_images(artifact: Artifact) -> bool:
    """Return whether `evaluation_images` returns real images, not random images."""
    takes_mnist = not artifact.inputs or (
        len(artifact.inputs) == 1 and artifact.inputs[0].image_shape == (28, 28, 1)
    )
    return has_reference(artifact) or takes_mnist


def has_reference(artifact: Artifact) -> bool:
    """Return whether the reference of an artifact is recorded beside it."""
    return find_reference(artifact)[1].exists()
