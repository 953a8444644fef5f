"""The answers of one file on one target to a set of images; runs in a worker process."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact, check_unchanged
from lenet_edge.classifier_io import arrange_images, scale_pixels, scores_by_class
from lenet_edge.inspection.delegation import checked_delegation
from lenet_edge.runtimes import open_session
from lenet_edge.target import Images, Logits, Session, Target

BATCH_SIZE = (
    100  # where the file leaves it free: a call's own cost vanishes, the cache still holds it
)


@worker.function
def record_logits(
    artifact: dict[str, Any], target: dict[str, Any], num_threads: int, images: Path, output: Path
) -> dict[str, Any]:
    """Write a file's logits for the images in one .npy file to another, and say how they came.

    Args:
        artifact: the file, as `Artifact.to_json` gives it.
        target: the fields of the `Target`.
        num_threads: threads for one inference.
        images: the .npy file of N images. Whole numbers are pixels, 0 to 255, and are scaled as
            the file takes them; floats are fed as they are.
        output: the .npy file to write, float32 of shape (N, classes).
    """
    file, chosen = Artifact.from_json(artifact), Target.from_json(target)
    check_unchanged(file)
    given = np.load(images, allow_pickle=False)
    with closing(open_session(file, chosen, num_threads)) as session:
        scaled = arrange_images(scale_pixels(given, file.pixel_scale), session.inputs[0])
        np.save(output, infer_all(session, scaled, file.batch_size or BATCH_SIZE))
        same_cpu = chosen.delegate == "XNNPACK"  # there, what it leaves is done by the interpreter
        taken = session.delegation if same_cpu else checked_delegation(session, file, chosen)
        return {
            "runtime_version": session.runtime_version,
            "delegation": asdict(taken) if taken else None,
        }


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
        answers.append(scores_by_class(session.logits(), batch_size)[: batch_size - padding])
    return np.concatenate(answers)
