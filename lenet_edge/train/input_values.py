"""The preprocessing of a model, computed by TensorFlow within a training step."""

from __future__ import annotations

from typing import Any

from lenet_edge.artifacts.preprocessing import UNIT, Preprocessing

import numpy as np  # isort: skip


def to_input_values(images: Any, rule: Preprocessing) -> Any:
    """Return the input values of a model for float32 images of 0 to 1.

    Args:
        images: of shape (batch, height, width, channels).
        rule: the preprocessing of the model, which is for pixels of 0 to 255.
    """
    ordered = images[..., ::-1] if rule.channels == "bgr" else images
    if (rule.scale, rule.offset) == (UNIT.scale, UNIT.offset):
        return ordered
    return ordered * (255 * np.array(rule.scale, np.float32)) + np.array(rule.offset, np.float32)
