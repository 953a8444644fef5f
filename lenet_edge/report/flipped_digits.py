"""The images whose answer a file changed, each once, with all that is said of it."""

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

_MOST = 48  # images on the sheet


@dataclass(frozen=True)
class Digit:
    """A test image that some file answers otherwise than the float model.

    `picture` is a data: URL of a PNG. `answers` are (answer and confidence, who says so) in words.
    """

    index: int
    picture: str
    label: str
    was: str
    answers: tuple[tuple[str, str], ...]


def sheet(reports: Sequence[ParityReport]) -> tuple[list[Digit], int]:
    """Return the flipped images of reports on MNIST, and how many there are in all.

    A result file does not hold images; those of MNIST's test part are in this package. Reports on
    other data have no sheet.

    Raises:
        MissingPackageError: Pillow is not installed.
    """
    test = mnist.load("test")
    ours = [report for report in reports if _is_about(report, test)]
    indexes = sorted({flip.index for report in ours for flip in report.flips})
    return [_digit(index, ours, test) for index in indexes[:_MOST]], len(indexes)


def _is_about(report: ParityReport, data: Dataset) -> bool:
    """Tell by the number of images of each class, and the labels of the flips."""
    counts = [one.num_samples for one in report.per_class]
    if counts:
        same = counts == np.bincount(data.labels, minlength=len(counts)).tolist()
    else:  # schema 1
        same = report.num_samples == len(data) and len(report.flips) > 0
    return same and all(
        flip.index < len(data) and flip.label == data.labels[flip.index] for flip in report.flips
    )


def _digit(index: int, reports: Sequence[ParityReport], data: Dataset) -> Digit:
    found = [(r, flip) for r in reports for flip in r.flips if flip.index == index]
    answers = []
    for now in sorted({flip.now for _, flip in found}):
        same = [(r, flip) for r, flip in found if flip.now == now]
        targets: dict[str, list[str]] = {}
        for report, _ in same:
            targets.setdefault(report.candidate, []).append(report.target)
        files = "; ".join(f"{file} on {', '.join(on)}" for file, on in targets.items())
        sure = [flip.confidence for _, flip in same]
        answers.append((_with_confidence("NaN" if now < 0 else str(now), sure), files))
    was = found[0][1]
    return Digit(
        index,
        _data_url(data.images[index, ..., 0]),
        data.class_names[data.labels[index]],
        _with_confidence(str(was.was), [was.was_confidence]),
        tuple(answers),
    )


def _with_confidence(answer: str, confidences: Sequence[float | None]) -> str:
    sure = sorted({round(100 * one) for one in confidences if one is not None})
    return f"{answer} ({'–'.join(map(str, sure[:1] + sure[1:][-1:]))} %)" if sure else answer


def _data_url(image: npt.NDArray[np.uint8]) -> str:
    try:
        from PIL import Image
    except ImportError:
        raise MissingPackageError("pillow", "report") from None
    png = io.BytesIO()
    Image.fromarray(image).save(png, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
