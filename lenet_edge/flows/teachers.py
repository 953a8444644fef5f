"""The opening of the model that `train --teacher` names."""

from __future__ import annotations

import shlex
from pathlib import Path

from lenet_edge.artifacts.head import Head
from lenet_edge.artifacts.stated_input import NOTHING_STATED
from lenet_edge.data.dataset import Dataset
from lenet_edge.errors import DataError
from lenet_edge.export.settle_input import Evaluation, implied_rule, try_rules
from lenet_edge.export.source import load_source
from lenet_edge.flows.console import Console
from lenet_edge.train.teacher import Teacher

_CHECKED = 1000  # training images that show if the teacher knows the classes
_MIN_ADVANTAGE = 2  # times the accuracy of chance


def load_teacher(path: Path, training: Dataset, console: Console) -> Teacher:
    """Open a Keras classifier as the teacher of a training, and note its accuracy.

    A teacher whose file does not state its preprocessing gets that of float training images, or
    the usual one with the best accuracy on training images.

    Raises:
        DataError: its input or its classes are not those of the training images, it classifies
            them hardly better than chance, or nothing tells its preprocessing.
        ModelFileError: the file is not a Keras model with one input and one output.
    """
    source = load_source(path, NOTHING_STATED)
    artifact = source.artifact
    if source.image_shape != training.image_shape:
        raise DataError(
            f"the teacher {path} takes images of {source.image_shape}, not of"
            f" {training.image_shape}; train it on the same images"
        )
    head = Head(artifact.head) if artifact.head else Head.LOGITS
    names, classes = training.class_names, source.model.output_shape[-1]
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
    if artifact.preprocessing.is_assumed:
        rule = implied_rule(None, training) or artifact.preprocessing
        source = source.change(preprocessing=rule)
    sample = training.subset(slice(_CHECKED))
    tested = try_rules(source, Evaluation(training.name, sample.images, sample.labels))
    rule = tested.rule
    fed = "" if rule.origin in ("said", "read") else f", fed {rule}"
    console.note(
        f"The teacher classifies {tested.accuracy:.2%} of {len(sample):,} training images{fed}"
    )
    if tested.accuracy < _MIN_ADVANTAGE / len(names) and len(names) > _MIN_ADVANTAGE:
        raise DataError(
            f"the teacher {path} classifies only {tested.accuracy:.1%} of the training images; its"
            " classes or its preprocessing differ from those of the images"
        )
    if rule.is_assumed:
        raise DataError(
            f"the teacher {path} does not say what it takes: {tested.summary}; state it with:"
            f" lenet-edge describe {shlex.quote(str(path))} --pixel-scale 1/255"
        )
    return Teacher(source.model.for_converters, rule, head, artifact.sha256)
