"""Script that makes the probe models of `lenet_edge.runtimes._probe`.

Run it with ``python -m lenet_edge.flows.make_probe [FORMAT ...]``. It makes all without arguments.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

import lenet_edge.model  # noqa: F401  import it first: it silences TensorFlow
from lenet_edge.artifacts.artifact import manifest_path
from lenet_edge.artifacts.parts import files_of
from lenet_edge.data.dataset import Dataset
from lenet_edge.export.exporter import export
from lenet_edge.formats import EXPORTED
from lenet_edge.runtimes._probe import FOLDER, IMAGE_SHAPE, NUM_CLASSES, weights
from lenet_edge.support.temporary import temporary_folder
from lenet_edge.train import loop

import numpy as np  # isort: skip
import tensorflow as tf  # isort: skip


def make_probe(formats: Sequence[str] = EXPORTED) -> None:
    """Build a model of one matrix and export it to the given formats.

    With all formats, the checkpoint is replaced too.
    """
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            tf.keras.Input(IMAGE_SHAPE, name="image"),
            layers.Flatten(),
            layers.Dense(NUM_CLASSES, use_bias=False, name="logits"),
        ],
        name="probe",
    )
    model.set_weights([weights()])
    names = tuple(str(number) for number in range(NUM_CLASSES))
    blank = Dataset("blank", np.zeros((1, *IMAGE_SHAPE), np.uint8), np.zeros((1,), np.int32), names)
    with temporary_folder() as folder:
        checkpoint = loop.save_checkpoint(model, folder / "probe.keras", names)
        exported = export(checkpoint.path, folder, blank, blank, formats=formats)
        for artifact in (checkpoint, *exported) if formats == EXPORTED else exported:
            path = FOLDER / f"probe{artifact.path.suffix}"
            for file in files_of(artifact.path).values():
                shutil.copyfile(file, path.with_suffix(file.suffix))
            shutil.copyfile(manifest_path(artifact.path), manifest_path(path))


if __name__ == "__main__":
    make_probe(sys.argv[1:] or EXPORTED)
