"""Diagnosis of a failed artifact: distinguishes a wrong file from wrong preprocessing.

The diagnosis runs the artifact again, on images prepared with common mistakes undone: another
scale, another layout, or integers for a quantized input. If one of these makes the predictions
agree with the reference, the file is right and its preprocessing is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.artifacts.head import Head, read_outputs, resolve_head
from lenet_edge.artifacts.preprocessing import to_input_values
from lenet_edge.classifier_io import BATCH_SIZE, arrange_images, channels_last, infer_all
from lenet_edge.errors import LenetEdgeError
from lenet_edge.runtimes import open_session
from lenet_edge.selection import Pair
from lenet_edge.target import Images, Target
from lenet_edge.verify.expected import Expected, call_with_images

NUM_IMAGES = 300
# Another preparation explains a failure if it reduces the mean error to this fraction or less.
_MUCH_BETTER = 0.25


def diagnose(pair: Pair, expected: Expected) -> str | None:
    """Find a preprocessing of the images with which a failed artifact agrees with its reference.

    Args:
        pair: the artifact and its target.
        expected: the images and their expected logits.

    Returns:
        A sentence that names the preprocessing; None if there is no such preprocessing.
    """
    count = min(NUM_IMAGES, len(expected.images))
    expected_logits = expected.logits[:count]
    try:
        logits_of_ways, ways = call_with_images(
            lambda images, output: try_alternatives.bind(
                pair.artifact.to_json(), asdict(pair.target), images, output
            ),
            expected.images[:count],
        )
    except LenetEdgeError:  # the pair has run before, so this failure explains nothing
        return None

    def error(logits: Any) -> float:
        return float(np.abs(np.nan_to_num(logits, nan=1e9) - expected_logits).mean())

    head = resolve_head(expected.head, expected_logits)
    if head is Head.VALUES:
        return None
    classes, _ = read_outputs(expected_logits, head)

    def agreement(logits: Any) -> float:
        return float((read_outputs(np.nan_to_num(logits), head)[0] == classes).mean())

    as_prepared, *others = logits_of_ways
    if not others:
        return None
    best = min(range(len(others)), key=lambda i: error(others[i]))
    now, then = agreement(as_prepared), agreement(others[best])
    if error(others[best]) > _MUCH_BETTER * error(as_prepared) or then < max(now, 0.9):
        return None
    return (
        f"wrong input, not a wrong file: with {ways[best + 1]} it agrees on {then:.1%} of"
        f" {count} images, with the present input ({ways[0]}) on {now:.1%}"
    )


@worker.function
def try_alternatives(
    artifact: dict[str, Any], target: dict[str, Any], images: Path, output: Path
) -> list[str]:
    """Run an artifact on images prepared in each way that its input allows.

    Args:
        artifact: the artifact, as `Artifact.to_json` returns it.
        target: the fields of the `Target`.
        images: the .npy file of N images.
        output: the .npy file to write, float32 of shape (ways, N, classes).

    Returns:
        A description of each way; the present preparation is the first.
    """
    file, chosen = Artifact.from_json(artifact), Target.from_json(target)
    stored = np.load(images, allow_pickle=False)
    ways, logits = [], []
    with closing(open_session(file, chosen, 1)) as session:
        spec = session.input_specs[0]
        last = channels_last(stored, spec)
        values = to_input_values(last, file.preprocessing)
        if stored.ndim == 4 and last.shape != stored.shape:  # keep the layout of the images
            values = np.moveaxis(values, -1, 1)
        for way, prepared in _ways(values, spec):
            try:
                arranged = arrange_images(prepared, spec)
            except LenetEdgeError:
                continue
            batch_size = file.batch_size or min(BATCH_SIZE, len(arranged))
            logits.append(infer_all(session, arranged, batch_size))
            ways.append(way)
    np.save(output, np.stack(logits))
    return ways


def _ways(images: Images, spec: TensorSpec) -> Iterator[tuple[str, Images]]:
    """Yield descriptions and values of the same images, the present preparation first."""
    low, high = float(images.min()), float(images.max())
    yield f"values of {low:g} to {high:g}", images
    span = 255.0 if high > 2 else 2.0 if low < 0 else 1.0
    unit = (images - (-1 if span == 2 else 0)) / np.float32(span)  # 0 to 1
    for way, prepared in (
        ("pixels of 0 to 1", unit),
        ("pixels of 0 to 255", unit * 255),
        ("pixels of -1 to 1", unit * 2 - 1),
        ("black and white swapped", high + low - images),
    ):
        if not np.allclose(prepared, images, atol=1e-3):
            yield way, prepared
    if spec.scale is None and np.dtype(spec.dtype).kind in "iu":
        zero = np.iinfo(spec.dtype).min
        yield (
            f"pixels quantized to {spec.dtype} (scale 1/255, zero point {zero})",
            np.rint(unit * 255) + np.float32(zero),
        )
    if images.ndim == 4:
        yield from _rearranged(images)


def _rearranged(images: Images) -> Iterator[tuple[str, Images]]:
    """Yield the images with rows, columns or channels exchanged."""
    channels_first = images.shape[1] in (1, 3) and images.shape[-1] not in (1, 3)
    axis, other_axis, other = (1, -1, "last") if channels_first else (-1, 1, "first")
    rows, columns = (2, 3) if channels_first else (1, 2)
    if images.shape[rows] == images.shape[columns]:
        yield "rows and columns swapped", images.swapaxes(rows, columns)
    if images.shape[axis] == 3:
        yield "the channels reversed (BGR for RGB)", np.flip(images, axis)
        moved = np.moveaxis(images, axis, other_axis)
        read = np.moveaxis(images.reshape(moved.shape), other_axis, axis)
        yield f"the values read as channels {other}", read
        yield f"the values put channels {other}, in the same shape", moved.reshape(images.shape)
