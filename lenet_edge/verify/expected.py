"""What a file is held against: images, and what the reference answers to them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.artifacts.reference import reference_for, reference_path
from lenet_edge.data.evaluation_images import evaluation_dataset
from lenet_edge.data.npz_file import LabelledImages
from lenet_edge.errors import DataError, ModelFileError
from lenet_edge.selection import Pair, best_target
from lenet_edge.target import Logits
from lenet_edge.verify.inference import record_logits
from lenet_edge.worker import Call

R = TypeVar("R")


@dataclass(frozen=True)
class Expected:
    """What the reference called `name` answers to `images`, and their labels if there are any."""

    name: str
    images: npt.NDArray[Any]
    labels: npt.NDArray[np.int32] | None
    class_names: tuple[str, ...]
    logits: Logits

    def first(self, count: int | None) -> Expected:
        """Return the same of the first `count` images; of all, where that is None."""
        labels = None if self.labels is None else self.labels[:count]
        return replace(self, images=self.images[:count], labels=labels, logits=self.logits[:count])


def expected_from_reference(artifact: Artifact) -> Expected:
    """Return the recorded answers of the checkpoint that a file was made from.

    Raises:
        ModelFileError: they are missing or belong to another.
    """
    if artifact.precision == "unknown" and artifact.parent_sha256 is None:
        raise ModelFileError(
            f"{artifact.name} does not say which model it was made from; give one to compare with:"
            " --reference FILE --data IMAGES.npz"
        )
    found = reference_for(artifact)
    data = evaluation_dataset(found, artifact.labels)
    name = f"checkpoint {found.checkpoint_sha256[:12]}"
    return Expected(name, data.images, data.labels, data.class_names, found.logits)


def expected_from_file(
    reference: Artifact, data: LabelledImages | None, num_threads: int = 1
) -> Expected:
    """Return what another file answers, by running it; a recorded checkpoint is not run again.

    Args:
        reference: the file to compare with.
        data: images and labels; None means those recorded beside the reference.
        num_threads: threads for one inference.

    Raises:
        DataError: there are no images.
        LenetEdgeError: the file cannot be run.
    """
    if data is None:
        checkpoint = reference.parent_sha256 or reference.sha256
        if not reference_path(reference.path.parent, checkpoint).exists():
            raise DataError(
                f"there are no images to compare on beside {reference.name}; give some with"
                " --data FILE.npz"
            )
        if reference.parent_sha256 is None:
            return expected_from_reference(reference)
        known = expected_from_reference(reference)
        data = LabelledImages(known.images, known.labels)
    pair = Pair(reference, best_target(reference.format))
    logits, _ = infer_in_worker(pair, data.images, num_threads)
    return Expected(reference.name, data.images, data.labels, reference.labels, logits)


def infer_in_worker(
    pair: Pair,
    images: npt.NDArray[Any],
    num_threads: int,
    timeout_s: float = 300.0,
    python: Path | None = None,
) -> tuple[Logits, dict[str, Any]]:
    """Return the logits of an artifact on a target, and the facts that `record_logits` returns.

    Args:
        pair: the artifact and its target.
        images: the images, see `record_logits`.
        num_threads: threads for one inference.
        timeout_s: the worker's time limit in seconds.
        python: the worker's interpreter; by default this one.
    """

    def call(images_file: Path, output: Path) -> Call[dict[str, Any]]:
        artifact, target = pair.artifact.to_json(), asdict(pair.target)
        return record_logits.bind(artifact, target, num_threads, images_file, output)

    return call_with_images(call, images, timeout_s, python)


def call_with_images(
    make_call: Callable[[Path, Path], Call[R]],
    images: npt.NDArray[Any],
    timeout_s: float = 300.0,
    python: Path | None = None,
) -> tuple[Any, R]:
    """Run a call in a worker that reads images from one file and writes an array to another.

    Args:
        make_call: returns the call for the paths of the two .npy files.
        images: the array to read.
        timeout_s: the worker's time limit in seconds.
        python: the worker's interpreter; by default this one.

    Returns:
        The array that the worker wrote, or None, and the result of the call.
    """
    with tempfile.TemporaryDirectory(prefix="lenet-edge-") as folder:
        images_file, output = Path(folder, "images.npy"), Path(folder, "answers.npy")
        np.save(images_file, images)
        result = worker.run(make_call(images_file, output).within(timeout_s), python)
        return (np.load(output, allow_pickle=False) if output.exists() else None), result
