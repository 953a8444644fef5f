"""Random bending of images on the graph: an affine and a smooth elastic warp in one look-up.

Source: P. Simard et al., "Best practices for convolutional neural networks applied to visual
document analysis", 2003 (elastic distortion); bilinear sampling as in M. Jaderberg et al.,
"Spatial transformer networks", 2015.
"""

from __future__ import annotations

from typing import Any

import lenet_edge.model  # noqa: F401  imported first: it quiets TensorFlow
from lenet_edge.train.recipe import Augmentation

import numpy as np  # isort: skip
import numpy.typing as npt  # isort: skip
import tensorflow as tf  # isort: skip

_GRID = 4  # pixels between the control points of the elastic warp, and the width of its bumps
_AFFINE = 6  # rotation, two zooms, shear, two shifts


def draw_random_numbers(
    batches: int, batch_size: int, image_shape: tuple[int, ...], seed: Any
) -> tuple[Any, Any]:
    """Return the random numbers for that many batches: the same for the same seed.

    They are drawn apart from `warp_images`, because XLA on a CPU draws ten times more slowly than
    TensorFlow's own kernels.

    Args:
        batches: how many.
        batch_size: images in each.
        image_shape: height, width, channels.
        seed: two integers.

    Returns:
        Uniform numbers in -1..1, float32 of shape (batches, batch_size, 6), and normal ones of
        shape (batches, batch_size, 2, rows, columns).
    """
    grid = [_bumps(size).shape[1] for size in image_shape[:2]]
    return (
        tf.random.stateless_uniform((batches, batch_size, _AFFINE), seed, -1.0, 1.0),
        tf.random.stateless_normal((batches, batch_size, 2, *grid), seed + 1),
    )


def warp_images(images: Any, uniform: Any, normal: Any, how_far: Augmentation) -> Any:
    """Return the images bent at random: float32 of the same shape (batch, height, width, channels).

    What comes in from outside of an image is 0.
    """
    batch, height, width, channels = images.shape
    y, x = source_coordinates(height, width, uniform, normal, how_far)
    top, left = tf.floor(y), tf.floor(x)
    down, right = (y - top)[..., None], (x - left)[..., None]
    # A frame of zeros, two wide, stands for everything outside.
    frame = tf.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    row = width + 4
    pixels = tf.reshape(frame, (batch, -1, channels))
    first = row * tf.clip_by_value(tf.cast(top, tf.int32) + 2, 0, height + 2)
    first += tf.clip_by_value(tf.cast(left, tf.int32) + 2, 0, width + 2)

    def neighbour(offset: int) -> Any:
        return tf.gather(pixels, first + offset, batch_dims=1)

    upper = (1 - right) * neighbour(0) + right * neighbour(1)
    lower = (1 - right) * neighbour(row) + right * neighbour(row + 1)
    return (1 - down) * upper + down * lower


def source_coordinates(
    height: int, width: int, uniform: Any, normal: Any, how_far: Augmentation
) -> tuple[Any, Any]:
    """Return, for each pixel of each image, the point (y, x) whose colour it takes."""
    turn, zoom_y, zoom_x, shear, shift_y, shift_x = (
        uniform[:, i, None, None] for i in range(_AFFINE)
    )
    angle = turn * np.float32(np.deg2rad(how_far.rotation))
    zoom_y, zoom_x = 1 + zoom_y * how_far.zoom, 1 + zoom_x * how_far.zoom
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    grid_y, grid_x = np.mgrid[:height, :width].astype(np.float32)
    dy, dx = grid_y - middle_y, grid_x - middle_x
    rows, columns = tf.constant(_bumps(height)), tf.constant(_bumps(width))
    elastic = how_far.elastic * tf.einsum("yi,ndij,xj->ndyx", rows, normal, columns)
    y = zoom_x * tf.sin(angle) * dx + zoom_y * tf.cos(angle) * dy
    x = zoom_x * tf.cos(angle) * dx + (shear * how_far.shear - zoom_y * tf.sin(angle)) * dy
    y += middle_y + shift_y * how_far.shift + elastic[:, 0]
    x += middle_x + shift_x * how_far.shift + elastic[:, 1]
    return y, x


def _bumps(size: int) -> npt.NDArray[np.float32]:
    """Return the matrix (size, points) that spreads control points smoothly over `size` pixels.

    Each row has unit length: independent normal numbers at the points give unit variance at
    each pixel.
    """
    points = np.arange(-_GRID / 2, size + _GRID / 2, _GRID)
    matrix = np.exp(-(((np.arange(size)[:, None] - points) / _GRID) ** 2) / 2)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    single: npt.NDArray[np.float32] = matrix.astype(np.float32)
    return single
