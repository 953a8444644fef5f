"""Random distortion of training images: one affine and one elastic warp, computed on the graph.

Sources: P. Simard et al., "Best practices for convolutional neural networks applied to visual
document analysis", 2003 (elastic distortion); M. Jaderberg et al., "Spatial transformer
networks", 2015 (bilinear sampling).
"""

from __future__ import annotations

from typing import Any

import lenet_edge.model  # noqa: F401  imported first: it silences TensorFlow
from lenet_edge.train.recipe import Augmentation

import numpy as np  # isort: skip
import numpy.typing as npt  # isort: skip
import tensorflow as tf  # isort: skip

_GRID = 4  # distance between control points of the elastic warp, and width of a bump, in pixels
_AFFINE = 6  # rotation, two zooms, shear, two shifts


def draw_random_numbers(
    batches: int, batch_size: int, image_shape: tuple[int, ...], seed: Any
) -> tuple[Any, Any]:
    """Draw the random numbers that `warp_images` needs for some batches.

    The same seed gives the same numbers. This function is separate from `warp_images`, because
    XLA on a CPU draws random numbers ten times more slowly than TensorFlow's own kernels.

    Args:
        batches: the number of batches.
        batch_size: the number of images in a batch.
        image_shape: height, width and channels of an image.
        seed: two integers.

    Returns:
        Uniform numbers in -1..1, float32 of shape (batches, batch_size, 6), and normal numbers,
        float32 of shape (batches, batch_size, 2, grid rows, grid columns).
    """
    grid = [_bumps(size).shape[1] for size in image_shape[:2]]
    return (
        tf.random.stateless_uniform((batches, batch_size, _AFFINE), seed, -1.0, 1.0),
        tf.random.stateless_normal((batches, batch_size, 2, *grid), seed + 1),
    )


def warp_images(images: Any, uniform: Any, normal: Any, limits: Augmentation) -> Any:
    """Distort each image of a batch.

    Args:
        images: float32 of shape (batch, height, width, channels).
        uniform: uniform numbers of one batch, from `draw_random_numbers`.
        normal: normal numbers of one batch, from `draw_random_numbers`.
        limits: the largest distortion of each kind.

    Returns:
        The distorted images, of the same shape and dtype. Pixels from outside an image are 0.
    """
    batch, height, width, channels = images.shape
    y, x = source_coordinates(height, width, uniform, normal, limits)
    top, left = tf.floor(y), tf.floor(x)
    down, right = (y - top)[..., None], (x - left)[..., None]
    # A border of zeros, two pixels wide, represents everything outside the image.
    padded = tf.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    row = width + 4
    pixels = tf.reshape(padded, (batch, -1, channels))
    first = row * tf.clip_by_value(tf.cast(top, tf.int32) + 2, 0, height + 2)
    first += tf.clip_by_value(tf.cast(left, tf.int32) + 2, 0, width + 2)

    def neighbour(offset: int) -> Any:
        return tf.gather(pixels, first + offset, batch_dims=1)

    upper = (1 - right) * neighbour(0) + right * neighbour(1)
    lower = (1 - right) * neighbour(row) + right * neighbour(row + 1)
    return (1 - down) * upper + down * lower


def source_coordinates(
    height: int, width: int, uniform: Any, normal: Any, limits: Augmentation
) -> tuple[Any, Any]:
    """Compute the position in the source image that each pixel of the result is sampled from.

    Returns:
        y and x in pixels, each float32 of shape (batch, height, width).
    """
    turn, zoom_y, zoom_x, shear, shift_y, shift_x = (
        uniform[:, i, None, None] for i in range(_AFFINE)
    )
    angle = turn * np.float32(np.deg2rad(limits.rotation))
    zoom_y, zoom_x = 1 + zoom_y * limits.zoom, 1 + zoom_x * limits.zoom
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2
    grid_y, grid_x = np.mgrid[:height, :width].astype(np.float32)
    dy, dx = grid_y - middle_y, grid_x - middle_x
    rows, columns = tf.constant(_bumps(height)), tf.constant(_bumps(width))
    elastic = limits.elastic * tf.einsum("yi,ndij,xj->ndyx", rows, normal, columns)
    y = zoom_x * tf.sin(angle) * dx + zoom_y * tf.cos(angle) * dy
    x = zoom_x * tf.cos(angle) * dx + (shear * limits.shear - zoom_y * tf.sin(angle)) * dy
    y += middle_y + shift_y * limits.shift + elastic[:, 0]
    x += middle_x + shift_x * limits.shift + elastic[:, 1]
    return y, x


def _bumps(size: int) -> npt.NDArray[np.float32]:
    """Compute the matrix (size, points) that interpolates control points over `size` pixels.

    Each row has unit length. Independent normal numbers at the points therefore give a
    displacement of unit variance at each pixel.
    """
    points = np.arange(-_GRID / 2, size + _GRID / 2, _GRID)
    matrix = np.exp(-(((np.arange(size)[:, None] - points) / _GRID) ** 2) / 2)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    single: npt.NDArray[np.float32] = matrix.astype(np.float32)
    return single
