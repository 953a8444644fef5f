"""Test images whose predicted class a file changed, with the predictions of each file."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lenet_edge.data import mnist
from lenet_edge.data.dataset import Dataset
from lenet_edge.errors import MissingPackageError
from lenet_edge.results.result_file import ParityReport

_MAX_IMAGES = 48


@dataclass(frozen=True)
class FlippedDigit:
    """Test image that at least one file predicts differently from the float model.

    Attributes:
        index: index of the image in the test set.
        picture: PNG as a data: URL.
        label: class in the labels.
        was: prediction of the float model, with its confidence.
        predictions: other predictions with their confidence, each with the files and targets.
    """

    index: int
    picture: str
    label: str
    was: str
    predictions: tuple[tuple[str, str], ...]


def flipped_digits(reports: Sequence[ParityReport]) -> tuple[list[FlippedDigit], int]:
    """Return the first flipped images of reports on MNIST, and the number of all.

    Result files hold no images, but this package contains the test images of MNIST. Reports on
    other data are ignored.

    Raises:
        MissingPackageError: Pillow is not installed.
    """
    test = mnist.load("test")
    on_mnist = [report for report in reports if _used_images_of(report, test)]
    indexes = sorted({flip.index for report in on_mnist for flip in report.flips})
    return [_digit(index, on_mnist, test) for index in indexes[:_MAX_IMAGES]], len(indexes)


def _used_images_of(report: ParityReport, data: Dataset) -> bool:
    """Return True if the class counts and the labels of the flips fit a data set."""
    counts = [count.num_samples for count in report.per_class]
    if counts:
        same = counts == np.bincount(data.labels, minlength=len(counts)).tolist()
    else:  # schema 1
        same = report.num_samples == len(data) and len(report.flips) > 0
    return same and all(
        flip.index < len(data) and flip.label == data.labels[flip.index] for flip in report.flips
    )


def _digit(index: int, reports: Sequence[ParityReport], data: Dataset) -> FlippedDigit:
    flips = [(report, flip) for report in reports for flip in report.flips if flip.index == index]
    predictions = []
    for predicted in sorted({flip.now for _, flip in flips}):
        same = [(report, flip) for report, flip in flips if flip.now == predicted]
        targets: dict[str, list[str]] = {}
        for report, _ in same:
            targets.setdefault(report.candidate, []).append(report.target)
        files = "; ".join(f"{file} on {', '.join(names)}" for file, names in targets.items())
        name = "NaN" if predicted < 0 else str(predicted)
        predictions.append((_with_confidence(name, [flip.confidence for _, flip in same]), files))
    _, first = flips[0]
    return FlippedDigit(
        index,
        _data_url(data.images[index, ..., 0]),
        data.class_names[data.labels[index]],
        _with_confidence(str(first.was), [first.was_confidence]),
        tuple(predictions),
    )


def _with_confidence(prediction: str, confidences: Sequence[float | None]) -> str:
    """Return a prediction with the range of its confidences: "7 (62–70 %)"."""
    percents = sorted({round(100 * value) for value in confidences if value is not None})
    if not percents:
        return prediction
    return f"{prediction} ({'–'.join(map(str, percents[:1] + percents[1:][-1:]))} %)"


def _data_url(image: npt.NDArray[np.uint8]) -> str:
    try:
        from PIL import Image
    except ImportError:
        raise MissingPackageError("pillow", "report") from None
    png = io.BytesIO()
    Image.fromarray(image).save(png, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
