"""A drawing or a photo of one digit, made into what MNIST's images are.

MNIST's digits were cut out, scaled to fit into 20 x 20 pixels with their proportions kept, which
left grey edges, and put into 28 x 28 so that their centre of mass is the centre; ink is 255 and
paper 0. Source: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits",
http://yann.lecun.com/exdb/mnist/. The steps here, on an image of about `_WORKING_SIDE` pixels:

1. Ink is what differs from the paper, in the colour channel where that shows most. Where the frame
   of the image has one colour, that is the paper. Elsewhere, in photos, the paper at each pixel is
   the image's morphological closing by a square wider than a stroke: shadows and uneven light are
   wider than the square, and vanish.
2. Otsu's threshold makes it black and white. Source: N. Otsu, "A threshold selection method from
   gray-level histograms", 1979.
3. Specks, and what reaches into a photo from its edges, are not the digit: the largest piece is,
   with the pieces that are near it and not small.
4. A pen much thinner than MNIST's is widened: most of MNIST's strokes are over two pixels wide.
5. It is scaled to 20 x 20, by areas, and centred by its mass in 28 x 28.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.errors import DataError

SIZE = 28  # pixels a side of the result
BOX = 20  # pixels of the longer side of the digit in it
_WORKING_SIDE = 256
_WIDEST_STROKE = 0.25  # of the shorter side of a photo
_FLAT = 3  # of 255: by how little the frame of a drawing may vary
_LEAST_CONTRAST = 20  # of 255, between ink and paper
_LEAST_NOISE = 4  # times the paper's own standard deviation, which ink must stand out by
_THIN, _STROKE = 1.9, 2.4  # pixels of the 20: thinner pens are widened to MNIST's median
Ink = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def normalize_digit(image: npt.NDArray[np.uint8], name: str = "the image") -> npt.NDArray[np.uint8]:
    """Return the digit in an image as MNIST would hold it: uint8 of shape (28, 28, 1).

    Args:
        image: uint8 of shape (height, width, 3), of any size, ink on paper or the reverse.
        name: what to call it in an error.

    Raises:
        DataError: there is no ink in it.
    """
    ink, is_drawing = _ink(_resized(image))
    threshold = _otsu(ink)
    if threshold is None:
        raise DataError(f"there is no digit in {name}; is it blank, or too faint?")
    return _centred(_scaled(_widened(_digit(ink > threshold, is_drawing))))[..., np.newaxis]


def _resized(image: npt.NDArray[np.uint8]) -> Ink:
    """Return float32 of shape (height, width, channels): means of blocks, or pixels repeated."""
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
    """Return how much each pixel differs from the paper, and whether this is a drawing, no photo.

    The former is float32 of shape (height, width).
    """
    frame = np.concatenate([image[[0, -1]].reshape(-1, image.shape[2]), *image[:, [0, -1]]])
    colour = np.median(frame, axis=0)
    is_drawing = bool(np.mean(np.abs(frame - colour).max(axis=1) < _FLAT) > 0.75)
    if is_drawing:  # all of its paper has one colour
        difference = np.abs(image - colour)
    else:
        side = max(1, round(min(image.shape[:2]) * _WIDEST_STROKE))
        residual = image - _mean(image, side)
        if (residual**3).sum() > 0:  # what is lighter than its surroundings is rarer: chalk
            image = 255 - image
        difference = _closing(image, side) - image
    strongest: Ink = difference[..., int((difference**2).sum(axis=(0, 1)).argmax())]
    return strongest, is_drawing


def _otsu(ink: Ink) -> float | None:
    """Return the threshold between paper and ink, or None where there is only paper."""
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
    """Return the part of a mask that is the digit, without empty rows and columns around it."""
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
    mask: Mask = np.append(chosen, False)[labels]  # label -1, paper, is the last
    return mask[low[0] : high[0], low[1] : high[1]]


def _connected(
    ink: Mask,
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return the connected pieces of a mask, diagonals included.

    Returns:
        The piece of each pixel, -1 where there is none; for each piece its box (top, left,
        bottom, right; the last two exclusive), of shape (pieces, 4); and its number of pixels.
    """
    edges = np.diff(np.pad(ink, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)  # runs of ink, row by row
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
    boxes = np.tile([*ink.shape, 0, 0], (piece.max() + 1, 1))
    np.minimum.at(boxes[:, 0], piece, rows)
    np.minimum.at(boxes[:, 1], piece, starts)
    np.maximum.at(boxes[:, 2], piece, rows + 1)
    np.maximum.at(boxes[:, 3], piece, ends)
    return labels, boxes, np.bincount(piece, ends - starts).astype(np.intp)


def _widened(digit: Mask) -> Mask:
    """Return the digit as a wider pen would have written it, if its own was thin."""
    padded = np.pad(digit, 1)
    borders = sum(np.count_nonzero(np.diff(padded, axis=axis)) for axis in (0, 1))
    # A stroke's area is its length times its width, its outline twice its length; pi / 4 is by
    # how much a slanted line is shorter than the pixel sides that draw it, in the mean.
    stroke = 2 * np.count_nonzero(digit) / (borders * math.pi / 4)
    pixel = max(digit.shape) / BOX
    if stroke >= _THIN * pixel:
        return digit
    side = round(_STROKE * pixel - stroke) // 2 * 2 + 1
    wide: Mask = _highest(np.pad(digit, side // 2).astype(np.float32), side) > 0
    return wide


def _scaled(digit: Mask) -> Ink:
    """Return the digit in the box: float32, 0 to 1, each pixel the share of ink in its area."""
    scale = BOX / max(digit.shape)
    down, across = (_areas(size, max(1, round(size * scale))) for size in digit.shape)
    small: Ink = down @ digit.astype(np.float32) @ across.T
    return small


def _areas(size: int, new_size: int) -> Ink:
    """Return the matrix, new by old, of how much each old pixel counts in each new one."""
    edges = np.arange(new_size + 1) * (size / new_size)
    old = np.arange(size)
    overlap = np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)
    weights: Ink = (np.maximum(overlap, 0) * (new_size / size)).astype(np.float32)
    return weights


def _centred(small: Ink) -> npt.NDArray[np.uint8]:
    """Return it as uint8 of shape (28, 28), its centre of mass at the centre."""
    result = np.zeros((SIZE, SIZE), np.uint8)
    place = []
    for axis in (0, 1):
        mass = small.sum(axis=1 - axis)
        centre = float(mass @ np.arange(len(mass)) / mass.sum())
        place.append(min(max(round(SIZE / 2 - centre), 0), SIZE - len(mass)))
    top, left = place
    result[top : top + small.shape[0], left : left + small.shape[1]] = np.rint(small * 255)
    return result


def _closing(image: Ink, side: int) -> Ink:
    """Return it without what is darker than its surroundings and narrower than a square."""
    # What reaches the edge goes on beyond it, or the strip of a table beside the paper is ink.
    padded = np.pad(image, ((side, side), (side, side), (0, 0)), mode="edge")
    closed: Ink = -_highest(-_highest(padded, side), side)
    return closed[side:-side, side:-side]


def _highest(values: Ink, side: int) -> Ink:
    """Return the largest value in a square around each pixel; `side` is made odd."""
    reach = side // 2
    for axis in (0, 1):
        count = values.shape[axis]
        padding = [(reach, reach) if axis == one else (0, 0) for one in range(values.ndim)]
        found, window = np.pad(values, padding, mode="edge"), 1
        while window < 2 * reach + 1:  # windows of 2, 4, 8 ..., until two of them cover the side
            step = min(window, 2 * reach + 1 - window)
            size = found.shape[axis] - step
            found = np.maximum(_cut(found, axis, 0, size), _cut(found, axis, step, size))
            window += step
        values = _cut(found, axis, 0, count)
    return values


def _mean(values: Ink, side: int) -> Ink:
    """Return the mean of a square around each pixel; `side` is made odd."""
    reach = side // 2
    for axis in (0, 1):
        count = values.shape[axis]
        padding = [(reach + 1, reach) if axis == one else (0, 0) for one in range(values.ndim)]
        sums = np.pad(values, padding, mode="edge").cumsum(axis=axis, dtype=np.float64)
        window = 2 * reach + 1
        means = (_cut(sums, axis, window, count) - _cut(sums, axis, 0, count)) / window
        values = means.astype(np.float32)
    return values


def _cut(values: npt.NDArray[Any], axis: int, start: int, count: int) -> Ink:
    part: Ink = values[(slice(None),) * axis + (slice(start, start + count),)]
    return part
