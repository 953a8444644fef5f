"""Inference of one artifact on one target over a set of images, inside a worker process."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact, check_unchanged
from lenet_edge.classifier_io import flatten_outputs, to_model_input
from lenet_edge.inspection.delegation import checked_delegation
from lenet_edge.runtimes import open_session
from lenet_edge.target import Images, Logits, Session, Target

# Batch size for files that do not fix it: amortizes call overhead and still fits in the cache.
BATCH_SIZE = 100


@worker.function
def record_logits(
    artifact: dict[str, Any], target: dict[str, Any], num_threads: int, images: Path, output: Path
) -> dict[str, Any]:
    """Run an artifact on the images of one .npy file, and write the logits to another.

    Args:
        artifact: the artifact, as `Artifact.to_json` returns it.
        target: the fields of the `Target`.
        num_threads: threads for one inference.
        images: the .npy file of N images, see `classifier_io.to_model_input`.
        output: the .npy file to write, float32 of shape (N, classes).

    Returns:
        "runtime_version", and "delegation": the fields of the `Delegation`, or None.

    Raises:
        LenetEdgeError: the artifact has changed, the target cannot run it, or a delegate leaves
            nodes to the CPU that it must take.
    """
    file, chosen = Artifact.from_json(artifact), Target.from_json(target)
    check_unchanged(file)
    stored = np.load(images, allow_pickle=False)
    with closing(open_session(file, chosen, num_threads)) as session:
        scaled = to_model_input(stored, file, session.inputs[0])
        np.save(output, infer_all(session, scaled, file.batch_size or BATCH_SIZE))
        delegation = checked_delegation(session, file, chosen)
        return {
            "runtime_version": session.runtime_version,
            "delegation": asdict(delegation) if delegation else None,
        }


def infer_all(session: Session, images: Images, batch_size: int) -> Logits:
    """Run a session on all images, in batches; pad the last batch with zeros.

    Args:
        session: the opened artifact.
        images: float32 of shape (N, ...), in the layout of the session's input.
        batch_size: the number of images in a batch.

    Returns:
        The logits, float32 of shape (N, outputs).
    """
    logits = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        padding = batch_size - len(batch)
        if padding:
            batch = np.concatenate([batch, np.zeros((padding, *batch.shape[1:]), np.float32)])
        session.prepare(batch)
        session.infer()
        logits.append(flatten_outputs(session.logits(), batch_size)[: batch_size - padding])
    return np.concatenate(logits)
