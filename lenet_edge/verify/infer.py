"""The answers of one file on one target to every test image; runs in a worker process."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge.artifact import load_artifact
from lenet_edge.data.dataset import to_input
from lenet_edge.data.test_set import images_for
from lenet_edge.runtimes import get_target, open_session
from lenet_edge.target import Images, Logits, Session

BATCH_SIZE = 500  # where the file leaves it free: large enough that a call's own cost vanishes


def record_logits(path: str, target: str, num_threads: int, output: str) -> dict[str, Any]:
    """Write the logits for all test images to the .npy file `output`, and say how they came."""
    artifact = load_artifact(Path(path))
    images = to_input(images_for(artifact).images, artifact.pixel_scale)
    with closing(open_session(artifact, get_target(target), num_threads)) as session:
        logits = infer_all(session, images, artifact.batch_size or BATCH_SIZE)
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
        answers.append(session.logits()[: batch_size - padding])
    return np.concatenate(answers)
