"""Predictions of TensorFlow Lite's reference kernels, to compare integers with."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.runtimes.litert import open_reference_kernels

_BATCH_SIZE = 1000


def predict_batch(content: bytes, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the output of a .tflite file with one input and one output, for any number of rows."""
    interpreter = open_reference_kernels(content)
    (image,), (logits,) = interpreter.get_input_details(), interpreter.get_output_details()
    batches = []
    for start in range(0, len(values), _BATCH_SIZE):
        part = values[start : start + _BATCH_SIZE]
        interpreter.resize_tensor_input(image["index"], part.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(image["index"], part)
        interpreter.invoke()
        batches.append(interpreter.get_tensor(logits["index"]))
    return np.concatenate(batches)
