"""Normalization of a drawing or photo of one digit to an image like those of MNIST.

MNIST's digits were cut out and scaled to fit into 20 x 20 pixels with their proportions kept,
which left grey edges. They were then placed in 28 x 28 pixels, with the centre of mass at the
centre; ink is 255 and paper 0. Source: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database
of handwritten digits", http://yann.lecun.com/exdb/mnist/. This module reduces an image to at most
`_WORKING_SIDE` pixels and then takes these steps:

1. Separate ink from paper, in the colour channel with the largest difference. If the border of the
   image has a single colour, that is the paper. Otherwise the image is a photo. Then the paper at
   each pixel is the morphological closing of the image by a square wider than a stroke. This
   removes shadows and uneven light, which are wider than the square.
2. Convert to black and white with Otsu's threshold. Source: N. Otsu, "A threshold selection method
   from gray-level histograms", 1979.
3. Keep the largest connected piece, and the pieces that are near it and not small. This removes
   specks, and objects that extend into a photo from its edges.
4. Widen strokes much thinner than those of MNIST, which mostly are over two pixels wide.
5. Scale the digit to 20 x 20 by area, and place its centre of mass at the centre of 28 x 28.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.artifacts.preprocessing import UNIT, Preprocessing
from lenet_edge.data import mnist
from lenet_edge.data.dataset import Dataset
from lenet_edge.errors import DataError

SIZE = 28  # height and width of the result, in pixels
BOX = 20  # longer side of the digit in the result, in pixels
_WORKING_SIDE = 256
_WIDEST_STROKE = 0.25  # fraction of the shorter side of a photo
_FLAT = 3  # largest variation of the border of a drawing, of 255
_LEAST_CONTRAST = 20  # smallest difference between ink and paper, of 255
_LEAST_NOISE = 4  # smallest contrast, in standard deviations of the paper
# Strokes thinner than the first are widened to the second, the median of MNIST: pixels of the 20.
_THIN, _STROKE = 1.9, 2.4
# Median change of the pixels by a normalization. Digits of MNIST change by 7, the same digits in
# another place or size by 34 or more, and dark digits on white paper by 240.
_MAX_CHANGE = 15
Ink = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def normalize_digit(image: npt.NDArray[np.uint8], name: str = "the image") -> npt.NDArray[np.uint8]:
    """Cut out, scale and centre the digit in an image, as in MNIST.

    Args:
        image: uint8 of shape (height, width, 3), of any size, with ink darker or lighter than the
            paper.
        name: the name of the image in error messages.

    Returns:
        uint8 of shape (28, 28, 1), ink 255 and paper 0.

    Raises:
        DataError: the image has no ink.
    """
    ink, is_drawing = _ink(_resized(image))
    threshold = _otsu(ink)
    if threshold is None:
        raise DataError(f"there is no digit in {name}; it is blank, or the ink is too faint")
    return _centred(_scaled(_widened(_digit(ink > threshold, is_drawing))))[..., np.newaxis]


def preprocessing_after_training(training: Dataset) -> Preprocessing:
    """Return the rule for images of the kind that a LeNet was trained on.

    Images are stretched, as `data.image_folder` does. For digits as in MNIST, the rule leaves the
    way open, so that `predict` cuts out and centres the digit of a photo.
    """
    is_mnist = (
        training.class_names == mnist.CLASS_NAMES
        and training.image_shape == (28, 28, 1)
        and are_normalized(training.images)
    )
    return UNIT if is_mnist else replace(UNIT, resize="stretch")


def are_normalized(images: npt.NDArray[np.uint8]) -> bool:
    """Return whether images look as `normalize_digit` leaves them, as those of MNIST do.

    Args:
        images: uint8 of shape (N, 28, 28, 1); the first 50 are examined.
    """
    changes = []
    for image in images[:50]:
        try:
            normalized = normalize_digit(np.repeat(image, 3, axis=-1))
        except DataError:
            continue
        changes.append(float(np.abs(normalized.astype(np.float32) - image).mean()))
    return bool(changes) and float(np.median(changes)) < _MAX_CHANGE


def _resized(image: npt.NDArray[np.uint8]) -> Ink:
    """Reduce a large image by the means of blocks, and enlarge a small image.

    Returns:
        float32 of shape (height, width, channels).
    """
    side = max(image.shape[:2])
    factor = min(math.ceil(side / _WORKING_SIDE), *image.shape[:2])
    height, width = (size // factor * factor for size in image.shape[:2])
    blocks = image[:height, :width].reshape(height // factor, factor, width // factor, factor, -1)
    small: Ink = blocks.mean(axis=(1, 3), dtype=np.float32)
    repeat = _WORKING_SIDE // 2 // max(small.shape[:2])
    if repeat < 2:
        return small
    return _mean(small.repeat(repeat, axis=0).repeat(repeat, axis=1), repeat)


def _ink(image: Ink) -> tuple[Ink, bool]:
    """Compute the difference of each pixel from the paper.

    Returns:
        The difference, float32 of shape (height, width), and whether the image is a drawing and
        not a photo.
    """
    border = np.concatenate([image[[0, -1]].reshape(-1, image.shape[2]), *image[:, [0, -1]]])
    colour = np.median(border, axis=0)
    is_drawing = bool(np.mean(np.abs(border - colour).max(axis=1) < _FLAT) > 0.75)
    if is_drawing:
        difference = np.abs(image - colour)
    else:
        side = max(1, round(min(image.shape[:2]) * _WIDEST_STROKE))
        residual = image - _mean(image, side)
        if (residual**3).sum() > 0:  # rare pixels are lighter than their surroundings: chalk
            image = 255 - image
        difference = _closing(image, side) - image
    strongest: Ink = difference[..., int((difference**2).sum(axis=(0, 1)).argmax())]
    return strongest, is_drawing


def _otsu(ink: Ink) -> float | None:
    """Compute Otsu's threshold between paper and ink; None if there is only paper."""
    counts, edges = np.histogram(ink, bins=256, range=(0, 256))
    paper, sums = counts.cumsum(), (counts * edges[1:]).cumsum()
    other = np.maximum(paper[-1] - paper, 1)
    apart = (sums[-1] - sums) / other - sums / np.maximum(paper, 1)
    best = int((paper * (paper[-1] - paper) * apart.astype(np.float64) ** 2).argmax())
    threshold = float(edges[best + 1])
    noise = float(ink[ink <= threshold].std()) if (ink <= threshold).any() else 0.0
    if apart[best] < max(_LEAST_CONTRAST, _LEAST_NOISE * noise) or not (ink > threshold).any():
        return None
    return threshold


def _digit(ink: Mask, is_drawing: bool) -> Mask:
    """Select the pieces of a mask that form the digit, and crop the mask to them."""
    labels, boxes, sizes = _connected(ink)
    inside = (boxes[:, :2] > 0).all(1) & (boxes[:, 2:] < ink.shape).all(1)
    if not is_drawing and sizes[inside].max(initial=0) >= sizes.max() / 5:
        sizes = np.where(inside, sizes, 0)
    chosen = sizes == sizes.max()
    while True:
        low, high = boxes[chosen, :2].min(0), boxes[chosen, 2:].max(0)
        gaps = np.maximum(boxes[:, :2] - high, low - boxes[:, 2:]).max(1)
        near = (gaps <= (high - low).max() / 3) & (sizes >= sizes.max() / 30)
        if not (near & ~chosen).any():
            break
        chosen |= near
    mask: Mask = np.append(chosen, False)[labels]  # label -1, the paper, selects the last element
    return mask[low[0] : high[0], low[1] : high[1]]


def _connected(
    ink: Mask,
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Find the connected pieces of a mask; diagonal neighbours are connected.

    Returns:
        The number of the piece of each pixel, -1 for paper; the box of each piece (top, left,
        bottom, right; the last two exclusive), of shape (pieces, 4); and the number of pixels of
        each piece.
    """
    edges = np.diff(np.pad(ink, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)  # horizontal runs of ink, row by row
    ends = np.nonzero(edges == -1)[1]
    parent = list(range(len(rows)))

    def root(run: int) -> int:
        while parent[run] != run:
            parent[run] = run = parent[parent[run]]
        return run

    first_of_row = np.searchsorted(rows, np.arange(len(ink) + 1))
    for run, (row, start, end) in enumerate(zip(rows, starts, ends, strict=True)):
        if row:
            for above in range(first_of_row[row - 1], first_of_row[row]):
                if starts[above] <= end and ends[above] >= start:
                    parent[root(run)] = root(above)
    _, piece = np.unique([root(run) for run in range(len(rows))], return_inverse=True)
    labels = np.full(ink.shape, -1, np.intp)
    labels[ink] = piece.repeat(ends - starts)
    boxes = np.tile([*ink.shape, 0, 0], (int(piece.max()) + 1, 1))
    np.minimum.at(boxes[:, 0], piece, rows)
    np.minimum.at(boxes[:, 1], piece, starts)
    np.maximum.at(boxes[:, 2], piece, rows + 1)
    np.maximum.at(boxes[:, 3], piece, ends)
    return labels, boxes, np.bincount(piece, ends - starts).astype(np.intp)


def _widened(digit: Mask) -> Mask:
    """Widen the strokes of a digit if they are thin."""
    padded = np.pad(digit, 1)
    borders = sum(np.count_nonzero(np.diff(padded, axis=axis)) for axis in (0, 1))
    # The area of a stroke is its length times its width, and its outline is twice its length. On
    # average, a slanted line is shorter than the pixel edges that draw it by the factor pi / 4.
    stroke = 2 * np.count_nonzero(digit) / (borders * math.pi / 4)
    pixel = max(digit.shape) / BOX
    if stroke >= _THIN * pixel:
        return digit
    side = round(_STROKE * pixel - stroke) // 2 * 2 + 1
    wide: Mask = _highest(np.pad(digit, side // 2).astype(np.float32), side) > 0
    return wide


def _scaled(digit: Mask) -> Ink:
    """Scale a digit to the box of 20 pixels.

    Returns:
        float32, 0 to 1: the share of ink in the area of each pixel.
    """
    scale = BOX / max(digit.shape)
    down, across = (_areas(size, max(1, round(size * scale))) for size in digit.shape)
    small: Ink = down @ digit.astype(np.float32) @ across.T
    return small


def _areas(size: int, new_size: int) -> Ink:
    """Compute the weight of each old pixel in each new pixel, of shape (new_size, size)."""
    edges = np.arange(new_size + 1) * (size / new_size)
    old = np.arange(size)
    overlap = np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)
    weights: Ink = (np.maximum(overlap, 0) * (new_size / size)).astype(np.float32)
    return weights


def _centred(small: Ink) -> npt.NDArray[np.uint8]:
    """Place the digit with its centre of mass at the centre of uint8 of shape (28, 28)."""
    result = np.zeros((SIZE, SIZE), np.uint8)
    corner = []
    for axis in (0, 1):
        mass = small.sum(axis=1 - axis)
        centre = float(mass @ np.arange(len(mass)) / mass.sum())
        corner.append(min(max(round(SIZE / 2 - centre), 0), SIZE - len(mass)))
    top, left = corner
    result[top : top + small.shape[0], left : left + small.shape[1]] = np.rint(small * 255)
    return result


def _closing(image: Ink, side: int) -> Ink:
    """Compute the morphological closing by a square, which removes narrow dark areas."""
    # Extend the edge pixels outwards. Otherwise a strip of table beside the paper would be ink.
    padded = np.pad(image, ((side, side), (side, side), (0, 0)), mode="edge")
    closed: Ink = -_highest(-_highest(padded, side), side)
    return closed[side:-side, side:-side]


def _highest(values: Ink, side: int) -> Ink:
    """Compute the largest value in a square around each pixel; an even `side` becomes odd."""
    reach = side // 2
    for axis in (0, 1):
        count = values.shape[axis]
        padding = [
            (reach, reach) if axis == padded_axis else (0, 0) for padded_axis in range(values.ndim)
        ]
        largest, window = np.pad(values, padding, mode="edge"), 1
        while window < 2 * reach + 1:  # windows of 2, 4, 8 ..., until two of them cover the side
            step = min(window, 2 * reach + 1 - window)
            size = largest.shape[axis] - step
            largest = np.maximum(_cut(largest, axis, 0, size), _cut(largest, axis, step, size))
            window += step
        values = _cut(largest, axis, 0, count)
    return values


def _mean(values: Ink, side: int) -> Ink:
    """Compute the mean of a square around each pixel; an even `side` becomes odd."""
    reach = side // 2
    for axis in (0, 1):
        count = values.shape[axis]
        padding = [
            (reach + 1, reach) if axis == padded_axis else (0, 0)
            for padded_axis in range(values.ndim)
        ]
        sums = np.pad(values, padding, mode="edge").cumsum(axis=axis, dtype=np.float64)
        window = 2 * reach + 1
        means = (_cut(sums, axis, window, count) - _cut(sums, axis, 0, count)) / window
        values = means.astype(np.float32)
    return values


def _cut(values: npt.NDArray[Any], axis: int, start: int, count: int) -> Ink:
    part: Ink = values[(slice(None),) * axis + (slice(start, start + count),)]
    return part
