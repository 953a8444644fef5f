"""Logits of the mixes of `tune` on the images that it judges them by.

`write_logits` runs in a worker process without TensorFlow, because TensorFlow and tflite-runtime
corrupt each other in one process.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np

from lenet_edge import worker
from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.classifier_io import to_model_input
from lenet_edge.data import mnist
from lenet_edge.data.dataset import Dataset
from lenet_edge.runtimes import get_target, open_session
from lenet_edge.verify.inference import BATCH_SIZE, infer_all

# The last training images. A choice by the test images would bias the result on them.
NUM_HELD_OUT = 5000
HELD_OUT, TEST = "held-out", "test"


def load_part(part: str) -> Dataset:
    """Return the held-out images or the test images."""
    if part == TEST:
        return mnist.load("test")
    return mnist.load("train").subset(slice(-NUM_HELD_OUT, None))


@worker.function
def write_logits(paths: list[Path], target: str, part: str, output: Path) -> None:
    """Write the logits of each file, under its index in `paths`, to an .npz file.

    Files that the target cannot run are left out.

    Args:
        paths: the model files.
        target: name of the target.
        part: `HELD_OUT` or `TEST`.
        output: path of the .npz file.
    """
    dataset = load_part(part)
    logits = {}
    for index, path in enumerate(paths):
        artifact = load_artifact(path)
        images = to_model_input(dataset.images, artifact)
        try:
            with closing(open_session(artifact, get_target(target))) as session:
                logits[str(index)] = infer_all(session, images, BATCH_SIZE)
        except Exception:  # the runtime does not support this mix
            continue
    np.savez(output, **logits)
