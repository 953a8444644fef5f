"""The images that a file is verified and timed on."""

from __future__ import annotations

from lenet_edge.artifact import Artifact
from lenet_edge.data import mnist
from lenet_edge.data.dataset import Dataset
from lenet_edge.reference import Reference, reference_for, reference_path


def test_set(reference: Reference, class_names: tuple[str, ...]) -> Dataset:
    """Return the images that a reference answers: its own, or the embedded MNIST's."""
    if reference.images is None or reference.labels is None:
        return mnist.load("test")
    return Dataset(reference.dataset, reference.images, reference.labels, class_names)


def images_for(artifact: Artifact) -> Dataset:
    """Return test images that fit a file: those of its reference, or MNIST where it has none."""
    if reference_path(artifact.path.parent, artifact.parent_sha256 or artifact.sha256).exists():
        return test_set(reference_for(artifact), artifact.labels)
    return mnist.load("test")
