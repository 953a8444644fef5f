"""The preprocessing of a model, computed by TensorFlow within a training step."""

from __future__ import annotations

from typing import Any

import lenet_edge.model  # noqa: F401  imported first: it silences TensorFlow
from lenet_edge.artifacts.preprocessing import LUMA, UNIT, Preprocessing

import numpy as np  # isort: skip
import tensorflow as tf  # isort: skip


def to_input_values(images: Any, rule: Preprocessing) -> Any:
    """Return the input values of a model for float32 images of 0 to 1.

    Args:
        images: of shape (batch, height, width, channels).
        rule: the preprocessing of the model, which is for pixels of 0 to 255.
    """
    ordered = images[..., ::-1] if rule.channels == "bgr" else images
    if rule.channels == "gray" and images.shape[-1] == 3:
        gray = tf.tensordot(images, np.array(LUMA, np.float32), 1)
        ordered = tf.stack([gray] * 3, axis=-1)
    if (rule.scale, rule.offset) == (UNIT.scale, UNIT.offset):
        return ordered
    return ordered * (255 * np.array(rule.scale, np.float32)) + np.array(rule.offset, np.float32)
