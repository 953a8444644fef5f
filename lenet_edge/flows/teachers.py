"""The opening of the model that `train --teacher` names."""

from __future__ import annotations

from pathlib import Path

from lenet_edge.artifacts.head import Head
from lenet_edge.data.dataset import Dataset, to_input
from lenet_edge.errors import DataError
from lenet_edge.export.checkpoint import keras_artifact, load_checkpoint
from lenet_edge.flows.console import Console
from lenet_edge.train.teacher import Teacher

_CHECKED = 1000  # training images that show if the teacher knows the classes
_MIN_ADVANTAGE = 2  # times the accuracy of chance


def load_teacher(path: Path, training: Dataset, console: Console) -> Teacher:
    """Open a Keras classifier as the teacher of a training, and note its accuracy.

    Raises:
        DataError: its input or its classes are not those of the training images, or it classifies
            them hardly better than chance.
        ModelFileError: the file is not a Keras model with one input and one output.
    """
    model = load_checkpoint(path)
    artifact = keras_artifact(path, model)
    image_shape = tuple(model.inputs[0].shape[1:])
    if image_shape != training.image_shape:
        raise DataError(
            f"the teacher {path} takes images of {image_shape}, not of {training.image_shape};"
            " train it on the same images"
        )
    head = Head(artifact.head) if artifact.head else Head.LOGITS
    names, classes = training.class_names, model.outputs[0].shape[-1]
    if head not in (Head.LOGITS, Head.SOFTMAX) or classes != len(names):
        raise DataError(
            f"the teacher {path} has {classes} outputs ({head.value}), and the images have"
            f" {len(names)} classes; it needs a logit or a probability for each class"
        )
    if artifact.labels and artifact.labels != names:
        raise DataError(
            f"the classes of the teacher {path} are {', '.join(artifact.labels)}, not"
            f" {', '.join(names)}; train it on the same classes"
        )
    teacher = Teacher(model, artifact.preprocessing, head, artifact.sha256)
    sample = training.subset(slice(_CHECKED))
    predicted = teacher.logits(to_input(sample.images)).numpy().argmax(axis=1)
    accuracy = float((predicted == sample.labels).mean())
    console.note(f"The teacher classifies {accuracy:.2%} of {len(sample):,} training images")
    if accuracy < _MIN_ADVANTAGE / len(names) and len(names) > _MIN_ADVANTAGE:
        raise DataError(
            f"the teacher {path} classifies only {accuracy:.1%} of the training images; its classes"
            " or its preprocessing differ from those of the images"
        )
    return teacher
