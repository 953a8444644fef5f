"""Images that `tune` judges its mixes by, and the logits of the mixes on them.

`write_logits` runs in a worker process without TensorFlow, because TensorFlow and tflite-runtime
corrupt each other in one process.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np

from lenet_edge import worker
from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.classifier_io import BATCH_SIZE, infer_all, to_model_input
from lenet_edge.data.dataset import Dataset, split_by_class
from lenet_edge.runtimes import get_target, open_session

_NUM_HELD_OUT = 5000


def split_held_out(training: Dataset) -> tuple[Dataset, Dataset]:
    """Split training images into those that calibrate mixes and those that mixes are judged by.

    A choice by the test images would bias the result on them. Of large data sets the last 5,000
    images are held out, which `train` does not learn from either. Of smaller ones it is 15 % of
    each class.

    Raises:
        DataError: a class has only one image.
    """
    if len(training) >= 10 * _NUM_HELD_OUT:
        parts = slice(None, -_NUM_HELD_OUT), slice(-_NUM_HELD_OUT, None)
        return training.subset(parts[0]), training.subset(parts[1])
    return split_by_class(training)


@worker.function
def write_logits(paths: list[Path], target: str, images: Path, output: Path) -> None:
    """Write the logits of each file, under its index in `paths`, to an .npz file.

    Files that the target cannot run are left out.

    Args:
        paths: the model files.
        target: name of the target.
        images: an .npz file with the pixels, uint8 of shape (N, height, width, channels), as the
            array "images".
        output: path of the .npz file.
    """
    with np.load(images, allow_pickle=False) as arrays:
        pixels = arrays["images"]
    logits = {}
    for index, path in enumerate(paths):
        artifact = load_artifact(path)
        values = to_model_input(pixels, artifact)
        try:
            with closing(open_session(artifact, get_target(target))) as session:
                logits[str(index)] = infer_all(session, values, BATCH_SIZE)
        except Exception:  # the runtime does not support this mix
            continue
    np.savez(output, **logits)
