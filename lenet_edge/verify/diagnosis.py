"""Is it the file that is wrong, or what it is fed?

A file that fails is run again on images prepared in the ways that people get wrong: another scale,
another layout, integers where they are quantized. Where one of them makes it agree, the file is
right and its preprocessing is not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.classifier_io import arrange_images, scale_pixels
from lenet_edge.errors import LenetEdgeError
from lenet_edge.runtimes import open_session
from lenet_edge.selection import Pair
from lenet_edge.target import Images, Target
from lenet_edge.verify.expected import Expected, call_with_images
from lenet_edge.verify.inference import BATCH_SIZE, infer_all

NUM_IMAGES = 300
# An alternative explains a failure when it leaves this little of the error, and of the flips.
_MUCH_BETTER = 0.25


def diagnose(pair: Pair, expected: Expected, found: Mapping[str, Any]) -> str | None:
    """Return in words which preprocessing would make a failed file agree; None where none does."""
    count = min(NUM_IMAGES, len(expected.images))
    expected_logits = expected.logits[:count]
    try:
        answers, ways = call_with_images(
            lambda images, output: try_alternatives.bind(
                pair.artifact.to_json(), asdict(pair.target), images, output
            ),
            expected.images[:count],
        )
    except LenetEdgeError:  # it ran before; then this is no way to learn more
        return None

    def error(logits: Any) -> float:
        return float(np.abs(np.nan_to_num(logits, nan=1e9) - expected_logits).mean())

    def agreement(logits: Any) -> float:
        return float((logits.argmax(axis=1) == expected_logits.argmax(axis=1)).mean())

    as_fed, *others = answers
    if not others:
        return None
    best = min(range(len(others)), key=lambda i: error(others[i]))
    now, then = agreement(as_fed), agreement(others[best])
    if error(others[best]) > _MUCH_BETTER * error(as_fed) or then < max(now, 0.9):
        return None
    return (
        f"wrong input, not a wrong file: fed with {ways[best + 1]} it agrees on {then:.1%} of"
        f" {count} images, as it was fed ({ways[0]}) on {now:.1%}"
    )


@worker.function
def try_alternatives(
    artifact: dict[str, Any], target: dict[str, Any], images: Path, output: Path
) -> list[str]:
    """Write a file's logits for each way of feeding it, and return the ways in words."""
    file, chosen = Artifact.from_json(artifact), Target.from_json(target)
    given = np.load(images, allow_pickle=False)
    ways, answers = [], []
    with closing(open_session(file, chosen, 1)) as session:
        for words, fed in _ways(scale_pixels(given, file.pixel_scale), session.inputs[0]):
            try:
                fitted = arrange_images(fed, session.inputs[0])
            except LenetEdgeError:
                continue
            answers.append(infer_all(session, fitted, file.batch_size or BATCH_SIZE))
            ways.append(words)
    np.save(output, np.stack(answers))
    return ways


def _ways(images: Images, spec: TensorSpec) -> Iterator[tuple[str, Images]]:
    """Yield ways to feed the same pictures, the present one first."""
    low, high = float(images.min()), float(images.max())
    yield f"values of {low:g} to {high:g}", images
    span = 255.0 if high > 2 else 2.0 if low < 0 else 1.0
    unit = (images - (-1 if span == 2 else 0)) / np.float32(span)  # 0 to 1
    for words, other in (
        ("pixels of 0 to 1", unit),
        ("pixels of 0 to 255", unit * 255),
        ("pixels of -1 to 1", unit * 2 - 1),
        ("black and white swapped", high + low - images),
    ):
        if not np.allclose(other, images, atol=1e-3):
            yield words, other
    if spec.scale is None and np.dtype(spec.dtype).kind in "iu":
        zero = np.iinfo(spec.dtype).min
        yield (
            f"pixels quantized to {spec.dtype} (scale 1/255, zero point {zero})",
            np.rint(unit * 255) + np.float32(zero),
        )
    if images.ndim == 4:
        yield from _arranged(images)


def _arranged(images: Images) -> Iterator[tuple[str, Images]]:
    """Yield the same values in other places: rows, columns and channels."""
    first = images.shape[1] in (1, 3) and images.shape[-1] not in (1, 3)
    axis, others, other = (1, -1, "last") if first else (-1, 1, "first")  # of the channels
    rows, columns = (2, 3) if first else (1, 2)
    if images.shape[rows] == images.shape[columns]:
        yield "rows and columns swapped", images.swapaxes(rows, columns)
    if images.shape[axis] == 3:
        yield "the channels reversed (BGR for RGB)", np.flip(images, axis)
        moved = np.moveaxis(images, axis, others)
        read = np.moveaxis(images.reshape(moved.shape), others, axis)
        yield f"the values read as channels {other}", read
        yield f"the values put channels {other}, in the same shape", moved.reshape(images.shape)
