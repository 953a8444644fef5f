"""Knowledge distillation: the predictions of another model as further labels of each image.

Source: G. Hinton et al., "Distilling the knowledge in a neural network", 2015.
"""

from __future__ import annotations

from typing import Any

import lenet_edge.model  # noqa: F401  imported first: it silences TensorFlow
from lenet_edge.artifacts.head import Head
from lenet_edge.artifacts.preprocessing import Preprocessing
from lenet_edge.train.input_values import to_input_values

import tensorflow as tf  # isort: skip

_TEMPERATURE = 4.0  # divides the logits, so that small probabilities count
_WEIGHT = 0.9  # of the teacher's predictions in the loss; the labels have the rest
_SMALLEST = 1e-7  # probability, before its logarithm


class Teacher:
    """A Keras classifier whose predictions the trained network imitates.

    Args:
        model: the classifier; its weights stay as they are.
        preprocessing: the rule for images of the classifier.
        head: the meaning of its outputs, logits or probabilities.
        sha256: the digest of its file.
    """

    def __init__(self, model: Any, preprocessing: Preprocessing, head: Head, sha256: str) -> None:
        self._model, self._rule, self._head, self.sha256 = model, preprocessing, head, sha256

    def logits(self, images: Any) -> Any:
        """Return the logits for float32 images of 0 to 1."""
        outputs = self._model(to_input_values(images, self._rule), training=False)
        outputs = tf.reshape(outputs, (len(images), -1))
        if self._head is Head.SOFTMAX:
            return tf.math.log(tf.maximum(outputs, _SMALLEST))
        return outputs

    def soft_labels(self, images: Any) -> Any:
        """Return the probabilities of the classes at the temperature of distillation."""
        return tf.nn.softmax(self.logits(images) / _TEMPERATURE)

    def mix(self, loss: Any, soft_labels: Any, logits: Any, cross_entropy: Any) -> Any:
        """Return the loss of distillation.

        The gradient at a temperature is smaller by its square, which the second factor restores.

        Args:
            loss: the loss against the labels.
            soft_labels: see `soft_labels`.
            logits: those of the trained network.
            cross_entropy: the loss function.
        """
        imitation = cross_entropy(soft_labels, logits / _TEMPERATURE) * _TEMPERATURE**2
        return (1 - _WEIGHT) * loss + _WEIGHT * imitation
