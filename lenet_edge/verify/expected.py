"""Expected logits: images, and the logits of the reference for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.artifacts.head import Head
from lenet_edge.artifacts.reference import find_reference, reference_for
from lenet_edge.artifacts.stated_input import question
from lenet_edge.data.dataset import LabelledImages
from lenet_edge.data.evaluation_images import evaluation_data
from lenet_edge.errors import DataError
from lenet_edge.selection import Pair, best_target
from lenet_edge.support.temporary import temporary_folder
from lenet_edge.target import Logits
from lenet_edge.verify.inference import record_logits
from lenet_edge.worker import Call

R = TypeVar("R")


@dataclass(frozen=True)
class Expected:
    """Images with the logits that a candidate should compute for them.

    Attributes:
        name: name of the model that computed the logits.
        images: N images, pixels or inputs of the model.
        labels: int32 of shape (N,), or None.
        class_names: names of the classes; empty if unknown.
        logits: float32 of shape (N, outputs).
        head: meaning of the logits; None if no file states it.
        question: the line that names an assumption about the model's input; empty without one.
    """

    name: str
    images: npt.NDArray[Any]
    labels: npt.NDArray[np.int32] | None
    class_names: tuple[str, ...]
    logits: Logits
    head: Head | None = None
    question: str = ""

    def first(self, count: int | None) -> Expected:
        """Return the first `count` images with their labels and logits; all if `count` is None."""
        labels = None if self.labels is None else self.labels[:count]
        return replace(self, images=self.images[:count], labels=labels, logits=self.logits[:count])


def expected_from_reference(artifact: Artifact) -> Expected:
    """Load the recorded logits of the checkpoint that an artifact was exported from.

    Raises:
        ModelFileError: the reference is missing, damaged, or belongs to another checkpoint.
    """
    reference = reference_for(artifact)
    data = evaluation_data(reference)
    is_own = artifact.parent_sha256 is None and artifact.precision == "unknown"
    name = f"{'itself' if is_own else 'checkpoint'} {reference.checkpoint_sha256[:12]}"
    head = artifact.stated_head
    return Expected(name, data.images, data.labels, artifact.labels, reference.logits, head)


def expected_from_file(
    reference: Artifact, data: LabelledImages | None, num_threads: int = 1
) -> Expected:
    """Compute the expected logits by running another model file.

    For a checkpoint with recorded logits and without `data`, load the logits instead.

    Args:
        reference: the file to compare with.
        data: images and labels; None means the images recorded beside `reference`.
        num_threads: threads for one inference.

    Raises:
        DataError: there are no images.
        LenetEdgeError: no target on this machine can run the file.
    """
    if data is None:
        checkpoint, path = find_reference(reference)
        if not path.exists():
            raise DataError(
                f"no images are recorded beside {reference.name}; give images with --data FILE.npz"
            )
        if checkpoint == reference.sha256:
            return expected_from_reference(reference)
        recorded = expected_from_reference(reference)
        data = LabelledImages(recorded.images, recorded.labels)
    pair = Pair(reference, best_target(reference.format))
    logits, _ = infer_in_worker(pair, data.images, num_threads)
    head = reference.stated_head
    asked = question(reference) if is_open(reference, data.images) else ""
    return Expected(reference.name, data.images, data.labels, reference.labels, logits, head, asked)


def is_open(artifact: Artifact, images: npt.NDArray[Any]) -> bool:
    """Return True if the input values of some images rest on an assumption about a model.

    Float images are input values, so that they need no preprocessing.
    """
    return artifact.preprocessing.is_assumed and images.dtype.kind != "f"


def infer_in_worker(
    pair: Pair,
    images: npt.NDArray[Any],
    num_threads: int,
    timeout_s: float = 300.0,
    python: Path | None = None,
) -> tuple[Logits, dict[str, Any]]:
    """Run a pair on images in a worker.

    Args:
        pair: the artifact and its target.
        images: the images, see `record_logits`.
        num_threads: threads for one inference.
        timeout_s: the worker's time limit in seconds.
        python: the worker's interpreter; by default the caller's.

    Returns:
        The logits, float32 of shape (N, classes), and the result of `record_logits`.

    Raises:
        LenetEdgeError: the pair cannot run, or the worker crashed or timed out.
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
        python: the worker's interpreter; by default the caller's.

    Returns:
        The array that the worker wrote, or None, and the result of the call.
    """
    with temporary_folder() as folder:
        images_file, output = folder / "images.npy", folder / "logits.npy"
        np.save(images_file, images)
        result = worker.run(make_call(images_file, output).within(timeout_s), python)
        return (np.load(output, allow_pickle=False) if output.exists() else None), result
