"""Decisions about the input of a model to export: its preprocessing, labels and images."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.artifacts.artifact import Artifact, has_manifest
from lenet_edge.artifacts.preprocessing import (
    Preprocessing,
    infer_from_floats,
    recover_pixels,
)
from lenet_edge.artifacts.stated_input import NOTHING_STATED, OPTIONS, StatedInput, question
from lenet_edge.data import mnist
from lenet_edge.data.dataset import Dataset
from lenet_edge.data.handwriting import are_normalized
from lenet_edge.data.labelled_images import load_images
from lenet_edge.data.mnist import TEST as EMBEDDED
from lenet_edge.errors import DataError
from lenet_edge.export import calibration
from lenet_edge.export.firmware import FirmwareBoard
from lenet_edge.export.source import ExportSource, load_source
from lenet_edge.rule_choice import (
    OWN_DIGITS,
    RuleComparison,
    candidates,
    compare_rules,
    digits_decide,
    predicted_classes,
    takes_digits,
)

Note = Callable[[str], None]
_MAX_NAMES = 3  # of classes, in a message


@dataclass(frozen=True)
class Options:
    """Choices of an export, beside the formats and the precisions.

    Attributes:
        batch_size: fixes the batch, for delegates that need it; None leaves it free.
        cpu: the CPU that will run int8 ONNX files: "x86", "arm", or "auto" for this machine's.
        calibration_file: images to calibrate with, instead of training images; a file or folder
            that `data.labelled_images.load_images` takes.
        stated: the facts about the model's input that the user states.
        board: the board of the format "firmware".
    """

    batch_size: int | None = None
    cpu: str = "auto"
    calibration_file: Path | None = None
    stated: StatedInput = NOTHING_STATED
    board: FirmwareBoard | None = None


DEFAULT_OPTIONS = Options()


@dataclass(frozen=True)
class Evaluation:
    """The images to compare the exported files on."""

    name: str
    images: npt.NDArray[Any]
    labels: npt.NDArray[np.int32] | None

    @functools.cached_property
    def pixels(self) -> npt.NDArray[np.uint8] | None:
        """The images as pixels; None for floats whose scaling is not known."""
        return recover_pixels(self.images)


def prepare(
    path: Path, training: Dataset, test: Dataset, options: Options, note: Note
) -> tuple[ExportSource, Evaluation | None, Evaluation | None]:
    """Load a model, and settle its input.

    Args:
        path: a .keras or .onnx file.
        training: the training images.
        test: the test images.
        options: the calibration images and the stated facts.
        note: called with messages for the user.

    Returns:
        The model; the calibration images of the user, if any; and the images to judge the files on,
        None if none fit.

    Raises:
        ModelFileError: the model cannot be loaded.
        DataError: the images do not fit the model.
    """
    return settle(load_source(path, options.stated), training, test, options, note)


def settle(
    source: ExportSource, training: Dataset, test: Dataset, options: Options, note: Note
) -> tuple[ExportSource, Evaluation | None, Evaluation | None]:
    """Settle the input of a model that is loaded; see `prepare`."""
    if len(source.model.inputs) > 1:
        return source, None, None
    own = _own_images(source, options, note)
    if not source.model.is_single:
        rule = source.artifact.preprocessing
        if rule.is_assumed:
            rule = options.stated.change(implied_rule(own, None) or rule)
            source = source.change(preprocessing=rule)
            if rule.is_assumed and own:
                note(question(source.artifact))
        return source, own, None
    if own is None:
        _check_labels(source, test)
    source, evaluation = _settle_input(source, training, test, own, options, note)
    return source, own, evaluation


def _own_images(source: ExportSource, options: Options, note: Note) -> Evaluation | None:
    """Return the calibration images of the user."""
    path = options.calibration_file
    if path is None:
        return None
    shape = source.channels_last.inputs[0].image_shape or source.image_shape
    rule, labels = source.artifact.preprocessing, source.artifact.labels
    loaded = load_images(path, shape, labels, part="train", preprocessing=rule)
    for remark in loaded.remarks:
        note(remark)
    images = calibration.check_pixels(loaded.images, path.name)
    return Evaluation(path.name, images, loaded.labels)


def _check_labels(source: ExportSource, test: Dataset) -> None:
    """Check that the test images have the classes of the model, unless MNIST is only the default.

    Raises:
        DataError: they have others.
    """
    labels = source.artifact.labels
    is_foreign = source.artifact.precision == "unknown" or not has_manifest(source.artifact.path)
    if not _has_labels(test, labels) and not (is_foreign and test.name == EMBEDDED):
        raise DataError(
            f"{source.artifact.path} has {_describe_classes(labels)}, and {test.name} has"
            f" {_describe_classes(test.class_names)}; name the model's images with --dataset"
        )


def _describe_classes(names: Sequence[str]) -> str:
    """Return the number of classes, and the first of their names."""
    more = " ..." if len(names) > _MAX_NAMES else ""
    return f"{len(names)} classes ({', '.join(names[:_MAX_NAMES])}{more})"


def _has_labels(test: Dataset, labels: tuple[str, ...]) -> bool:
    """Return True if a data set may have the classes of some labels; numbers stand for any name."""
    numbers = tuple(map(str, range(len(labels))))
    is_unnamed = test.name != EMBEDDED and test.class_names == numbers
    return not labels or labels == test.class_names or is_unnamed


def _settle_input(
    source: ExportSource,
    training: Dataset,
    test: Dataset,
    own: Evaluation | None,
    options: Options,
    note: Note,
) -> tuple[ExportSource, Evaluation | None]:
    """Decide the preprocessing, the labels, and the images of the reference.

    A stated or declared preprocessing is kept. Otherwise the range of float images implies one, and
    the accuracy on labelled images tests it.

    Returns:
        The checkpoint with these facts, and the images; None if there are none that fit.
    """
    artifact = source.artifact
    name = artifact.path.name
    fits = (
        test.image_shape == source.channels_last.inputs[0].image_shape
        and source.num_classes == len(test.class_names)
        and _has_labels(test, artifact.labels)
    )
    if has_manifest(artifact.path) and artifact.labels == test.class_names and fits:
        return source, Evaluation(test.name, test.images, test.labels)
    if own and not (fits and test.name != EMBEDDED):
        evaluation: Evaluation | None = own
    elif fits:
        evaluation = Evaluation(test.name, test.images, test.labels)
    else:
        note(
            f"the images of {test.name} do not fit {name}, so its files were not compared with it;"
            " give images that fit with --calibration"
        )
        evaluation = None
    rule = artifact.preprocessing
    if rule.is_assumed:
        rule = implied_rule(own, training if evaluation is not own else None) or rule
        source = source.change(preprocessing=options.stated.change(rule))
    if evaluation and evaluation.labels is not None and source.num_classes:
        source, evaluation = _test_input(source, evaluation, note)
    source = source.change(labels=_labels(source, test, evaluation))
    if takes_digits(source.artifact) and not _has_cut_out_digits(source.artifact, evaluation):
        rule = source.artifact.preprocessing
        source = source.change(preprocessing=dataclasses.replace(rule, resize="stretch"))
    if source.artifact.preprocessing.is_assumed:
        note(question(source.artifact))
    return source, evaluation


def implied_rule(own: Evaluation | None, training: Dataset | None) -> Preprocessing | None:
    """Return the preprocessing that the range of float images of the user implies.

    Args:
        own: images of `export --calibration`.
        training: the training images, if there are no others.
    """
    if own and own.images.dtype.kind == "f":
        return infer_from_floats(own.images)
    if own is None and training and training.files.value_range:
        return infer_from_floats(np.array(training.files.value_range))
    return None


def _test_input(
    source: ExportSource, evaluation: Evaluation, note: Note
) -> tuple[ExportSource, Evaluation | None]:
    """Compare the usual preprocessings on labelled images, unless it is stated or declared.

    Returns:
        The checkpoint with the better one; and the images, None for MNIST's if they are not of the
        model's kind.
    """
    name = source.artifact.path.name
    tested = try_rules(source, evaluation)
    if evaluation.name == EMBEDDED and not digits_decide(tested):
        note(
            f"{name} is right on only {tested.accuracy:.0%} of {EMBEDDED}, so these are not its"
            " images; give its own with --calibration or --dataset"
        )
        return source, None
    if not tested.fits:
        note(f"{name}: {tested.summary}, which is about chance; check the labels and {OPTIONS}")
    elif _is_open(source, evaluation):
        note(f"{name}: {tested.summary}")
    return source.change(preprocessing=tested.rule), evaluation


def try_rules(source: ExportSource, evaluation: Evaluation) -> RuleComparison:
    """Compare the usual preprocessings of a classifier on images, unless its own is known.

    Args:
        source: the classifier.
        evaluation: the images, with labels.
    """
    shape = source.artifact.inputs[0].image_shape
    assert source.num_classes
    assert evaluation.labels is not None
    return compare_rules(
        lambda rule, images: predicted_classes(source.predict(images, rule), source.artifact),
        evaluation.images if evaluation.pixels is None else evaluation.pixels,
        evaluation.labels,
        source.num_classes,
        source.artifact.preprocessing,
        candidates(shape[-1] if shape else None) if _is_open(source, evaluation) else (),
        evaluation.name,
    )


def _is_open(source: ExportSource, evaluation: Evaluation) -> bool:
    """Return True if images can change the preprocessing of a model."""
    origin = source.artifact.preprocessing.origin
    return origin in ("assumed", "inferred") and evaluation.pixels is not None


def _has_cut_out_digits(artifact: Artifact, evaluation: Evaluation | None) -> bool:
    """Return whether `predict` has to cut out a digit as in MNIST, or may have to."""
    if artifact.preprocessing.resize or artifact.preprocessing.is_assumed:
        return True  # another source decides
    if artifact.labels != mnist.CLASS_NAMES:
        return False
    pixels = evaluation.pixels if evaluation else None
    return pixels is None or are_normalized(np.reshape(pixels, (-1, 28, 28, 1)))


def _labels(source: ExportSource, test: Dataset, evaluation: Evaluation | None) -> tuple[str, ...]:
    """Return the labels of the model, or those of the data set that it was tested on."""
    artifact = source.artifact
    if artifact.labels:
        return artifact.labels
    names = test.class_names
    if evaluation and evaluation.name == test.name and names != mnist.CLASS_NAMES:
        return names
    if not takes_digits(artifact) or artifact.preprocessing.is_assumed:
        return ()
    if evaluation is None or evaluation.name != EMBEDDED:
        digits = mnist.load("test").subset(slice(0, 500))
        right = predicted_classes(source.predict(digits.images), source.artifact) == digits.labels
        return mnist.CLASS_NAMES if right.mean() >= OWN_DIGITS else ()
    return mnist.CLASS_NAMES
