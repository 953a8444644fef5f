"""What the mixes of `tune` answer; runs in a worker process, far from TensorFlow.

TensorFlow and tflite-runtime in one process corrupt each other.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np

from lenet_edge import worker
from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.data import mnist
from lenet_edge.data.dataset import Dataset, to_input
from lenet_edge.runtimes import get_target, open_session
from lenet_edge.verify.inference import BATCH_SIZE, infer_all

NUM_HELD_OUT = 5000  # the last training images: choosing by the test images would flatter
HELD_OUT, TEST = "held-out", "test"


def images_of(part: str) -> Dataset:
    """Return the held-out images or the test images."""
    if part == TEST:
        return mnist.load("test")
    return mnist.load("train").subset(slice(-NUM_HELD_OUT, None))


@worker.function
def answer(paths: list[Path], target: str, part: str, output: Path) -> None:
    """Write the logits of each file that the target can run to the .npz `output`, by its index."""
    dataset = images_of(part)
    logits = {}
    for index, path in enumerate(paths):
        artifact = load_artifact(path)
        images = to_input(dataset.images, artifact.pixel_scale)
        try:
            with closing(open_session(artifact, get_target(target))) as session:
                logits[str(index)] = infer_all(session, images, BATCH_SIZE)
        except Exception:  # a mix that the runtime refuses is no candidate
            continue
    np.savez(output, **logits)
