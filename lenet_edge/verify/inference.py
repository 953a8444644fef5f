"""Inference of one artifact on one target over a set of images, inside a worker process."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact, check_unchanged
from lenet_edge.classifier_io import BATCH_SIZE, check_classifier, infer_all, to_model_input
from lenet_edge.inspection.delegation import checked_delegation
from lenet_edge.runtimes import open_session
from lenet_edge.target import Target


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
    check_classifier(file)
    check_unchanged(file)
    stored = np.load(images, allow_pickle=False)
    with closing(open_session(file, chosen, num_threads)) as session:
        scaled = to_model_input(stored, file, session.input_specs[0])
        np.save(output, infer_all(session, scaled, file.batch_size or BATCH_SIZE))
        delegation = checked_delegation(session, file, chosen)
        return {
            "runtime_version": session.runtime_version,
            "delegation": asdict(delegation) if delegation else None,
        }
