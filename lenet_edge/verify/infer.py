"""The answers of one file on one target to a set of images; runs in a worker process."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from lenet_edge.artifact import Artifact, TensorSpec
from lenet_edge.data.dataset import to_input
from lenet_edge.errors import TargetError
from lenet_edge.proof import prove
from lenet_edge.runtimes import open_session
from lenet_edge.target import Images, Logits, Session, Target

BATCH_SIZE = (
    100  # where the file leaves it free: a call's own cost vanishes, the cache still holds it
)


def record_logits(
    artifact: dict[str, Any], target: dict[str, Any], num_threads: int, images: str, output: str
) -> dict[str, Any]:
    """Write a file's logits for the images in one .npy file to another, and say how they came.

    Args:
        artifact: the file, as `Artifact.to_json` gives it.
        target: the fields of the `Target`.
        num_threads: threads for one inference.
        images: the .npy file of N images. Whole numbers are pixels, 0 to 255, and are scaled as
            the file takes them; floats are fed as they are.
        output: the .npy file to write, float32 of shape (N, classes).
    """
    file, chosen = Artifact.from_json(artifact), Target.from_json(target)
    given = np.load(images, allow_pickle=False)
    with closing(open_session(file, chosen, num_threads)) as session:
        scaled = fit(scale(given, file.pixel_scale), session.inputs[0])
        np.save(output, infer_all(session, scaled, file.batch_size or BATCH_SIZE))
        same_cpu = chosen.delegate == "XNNPACK"  # there, what it leaves is done by the interpreter
        taken = session.delegation if same_cpu else prove(session, file, chosen)
        return {
            "runtime_version": session.runtime_version,
            "delegation": asdict(taken) if taken else None,
        }


def scale(images: npt.NDArray[Any], pixel_scale: float) -> Images:
    """Return images as float32: whole numbers are pixels and are scaled, floats stay."""
    if images.dtype.kind == "f":
        return images.astype(np.float32, copy=False)
    return to_input(images, pixel_scale)


def fit(images: Images, spec: TensorSpec) -> Images:
    """Return images in the layout of an input.

    That is as they are, with or without an axis for one channel, with the channels first, or flat.

    Raises:
        TargetError: none of these fits.
    """
    wanted = spec.shape[1:]
    layouts = [images, images[..., np.newaxis], images.reshape(len(images), -1)]
    if images.ndim == 4:
        layouts += [
            np.moveaxis(images, -1, 1),
            *([images[..., 0]] if images.shape[-1] == 1 else []),
        ]
    for candidate in layouts:
        if len(wanted) == candidate.ndim - 1 and all(
            size in (None, given) for size, given in zip(wanted, candidate.shape[1:], strict=True)
        ):
            return np.ascontiguousarray(candidate)
    fix = "give images that fit with --data"
    if images.ndim == 4 and wanted == np.moveaxis(images, 1, -1).shape[1:]:
        fix = "their channels come first: numpy.moveaxis(images, 1, -1)"
    raise TargetError(
        f"the model takes images of shape {_times(wanted)} and these are"
        f" {_times(images.shape[1:])}; {fix}"
    )


def _times(shape: tuple[int | None, ...]) -> str:
    return " x ".join(str(size or "any") for size in shape)


def infer_all(session: Session, images: Images, batch_size: int) -> Logits:
    """Return the logits for all `images`, in batches; the last one is padded and cut back."""
    answers = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        padding = batch_size - len(batch)
        if padding:
            batch = np.concatenate([batch, np.zeros((padding, *batch.shape[1:]), np.float32)])
        session.prepare(batch)
        session.infer()
        answers.append(_by_class(session.logits(), batch_size)[: batch_size - padding])
    return np.concatenate(answers)


def _by_class(logits: Logits, count: int) -> Logits:
    """Return logits of shape (N, C), (N, 1, 1, C) or (N, C, 1, 1) as (N, C).

    Raises:
        TargetError: they have another shape, so the model is no classifier.
    """
    if len(logits) != count or sum(size > 1 for size in logits.shape[1:]) != 1:
        raise TargetError(
            f"the model answers {count} images with shape {logits.shape}; lenet-edge runs"
            " classifiers, which answer (N, classes)"
        )
    return logits.reshape(len(logits), -1)
