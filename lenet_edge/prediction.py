"""What a model says to an image of anybody's; runs in a worker process, which keeps models open.

`predict` and `serve` ask these functions, one call after another. Images are decoded here too: a
decoder that a hostile image brings down takes no server along. Functions import what is heavy
themselves, so that `predict`, which only binds calls, loads no NumPy.
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
_CALLS = 11  # whose median is the latency
_LONG_ENOUGH_S = 0.1  # a slow model is not run so often


@worker.function
def open_first_runnable(
    artifacts: Sequence[dict[str, Any]], target: str | None = None, num_threads: int = 1
) -> dict[str, Any]:
    """Open the first of some files that runs here, on the best target that it runs on.

    Args:
        artifacts: the files, as `Artifact.to_json` gives them, the preferred ones first.
        target: a target, a runtime or a format; any if left out.
        num_threads: threads for one inference.

    Returns:
        The place of the file among `artifacts`, its target's name and its input's shape.

    Raises:
        TargetError: none runs; the message says why not.
    """
    from lenet_edge.runtimes import absence

    reasons, absent = [], []
    for place, facts in enumerate(artifacts):
        for chosen in _targets(facts["format"], target):
            try:
                if reason := absence(chosen):
                    absent.append(f"{chosen.name}: {reason}")
                    continue
                session = _session(json.dumps(facts), chosen.name, num_threads)
                return {
                    "place": place,
                    "target": chosen.name,
                    "shape": session.inputs[0].shape,
                }
            except LenetEdgeError as error:
                reasons.append(str(error))
    names = " or ".join(Path(facts["path"]).name for facts in artifacts)
    # What is not here matters only where nothing else was tried.
    said = dict.fromkeys(reasons or absent)
    why = "; ".join(said) or f"{target} runs files of another format"
    raise TargetError(f"cannot run {names}: {why}")


def _targets(format: str, name: str | None) -> list[Target]:
    from lenet_edge.runtimes import NOT_BY_DEFAULT, find_targets

    named = [one for one in find_targets(name or format) if format in one.formats]
    usual = [one for one in named if one.preference < NOT_BY_DEFAULT]
    return named if name and len(named) == 1 else usual


@functools.cache
def _session(artifact: str, target: str, num_threads: int) -> Session:
    from lenet_edge.runtimes import get_target, open_session

    return open_session(Artifact.from_json(json.loads(artifact)), get_target(target), num_threads)


@worker.function
def load_pixels(artifact: dict[str, Any], name: str, content: str, kind: str = "image") -> Any:
    """Return an image as a model wants to see it: pixels 0 to 255, of shape (H, W, channels).

    For a model of digits the image is cut out and centred as MNIST's are, see `data.handwriting`;
    for any other it is scaled to the size that the model takes.

    Args:
        artifact: the model's file.
        name: what to call the image in an error.
        content: base64 of a PNG or JPEG file; or, of the `kind` "json", the text
            ``{"pixels": [[0, ...], ...]}``, which is taken as it is.
        kind: "image", "json", or "path": then `content` is where the file lies.

    Raises:
        DataError: it cannot be read, there is no digit in it, or its size is another.
    """
    from lenet_edge.data import handwriting, image_file

    file = Artifact.from_json(artifact)
    height, width, channels = _image_shape(file)
    if kind == "json":
        return _given(content, (height, width, channels)).tolist()
    data = (
        image_file.read_image_file(Path(content)) if kind == "path" else base64.b64decode(content)
    )
    image = image_file.decode_image(data, name)
    if expects_digits(file):
        return handwriting.normalize_digit(image, name).tolist()
    return image_file.resize_image(image, (height, width, channels)).tolist()


def expects_digits(artifact: Artifact) -> bool:
    """Tell whether a model's classes are MNIST's ten digits; a file without labels may be."""
    classes = artifact.outputs[0].shape[-1] if artifact.outputs else 10
    return _image_shape(artifact) == (28, 28, 1) and (
        artifact.labels == DIGITS or (not artifact.labels and classes == 10)
    )


def _image_shape(artifact: Artifact) -> tuple[int, int, int]:
    """Return height, width and channels of what a file takes.

    Raises:
        TargetError: it takes no images, or of any size.
    """
    given = artifact.inputs[0].shape[1:] if artifact.inputs else (28, 28, 1)
    shape = (28, 28) if given == (784,) else given
    shape = (*shape, 1) if len(shape) == 2 else shape
    if len(shape) == 3 and shape[2] not in (1, 3):  # the channels may come first
        shape = (shape[1], shape[2], shape[0])
    if len(shape) != 3 or shape[2] not in (1, 3) or shape[0] is None or shape[1] is None:
        raise TargetError(
            f"{artifact.name} takes inputs of shape {given}; predict and serve feed grey or RGB"
            " images of one size"
        )
    return shape[0], shape[1], shape[2]


def _given(text: str, shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    import numpy as np

    height, width, channels = shape
    wanted = f'{{"pixels": ...}} with {height} rows of {width} numbers from 0 to 255'
    try:
        pixels = np.asarray(json.loads(text)["pixels"], np.float64)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        raise DataError(f"the JSON is not {wanted}") from None
    if pixels.shape not in ((height, width), shape)[channels != 1 :]:
        raise DataError(f"the pixels have shape {pixels.shape}; send {wanted}")
    if not ((pixels >= 0) & (pixels <= 255)).all():
        raise DataError(f"there are pixels outside of 0 to 255; send {wanted}")
    return np.rint(pixels).astype(np.uint8).reshape(shape)


@worker.function
def classify(
    artifact: dict[str, Any], target: str, pixels: Any, num_threads: int = 1
) -> dict[str, Any]:
    """Return what a model says to one image, and how long it took.

    Args:
        artifact: its file.
        target: the name of the target to run it on.
        pixels: what `load_pixels` returned.
        num_threads: threads for one inference.

    Returns:
        label, confidence (0 to 1), probabilities by label, and inference_s, the median of up to
        eleven calls.

    Raises:
        TargetError: it cannot be run, or is no classifier.
    """
    import numpy as np

    from lenet_edge.classifier_io import (
        arrange_images,
        probabilities,
        scale_pixels,
        scores_by_class,
    )

    file = Artifact.from_json(artifact)
    session = _session(json.dumps(artifact), target, num_threads)
    image = arrange_images(
        scale_pixels(np.asarray([pixels], np.uint8), file.pixel_scale), session.inputs[0]
    )
    if file.batch_size:
        image = np.repeat(image, file.batch_size, axis=0)
    try:
        session.prepare(image)
        latencies: list[float] = []
        while len(latencies) < _CALLS and sum(latencies) < _LONG_ENOUGH_S:
            started = time.perf_counter()
            session.infer()
            latencies.append(time.perf_counter() - started)
        chances = probabilities(scores_by_class(session.logits(), len(image)))[0]
    except LenetEdgeError:
        raise
    except Exception as error:  # each vendor raises its own kinds
        raise TargetError(f"{target} cannot run {file.name}: {error}") from error
    labels = file.labels or tuple(str(place) for place in range(len(chances)))
    if len(labels) != len(chances):
        raise TargetError(f"{file.name} has {len(labels)} labels but gives {len(chances)} scores")
    if not np.isfinite(chances).all():
        raise TargetError(f"{file.name} on {target} answers with what is no number")
    best = int(chances.argmax())
    return {
        "label": labels[best],
        "confidence": float(chances[best]),
        "probabilities": dict(zip(labels, chances.tolist(), strict=True)),
        "inference_s": statistics.median(latencies),
    }
