"""Inputs and outputs of a classifier: values and layout of images, shape of outputs, inference."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.artifacts.preprocessing import to_input_values
from lenet_edge.errors import TargetError
from lenet_edge.target import Images, Logits, Session

# Batch size for files that do not fix it: amortizes call overhead and still fits in the cache.
BATCH_SIZE = 100


def to_model_input(
    images: npt.NDArray[Any], artifact: Artifact, spec: TensorSpec | None = None
) -> Images:
    """Convert images to the values and the layout of a model's input.

    Args:
        images: integers are pixels; floats are input values, or scaled pixels, see
            `preprocessing.to_input_values`. Any layout of `arrange_images`.
        artifact: the model, whose preprocessing applies.
        spec: the input tensor, if the artifact does not describe it.

    Returns:
        float32 of the shape that the input takes.

    Raises:
        TargetError: the images do not fit the input, or there are several inputs.
    """
    if len(artifact.inputs) > 1:
        check_classifier(artifact)
    spec = spec or artifact.inputs[0]
    try:
        values = to_input_values(channels_last(images, spec), artifact.preprocessing)
    except ValueError as error:
        raise TargetError(
            f"{artifact.name} cannot take these images: {error}; say its values with --pixel-scale,"
            " or --mean and --std"
        ) from error
    return arrange_images(values, spec)


def check_classifier(artifact: Artifact) -> None:
    """Check that a model has one input and one output, as the steps for classifiers need.

    Raises:
        TargetError: it has another number of inputs or outputs.
    """
    inputs, outputs = len(artifact.inputs), len(artifact.outputs)
    if inputs > 1 or outputs > 1:
        raise TargetError(
            f"{artifact.name} has {_count(inputs, 'input')} and {_count(outputs, 'output')}, and"
            " this needs a classifier with one of each; bench and inspect take any model"
        )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def channels_last(images: npt.NDArray[Any], spec: TensorSpec) -> npt.NDArray[Any]:
    """Rearrange images of any layout to (N, height, width, channels), if an input takes images.

    Images that do not fit the input stay unchanged.
    """
    shape = spec.image_shape
    if shape is None or None in shape:
        return images
    height, width, channels = (size or 0 for size in shape)
    if images.shape[1:] == (height * width * channels,):
        layout = shape if len(spec.shape) == 2 else spec.shape[1:]
        images = images.reshape(-1, *(size or 0 for size in layout))
    if images.shape[1:] == (height, width) and channels == 1:
        return images[..., np.newaxis]
    if images.shape[1:] == (channels, height, width) and images.shape[1:] != shape:
        return np.moveaxis(images, 1, -1)
    return images


def arrange_images(images: Images, spec: TensorSpec) -> Images:
    """Rearrange images to the layout of an input tensor.

    The layouts are: unchanged, with or without an axis for one channel, channels first, and flat.

    Args:
        images: float32 of shape (N, ...).
        spec: the input tensor.

    Returns:
        float32 in the first layout that fits `spec`.

    Raises:
        TargetError: no layout fits.
    """
    shape = spec.shape[1:]
    layouts = [images, images[..., np.newaxis], images.reshape(len(images), -1)]
    if images.ndim == 4:
        layouts += [
            np.moveaxis(images, -1, 1),
            *([images[..., 0]] if images.shape[-1] == 1 else []),
        ]
    for candidate in layouts:
        if len(shape) == candidate.ndim - 1 and all(
            size in (None, actual) for size, actual in zip(shape, candidate.shape[1:], strict=True)
        ):
            return np.ascontiguousarray(candidate)
    raise TargetError(
        f"the model takes images of shape {_times(shape)} and these are"
        f" {_times(images.shape[1:])}; give images of that shape with --data"
    )


def _times(shape: tuple[int | None, ...]) -> str:
    return " x ".join(str(size or "any") for size in shape)


def flatten_outputs(outputs: Logits, count: int) -> Logits:
    """Reshape the outputs of a model for N images to (N, outputs).

    Args:
        outputs: the output of a model.
        count: the expected number of images N.

    Raises:
        TargetError: the model returns another number of results than images.
    """
    if outputs.ndim == 0 or len(outputs) != count:
        raise TargetError(
            f"the model maps {count} images to shape {outputs.shape}; lenet-edge runs models that"
            " return one result for each image"
        )
    return outputs.reshape(count, -1)


def infer_all(session: Session, images: Images, batch_size: int) -> Logits:
    """Run a session on all images, in batches; pad the last batch with zeros.

    Args:
        session: the opened artifact.
        images: float32 of shape (N, ...), in the layout of the session's input.
        batch_size: the number of images in a batch.

    Returns:
        The logits, float32 of shape (N, outputs).
    """
    logits = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        padding = batch_size - len(batch)
        if padding:
            batch = np.concatenate([batch, np.zeros((padding, *batch.shape[1:]), np.float32)])
        session.prepare(batch)
        session.infer()
        logits.append(flatten_outputs(session.logits(), batch_size)[: batch_size - padding])
    return np.concatenate(logits)
