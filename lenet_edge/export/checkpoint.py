"""The Keras checkpoint as the converters want it: one plain function, no dynamic-shape chain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lenet_edge.model  # noqa: F401  imported first: it quiets TensorFlow
from lenet_edge.artifact import check_format
from lenet_edge.errors import ModelFileError

import tensorflow as tf  # isort: skip


def load_checkpoint(path: Path) -> Any:
    """Return the Keras model in a .keras file; code that is pickled in it is never run.

    Raises:
        ModelFileError: the file is not one, or its model has several inputs or outputs.
    """
    if check_format(path) != "keras":
        raise ModelFileError(f"{path} is not a .keras checkpoint; export starts from one")
    try:
        model = tf.keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # zip, HDF5, JSON and Keras each raise their own
        reason = " ".join(str(error).split())[:200]
        raise ModelFileError(f"{path} cannot be loaded by Keras: {reason}") from error
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ModelFileError(
            f"{path} has {len(model.inputs)} inputs and {len(model.outputs)} outputs;"
            " lenet-edge exports classifiers with one of each"
        )
    return model


def inference_function(model: Any) -> Any:
    """Return the model's inference as a `tf.function` of one free-batch argument, ``image``.

    A Flatten layer on a free batch computes its output shape at run time (SHAPE, STRIDED_SLICE,
    PACK), which delegates refuse. A reshape to (-1, n) means the same and is one constant.
    """

    def infer(image: Any) -> dict[str, Any]:
        if not isinstance(model, tf.keras.Sequential):
            return {"logits": model(image, training=False)}
        values = image
        for layer in model.layers:
            if isinstance(layer, tf.keras.layers.Flatten):
                values = tf.reshape(values, (-1, layer.output.shape[-1]))
            else:
                values = layer(values, training=False)
        return {"logits": tf.identity(values, "logits")}

    shape = (None, *model.inputs[0].shape[1:])
    return tf.function(infer, input_signature=[tf.TensorSpec(shape, tf.float32, name="image")])
