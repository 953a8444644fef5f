"""The answers of one file on one target to every test image; runs in a worker process."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np

from lenet_edge.artifact import Artifact
from lenet_edge.data.dataset import to_input
from lenet_edge.errors import TargetError
from lenet_edge.runtimes import get_target, open_session
from lenet_edge.target import Images, Logits, Session

BATCH_SIZE = 500  # where the file leaves it free: large enough that a call's own cost vanishes


def record_logits(
    artifact: dict[str, Any], target: str, num_threads: int, images: str, output: str
) -> dict[str, Any]:
    """Write a file's logits for the images in one .npy file to another, and say how they came.

    Args:
        artifact: the file, as `Artifact.to_json` gives it.
        target: the name of the target.
        num_threads: threads for one inference.
        images: the .npy file of N images. Whole numbers are pixels, 0 to 255, and are scaled as
            the file takes them; floats are fed as they are.
        output: the .npy file to write, float32 of shape (N, classes).
    """
    file = Artifact.from_json(artifact)
    given = np.load(images, allow_pickle=False)
    scaled = given.astype(np.float32, copy=False)
    if given.dtype.kind != "f":
        scaled = to_input(given, file.pixel_scale)
    with closing(open_session(file, get_target(target), num_threads)) as session:
        logits = infer_all(session, scaled, file.batch_size or BATCH_SIZE)
        np.save(output, logits)
        return {"runtime_version": session.runtime_version}


def infer_all(session: Session, images: Images, batch_size: int) -> Logits:
    """Return the logits for all `images`, in batches; the last one is padded and cut back."""
    answers = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        padding = batch_size - len(batch)
        if padding:
            batch = np.concatenate([batch, np.zeros((padding, *batch.shape[1:]), np.float32)])
        session.prepare(batch)
        session.infer()
        answers.append(_by_class(session.logits())[: batch_size - padding])
    return np.concatenate(answers)


def _by_class(logits: Logits) -> Logits:
    """Return logits of shape (N, C), (N, 1, 1, C) or (N, C, 1, 1) as (N, C).

    Raises:
        TargetError: they have another shape, so the model is no classifier.
    """
    if sum(size > 1 for size in logits.shape[1:]) != 1:
        raise TargetError(
            f"the model answers with shape {logits.shape}; lenet-edge runs classifiers, which"
            " answer (N, classes)"
        )
    return logits.reshape(len(logits), -1)
