"""Prediction for single images, inside a worker process that keeps sessions open.

`predict` and `serve` call these functions in a worker. The worker also decodes the images, so that
a hostile image that crashes the decoder does not stop the server. The functions import NumPy and
the runtimes themselves, because the calling process only binds calls and needs neither.
"""

from __future__ import annotations

import base64
import functools
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.errors import DataError, LenetEdgeError, TargetError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from lenet_edge.target import Session, Target

DIGITS = tuple("0123456789")
_CALLS = 11  # largest number of calls; their median is the latency
_SAMPLES = 10
_LONG_ENOUGH_S = 0.1  # seconds after which a slow model is not called again


@worker.function
def open_first_runnable(
    artifacts: Sequence[dict[str, Any]], target: str | None = None, num_threads: int = 1
) -> dict[str, Any]:
    """Open the first of some artifacts that can run, on the first target that can run it.

    Args:
        artifacts: the artifacts, as `Artifact.to_json` returns them, in the order of preference.
        target: the name of a target, a runtime or a format; None tries all.
        num_threads: threads for one inference.

    Returns:
        "index": the index of the artifact; "target": the name of its target; "shape": the shape of
        its input.

    Raises:
        TargetError: no artifact can run; the message has the reasons.
    """
    from lenet_edge.runtimes import absence

    reasons, absent = [], []
    for index, facts in enumerate(artifacts):
        for chosen in _targets(facts["format"], target):
            try:
                if reason := absence(chosen):
                    absent.append(f"{chosen.name}: {reason}")
                    continue
                session = _session(json.dumps(facts), chosen.name, num_threads)
                return {
                    "index": index,
                    "target": chosen.name,
                    "shape": session.input_specs[0].shape,
                }
            except LenetEdgeError as error:
                reasons.append(str(error))
    names = " or ".join(Path(facts["path"]).name for facts in artifacts)
    # Absent targets are a reason only if no other target was tried.
    why = "; ".join(dict.fromkeys(reasons or absent)) or f"{target} runs files of another format"
    raise TargetError(f"cannot run {names}: {why}")


def _targets(format: str, name: str | None) -> list[Target]:
    from lenet_edge.runtimes import NOT_BY_DEFAULT, find_targets

    named = [target for target in find_targets(name or format) if format in target.formats]
    usual = [target for target in named if target.preference < NOT_BY_DEFAULT]
    return named if name and len(named) == 1 else usual


@functools.cache
def _session(artifact: str, target: str, num_threads: int) -> Session:
    from lenet_edge.runtimes import get_target, open_session

    return open_session(Artifact.from_json(json.loads(artifact)), get_target(target), num_threads)


@worker.function
def load_pixels(artifact: dict[str, Any], name: str, content: str, kind: str = "image") -> Any:
    """Decode an image and prepare it for a model.

    For a model of MNIST's digits, the digit is cut out and centred, see `data.handwriting`. For
    other models, the image is resized by the rule of its preprocessing. Pixels in JSON stay
    unchanged.

    Args:
        artifact: the model, as `Artifact.to_json` returns it.
        name: the name of the image in error messages.
        content: the image, in the form that `kind` names.
        kind: "image" for the base64 text of a PNG or JPEG file, "path" for the path of such a
            file, or "json" for the text ``{"pixels": [[0, ...], ...]}``.

    Returns:
        Pixels 0 to 255, as nested lists of shape (height, width, channels).

    Raises:
        DataError: the image is invalid, has no digit, or its JSON has the wrong size.
        TargetError: the model takes no images, or images of any size.
    """
    from lenet_edge.data import image_file

    file = Artifact.from_json(artifact)
    shape = image_shape(file)
    if kind == "json":
        return _pixels_from_json(content, shape).tolist()
    data = (
        image_file.read_image_file(Path(content)) if kind == "path" else base64.b64decode(content)
    )
    return prepare_image(image_file.decode_image(data, name), file, name)


def prepare_image(image: npt.NDArray[np.uint8], file: Artifact, name: str) -> Any:
    """Return an RGB image as `load_pixels` returns it for a model.

    Args:
        image: uint8 of shape (height, width, 3).
        file: the model.
        name: the name of the image in error messages.

    Raises:
        DataError: the image has no digit.
        TargetError: the model takes no images, or images of any size.
    """
    from lenet_edge.data import handwriting, image_file

    rule = file.preprocessing
    if rule.resize is None and expects_digits(file):
        return handwriting.normalize_digit(image, name).tolist()
    shape = image_shape(file)
    return image_file.resize_image(image, shape, rule.resize, rule.filter).tolist()


def expects_digits(artifact: Artifact) -> bool:
    """Return whether a model predicts the ten digits of MNIST.

    Models from elsewhere get these labels if they know MNIST's images, see `rule_choice`.
    """
    return image_shape(artifact) == (28, 28, 1) and artifact.labels == DIGITS


def image_shape(artifact: Artifact) -> tuple[int, int, int]:
    """Return height, width and channels of the images that an artifact takes.

    Raises:
        TargetError: the artifact takes no images, or images of any size.
    """
    from lenet_edge.classifier_io import check_classifier

    check_classifier(artifact)
    shape = artifact.inputs[0].image_shape if artifact.inputs else (28, 28, 1)
    if shape is None or None in shape[:2] or shape[2] not in (1, 3):
        raise TargetError(
            f"{artifact.name} takes inputs of shape {artifact.inputs[0].shape[1:]}; predict and"
            " serve need a model for grey or RGB images of a fixed size"
        )
    height, width, channels = shape
    assert height
    assert width
    assert channels
    return height, width, channels


@worker.function
def sample_images(artifact: dict[str, Any]) -> list[dict[str, str]]:
    """Return an image of each of the first ten classes, from the data that a model is verified on.

    These are the images of its recorded reference, or for MNIST's digits the test images.

    Args:
        artifact: the model, as `Artifact.to_json` returns it.

    Returns:
        "label" and "png", the file as base64 text, of each image. Nothing for a model without such
        data, and for data that are no pixels of the shape that the model takes.
    """
    import io

    import numpy as np
    from PIL import Image

    from lenet_edge.artifacts.reference import reference_for
    from lenet_edge.data import mnist
    from lenet_edge.data.evaluation_images import evaluation_data, has_reference

    file = Artifact.from_json(artifact)
    shape = image_shape(file)
    images: Any = None
    labels: Any = None
    if has_reference(file):
        data = evaluation_data(reference_for(file))
        images, labels = data.images, data.labels
    elif expects_digits(file):
        test = mnist.load("test")
        images, labels = test.images, test.labels
    if labels is None or images.dtype != np.uint8 or images.shape[1:] not in (shape, shape[:2]):
        return []
    samples = []
    for index, label in list(enumerate(file.labels))[:_SAMPLES]:
        for position in np.flatnonzero(labels == index)[:1]:
            pixels = images[position].reshape(shape)
            content = io.BytesIO()
            Image.fromarray(pixels[..., 0] if shape[2] == 1 else pixels).save(content, "PNG")
            text = base64.b64encode(content.getvalue()).decode()
            samples.append({"label": label, "png": text})
    return samples


def _pixels_from_json(text: str, shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    import numpy as np

    height, width, channels = shape
    expected = f'{{"pixels": ...}} with {height} rows of {width} numbers from 0 to 255'
    # A list takes 60 bytes of memory, and two bytes of text.
    if text.count(",") + text.count("[") > 2 * height * width * channels + 100:
        raise DataError(f"the JSON has too many values; send {expected}")
    try:
        pixels = np.asarray(json.loads(text)["pixels"], np.float64)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        raise DataError(f"the JSON is not {expected}; send that") from None
    if pixels.shape not in ((height, width), shape)[channels != 1 :]:
        raise DataError(f"the pixels have shape {pixels.shape}; send {expected}")
    if not ((pixels >= 0) & (pixels <= 255)).all():
        raise DataError(f"pixels lie outside of 0 to 255; send {expected}")
    return np.rint(pixels).astype(np.uint8).reshape(shape)


@worker.function
def classify(
    artifact: dict[str, Any], target: str, pixels: Any, num_threads: int = 1
) -> dict[str, Any]:
    """Predict the class of one image, and measure the latency.

    Args:
        artifact: the model, as `Artifact.to_json` returns it.
        target: the name of the target.
        pixels: the result of `load_pixels`.
        num_threads: threads for one inference.

    Returns:
        "label"; "confidence" (0 to 1); "probabilities" by label; "inference_s", the median of up to
        eleven calls in seconds; and "labels": for independent probabilities, those of 0.5 and
        more, and else None.

    Raises:
        TargetError: the target cannot run the model, or the model is not a classifier.
    """
    import numpy as np

    from lenet_edge.artifacts.head import (
        Head,
        class_names,
        read_outputs,
        resolve_head,
        threshold,
    )
    from lenet_edge.classifier_io import flatten_outputs, to_model_input

    file = Artifact.from_json(artifact)
    session = _session(json.dumps(artifact), target, num_threads)
    image = to_model_input(np.asarray([pixels], np.uint8), file, session.input_specs[0])
    if file.batch_size:
        image = np.repeat(image, file.batch_size, axis=0)
    try:
        session.prepare(image)
        latencies: list[float] = []
        while len(latencies) < _CALLS and sum(latencies) < _LONG_ENOUGH_S:
            started = time.perf_counter()
            session.infer()
            latencies.append(time.perf_counter() - started)
        outputs = flatten_outputs(session.logits(), len(image))[:1]
    except LenetEdgeError:
        raise
    except Exception as error:  # runtimes raise errors of many types
        raise TargetError(f"{target} cannot run {file.name}: {error}") from error
    if not np.isfinite(outputs).all():
        raise TargetError(f"{file.name} on {target} returns NaN or infinity; verify the file")
    head = resolve_head(file.stated_head, outputs)
    if head is Head.VALUES:
        raise TargetError(
            f"{file.name} returns {outputs.shape[1]:,} values for an image and no classes; predict"
            " and serve need a classifier"
        )
    (best,), (chances,) = read_outputs(outputs, head)
    labels = class_names(file.labels, head, len(chances))
    if len(labels) != len(chances):
        raise TargetError(
            f"{file.name} has {len(labels)} labels but returns {len(chances)} scores;"
            " export it with the right labels"
        )
    return {
        "label": labels[best],
        "confidence": float(chances[best]),
        "probabilities": dict(zip(labels, chances.tolist(), strict=True)),
        "inference_s": statistics.median(latencies),
        "labels": (
            [
                name
                for name, chance in zip(labels, chances, strict=True)
                if chance >= threshold(head)
            ]
            if head is Head.SIGMOIDS
            else None
        ),
    }
